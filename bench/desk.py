"""Sessions that run by themselves at the desk: what two cores learn, and how sessions that it never saw end.

    python bench/desk.py [--sgd dialogues.jsonl.gz] [--train-until DAY] [--output bench/results/desk.json]

The desk's calendar has 36 days. A policy learns from the first of them, a critic from what an operator says of that
policy's proposals in the next (collected apart, and timed), and the last ones are never learned from: every other of
their sessions gives τ and the session certificate, the rest the figures. Leaves the pair in out/bench-desk.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from provenance import describe_run

from pilotage_simulator.desk.trial import RULES

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "bench-desk"
TRAIN = ROOT / ".venv" / "bin" / "pilotage-train"
KEY, REVISION = "desk/all", "r1"
FIRST_DAY = datetime(2019, 3, 1, tzinfo=UTC)
CONFIG = {
    "selection": {"policy_development_share": 0.03},
    "rules": msgspec.to_builtins(RULES),
    "strata": [
        {"name": "booking"},
        {"name": "finalizing"},
        {"name": "message"},
        {"name": "procedure"},
        {"name": "search"},
    ],
}
SGD = ROOT.parent / "shared" / "data" / "sgd" / "dialogues.jsonl.gz"


def find_day(number: float) -> str:
    """The time that begins day `number` of the calendar, counted from 0."""
    return (FIRST_DAY + timedelta(days=number)).isoformat()


def run(*arguments: object) -> tuple[float, str]:
    """Run a command of the trainer as any user would: seconds, and what it printed."""
    began = time.monotonic()
    told = subprocess.run(
        [TRAIN, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)},
    )  # fmt: skip
    return round(time.monotonic() - began, 1), told.stdout


def evaluate(targets: list[float], sgd: Path, folder: Path, since: str, until: str) -> dict[str, dict[str, object]]:
    """What the pair comes to at each of `targets`, beside one another."""
    given = ("--desk", sgd, "--policy", folder, "--critic", folder, "--since", since, "--until", until, "--json")
    with ThreadPoolExecutor(len(targets)) as pool:
        told = list(pool.map(lambda target: run("evaluate", *given, "--target", target), targets))
    return {
        str(target): {"seconds": seconds, **json.loads(text)}
        for target, (seconds, text) in zip(targets, told, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sgd", type=Path, default=Path(os.environ.get("SGD", "../shared/data/sgd/dialogues.jsonl.gz"))
    )
    parser.add_argument("--train-until", type=float, default=18.0, help="day: a policy learns from those before it")
    parser.add_argument("--critic-until", type=float, default=26.0, help="day: a critic learns from those before it")
    parser.add_argument("--until", type=float, default=36.0, help="day: trials are before it")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.95, 0.9], help="of the session certificate")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "desk.json")
    parser.add_argument(
        "--evaluate-only", action="store_true", help="the pair that an earlier run left, learned as it was"
    )
    options = parser.parse_args()
    told_run = describe_run("numpy", "scipy")
    learned, until = find_day(options.train_until), find_day(options.critic_until)
    folder = OUT / KEY / REVISION
    if options.evaluate_only:  # what was learned, and what was found at other targets, stays as that run left it
        result = json.loads(options.output.read_text())
    else:
        result = {**told_run, **learn(options.sgd, folder, learned, until), "by_target": {}}
    figures = evaluate(options.targets, options.sgd, folder, until, find_day(options.until))
    result["by_target"] |= {target: {"commit": told_run["commit"], **figure} for target, figure in figures.items()}
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    for target, figure in figures.items():
        rate, right = figure["automation_rate"], figure["resolution_correctness"]["unattended"]
        print(f"target {target}: {rate['share']:.1%} of {rate['n']} sessions with nobody asked, {right['share']} right")


def learn(sgd: Path, folder: Path, learned: str, until: str) -> dict[str, dict[str, float]]:
    """A pair into `folder`: how long each took, and its own figures."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    job = ("--process-cluster", KEY, "--revision", REVISION, "--out", OUT, "--config", json.dumps(CONFIG))
    policy_seconds, policy = run("policy", "--backend", "copier", "--export", f"desk:{sgd}", "--until", learned, *job)
    feedback = OUT / "feedback.ndjson"
    feedback_seconds, _ = run(
        "rehearse", "--desk", sgd, "--policy", folder, "--out", feedback, "--since", learned, "--until", until
    )
    critic_seconds, critic = run("critic", "--backend", "copier", "--export", feedback, *job)
    return {
        "policy": {"seconds": policy_seconds, **json.loads(policy)["metrics"]},
        "feedback": {"seconds": feedback_seconds},
        "critic": {"seconds": critic_seconds, **json.loads(critic)["metrics"]},
    }


if __name__ == "__main__":
    main()
