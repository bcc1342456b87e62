"""STAR's published benchmark, trained on this machine: a transformer from scratch beside the count models, in one run.

    python bench/star.py [--star FILE_OR_FOLDER] [--seconds 450] [--whole] [--output bench/results/star.json]

Of the published "standard" set only the training part is among the 5,577 dialogues that are here; its last fifth is the
development split and is never trained on (--whole trains on it too, for a measurement elsewhere, and measures nothing).
All other dialogues are trained on. Leaves the policy in out/bench-star/star/all/r1/policy: measure it on any file with
`pilotage-train evaluate --star FILE --policy DIR --json`.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from provenance import describe_run

from pilotage_simulator.benchmark import split_benchmark
from pilotage_simulator.star import find_star

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "bench-star"
TRAIN = ROOT / ".venv" / "bin" / "pilotage-train"
CONFIG = ROOT / "bench" / "star.json"
DEVELOPMENT_SHARE = 0.2
PUBLISHED = {"published model": [58.0, 55.8], "published trigram + task": [56.0, 52.9]}


def train(revision: str, *options: str) -> float:
    """Train a policy as any user would; seconds."""
    began = time.monotonic()
    subprocess.run(
        [TRAIN, "policy", "--export", f"star:{OUT / 'train.jsonl.gz'}", "--process-cluster", "star/all",
         "--revision", revision, "--out", OUT, "--config", CONFIG, *options],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)},
    )  # fmt: skip
    return round(time.monotonic() - began, 1)


def measure(revision: str) -> dict[str, object]:
    """The published measure on the development split."""
    policy = OUT / "star" / "all" / revision / "policy"
    told = subprocess.run(
        [TRAIN, "evaluate", "--star", (OUT / "development.jsonl.gz").relative_to(ROOT), "--policy", policy, "--json"],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    return json.loads(told.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--star", default="")
    parser.add_argument("--seconds", type=int, default=450, help="of training proper; all of it stays under 10 minutes")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "star.json")
    options = parser.parse_args()
    told = describe_run("torch", "transformers", "tokenizers", "scipy")
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    trained_on, held_back = split_benchmark(find_star(options.star or None), OUT, DEVELOPMENT_SHARE, options.whole)
    seconds = train("r1", "--backend", "transformers", "--time-budget-seconds", str(options.seconds))
    print(f"trained in {seconds} s: {OUT / 'star/all/r1/policy'}")
    if options.whole:
        return
    counts_seconds = train("counts", "--backend", "counts")
    found = {
        **told,
        "dialogues": {"trained_on": trained_on, "development": held_back},
        "transformer": {"training_seconds": seconds, **measure("r1")},
        "counts": {"training_seconds": counts_seconds, **measure("counts")},
        "published_accuracy_and_weighted_f1_in_percent": PUBLISHED,
        "note": "published figures are on the published test part, these on the end of the published training part",
    }
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in ("transformer", "counts")}, indent=1))


if __name__ == "__main__":
    main()
