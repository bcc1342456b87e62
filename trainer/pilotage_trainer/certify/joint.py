"""What strata need beside one another, so that whole sessions come out well: one τ for all, or one for each.

τ of single strata let too much through: a session of eleven actions is as good as its worst. Nothing is certified here:
what is chosen is tested elsewhere (pilotage_core.calibration, trials/thresholds.py).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilotage_core.gate import Decision, Reason
from pilotage_core.record import SessionRecord, read_labels
from pilotage_trainer.certify.held_out import ScoredLabel
from pilotage_trainer.sessions.labels import is_spoiling

STRICTEST = 40.0
"""Beyond every log-odds of a score."""
STEPS, ROUNDS = 24, 3
FEWEST = 20
"""Fewer sessions than that choose nothing."""


@dataclass(frozen=True)
class Table:
    """Sessions × strata: log-odds of the least score (STRICTEST where the session has none); and which ended right."""

    strata: tuple[str, ...]
    odds: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]


def find_spoilt(records: Iterable[SessionRecord], policy_digest: str) -> dict[str, bool]:
    """Sessions that would not have run unasked with the policy of `policy_digest`, since it was stopped or handed off
    (False), and those that something went wrong in which nobody scores (True).
    """
    spoilt: dict[str, bool] = {}
    for record in records:
        mine = {p.proposal_id: p for p in record.proposals if p.policy_digest == policy_digest}
        if any(not label.critical and is_spoiling(label) for label in read_labels(record) if label.proposal_id in mine):
            spoilt[record.session_id] = True
        if any(p.reason == Reason.STOP_LIST or p.decision == Decision.HAND_OFF for p in mine.values()):
            spoilt[record.session_id] = False
    return spoilt


def choose_least_tau(
    labels: Sequence[ScoredLabel], spoilt: Mapping[str, bool], strata: Sequence[str], target: float, ends_wrong: float
) -> float:
    """The least τ of all `strata` with which most sessions of `labels` would run unasked, and `target` of them end
    right: all that nothing spoils, and of the others as many as do not end wrong for it (`ends_wrong` do). `spoilt` as
    of `find_spoilt`.

    A session in which an operator confirmed every action is the same one as without them until its first error. So its
    labels say whether it would have run without one. One τ for all: there are too few sessions to choose several by.
    Where the target is out of reach it is that of the FEWEST surest; of fewer sessions nothing is chosen: 0.
    """
    least: dict[str, float] = {}
    right: dict[str, bool] = {}
    for label in labels:
        score = label.score if label.stratum in strata else -1.0
        least[label.session_id] = min(score, least.get(label.session_id, 1.0))
        right[label.session_id] = right.get(label.session_id, True) and not label.spoils
    runs = [name for name, score in least.items() if score >= 0.0 and spoilt.get(name, True)]
    ranked = sorted(runs, key=lambda name: -least[name])
    if len(ranked) < FEWEST:
        return 0.0
    well = np.cumsum([right[name] and name not in spoilt for name in ranked]) / np.arange(1, len(ranked) + 1)
    enough = np.flatnonzero((1.0 - well[FEWEST - 1 :]) * ends_wrong <= 1.0 - target + 1e-9)
    return least[ranked[FEWEST - 1 + (int(enough[-1]) if len(enough) else 0)]]


def choose_offsets(table: Table, target: float) -> npt.NDArray[np.float64]:
    """Log-odds that each stratum needs so that most sessions run unattended and `target` of them end right.

    All alike first, then one stratum after the other, up and down.
    """
    offsets = np.zeros(len(table.strata))
    if len(table.right) < FEWEST or not (table.odds < STRICTEST).any():
        return offsets
    grid = np.unique(np.quantile(table.odds[table.odds < STRICTEST], np.linspace(0.0, 1.0, STEPS * 2)))
    best = max((_count(table, np.full_like(offsets, each), target), each) for each in grid)
    offsets[:] = best[1]
    for _ in range(ROUNDS):
        for column in range(len(offsets)):
            found = table.odds[table.odds[:, column] < STRICTEST, column]
            steps = np.unique(np.quantile(found, np.linspace(0.0, 0.9, STEPS))) if len(found) else found
            tried = []
            for step in steps:
                other = offsets.copy()
                other[column] = step
                tried.append((_count(table, other, target), float(step)))
            count, step = max(tried, default=(-1.0, 0.0))
            if count > _count(table, offsets, target):
                offsets[column] = step
    return offsets


def _count(table: Table, offsets: npt.NDArray[np.float64], target: float) -> float:
    """How many sessions run unattended at `offsets`; fewer than none where too many of them end wrong."""
    runs = (table.odds >= offsets).all(axis=1)
    number = int(runs.sum())
    if not number:
        return 0.0
    right = float(table.right[runs].sum())
    margin = math.sqrt(target * (1.0 - target) / number)  # a standard error: what is chosen here has to hold elsewhere
    return float(number) if right / number >= target + margin else -float(number)
