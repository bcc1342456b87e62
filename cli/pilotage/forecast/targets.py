"""What replayed proposals of one stratum could be certified at, and what it takes where they cannot. Pure.

The tests are those of pilotage_core.calibration. Other numbers of labels are asked of a `Projection`, which takes
precision and how far operators differ from the labels seen (projection.py). Not here: where proposals come
from (measure.py).
"""

import statistics
from collections.abc import Sequence
from enum import StrEnum

import msgspec
import numpy as np

from pilotage.forecast.projection import FloatArray, Projection, build_projection
from pilotage.run import Curve, CurvePoint
from pilotage_core.calibration import CalibrationReason, TauResult, calibrate, least_selected
from pilotage_trainer.public import Replayed, RiskCoverage, number_names, risk_coverage

MAIN_TARGET = 0.9
MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MOST_MULTIPLE = 256.0
NUMBERS_TRIED = 58  # of labels, up to MOST_MULTIPLE times those there are: a tenth apart, as fine as a forecast can be
STANDARD_ERROR_BELOW = 0.16  # the chance that a precision is lower than one standard error below what was seen
CURVE_POINTS = 200


class Outlook(StrEnum):
    """What it takes until something is certified."""

    CERTIFIED = "Certified"
    MORE_LABELS = "MoreLabels"
    MORE_OPERATORS = "MoreOperators"  # these differ so far that no number of labels by them alone would do
    BETTER_MODEL = "BetterModel"  # its precision is below the target, beyond doubt
    UNCLEAR = "Unclear"  # the labels are too few to say which of these it is


class Need(msgspec.Struct, frozen=True):
    """What one target takes in one stratum.

    `tau` is what these labels would certify (None: nothing), `coverage` the share of proposals at or above it, `bound`
    the lower bound of their precision. Where `outlook` is MoreLabels, `labels_needed` in all by these operators certify
    something at the precision seen, `more_labels` and `more_sessions` beyond those replayed, and `labels_if_lower` in
    all where it is one standard error lower (None: no number up to MOST_MULTIPLE times as many); else all are None.
    """

    target: float
    tau: float | None
    reason: CalibrationReason
    coverage: float
    bound: float
    design_effect: float
    outlook: Outlook
    labels_needed: int | None
    labels_if_lower: int | None
    more_labels: int | None
    more_sessions: int | None


class Growth(msgspec.Struct, frozen=True):
    """The coverage that `labels` labels by the same operators would certify at MAIN_TARGET, at the precision seen."""

    labels: int
    coverage: float


class StratumForecast(msgspec.Struct, frozen=True):
    """One stratum: its replayed proposals, what each target takes, and how coverage grows with labels.

    `growth` and `curve` begin with the first prefix tested: nothing is in them where there are fewer labels.
    """

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
    n = len(replayed)
    curve = risk_coverage([one.score for one in replayed], [one.accepted for one in replayed])
    results = {target: _calibrate(replayed, target, delta) for target in sorted({*targets, MAIN_TARGET})}
    operators = [one.operator for one in sorted(replayed, key=lambda one: -one.score)]
    projections = {target: build_projection(curve, operators, result) for target, result in results.items()}
    per_session = n / len({one.session_id for one in replayed})
    main = projections[MAIN_TARGET]
    grown = [round(n * multiple) for multiple in MULTIPLES] if n >= main.result.needed else []
    return StratumForecast(
        name=name,
        labels=n,
        accepted=statistics.fmean(one.accepted for one in replayed),
        needs=tuple(_need(projections[target], per_session) for target in targets),
        growth=tuple(
            Growth(labels, main.certify(labels))
            for labels in grown
            if labels >= least_selected(labels, target=MAIN_TARGET, delta=delta)
        ),
        curve=_thin(curve, main.result),
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


def _need(projection: Projection, per_session: float) -> Need:
    result = projection.result
    needed = if_lower = None
    if result.tau is None and (needed := count_needed(projection)):
        if_lower = count_needed(projection, projection.lowest_precision(STANDARD_ERROR_BELOW))
    more = None if needed is None else needed - result.n
    return Need(
        target=result.target,
        tau=result.tau,
        reason=result.reason,
        coverage=result.coverage,
        bound=result.bound,
        design_effect=result.design_effect,
        outlook=decide_outlook(projection, needed),
        labels_needed=needed,
        labels_if_lower=if_lower,
        more_labels=more,
        more_sessions=None if more is None else round(more / per_session),
    )


def decide_outlook(projection: Projection, needed: int | None) -> Outlook:
    """What it takes until something is certified, where `needed` labels by these operators would do (None: none)."""
    result = projection.result
    if result.tau is not None:
        return Outlook.CERTIFIED
    if needed:
        return Outlook.MORE_LABELS
    if any(projection.certify(labels, by_others=True) for labels in _list_numbers(result.n)):
        return Outlook.MORE_OPERATORS
    if (projection.highest_precision(result.delta) < result.target).all():
        return Outlook.BETTER_MODEL
    return Outlook.UNCLEAR


def count_needed(projection: Projection, precision: FloatArray | None = None) -> int | None:
    """The fewest labels tried that certify something at `precision` (None: as seen); None where none do."""
    return next((n for n in _list_numbers(projection.result.n) if projection.certify(n, precision)), None)


def _list_numbers(n: int) -> list[int]:
    return [round(float(number)) for number in np.geomspace(1.1 * n, MOST_MULTIPLE * n, NUMBERS_TRIED)]


def _thin(curve: RiskCoverage, result: TauResult) -> Curve:
    total = len(curve.coverage)
    chosen = np.unique(np.linspace(0, total - 1, min(total, CURVE_POINTS)).astype(np.intp))
    shown = [i for i in chosen.tolist() if curve.coverage[i] * result.n >= result.needed - 1e-9]
    return Curve(
        tuple(
            CurvePoint(float(curve.thresholds[i]), float(curve.coverage[i]), float(curve.precision[i])) for i in shown
        ),
        result.tau,
        MAIN_TARGET,
    )
