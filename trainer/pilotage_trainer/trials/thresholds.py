"""τ for whole sessions, and the session certificate: from sessions that the pair worked with nobody asked.

A session that was never asked about is the same one under every τ that all its scores reach. So sessions run ungated
to an ending say, for any τ, which of them would run unattended, and how those come out. What the strata need beside
one another is chosen on some sessions; how strict all of them must be is tested on others, from what was chosen on.
Not here: running sessions (worker.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from pilotage_core.calibration import CalibrationReason, TauResult, calibrate, precision_bound
from pilotage_core.score import log_odds
from pilotage_core.trial import TRANSFERRED, TrialResult
from pilotage_trainer.certify.joint import STRICTEST, Table, choose_offsets
from pilotage_trainer.trials.worker import Decided

WALK_STEPS = 100
ROUNDING = 1e-12
"""Of scores and log-odds."""
CHOSEN_DELTA = 0.9
"""Of δ, for what was chosen elsewhere and what is laxer; the rest walks from the strict end where that fails."""


class Played(msgspec.Struct, frozen=True):
    """One trial as it was played."""

    trial_id: str
    operator: str
    result: TrialResult
    decided: tuple[Decided, ...]

    @property
    def is_unattended(self) -> bool:
        """Whether nobody was asked, from the first word to the end: a transfer is another's to finish."""
        return self.result.ended != TRANSFERRED and all(each.held_back is None for each in self.decided)

    @property
    def may_run(self) -> bool:
        """Whether there are τ under which it runs unattended: each critical action has a score and a stratum."""
        critical = [each for each in self.decided if each.critical]
        scored = all(each.stratum and each.score is not None and 0.0 <= each.score <= 1.0 for each in critical)
        return self.is_unattended and scored  # NaN fails the comparison too

    @property
    def least_scores(self) -> dict[str, float]:
        """The least score of each stratum."""
        least: dict[str, float] = {}
        for each in self.decided:
            if each.critical and each.score is not None:
                least[each.stratum] = min(each.score, least.get(each.stratum, 1.0))
        return least


class SessionCertificate(msgspec.Struct, frozen=True):
    """The share of sessions run wholly unattended at `taus` that end right is above `bound`, wrong in `delta` of cases.

    Of `n` sessions that nobody had to be asked about `selected` run so, `errors` of them wrong. `chosen_on` other ones
    chose what strata need beside one another. `reason` is CalibrationReason's.
    """

    target: float
    delta: float
    stands: bool
    reason: str
    taus: dict[str, float]
    n: int
    selected: int
    errors: int
    bound: float
    chosen_on: int


def certify_sessions(
    chosen_on: Sequence[Played], walked_on: Sequence[Played], *, target: float, delta: float
) -> SessionCertificate:
    """τ of each stratum, and what is certified of the sessions that run unattended at them.

    Both are of ungated runs. Without a certificate `taus` are those that were chosen, and nothing may run by them.
    """
    choosing, walking = ([each for each in played if each.may_run] for played in (chosen_on, walked_on))
    strata = tuple(sorted({stratum for each in (*choosing, *walking) for stratum in each.least_scores}))
    table = _tabulate(walking, strata)
    offsets, found = certify_table(_tabulate(choosing, strata), table, target, delta)
    taus = {
        stratum: _find_tau(table.odds[:, column], float(offsets[column]) + found.strictness)
        for column, stratum in enumerate(strata)
    }
    return SessionCertificate(
        target, delta, found.stands, found.reason, taus, len(walking), found.selected, found.errors, found.bound,
        len(choosing),
    )  # fmt: skip


def certify_table(
    choosing: Table, walking: Table, target: float, delta: float
) -> tuple[npt.NDArray[np.float64], "Walked"]:
    """What each stratum needs beside the others (log-odds), and how strict all of them have to be."""
    offsets = choose_offsets(choosing, target)
    strictness = (walking.odds - offsets).min(axis=1, initial=STRICTEST)
    return offsets, walk_sessions(strictness, walking.right, target, delta)


def _find_tau(odds: npt.NDArray[np.float64], needed: float) -> float:
    """The score that has `needed` log-odds, no higher than any score that has them: what was counted is what runs."""
    tau = 1.0 / (1.0 + math.exp(-needed))
    reach = odds[(odds >= needed - ROUNDING) & (odds < STRICTEST)]
    least = 1.0 / (1.0 + math.exp(-float(reach.min()))) if len(reach) else tau
    return max(0.0, min(tau, least) - ROUNDING)


@dataclass(frozen=True)
class Walked:
    """Where a walk over strictness ended: how strict, and what was found of the sessions that are as strict."""

    stands: bool
    reason: str
    strictness: float
    selected: int
    errors: int
    bound: float


def walk_sessions(
    strictness: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], target: float, delta: float
) -> Walked:
    """The laxest strictness at which `target` of the sessions end right, wrong with probability `delta` at most.

    What was chosen elsewhere (strictness 0) is tested first, at CHOSEN_DELTA of δ, and laxer ones after it until one
    fails: a fixed sequence, so no test costs another anything. Where the chosen one fails, the rest of δ walks from the
    strict end. The bound is Clopper and Pearson's.
    """
    order = np.argsort(-strictness, kind="stable")
    ranked, errors = strictness[order], np.cumsum(~right[order])
    chosen = int(np.searchsorted(-ranked, 0.0, side="right"))
    ends = _find_ends(ranked)
    passed: Walked | None = None
    for size in [chosen, *(int(end) for end in ends if end > chosen)]:
        if not size:
            break
        wrong = int(errors[size - 1])
        bound = precision_bound(size, wrong, delta * CHOSEN_DELTA)
        if bound < target:
            break
        passed = Walked(True, CalibrationReason.CERTIFIED.value, float(min(ranked[size - 1], 0.0)), size, wrong, bound)
    if passed is not None:
        return passed
    result: TauResult = calibrate(
        1.0 / (1.0 + np.exp(-strictness / SQUASHED)),
        right,
        np.zeros(len(right), dtype=np.int64),
        np.arange(len(right)),
        target=target,
        delta=delta * (1.0 - CHOSEN_DELTA),
    )
    at = log_odds(result.tau) * SQUASHED if result.tau is not None else 0.0
    return Walked(result.tau is not None, result.reason.value, at, result.selected, result.errors, result.bound)


def _find_ends(ranked: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Sizes of the prefixes that are tested, none of which parts sessions that are as strict."""
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) + 1
    grid = np.linspace(0, len(ranked), WALK_STEPS + 1)[1:]
    found: npt.NDArray[np.int64] = np.unique(last[np.searchsorted(last, grid)]) if len(ranked) else last[:0]
    return found


def _tabulate(played: Sequence[Played], strata: tuple[str, ...]) -> Table:
    odds = np.full((len(played), len(strata)), STRICTEST)
    for row, each in enumerate(played):
        for stratum, least in each.least_scores.items():
            odds[row, strata.index(stratum)] = log_odds(least)
    return Table(strata, odds, np.array([each.result.is_right for each in played], dtype=np.bool_))


SQUASHED = 4.0
"""Log-odds are divided by it before they become scores: differences near 1 stay differences."""


def sum_taus(taus: Mapping[str, float]) -> str:
    """τ of each stratum for people."""
    return ", ".join(f"{stratum} {tau:.3f}" for stratum, tau in sorted(taus.items()))
