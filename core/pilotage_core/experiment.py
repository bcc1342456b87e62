"""Two arms of an experiment compared, customers being the units: relative difference, its certainty, whether it counts.

A customer's sessions are one unit's: they are added up first, so that sessions of one customer are not taken for
independent ones. Sources: the delta method on the logarithm of the ratio of means, with Welch's degrees of freedom (as
tea-tasting 1.14 has it; a contract test compares); CUPED: Deng et al. 2013; the confidence sequence: Waudby-Smith et
al. 2024, "Time-uniform central limit theory", theorem 2.2. Not here: files and their mistakes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, gammaln, ndtr, ndtri, stdtr, stdtrit

Values = NDArray[np.float64]
EXACT_BELOW = 1000
"""With fewer customers than that the sample ratio is tested exactly."""
SRM_LIMIT = 0.001
"""A sample ratio less likely than that is a fault of the experiment, not chance."""
CHUNK = 1 << 22
"""Draws of a bootstrap are taken for as many customers at a time: memory stays flat."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm, one number for each customer. `of` divides the sum (a rate); `before` was before the experiment."""

    value: Values
    of: Values | None = None
    before: Values | None = None

    @property
    def n(self) -> int:
        """How many customers."""
        return int(self.value.size)

    @property
    def ratio(self) -> float:
        """The mean; of a rate, the ratio of the sums. NaN where that is 0 of 0."""
        return _divide(float(self.value.sum()), float(self.n) if self.of is None else float(self.of.sum()))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A treatment against control, with confidence 1 − α. Shares of the control's mean; NaN where it has none.

    `always_low` and `always_high` hold however often it was looked at; `adjusted`: by what was before (CUPED), and
    `removed` is the share of the variance that took away.
    """

    control: float
    treatment: float
    relative_effect: float
    ci_low: float
    ci_high: float
    effect: float
    effect_low: float
    effect_high: float
    p: float
    always_low: float
    always_high: float
    adjusted: bool = False
    removed: float = 0.0


def compare(control: Arm, treatment: Arm, alpha: float = 0.05, planned: int = 0) -> Comparison:
    """`treatment` against `control`. `planned` customers in all are what the confidence sequence is tightest at.

    Raises ValueError with fewer than two customers in an arm.
    """
    if min(control.n, treatment.n) < 2:
        raise ValueError("an arm needs two customers at least")
    slope, center = _find_slope(control, treatment)
    means = [arm.ratio - slope * (_before(arm) - center) for arm in (control, treatment)]
    variances = [_variance(arm, slope) for arm in (control, treatment)]
    plain = [_variance(arm, 0.0) for arm in (control, treatment)]
    counts = (control.n, treatment.n)
    effect = means[1] - means[0]
    scale, freedom = _welch(variances, counts)
    half = float(stdtrit(freedom, 1 - alpha / 2)) * scale
    p = 2 * float(stdtr(freedom, -abs(effect) / scale)) if scale > 0 else math.nan if effect else 1.0
    relative = low = high = always_low = always_high = math.nan
    if means[0] != 0:
        relative = means[1] / means[0] - 1
    if means[0] * means[1] > 0:
        logs, log_freedom = _welch([v / m / m for v, m in zip(variances, means, strict=True)], counts)
        half_log = float(stdtrit(log_freedom, 1 - alpha / 2))
        factor = _exp(half_log * logs)
        low, high = (1 + relative) / factor - 1, (1 + relative) * factor - 1
        factor = _exp(max(half_log, widen(sum(counts), alpha, planned or sum(counts))) * logs)
        always_low, always_high = (1 + relative) / factor - 1, (1 + relative) * factor - 1
    removed = 1 - _divide(sum(variances), sum(plain)) if slope else 0.0
    return Comparison(
        means[0], means[1], relative, low, high, effect, effect - half, effect + half, p, always_low, always_high,
        adjusted=slope != 0, removed=removed,
    )  # fmt: skip


def widen(n: int, alpha: float, planned: int) -> float:
    """How many standard errors a confidence sequence is wide on each side after `n` customers."""
    log = -2 * math.log(alpha)
    rho = (log + math.log(log + 1)) / planned
    return math.sqrt(2 * (n * rho + 1) / (n * rho) * math.log(math.sqrt(n * rho + 1) / alpha))


def bootstrap(control: Arm, treatment: Arm, draws: int, alpha: float, seed: int) -> tuple[float, float]:
    """Percentiles of the relative difference over `draws` of all customers again: a check of the formula."""
    random = np.random.default_rng(seed)
    ratio = _draw(treatment, draws, random) / _draw(control, draws, random) - 1
    low, high = np.quantile(ratio, (alpha / 2, 1 - alpha / 2))
    return float(low), float(high)


def find_sample_ratio(counts: tuple[int, ...], shares: tuple[float, ...]) -> float:
    """How likely counts so far from `shares` are by chance. Two arms: exact with few customers; more: χ²."""
    n = sum(counts)
    if len(counts) == 2:
        p = shares[1] / sum(shares)
        return _binomial(counts[1], n, p) if n < EXACT_BELOW else _normal(counts[1], n, p)
    expected = [n * share / sum(shares) for share in shares]
    statistic = sum((count - e) ** 2 / e for count, e in zip(counts, expected, strict=True))
    return float(gammaincc((len(counts) - 1) / 2, statistic / 2))


def find_balance(control: Arm, treatment: Arm) -> float:
    """How likely it is that arms differ so much in what was before the experiment, by chance."""
    none = np.zeros(0)
    before = [arm.before if arm.before is not None else none for arm in (control, treatment)]
    return compare(Arm(before[0]), Arm(before[1])).p


# --- before an experiment --------------------------------------------------------------------------------------------
def plan_customers(cv: float, effect: float, *, power: float, alpha: float, treated: float = 0.5) -> int:
    """Customers in all for a relative difference `effect` to be found with `power`, the standard deviation being `cv`
    means in both arms, `treated` of them in the treatment.
    """
    if not (math.isfinite(cv) and math.isfinite(effect) and effect):
        raise ValueError("a finite variation and a finite difference are wanted")
    low = 2 / min(treated, 1 - treated)
    high = 2 * low
    while _power(cv, effect, high, alpha, treated) < power:
        low, high = high, high * 2
        if high > 1e12:
            raise ValueError("no number of customers finds that")
    while high - low > 0.5:
        middle = (low + high) / 2
        low, high = (middle, high) if _power(cv, effect, middle, alpha, treated) < power else (low, middle)
    return math.ceil(high)


def plan_margin(sd: float, margin: float, *, power: float, alpha: float = 0.025) -> int:
    """Customers in each of two arms to show that a score is less than `margin` worse, its standard deviation `sd`."""
    if not (math.isfinite(sd / margin) and sd / margin < 1e6):
        raise ValueError("no number of customers shows that")
    needed = float(ndtri(1 - alpha) + ndtri(power))
    return math.ceil(2 * (needed * sd / margin) ** 2)


def find_cv(
    n_control: int, n_treatment: int, effect: float, low: float, high: float, confidence: float = 0.95
) -> float:
    """The coefficient of variation that a published interval of a relative difference implies."""
    if not (-1 < low <= effect <= high < math.inf and min(n_control, n_treatment) > 0):
        raise ValueError("the effect lies outside of its interval, or there is nobody")
    z = float(ndtri((1 + confidence) / 2))
    error = (math.log1p(high) - math.log1p(low)) / 2 / z
    return error / math.sqrt(1 / n_control + 1 / n_treatment)


def _power(cv: float, effect: float, n: float, alpha: float, treated: float) -> float:
    counts = (n * (1 - treated), n * treated)
    scale, freedom = _welch([cv * cv, cv * cv], counts)
    critical = float(stdtrit(freedom, 1 - alpha / 2))
    shift = abs(effect) / scale
    return float(stdtr(freedom, -critical - shift) + 1 - stdtr(freedom, critical - shift))


# --- parts -----------------------------------------------------------------------------------------------------------
def _find_slope(control: Arm, treatment: Arm) -> tuple[float, float]:
    """CUPED's coefficient over both arms, and the mean of what was before."""
    if control.before is None or treatment.before is None:
        return 0.0, 0.0
    before = np.concatenate((control.before, treatment.before))
    both = Arm(
        np.concatenate((control.value, treatment.value)),
        None if control.of is None or treatment.of is None else np.concatenate((control.of, treatment.of)),
    )
    spread = float(before.var(ddof=1))
    if spread == 0:
        return 0.0, float(before.mean())
    return float(np.cov(_linear(both), before, ddof=1)[0, 1]) / spread, float(before.mean())


def _linear(arm: Arm) -> Values:
    """What each customer moves the mean, or the ratio of sums, by: the delta method's terms."""
    if arm.of is None:
        return arm.value
    return np.asarray((arm.value - arm.ratio * arm.of) / arm.of.mean(), dtype=np.float64)


def _variance(arm: Arm, slope: float) -> float:
    terms = _linear(arm)
    if slope and arm.before is not None:
        terms = terms - slope * arm.before
    return float(terms.var(ddof=1))


def _before(arm: Arm) -> float:
    return float(arm.before.mean()) if arm.before is not None else 0.0


def _welch(variances: list[float], counts: tuple[float, ...]) -> tuple[float, float]:
    """Standard error of a difference, and its degrees of freedom."""
    parts = [variance / n for variance, n in zip(variances, counts, strict=True)]
    total = sum(parts)
    if not total:
        return 0.0, math.inf
    shares = [part / total for part in parts]  # squares of the parts themselves may be too small to tell from 0
    return math.sqrt(total), 1 / sum(share * share / (n - 1) for share, n in zip(shares, counts, strict=True))


def _draw(arm: Arm, draws: int, random: np.random.Generator) -> Values:
    found = np.empty(draws)
    step = max(1, CHUNK // arm.n)
    for start in range(0, draws, step):
        end = min(draws, start + step)
        chosen = random.integers(0, arm.n, size=(end - start, arm.n), dtype=np.int32)
        of = arm.n if arm.of is None else arm.of[chosen].sum(axis=1)
        found[start:end] = arm.value[chosen].sum(axis=1) / of
    return found


def _binomial(k: int, n: int, p: float) -> float:
    """Two-sided: everything that is no more likely than what came."""
    i = np.arange(n + 1)
    logs = gammaln(n + 1) - gammaln(i + 1) - gammaln(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
    each = np.exp(logs)
    return min(1.0, float(each[each <= each[k] * (1 + 1e-7)].sum()))


def _normal(k: int, n: int, p: float) -> float:
    distance = max(abs(k - n * p) - 0.5, 0.0)
    return 2 * float(ndtr(-distance / math.sqrt(n * p * (1 - p))))


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _divide(one: float, other: float) -> float:
    return one / other if other else math.nan
