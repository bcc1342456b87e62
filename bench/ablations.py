"""The trainer's ablations, small enough for two cores: what each choice in training is worth here.

    python bench/ablations.py [NAME …] [--star FILE] [--demo EXPORT] [--output bench/results/ablations]

On STAR, but `mix` and `preference`: those need rejected proposals, which the records of a demo run hold (`make demo` or
`make demo-local` leaves them; there a simulated operator judges). Each takes 10 to 60 minutes; one that was broken off
goes on. Budgets are tokens, so the machine's load changes nothing but the time. Leaves NAME.json (with command,
machine, versions), NAME.md and NAME.svg.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from provenance import describe_run

from pilotage_simulator.star import find_star

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / ".venv" / "bin" / "pilotage-train"
CONFIG = ROOT / "bench" / "star.json"
CRITIC = {
    "epochs": 2, "globalBatch": 2, "clip": "1.0", "optimizer": "muon", "learningRate": "0.0005",
    "weightDecay": "0.0003", "warmUpBatches": 50, "evaluateEvery": 500, "candidates": 3,
    "sharding": "none", "activationCheckpointing": False,
}  # fmt: skip
PREFERENCE = {
    "epochs": 1, "globalBatch": 8, "clip": "1.0", "learningRate": "0.00003", "warmUpBatches": 20,
    "sharding": "none", "activationCheckpointing": False,
}  # fmt: skip
"""A hundredth of the policy's own rate. The default, 5e-7, is for billions of weights and leaves these as they are."""
DEMO = Path("out") / "demo" / "export.star.information.ndjson"
BUDGET = ("--budget-tokens", "800000")
SMALL = ("--since", "2020-05-29T00:00:00Z", *BUDGET)
"""The newest 2,000 sessions or so: STAR's begin an hour apart as records."""


@dataclass(frozen=True)
class Plan:
    """What is run, on which records, with which share of development sessions (a critic learns from them)."""

    options: tuple[str, ...] = SMALL
    on_demo: bool = False
    development_share: float = 0.1


PLANS = {
    "critic": Plan((), development_share=0.45),
    "oracle": Plan(),
    "snapshot": Plan(),
    "trim": Plan(),
    "size": Plan(),
    "mix": Plan(BUDGET, on_demo=True),
    "preference": Plan(BUDGET, on_demo=True),
}


def run(name: str, star: Path, demo: Path, out: Path) -> dict[str, object]:
    """One ablation, as anyone would run it; its results and the command."""
    out.mkdir(parents=True, exist_ok=True)
    config, plan = json.loads(CONFIG.read_text()), PLANS[name]
    config["selection"]["policy_development_share"] = plan.development_share
    config["transformers"]["policy"] |= {"epochs": 3, "evaluateEvery": 1500, "candidates": 2}
    config["transformers"]["critic"], config["preference"] = CRITIC, PREFERENCE
    (out / "config.json").write_text(json.dumps(config, indent=1))
    source = (str(demo), "star/information") if plan.on_demo else (f"star:{star}", "star/all")
    command = [
        str(TRAIN), "ablate", name, "--export", source[0], "--process-cluster", source[1],
        "--config", str(out / "config.json"), "--held-out-share", "0.2", *plan.options, "--out", str(out / "study"),
    ]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, check=True, env={"OMP_NUM_THREADS": str(os.cpu_count() or 1), **os.environ})
    told = " ".join(["pilotage-train", *command[1:]]).replace(str(ROOT) + "/", "").replace(str(star), "STAR")
    results = json.loads((out / "study" / "results.json").read_text())
    return {"ablate": told, "seconds_this_time": round(time.monotonic() - began, 1), "config": config, **results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PLANS)} [default: all]")
    parser.add_argument("--star", default="")
    parser.add_argument("--demo", type=Path, default=ROOT / DEMO, help=f"[default: {DEMO}]")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "ablations")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(PLANS)):
        parser.error(f"no study here is called {', '.join(unknown)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or PLANS:
        told = describe_run("torch", "transformers", "tokenizers")
        out = ROOT / "out" / "bench-ablations" / name
        found = {**run(name, find_star(options.star or None), options.demo, out), **told}
        (options.output / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        shutil.copy(out / "study" / "table.md", options.output / f"{name}.md")
        shutil.copy(out / "study" / "plot.svg", options.output / f"{name}.svg")


if __name__ == "__main__":
    main()
