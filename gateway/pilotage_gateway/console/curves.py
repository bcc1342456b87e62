"""Risk against coverage, from labels: what would have run at each τ, and how often that was wrong. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from pilotage_core.record import Label

FEWEST = 20
"""Of fewer labels no curve is drawn: its left end would be noise."""
STEPS = 60


class Point(NamedTuple):
    """At scores of at least `tau`: the share of labels there, and the share of those that were no unedited accept."""

    tau: float
    coverage: float
    risk: float


def find_curve(labels: Sequence[Label]) -> list[Point]:
    """Points from strict to lax, ties together; none of fewer than FEWEST labels with a score."""
    scored = sorted((label.score, label.accepted) for label in labels if label.score is not None)
    if len(scored) < FEWEST:
        return []
    points: list[Point] = []
    wrong = 0
    for rank, (score, accepted) in enumerate(reversed(scored), 1):
        wrong += not accepted
        is_last_of_tie = rank == len(scored) or scored[-rank - 1][0] != score
        if is_last_of_tie:
            points.append(Point(score, rank / len(scored), wrong / rank))
    step = max(1, len(points) // STEPS)
    return points[::step] if (len(points) - 1) % step == 0 else [*points[::step], points[-1]]
