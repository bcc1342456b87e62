"""Measures of predictions and scores: arrays in, numbers out. No torch, no files, no sessions.

Here: agreement of labels, risk against coverage, how well scores rank and how true they are, likeness of texts. Not
here: intervals and slices (evaluation_slices.py), what is measured (evaluation_sessions.py, star_benchmark.py).
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import f1_score, precision_recall_fscore_support

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ECE_BINS = 15


# --- labels -----------------------------------------------------------------------------------------------------------
def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """The share of `predicted` that is `truth`; 0 where there is nothing."""
    return sum(a == b for a, b in zip(truth, predicted, strict=True)) / max(len(truth), 1)


def weighted_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 of each label, weighted by how often it is the truth (scikit-learn's `weighted`); 0 for nothing."""
    return _f1(truth, predicted, "weighted")


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 of each label that is the truth or predicted somewhere, averaged evenly (scikit-learn's `macro`)."""
    return _f1(truth, predicted, "macro")


def _f1(truth: Sequence[str], predicted: Sequence[str], average: str) -> float:
    return float(f1_score(truth, predicted, average=average, zero_division=0)) if truth else 0.0


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


class Verdicts(msgspec.Struct, frozen=True):
    """Precision, recall and F1 of accept/reject verdicts.

    `accept` and `reject` are of that class; `macro` averages both evenly, `weighted` by how often each is the truth.
    The paper's Table 7 does not say which it has.
    """

    accept: tuple[float, float, float]
    reject: tuple[float, float, float]
    macro: tuple[float, float, float]
    weighted: tuple[float, float, float]


def judge_verdicts(scores: npt.ArrayLike, accepted: npt.ArrayLike, threshold: float = 0.5) -> Verdicts:
    """Verdicts of a critic that accepts from `threshold` on, against the labels. Zeros where a class never occurs."""
    said = np.asarray(scores, dtype=np.float64) >= threshold
    truth = np.asarray(accepted, dtype=np.bool_)
    if not len(truth):
        nothing = (0.0, 0.0, 0.0)
        return Verdicts(nothing, nothing, nothing, nothing)
    options = {"labels": [True, False], "zero_division": 0}
    by_class = precision_recall_fscore_support(truth, said, **options)
    averages = {kind: precision_recall_fscore_support(truth, said, average=kind, **options) for kind in KINDS}
    return Verdicts(
        _three(*(column[0] for column in by_class[:3])),
        _three(*(column[1] for column in by_class[:3])),
        _three(*averages["macro"][:3]),
        _three(*averages["weighted"][:3]),
    )


KINDS = ("macro", "weighted")


def _three(precision: float, recall: float, f1: float) -> tuple[float, float, float]:
    return float(precision), float(recall), float(f1)


# --- texts ------------------------------------------------------------------------------------------------------------
def levenshtein(a: str, b: str) -> int:
    """The fewest insertions, deletions and replacements of characters that make `a` into `b` (Wagner–Fischer)."""
    before = list(range(len(b) + 1))
    for row, left in enumerate(a, 1):
        now = [row]
        for column, right in enumerate(b, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (left != right)))
        before = now
    return before[-1]


def likeness(a: str, b: str) -> float:
    """1 − Levenshtein distance / length of the longer text: 1 for equal texts, 0 where nothing is shared."""
    longest = max(len(a), len(b))
    return 1.0 - levenshtein(a, b) / longest if longest else 1.0
