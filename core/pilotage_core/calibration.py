"""From held-out labels to τ: fixed-sequence exact test over prefixes, corrected for how far operators disagree.

Here: the test, strata, and the certificate made from a result. Not here: what the correction is (design_effect.py),
which labels are held out (trainer), what happens to τ afterwards (monitoring.py).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

from pilotage_core.certificate import Certificate, EvidenceDigests, LabelsFrom, ScoreSource, session_precision_bound
from pilotage_core.design_effect import (
    acceptance_by_score,
    inflate,
    intraclass_correlation,
    log_odds_variance,
    sum_squares,
    weigh_errors,
)
from pilotage_core.errors import EvidenceError, InvalidInputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

GRID_STEPS = 200  # prefixes tested; registered here, before any data
LEAST_SELECTED = 60
LEAST_SELECTED_SHARE = 0.1
MOST_UNKNOWN_SHARE = 0.5  # of labels whose operator is not known


OF_DELTA = 0.9  # for the walk from the strictest end
STARTS = ((0.0, OF_DELTA), (1.0, 1.0 - OF_DELTA))
"""Where a walk starts, as a share of the labels, and its share of δ. A walk ends at its first failure, and the few
labels of the highest scores may fail by chance what all plainly earn: so all together are a start too, where operators
are LEAST_OPERATORS or one: that few who differ are alike by luck does not get rarer as δ gets smaller."""
LEAST_OPERATORS = 7  # effective (Kish): eight who give about as many labels each


class CalibrationReason(StrEnum):
    """Why a calibration ended as it did."""

    CERTIFIED = "Certified"
    NO_LABELS = "NoLabels"
    TOO_FEW_LABELS = "TooFewLabels"  # fewer than the first prefix needs, or than can speak for what is seldom looked at
    NONE_ACCEPTED = "NoneAccepted"
    OPERATORS_UNKNOWN = "OperatorsUnknown"  # of too many labels: how operators differ is not known
    FIRST_PREFIX_FAILED = "FirstPrefixFailed"  # even the highest scores do not reach the target with confidence


@dataclass(frozen=True, slots=True)
class Labels:
    """Held-out labels of one stratum, as arrays of one length n, in any order.

    `scores` in [0, 1]; `accepted` is y (an unedited accept); `operators` and `sessions` are ids of any kind that
    sorts. An audited item that nobody answered is by no operator: give each an id of its own. `propensities` in (0, 1]
    are the chances with which each was looked at (None: every proposal was), `least_propensity` the smallest that any
    action had, where `propensities` may not show it: what was looked at so seldom may have left no label. `known` says
    whose operator is known (None: everyone's): the others count as one more operator, the worst case, and tell nothing
    of how operators differ.
    """

    scores: FloatArray
    accepted: BoolArray
    operators: IntArray
    sessions: IntArray
    propensities: FloatArray | None = None
    known: BoolArray | None = None
    least_propensity: float = 1.0


@dataclass(frozen=True, slots=True)
class TauResult:
    """What calibration found. Counts, bound and design effect at τ; without τ, at the first prefix tested.

    `n` labels in all, by `operators` people; `needed` is the size of the first prefix, or more where propensities
    differ and n are too few. `bound` is the lower confidence bound of precision. `icc` is ρ between labels of one
    operator at the target precision. `design_effect` is what n and errors were divided by: for operators or sessions
    that differ, for their being few, for unequal propensities. `grid_tested` prefixes were tested. `tau_tighter` and
    `tau_looser` are the next stricter grid step that passed, and the next laxer one. `of_delta` is the share of δ that
    bound and design effect are at.
    """

    tau: float | None
    reason: CalibrationReason
    target: float
    delta: float
    n: int = 0
    needed: int = 0
    selected: int = 0
    errors: int = 0
    bound: float = 0.0
    coverage: float = 0.0
    design_effect: float = 1.0
    icc: float = 0.0
    operators: int = 0
    grid_tested: int = 0
    tau_tighter: float | None = None
    tau_looser: float | None = None
    of_delta: float = OF_DELTA


def calibrate(
    scores: npt.ArrayLike,
    accepted: npt.ArrayLike,
    operators: npt.ArrayLike,
    sessions: npt.ArrayLike,
    *,
    target: float,
    delta: float,
    propensities: npt.ArrayLike | None = None,
    known: npt.ArrayLike | None = None,
    least_propensity: float = 1.0,
) -> TauResult:
    """Certify the laxest τ at which precision ≥ `target`, wrong with probability ≤ `delta`.

    Arrays as in `Labels`, of one length and in any order. Labels with one score are never parted. Too little data is a
    result with a reason, not an error. With one operator only, the result speaks for that operator.

    Raises InvalidInputError for arrays of unequal length, a score or propensity out of range (naming its index), or
    target or delta outside (0, 1).

    Source: fixed-sequence testing (Maurer, Hothorn, Lehmacher 1995), from several starts (Angelopoulos et al. 2021,
    "Learn then test"); binomial test at the effective sample size, with a t-quantile (Korn, Graubard 1998).
    """
    labels = _validated(scores, accepted, operators, sessions, propensities, known, least_propensity, target, delta)
    n = len(labels.scores)
    needed = least_selected(n, target=target, delta=delta)
    empty = TauResult(None, CalibrationReason.NO_LABELS, target, delta, n=n, needed=needed)
    if n == 0:
        return empty
    people, counted = _name_operators(labels)
    empty = replace(empty, operators=counted)
    if n < needed:
        return replace(empty, reason=CalibrationReason.TOO_FEW_LABELS)
    if not labels.accepted.any():
        return replace(empty, reason=CalibrationReason.NONE_ACCEPTED)
    unknown = 0.0 if labels.known is None else float(np.mean(~labels.known))
    if unknown > MOST_UNKNOWN_SHARE or (unknown and counted < 2):
        return replace(empty, reason=CalibrationReason.OPERATORS_UNKNOWN)
    order = np.argsort(-labels.scores, kind="stable")
    ranked = Labels(
        labels.scores[order],
        labels.accepted[order],
        people[order],
        _codes(labels.sessions)[order],
        None if labels.propensities is None else labels.propensities[order],
        None if labels.known is None else labels.known[order],
        labels.least_propensity,
    )
    return _walk(ranked, needed, empty)


def calibrate_strata(
    labels_by_stratum: Mapping[str, Labels], *, targets: float | Mapping[str, float], delta: float
) -> dict[str, TauResult]:
    """One τ per stratum; each gets delta / strata, so that all of them hold together with probability 1 − delta.

    `targets` is one target, or one for each stratum; a stratum without one raises InvalidInputError. Strata without
    labels count too: how delta is split is fixed before any label is seen.
    """
    results = {}
    for stratum, labels in labels_by_stratum.items():
        target = targets if isinstance(targets, float) else targets.get(stratum)
        if target is None:
            raise InvalidInputError("has labels but no target", where=f"stratum {stratum!r}", remedy="give it a target")
        results[stratum] = calibrate(
            labels.scores,
            labels.accepted,
            labels.operators,
            labels.sessions,
            target=target,
            delta=delta / len(labels_by_stratum),
            propensities=labels.propensities,
            known=labels.known,
            least_propensity=labels.least_propensity,
        )
    return results


def least_selected(n: int, *, target: float, delta: float) -> int:
    """Labels in the first prefix tested: max(60, n / 10, the fewest that certify `target` without one error)."""
    fewest = _fewest(target, delta * OF_DELTA)
    return max(LEAST_SELECTED, math.ceil(LEAST_SELECTED_SHARE * n), math.ceil(round(fewest, 9)))


def _fewest(target: float, delta: float) -> float:
    """Labels that certify `target` without one error."""
    return math.log(delta) / math.log(target)


def precision_bound(n: float, errors: float, delta: float) -> float:
    """Lower confidence bound (1 − delta) of a precision after `errors` among `n` labels (Clopper–Pearson, one-sided).

    Takes effective, hence fractional, counts. 0 without labels or without one accepted.
    """
    return float(betaincinv(n - errors, errors + 1.0, delta)) if n > errors else 0.0


def _walk(ranked: Labels, needed: int, empty: TauResult) -> TauResult:
    """Test prefixes of `ranked` (strictest score first): from each start on until one fails; the laxest passed is τ."""
    n = len(ranked.scores)
    block_end = _tie_block_ends(ranked.scores)
    ends = np.unique(block_end[np.unique(np.linspace(needed, n, GRID_STEPS).astype(np.int64)) - 1])
    weights = np.ones(n) if ranked.propensities is None else 1.0 / ranked.propensities
    heaviest = max(float(weights.max()), 1.0 / ranked.least_propensity)
    # So many labels weigh as much as the fewest of the heaviest kind that could certify without an error.
    heavier = n * heaviest / float(weights.sum()) if math.isfinite(heaviest) else math.inf
    if (enough := heavier * _fewest(empty.target, empty.delta * OF_DELTA)) > n + 1e-6:
        needed = math.ceil(min(enough, 1e15))  # however near 0 a propensity is
        return replace(empty, reason=CalibrationReason.TOO_FEW_LABELS, needed=needed)
    totals = np.cumsum(weights)[ends]
    error_rates = np.cumsum(weights * ~ranked.accepted)[ends] / totals
    clusters, icc = _find_clusters(ranked, weights, ends, block_end, empty.target)
    errors_weigh = weigh_errors(weights, ranked.accepted, ends, heaviest)
    passed, tested, shown = np.zeros(len(ends), dtype=np.bool_), 0, (-1, 0.0, 0.0, 0.0)
    for share, of_delta in STARTS:
        if share and empty.operators > 1 and clusters[1][2][-1] < LEAST_OPERATORS - 1e-9:
            continue
        delta = empty.delta * of_delta
        inflation = np.ones(len(ends))
        for between, per_cluster, count in clusters:
            inflation = np.maximum(inflation, inflate(between, per_cluster, count, delta))
        first = max(
            _first_with_power(totals / inflation / heaviest, empty.target, delta),
            int(np.searchsorted(ends + 1, share * n)),
        )
        effective = totals / inflation / errors_weigh
        effective_errors = effective * error_rates
        p_values = betainc(np.maximum(effective - effective_errors, 1e-9), effective_errors + 1.0, empty.target)
        failures = first + np.flatnonzero(~(p_values[first:] <= delta))
        stop = int(failures[0]) if len(failures) else len(ends)
        passed[first:stop] = True
        tested += min(stop + 1, len(ends)) - first
        at = max(stop - 1, first)
        if shown[0] < 0 or (stop > first and at > shown[0]):
            bound = precision_bound(float(effective[at]), float(effective_errors[at]), delta)
            shown = at, bound, float((ends[at] + 1) / effective[at]), of_delta
    at, bound, design_effect, of_delta = shown
    tighter = np.flatnonzero(passed[:at])[-1:]
    certified, end, taus = bool(passed[at]), int(ends[at]), ranked.scores[ends]
    return replace(
        empty,
        tau=float(taus[at]) if certified else None,
        reason=CalibrationReason.CERTIFIED if certified else CalibrationReason.FIRST_PREFIX_FAILED,
        selected=end + 1,
        errors=int(np.count_nonzero(~ranked.accepted[: end + 1])),
        bound=bound,
        coverage=float(totals[at] / weights.sum()) if certified else 0.0,
        design_effect=design_effect,
        icc=icc,
        grid_tested=tested,
        tau_tighter=float(taus[tighter[0]]) if certified and len(tighter) else None,
        tau_looser=float(taus[at + 1]) if certified and at + 1 < len(ends) else None,
        of_delta=of_delta,
    )


def _find_clusters(
    ranked: Labels, weights: FloatArray, ends: IntArray, block_end: IntArray, target: float
) -> tuple[list[tuple[float, FloatArray, FloatArray]], float]:
    """How sessions and operators differ, for each prefix: what `inflate` takes, save δ. And ρ between an operator's.

    A triple holds ρ, labels a cluster, and clusters (Kish: with weights, n labels say as much as (Σw)² / Σw²).
    """
    totals = np.cumsum(weights)[ends]
    spread = np.cumsum(weights * weights)[ends]
    expected = acceptance_by_score(ranked.accepted, block_end)
    everyone = np.ones(len(weights), dtype=np.bool_)
    told = everyone if ranked.known is None else ranked.known
    found: list[tuple[float, FloatArray, FloatArray]] = []
    icc = 0.0
    for groups, telling in ((ranked.sessions, everyone), (ranked.operators, told)):
        variance = log_odds_variance(groups[telling], ranked.accepted[telling], expected[telling])
        icc = float(intraclass_correlation(*variance, target))
        squares = sum_squares(groups, weights)[ends]
        found.append((icc, squares / spread, totals**2 / squares))
    return found, icc


def _first_with_power(errorless: FloatArray, target: float, delta: float) -> int:
    """The first prefix that one without errors could pass; 0 where none could, so that its failure is what is said.

    A walk starts no earlier: the least n of `least_selected`, in the effective labels that each prefix has `errorless`.
    They come of sizes, weights and ρ, never of the errors of a prefix, so the sequence stays fixed before it is tested
    (bench/calibration.py holds it to δ).
    """
    able = np.flatnonzero(errorless >= _fewest(target, delta) - 1e-9)
    return int(able[0]) if len(able) else 0


def _tie_block_ends(ranked_scores: FloatArray) -> IntArray:
    """For each position of the descending `ranked_scores`, the last position with the same score."""
    last = np.append(np.flatnonzero(np.diff(ranked_scores)), len(ranked_scores) - 1)
    return np.repeat(last, np.diff(last, prepend=-1))


def _name_operators(labels: Labels) -> tuple[IntArray, int]:
    """Operators renamed to 0 … k−1, whoever is not known being one more; and k, how many are known."""
    if labels.known is None or labels.known.all():
        codes = _codes(labels.operators)
        return codes, int(codes.max()) + 1
    codes = np.zeros(len(labels.operators), dtype=np.int64)
    if labels.known.any():
        codes[labels.known] = _codes(labels.operators[labels.known])
        codes[~labels.known] = codes.max() + 1
    return codes, len(np.unique(codes[labels.known]))


def _codes(ids: IntArray) -> IntArray:
    """`ids` renamed to 0 … k−1."""
    return np.unique(ids, return_inverse=True)[1].astype(np.int64)


def _validated(
    scores: npt.ArrayLike,
    accepted: npt.ArrayLike,
    operators: npt.ArrayLike,
    sessions: npt.ArrayLike,
    propensities: npt.ArrayLike | None,
    known: npt.ArrayLike | None,
    least_propensity: float,
    target: float,
    delta: float,
) -> Labels:
    """The arguments as arrays, or InvalidInputError naming what is wrong and where."""
    for name, value in (("target", target), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise InvalidInputError(f"{value} is not between 0 and 1", where=name)
    if not 0.0 < least_propensity <= 1.0:
        raise InvalidInputError(f"{least_propensity} is not in (0, 1]", where="least_propensity")
    labels = Labels(
        np.asarray(scores, dtype=np.float64),
        np.asarray(accepted, dtype=np.bool_),
        np.asarray(operators),
        np.asarray(sessions),
        None if propensities is None else np.asarray(propensities, dtype=np.float64),
        None if known is None else np.asarray(known, dtype=np.bool_),
        least_propensity,
    )
    for name in ("accepted", "operators", "sessions", "propensities", "known"):
        array = getattr(labels, name)
        if array is not None and array.shape != labels.scores.shape:
            raise InvalidInputError(f"has shape {array.shape}, scores have {labels.scores.shape}", where=name)
    _require(labels.scores, (labels.scores >= 0.0) & (labels.scores <= 1.0), "scores", "[0, 1]")
    if labels.propensities is not None:
        _require(
            labels.propensities, (labels.propensities > 0.0) & (labels.propensities <= 1.0), "propensities", "(0, 1]"
        )
    return labels


def _require(values: FloatArray, allowed: BoolArray, name: str, interval: str) -> None:
    wrong = np.flatnonzero(~allowed)
    if len(wrong):
        raise InvalidInputError(f"{values[wrong[0]]} is not in {interval}", where=f"{name}[{wrong[0]}]")


def build_certificate(
    result: TauResult,
    *,
    process_cluster: str,
    stratum: str,
    labels_from: LabelsFrom,
    score_from: ScoreSource,
    digests: EvidenceDigests,
    median_session_actions: float,
    issued_at: str,
) -> Certificate:
    """The certificate for a certified `result`. Raises EvidenceError where there is no τ to certify."""
    if result.tau is None:
        raise EvidenceError(f"no tau to certify: {result.reason}", where=f"{process_cluster}, stratum {stratum}")
    return Certificate(
        process_cluster=process_cluster,
        stratum=stratum,
        tau=result.tau,
        n=result.n,
        selected=result.selected,
        errors=result.errors,
        target=result.target,
        delta=result.delta,
        bound=result.bound,
        coverage=result.coverage,
        design_effect=result.design_effect,
        icc=result.icc,
        labels_from=labels_from,
        digests=digests,
        median_session_actions=median_session_actions,
        session_bound=session_precision_bound(result.bound, median_session_actions),
        issued_at=issued_at,
        operators=result.operators,
        tau_tighter=result.tau_tighter,
        tau_looser=result.tau_looser,
        score_from=score_from,
    )
