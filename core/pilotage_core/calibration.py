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

from pilotage_core.certificate import (
    COVERED_DAYS,
    Certificate,
    EvidenceDigests,
    LabelsFrom,
    ScoreSource,
    session_precision_bound,
)
from pilotage_core.design_effect import (
    acceptance_by_score,
    inflate,
    intraclass_correlation,
    log_odds_variance,
    sum_squares,
    weigh_errors,
)
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.labels import BoolArray, FloatArray, IntArray, Labels, name_operators, number_ids, validate

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
class TauResult:
    """What calibration found. Counts, bound and design effect at τ; without τ, at the first prefix tested.

    `n` labels in all, by `operators` people on `days` effective days (Kish; 0: not told); `needed` is the size of the
    first prefix, or more where propensities differ and n are too few. `bound` is the lower confidence bound of
    precision. `icc` is ρ between labels of one operator at the target precision. `design_effect` is what n and errors
    were divided by: for operators, sessions or days that differ, for their being few, for unequal propensities.
    `grid_tested` prefixes were tested. `tau_tighter` and `tau_looser` are the next stricter grid step that passed, and
    the next laxer one. `of_delta` is the share of δ that bound and design effect are at.
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
    days: int = 0
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
    days: npt.ArrayLike | None = None,
    least_tau: float = 0.0,
) -> TauResult:
    """Certify the laxest τ at which precision ≥ `target`, wrong with probability ≤ `delta`.

    Every prefix that passed holds with all the others, so any of them may be taken, for whatever reason: where more is
    wanted than precision, it is the laxest from `least_tau` on, or the strictest where none is so strict.

    Arrays as in `Labels`, of one length and in any order. Labels with one score are never parted. Too little data is a
    result with a reason, not an error. With one operator only, the result speaks for that operator; with fewer than
    COVERED_DAYS days, or none told, for days like those.

    Raises InvalidInputError for arrays of unequal length, a score or propensity out of range (naming its index), or
    target or delta outside (0, 1).

    Source: fixed-sequence testing (Maurer, Hothorn, Lehmacher 1995), from several starts (Angelopoulos et al. 2021,
    "Learn then test"); binomial test at the effective sample size, with a t-quantile (Korn, Graubard 1998).
    """
    labels = validate(scores, accepted, operators, sessions, propensities, known, least_propensity, days, target, delta)
    n = len(labels.scores)
    needed = least_selected(n, target=target, delta=delta)
    empty = TauResult(None, CalibrationReason.NO_LABELS, target, delta, n=n, needed=needed)
    if n == 0:
        return empty
    people, counted = name_operators(labels)
    empty = replace(empty, operators=counted, days=0 if labels.days is None else _count_days(labels.days))
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
        number_ids(labels.sessions)[order],
        None if labels.propensities is None else labels.propensities[order],
        None if labels.known is None else labels.known[order],
        labels.least_propensity,
        None if labels.days is None or len(np.unique(labels.days)) < COVERED_DAYS else number_ids(labels.days)[order],
    )
    return _walk(ranked, needed, empty, least_tau)


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
            days=labels.days,
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


def _walk(ranked: Labels, needed: int, empty: TauResult, least_tau: float) -> TauResult:
    """Test prefixes of `ranked` (strictest score first): from each start on until one fails. τ is the laxest passed, of
    those from `least_tau` on.
    """
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
    clusters, icc, of_days = _find_clusters(ranked, weights, ends, block_end, empty.target)
    errors_weigh = weigh_errors(weights, ranked.accepted, ends, heaviest)
    taus = ranked.scores[ends]
    passed, tested, shown = np.zeros(len(ends), dtype=np.bool_), 0, (-1, 0.0, 0.0, 0.0)
    for share, of_delta in STARTS:
        if share and empty.operators > 1 and clusters[1][2][-1] < LEAST_OPERATORS - 1e-9:
            continue
        delta = empty.delta * of_delta
        inflation = np.ones(len(ends))
        for between, per_cluster, count in clusters:
            inflation = np.maximum(inflation, inflate(between, per_cluster, count, delta))
        if of_days is not None:  # days cross operators: what both add to the variance adds up
            inflation = inflation + inflate(*of_days, delta) - 1.0
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
        strict = first + int(np.count_nonzero(taus[first:stop] >= least_tau))
        at = max(strict - 1, first)
        if shown[0] < 0 or (stop > first and at > shown[0] and (taus[at] >= least_tau or not passed[shown[0]])):
            bound = precision_bound(float(effective[at]), float(effective_errors[at]), delta)
            shown = at, bound, float((ends[at] + 1) / effective[at]), of_delta
    at, bound, design_effect, of_delta = shown
    tighter = np.flatnonzero(passed[:at])[-1:]
    certified, end = bool(passed[at]), int(ends[at])
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


Clusters = tuple[float, FloatArray, FloatArray]


def _find_clusters(
    ranked: Labels, weights: FloatArray, ends: IntArray, block_end: IntArray, target: float
) -> tuple[list[Clusters], float, Clusters | None]:
    """How sessions and operators differ, for each prefix: what `inflate` takes, save δ. ρ between an operator's. And
    how days differ, where they are told.

    A triple holds ρ, labels a cluster, and clusters (Kish: with weights, n labels say as much as (Σw)² / Σw²).
    """
    totals = np.cumsum(weights)[ends]
    spread = np.cumsum(weights * weights)[ends]
    expected = acceptance_by_score(ranked.accepted, block_end)
    everyone = np.ones(len(weights), dtype=np.bool_)
    told = everyone if ranked.known is None else ranked.known

    def compare(groups: IntArray, telling: BoolArray) -> Clusters:
        variance = log_odds_variance(groups[telling], ranked.accepted[telling], expected[telling])
        squares = sum_squares(groups, weights)[ends]
        return float(intraclass_correlation(*variance, target)), squares / spread, totals**2 / squares

    of_sessions, of_operators = compare(ranked.sessions, everyone), compare(ranked.operators, told)
    of_days = None if ranked.days is None else compare(ranked.days, everyone)
    return [of_sessions, of_operators], of_operators[0], of_days


def _count_days(days: IntArray) -> int:
    """How many days of about as many labels each they are worth (Kish), in whole ones: a day with a single label beside
    one with thousands is none that tells how days differ.
    """
    sizes = np.unique(days, return_counts=True)[1].astype(np.float64)
    return int(sizes.sum() ** 2 / (sizes**2).sum() + 1e-9)


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
        days=result.days,
        tau_tighter=result.tau_tighter,
        tau_looser=result.tau_looser,
        score_from=score_from,
    )
