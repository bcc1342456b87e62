"""What replayed proposals of one stratum could be certified at, and how many more it takes. Pure.

The tests are those of pilotage_core.calibration; what more labels would do assumes that precision and design effect
stay as they are. Not here: where proposals come from (forecast.py).
"""

import statistics
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.special import betainc

from pilotage.run import Curve, CurvePoint
from pilotage_core.calibration import CalibrationReason, TauResult, calibrate, least_selected
from pilotage_trainer.held_out import number_names
from pilotage_trainer.measures import RiskCoverage, risk_coverage

MAIN_TARGET = 0.9
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MOST_MULTIPLE = 256.0
CURVE_POINTS = 200


class Replayed(msgspec.Struct, frozen=True):
    """One proposal that the model would have made, and whether it is what the operator did."""

    session_id: str
    operator: str
    stratum: str
    tool: str
    screen: str
    issue: str
    month: str
    score: float
    accepted: bool


class Need(msgspec.Struct, frozen=True):
    """What one target takes in one stratum.

    `tau` is what these labels would certify (None: nothing), `coverage` the share of proposals at or above it, `bound`
    the lower bound of their precision. `labels_needed` in all is where something is first certified at the precision
    seen (None: more labels of this model do not help), `more_sessions` what that takes beyond the sessions replayed.
    """

    target: float
    tau: float | None
    reason: CalibrationReason
    coverage: float
    bound: float
    design_effect: float
    labels_needed: int | None
    more_labels: int | None
    more_sessions: int | None


class Growth(msgspec.Struct, frozen=True):
    """The coverage that `labels` labels would certify at MAIN_TARGET, precision staying as it is."""

    labels: int
    coverage: float


class StratumForecast(msgspec.Struct, frozen=True):
    """One stratum: its replayed proposals, what each target takes, and how coverage grows with labels."""

    name: str
    labels: int
    accepted: float
    needs: tuple[Need, ...]
    growth: tuple[Growth, ...]
    curve: Curve


def forecast_stratum(
    name: str, replayed: Sequence[Replayed], targets: Sequence[float], delta: float
) -> StratumForecast:
    """What `replayed`, all of one stratum, come to at each of `targets`; `delta` is this stratum's."""
    curve = risk_coverage([one.score for one in replayed], [one.accepted for one in replayed])
    results = {target: _calibrate(replayed, target, delta) for target in sorted({*targets, MAIN_TARGET})}
    per_session = len(replayed) / len({one.session_id for one in replayed})
    main = results[MAIN_TARGET]
    growth = [
        Growth(
            round(len(replayed) * multiple),
            project_coverage(curve, len(replayed), main.design_effect, MAIN_TARGET, delta, multiple),
        )
        for multiple in MULTIPLES
    ]
    return StratumForecast(
        name=name,
        labels=len(replayed),
        accepted=statistics.fmean(one.accepted for one in replayed),
        needs=tuple(_need(results[target], curve, per_session) for target in targets),
        growth=tuple(growth),
        curve=_thin(curve, main.tau),
    )


def _calibrate(replayed: Sequence[Replayed], target: float, delta: float) -> TauResult:
    return calibrate(
        [one.score for one in replayed],
        [one.accepted for one in replayed],
        number_names([one.operator for one in replayed]),
        number_names([one.session_id for one in replayed]),
        target=target,
        delta=delta,
    )


def _need(result: TauResult, curve: RiskCoverage, per_session: float) -> Need:
    needed = labels_needed(curve, result)
    more = None if needed is None else 0 if result.tau is not None else max(needed - result.n, 0)
    return Need(
        target=result.target,
        tau=result.tau,
        reason=result.reason,
        coverage=result.coverage,
        bound=result.bound,
        design_effect=result.design_effect,
        labels_needed=needed,
        more_labels=more,
        more_sessions=None if more is None else round(more / per_session),
    )


def labels_needed(curve: RiskCoverage, result: TauResult) -> int | None:
    """The fewest labels with which something is certified at the precision of `curve`; None if no number does it."""
    ask = (curve, result.n, result.design_effect, result.target, result.delta)
    if not project_coverage(*ask, MOST_MULTIPLE):
        return None
    low, high = 0.0, MOST_MULTIPLE
    while (high - low) * result.n > 1.0:
        middle = (low + high) / 2.0
        low, high = (low, middle) if project_coverage(*ask, middle) else (middle, high)
    return round(high * result.n)


def project_coverage(
    curve: RiskCoverage, n: int, design_effect: float, target: float, delta: float, multiple: float
) -> float:
    """The coverage certified with `multiple` times the `n` labels of `curve`, precision at each coverage staying put.

    The fixed sequence of pilotage_core.calibration with its first prefix, all counts divided by `design_effect`.
    """
    labels = max(round(n * multiple), 1)
    kept = curve.coverage * labels
    testable = np.flatnonzero(kept >= min(least_selected(labels, target=target, delta=delta), labels + 1) - 1e-9)
    if not len(testable):
        return 0.0
    effective = kept[testable] / design_effect
    errors = effective * (1.0 - curve.precision[testable])
    passed = betainc(np.maximum(effective - errors, 1e-9), errors + 1.0, target) <= delta
    able = np.flatnonzero(effective >= np.log(delta) / np.log(target))  # the walk begins where a pass is possible
    first = int(able[0]) if len(able) else 0
    failed = np.flatnonzero(~passed[first:])
    last = first + (int(failed[0]) if len(failed) else len(passed) - first) - 1
    return float(curve.coverage[testable[last]]) if last >= first else 0.0


def _thin(curve: RiskCoverage, tau: float | None) -> Curve:
    total = len(curve.coverage)
    chosen = np.unique(np.linspace(0, total - 1, min(total, CURVE_POINTS)).astype(np.intp))
    shown = [i for i in chosen.tolist() if curve.coverage[i] >= 0.01]
    return Curve(
        tuple(
            CurvePoint(float(curve.thresholds[i]), float(curve.coverage[i]), float(curve.precision[i])) for i in shown
        ),
        tau,
        MAIN_TARGET,
    )
