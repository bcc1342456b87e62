"""What strata need beside one another, so that whole sessions come out well: one τ for each, chosen together.

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
from pilotage_core.score import log_odds
from pilotage_trainer.certify.held_out import ScoredLabel

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
    (False), and those in which an operator would not have what it proposed and nobody scores (True).
    """
    spoilt: dict[str, bool] = {}
    for record in records:
        mine = {p.proposal_id: p for p in record.proposals if p.policy_digest == policy_digest}
        if any(not label.critical and not label.accepted for label in read_labels(record) if label.proposal_id in mine):
            spoilt[record.session_id] = True
        if any(p.reason == Reason.STOP_LIST or p.decision == Decision.HAND_OFF for p in mine.values()):
            spoilt[record.session_id] = False
    return spoilt


def choose_least_taus(
    labels: Sequence[ScoredLabel], spoilt: Mapping[str, bool], strata: Sequence[str], target: float
) -> dict[str, float]:
    """The least τ of each of `strata` with which most sessions of `labels` would run unasked, `target` of them without
    an error. `spoilt`: sessions that would not (False), or in which something uncritical was wrong (True).

    A session in which an operator confirmed every action is the same one as without them until its first error. So its
    labels say whether it would have run without one. Nothing is chosen of fewer than FEWEST sessions: all zero.
    """
    sessions = {name: number for number, name in enumerate(dict.fromkeys(label.session_id for label in labels))}
    odds = np.full((len(sessions), len(strata)), STRICTEST)
    right = np.ones(len(sessions), dtype=np.bool_)
    runs = np.ones(len(sessions), dtype=np.bool_)
    for label in labels:
        row = sessions[label.session_id]
        if label.stratum in strata:
            column = strata.index(label.stratum)
            odds[row, column] = min(odds[row, column], log_odds(label.score))
        else:
            runs[row] = False
        right[row] &= label.accepted
    for name, is_wrong in spoilt.items():
        if name in sessions:
            runs[sessions[name]] &= is_wrong
            right[sessions[name]] = False
    table = Table(tuple(strata), odds[runs], right[runs])
    if len(table.right) < FEWEST:
        return dict.fromkeys(strata, 0.0)
    chosen = choose_offsets(table, target)
    return {name: 1.0 / (1.0 + math.exp(-float(each))) for name, each in zip(strata, chosen, strict=True)}


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
