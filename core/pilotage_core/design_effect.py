"""How much less dependent or unequally weighted labels say than as many independent ones. Pure.

Here: ρ between labels of one group, the design effect of it, the weight of errors; in arrays with one value a prefix.
Why these: docs/evidence/design-effect.md. Not here: the test at the effective counts (calibration.py).
"""

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

CAUTION = 0.25  # standard errors; the least that kept every promised world within delta (docs/evidence)
SCORE_BINS = 30  # for acceptance by score, with at least this many labels each:
LEAST_IN_BIN = 50
PLAUSIBLE_ICC = 0.1  # how large ρ may well be: it is believed as far as its standard error is small beside this


def acceptance_by_score(accepted: BoolArray, block_end: IntArray) -> FloatArray:
    """Share accepted among labels of about the same score, for each label; equal scores share a bin.

    Labels are ranked by score; `block_end` is the last index that has the score of each.
    """
    n = len(block_end)
    bins = block_end * min(SCORE_BINS, max(1, n // LEAST_IN_BIN)) // n
    shares = np.bincount(bins, weights=accepted) / np.maximum(np.bincount(bins), 1)
    return np.asarray(shares[bins], dtype=np.float64)


def log_odds_variance(groups: IntArray, accepted: BoolArray, expected: FloatArray) -> tuple[float, float]:
    """Variance between groups of the log-odds of acceptance, beyond what `expected` says of each label; never negative.

    And its standard error where groups are alike. `groups` are codes 0 … k−1, `expected` P(accept) by score alone.
    DerSimonian–Laird's moment estimator on the scores U = Σ(y − p) with information I = Σp(1 − p) of each group; U²/I
    has variance 2 + 1/I where acceptance or error is rare, with I the mean.
    """
    score = np.bincount(groups, weights=accepted - expected)
    information = np.bincount(groups, weights=expected * (1.0 - expected))
    informative = information > 1e-9
    score, information = score[informative], information[informative]
    total, freedom = float(information.sum()), len(information) - 1
    if freedom < 1:
        return 0.0, 0.0
    heterogeneity = float((score**2 / information).sum() - score.sum() ** 2 / total)
    scale = total - float((information**2).sum()) / total
    if scale <= 1e-9:
        return 0.0, 0.0
    error = math.sqrt(2.0 * freedom + (freedom + 1) ** 2 / total) / scale
    return max(heterogeneity - freedom, 0.0) / scale, error


def intraclass_correlation(variance: float, error: float, target: float) -> float:
    """ρ at precision `target`, shrunk by its reliability 1 / (1 + (standard error / PLAUSIBLE_ICC)²).

    A handful of errors says next to nothing of how operators differ, yet where one of them falls decides whether the
    bare estimate is 0 or 1. Where errors are as many as they are just below the target, next to nothing is shrunk.
    """
    unit = target * (1.0 - target)
    reliability = 1.0 / (1.0 + (error * unit / PLAUSIBLE_ICC) ** 2)
    return min(variance * unit * reliability, 1.0)  # errors all in one group may give more than 1


def inflate(icc: float, mean_size: FloatArray, effective_groups: FloatArray, delta: float) -> FloatArray:
    """What to divide counts by, one value a prefix, when labels come in groups with intraclass correlation `icc`.

    The design effect 1 + (Σm²/Σm − 1)ρ, times (t/z)². ρ is known by (Σm)²/Σm² − 1 degrees of freedom: it is taken
    CAUTION standard errors high, and t has those degrees divided by the share of the variance that lies between groups,
    so that without differences t is z. From a δ of one half on, where z is not above 0, t/z is taken for 1.
    """
    freedom = np.maximum(effective_groups - 1.0, 1.0)
    design_effect = 1.0 + (mean_size - 1.0) * icc * (1.0 + CAUTION * np.sqrt(2.0 / freedom))
    between = np.maximum((design_effect - 1.0) / design_effect, 1e-9)
    if delta >= 0.5:
        return design_effect
    quantile_ratio: FloatArray = stdtrit(freedom / between, 1.0 - delta) / ndtri(1.0 - delta)
    return np.where(design_effect > 1.0, design_effect * quantile_ratio**2, 1.0)


def weigh_errors(weights: FloatArray, accepted: BoolArray, ends: IntArray, heaviest: float) -> FloatArray:
    """Mean weight of errors, each counted by its weight, for each prefix; at least that of all labels.

    Kish's Σw² / Σw takes errors to be as heavy as other labels. Where rarely looked at actions err more, the error rate
    scatters more than that: by the larger of this mean among all errors and among the prefix's, one error of the
    `heaviest` kind added, since few heavy labels may show no error by luck (docs/evidence/design-effect.md).
    """
    heavy = weights * ~accepted
    squares, sums = np.cumsum(weights * heavy), np.cumsum(heavy)
    in_prefix = (squares[ends] + heaviest**2) / (sums[ends] + heaviest)
    overall = float(squares[-1] / sums[-1]) if sums[-1] > 0.0 else 0.0
    of_all = np.cumsum(weights * weights)[ends] / np.cumsum(weights)[ends]
    return np.maximum(np.maximum(in_prefix, overall), of_all)


def sum_squares(groups: IntArray, weights: FloatArray) -> FloatArray:
    """Σ over groups of (Σ weights)², within each prefix."""
    by_group = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    running = np.cumsum(weights[by_group])
    before_group = np.repeat(np.append(0.0, running[np.cumsum(sizes)[:-1] - 1]), sizes)
    before = np.empty(len(groups))
    before[by_group] = running - weights[by_group] - before_group
    return np.cumsum(weights * (2.0 * before + weights))
