"""How well scores rank: risk against coverage, AUROC, calibration error. Arrays in, numbers out.

Not here: whether one score is better than another (comparison.py).
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt


def stratified_auroc(
    scores: npt.NDArray[np.float64], accepted: npt.NDArray[np.bool_], strata: npt.NDArray[np.intp]
) -> float:
    """P(an accepted label scores above a rejected one of its stratum), ties half; 0.5 where there is no such pair.

    All arrays have one length. Pairs across strata do not count: each stratum has a τ of its own.
    """
    won = pairs = 0.0
    for stratum in np.unique(strata):
        here = strata == stratum
        good, bad = np.sort(scores[here & accepted]), np.sort(scores[here & ~accepted])
        below = np.searchsorted(bad, good, side="left") + np.searchsorted(bad, good, side="right")
        won += float(below.sum()) / 2.0
        pairs += len(good) * len(bad)
    return won / pairs if pairs else 0.5


def count_at_precision(scored: Sequence[tuple[float, bool]], target: float) -> int:
    """How many are right in the longest prefix, by falling score, of which a share of at least `target` is right.

    Scores come with whether they were right; equal scores are never parted.
    """
    ranked = sorted(scored, key=lambda each: -each[0])
    most = right = 0
    for n, (score, is_right) in enumerate(ranked, 1):
        right += is_right
        if (n == len(ranked) or ranked[n][0] != score) and right >= target * n:
            most = right
    return most


FloatArray = npt.NDArray[np.float64]

BoolArray = npt.NDArray[np.bool_]

ECE_BINS = 15


# --- risk and coverage ------------------------------------------------------------------------------------------------
class RiskCoverage(msgspec.Struct, frozen=True):
    """Precision and coverage of what is kept at each distinct confidence, strictest first; arrays of one length."""

    thresholds: FloatArray
    coverage: FloatArray
    precision: FloatArray


def risk_coverage(confidence: npt.ArrayLike, right: npt.ArrayLike) -> RiskCoverage:
    """What keeping all points of at least some confidence means, for each there is. Ties are never parted."""
    scores, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.bool_)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else np.empty(0, dtype=np.intp)
    kept = ends + 1
    return RiskCoverage(ranked[ends], kept / max(len(ranked), 1), np.cumsum(hits[order])[ends] / kept)


def coverage_at_precision(confidence: npt.ArrayLike, right: npt.ArrayLike, target: float) -> float:
    """The largest share of points that can be kept, most confident first, with at least `target` of them right.

    Points of equal confidence are kept or left together; 0 where no such share exists. A description of these points,
    not a certificate: the threshold was chosen on them.
    """
    curve = risk_coverage(confidence, right)
    reached = np.flatnonzero(curve.precision >= target - 1e-12)
    return float(curve.coverage[reached[-1]]) if len(reached) else 0.0


def area_under_risk(confidence: npt.ArrayLike, right: npt.ArrayLike) -> float:
    """Mean risk (1 − precision) over coverage, the area under the risk–coverage curve; lower is better, 0 for nothing.

    Ties count as one step. Source: Geifman and El-Yaniv 2017.
    """
    curve = risk_coverage(confidence, right)
    steps = np.diff(curve.coverage, prepend=0.0)
    return float(((1.0 - curve.precision) * steps).sum())


# --- scores -----------------------------------------------------------------------------------------------------------
def auroc(scores: npt.ArrayLike, accepted: npt.ArrayLike) -> float | None:
    """P(an accepted label scores above a rejected one), ties half; None where there is only one class."""
    values, good = np.asarray(scores, dtype=np.float64), np.asarray(accepted, dtype=np.bool_)
    high, low = np.sort(values[good]), np.sort(values[~good])
    if not len(high) or not len(low):
        return None
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.sum()) / (2.0 * len(high) * len(low))


def expected_calibration_error(scores: npt.ArrayLike, accepted: npt.ArrayLike, bins: int = ECE_BINS) -> float:
    """Mean distance between score and share accepted over `bins` bins of equal width, weighted by labels.

    Source: Naeini, Cooper, Hauskrecht 2015. 0 for nothing.
    """
    values, good = np.asarray(scores, dtype=np.float64), np.asarray(accepted, dtype=np.float64)
    if not len(values):
        return 0.0
    place = np.minimum((values * bins).astype(np.intp), bins - 1)
    gaps = np.bincount(place, weights=values - good, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))
