"""How long a healthy process cluster runs until the monitor takes it back, where labels come by whole sessions.

    python bench/reviews.py [--runs 400] [--output bench/results/reviews.json]

A session has ten actions that are looked at together in the review of its ending. It is flawless, or goes wrong at one
of them, and from there each action is right with 0.55 (docs/decisions/045). `single`: the monitor takes each label for
itself. `together`: what a review says of a stratum is one label, as right as its share (operator/.../track.py). Run
lengths and delays are in labels, medians and means over runs; a run that is not over after MOST labels counts as that.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from provenance import describe_run

from pilotage_core.monitoring import ROLL_BACK_AT, SHIRYAEV_ROBERTS_BET

ACTIONS, AFTER_ERROR, TARGET = 10, 0.55, 0.9
MOST = 200_000
PRECISIONS = (0.95, 0.92, 0.90, 0.85, 0.70)


def find_flawless(precision: float) -> float:
    """The share of sessions without an error at which labels are right with `precision`."""
    places = np.arange(ACTIONS)
    right_if_wrong = float(np.mean((places + (ACTIONS - 1 - places) * AFTER_ERROR) / ACTIONS))
    return max(0.0, (precision - right_if_wrong) / (1.0 - right_if_wrong))


def draw_shares(rng: np.random.Generator, precision: float, sessions: int) -> np.ndarray:
    """Sessions × actions: which were right."""
    right = np.ones((sessions, ACTIONS), dtype=np.bool_)
    flawless = find_flawless(precision)
    if flawless == 0.0:  # beyond what one error a session explains: each action for itself
        return rng.random((sessions, ACTIONS)) < precision
    wrong = np.flatnonzero(rng.random(sessions) >= flawless)
    first = rng.integers(0, ACTIONS, len(wrong))
    places = np.arange(ACTIONS)
    later = (places > first[:, None]) & (rng.random((len(wrong), ACTIONS)) < AFTER_ERROR)
    right[wrong] = (places < first[:, None]) | later
    return right


def find_length(steps: np.ndarray, labels_a_step: int) -> int:
    """Labels until R reaches ROLL_BACK_AT, given what each step was right by."""
    r = 0.0
    for number, right in enumerate(steps.tolist(), 1):
        r = (r + 1.0) * (1.0 + SHIRYAEV_ROBERTS_BET * (TARGET - right))
        if r >= ROLL_BACK_AT:
            return number * labels_a_step
    return len(steps) * labels_a_step


def measure(precision: float, runs: int, seed: int) -> dict[str, dict[str, float]]:
    """Run lengths of both ways at one true precision."""
    rng = np.random.default_rng(seed)
    lengths: dict[str, list[int]] = {"single": [], "together": []}
    for _ in range(runs):
        right = draw_shares(rng, precision, MOST // ACTIONS)
        lengths["single"].append(find_length(right.ravel(), 1))
        lengths["together"].append(find_length(right.mean(axis=1), ACTIONS))
    return {
        name: {"mean_labels": float(np.mean(found)), "median_labels": float(np.median(found))}
        for name, found in lengths.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--output", type=Path, default=Path("bench/results/reviews.json"))
    options = parser.parse_args()
    result = describe_run("numpy") | {
        "runs": options.runs,
        "at_most": MOST,
        "worlds": {f"precision {each:.2f}": measure(each, options.runs, 7) for each in PRECISIONS},
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    for name, world in result["worlds"].items():
        print(name, {way: round(figures["mean_labels"]) for way, figures in world.items()})


if __name__ == "__main__":
    main()
