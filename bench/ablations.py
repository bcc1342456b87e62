"""The trainer's ablations on STAR, small enough for two cores: what each choice in training is worth here.

    python bench/ablations.py [critic] [oracle] [snapshot] [size] [--star FILE] [--output bench/results/ablations]

Each takes 20 minutes to an hour; one that was broken off goes on. Budgets are tokens, so the machine's load changes
nothing but the time. Leaves NAME.json (with command, machine, versions), NAME.md and NAME.svg. `mix` is not among
them: STAR's records hold no rejected proposals.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
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
SMALL = (0.1, "--since", "2020-05-29T00:00:00Z", "--budget-tokens", "800000")
"""The newest 2,000 sessions or so: STAR's begin an hour apart as records."""
STUDIES = {"critic": (0.45,), "oracle": SMALL, "snapshot": SMALL, "size": SMALL}
"""The share of development sessions (a critic learns from them), and options."""


def run(name: str, star: Path, out: Path) -> dict[str, object]:
    """One ablation, as anyone would run it; its results and the command."""
    out.mkdir(parents=True, exist_ok=True)
    config = json.loads(CONFIG.read_text())
    share, *given = STUDIES[name]
    config["policy"]["development_share"] = share
    config["transformers"]["policy"] |= {"epochs": 3, "evaluateEvery": 1500, "candidates": 2}
    config["transformers"]["critic"] = CRITIC
    (out / "config.json").write_text(json.dumps(config, indent=1))
    command = [
        str(TRAIN), "ablate", name, "--export", f"star:{star}", "--process-cluster", "star/all",
        "--config", str(out / "config.json"), "--held-out-share", "0.2", *given, "--out", str(out / "study"),
    ]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)})
    told = " ".join(["pilotage-train", *command[1:]]).replace(str(ROOT) + "/", "").replace(str(star), "STAR")
    results = json.loads((out / "study" / "results.json").read_text())
    return {"ablate": told, "seconds_this_time": round(time.monotonic() - began, 1), "config": config, **results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(STUDIES)} [default: all]")
    parser.add_argument("--star", default="")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "ablations")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(STUDIES)):
        parser.error(f"no study here is called {', '.join(unknown)}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or STUDIES:
        told = describe_run("torch", "transformers", "tokenizers")
        out = ROOT / "out" / "bench-ablations" / name
        found = {**run(name, find_star(options.star or None), out), **told}
        (options.output / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        shutil.copy(out / "study" / "table.md", options.output / f"{name}.md")
        shutil.copy(out / "study" / "plot.svg", options.output / f"{name}.svg")


if __name__ == "__main__":
    main()
