"""`pilotage experiment`: analyse a table, plan a size. What they say, as text and as JSON."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pilotage.experiment.table import read_table
from pilotage_core.errors import InvalidInputError
from pilotage_core.experiment import (
    SRM_LIMIT,
    Arm,
    Comparison,
    bootstrap,
    compare,
    find_balance,
    find_cv,
    find_sample_ratio,
    plan_customers,
    plan_margin,
)

BALANCE_LIMIT = 0.001


@dataclass(frozen=True)
class Request:
    """What `analyse` is asked for."""

    path: Path
    customer: str
    arm: str
    control: str
    metric: str
    treatment: str = ""
    of: str = ""
    before: str = ""
    split: str = ""
    alpha: float = 0.05
    draws: int = 0
    seed: int = 1
    planned: int = 0
    negative: bool = False


@dataclass(frozen=True)
class Analysis:
    """What came out. `n` is customers by arm; figures are shares of the control's mean."""

    n: dict[str, int]
    control: str
    treatment: str
    comparison: Comparison
    srm_p: float
    problems: list[str]
    balance_p: float | None = None
    bootstrap: tuple[float, float] | None = None
    seed: int | None = None
    alpha: float = 0.05

    def to_json(self) -> str:
        """One JSON object; what could not be computed is null."""
        comparison = asdict(self.comparison)
        means = {"control": comparison.pop("control"), "treatment": comparison.pop("treatment")}
        told = {
            "n": self.n, "control": self.control, "treatment": self.treatment, "mean": means, **comparison,
            "confidence": 1 - self.alpha, "srm_p": self.srm_p, "balance_p": self.balance_p,
            "bootstrap": self.bootstrap, "seed": self.seed, "problems": self.problems,
        }  # fmt: skip
        return json.dumps(_without_nan(told), ensure_ascii=False, allow_nan=False)


def analyse(request: Request) -> Analysis:
    """The table of `request`, compared. Raises InvalidInputError where there is nothing to compare."""
    where = str(request.path)
    if not request.path.is_file():
        raise InvalidInputError("there is no such file", where=where)
    table = read_table(
        request.path, request.customer, request.arm, request.metric,
        of=request.of, before=request.before, negative=request.negative,
    )  # fmt: skip
    control, treatment = _choose(request, table.arms)
    arms = table.arms[control], table.arms[treatment]
    if min(arm.n for arm in arms) < 2:
        raise InvalidInputError(
            "an arm has fewer than two customers", where=where, remedy="; ".join(table.problems) or "wait for more"
        )
    comparison = compare(*arms, alpha=request.alpha, planned=request.planned)
    n = {name: arm.n for name, arm in table.arms.items()}
    srm_p = find_sample_ratio(tuple(n.values()), _read_split(request.split, list(n), where))
    balance_p = find_balance(*arms) if request.before else None
    problems = [*table.problems, *_find_problems(request, comparison, srm_p, balance_p)]
    drawn = None
    if request.draws:
        drawn = bootstrap(*arms, request.draws, request.alpha, request.seed)
    return Analysis(
        n, control, treatment, comparison, srm_p, problems, balance_p, drawn,
        request.seed if request.draws else None, request.alpha,
    )  # fmt: skip


def _find_problems(request: Request, comparison: Comparison, srm_p: float, balance_p: float | None) -> Iterator[str]:
    """What speaks against the experiment, and why figures are missing."""
    if srm_p < SRM_LIMIT:
        yield (
            f"sample ratio mismatch (p = {srm_p:.2g}): customers did not come to arms as they were meant to, "
            "so that arms may differ in more than their treatment"
        )
    if balance_p is not None and balance_p < BALANCE_LIMIT:
        yield f"arms differed before the experiment (p = {balance_p:.2g})"
    if math.isnan(comparison.effect):
        yield f"{request.of} adds up to 0 in an arm: there is no rate"
    elif math.isnan(comparison.relative_effect):
        yield "the control's mean is 0: there is no relative effect"
    elif math.isnan(comparison.ci_low):
        yield "means are not of one sign: a relative effect has no interval"
    if math.isnan(comparison.p) and not math.isnan(comparison.effect):
        yield "all customers of an arm are alike: nothing can be said of chance"


def describe(found: Analysis) -> Iterator[str]:
    """The analysis in words."""
    comparison = found.comparison
    counts = ", ".join(f"{name} {n}" for name, n in found.n.items())
    yield f"{found.treatment} against {found.control}: {counts} customers"
    yield (
        f"  relative effect {_percent(comparison.relative_effect)} "
        f"({1 - found.alpha:.0%} interval {_percent(comparison.ci_low)} to {_percent(comparison.ci_high)}), "
        f"p = {comparison.p:.3g}"
    )
    yield (
        f"  {comparison.treatment:.6g} against {comparison.control:.6g} a customer; difference {comparison.effect:.6g} "
        f"({comparison.effect_low:.6g} to {comparison.effect_high:.6g})"
    )
    yield (f"  however often it was looked at: {_percent(comparison.always_low)} to {_percent(comparison.always_high)}")
    if comparison.adjusted:
        yield f"  adjusted by what was before (CUPED): {comparison.removed:.0%} of the variance is gone"
    if found.bootstrap is not None:
        low, high = found.bootstrap
        yield f"  customers drawn again (seed {found.seed}, not adjusted): {_percent(low)} to {_percent(high)}"
    yield f"  sample ratio: p = {found.srm_p:.3g}" + (
        f"; before the experiment: p = {found.balance_p:.3g}" if found.balance_p is not None else ""
    )
    yield from (f"  problem: {problem}" for problem in found.problems)


def describe_any_plan(
    cv: float, effect: float, power: float, alpha: float, treated: float, per_day: float, margin: float, sd: float,
    published: str,
) -> Iterator[str]:  # fmt: skip
    """What was asked for, whichever it was. Raises InvalidInputError where it was nothing."""
    if not (published or (cv and effect) or (margin and sd)):
        raise InvalidInputError(
            "nothing to plan", where="plan", remedy="--cv and --effect, --margin and --sd, or --published"
        )
    if published:
        yield describe_implied(published)
    if cv and effect:
        yield from describe_plan(cv, effect, power, alpha, treated, per_day)
    if margin and sd:
        yield describe_margin(sd, margin, power)


def describe_plan(
    cv: float, effect: float, power: float, alpha: float, treated: float, per_day: float
) -> Iterator[str]:
    """How many customers it takes."""
    try:
        total = plan_customers(cv, effect, power=power, alpha=alpha, treated=treated)
    except ValueError as error:
        raise InvalidInputError(str(error), where="--effect", remedy="look for a larger effect") from error
    days = f", {total / per_day:.3g} days at {per_day:g} new ones a day" if per_day else ""
    yield (
        f"{total} customers, {math.ceil(total * treated)} of them treated{days}: "
        f"a relative difference of {effect:+.1%} is then found with {power:.0%}, "
        f"where there is none with {alpha:.0%} (coefficient of variation {cv:g})"
    )


def describe_margin(sd: float, margin: float, power: float) -> str:
    """How many it takes to show that something is not worse."""
    try:
        each = plan_margin(sd, margin, power=power)
    except ValueError as error:
        raise InvalidInputError(str(error), where="--margin", remedy="a wider margin") from error
    return (
        f"{each} in each arm: less than {margin:g} points worse is then shown with {power:.0%} (s.d. {sd:g}, α 2.5 %)"
    )


def describe_implied(published: str) -> str:
    """The coefficient of variation behind a published result: n control, n treatment, effect, low, high."""
    try:
        n_control, n_treatment, effect, low, high = (float(part) for part in published.split(","))
        cv = find_cv(int(n_control), int(n_treatment), effect, low, high)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"{error}",
            where="--published",
            remedy="n_control,n_treatment,effect,low,high as shares: 9000,9100,-0.2,-0.3,-0.1",
        ) from error
    return f"a coefficient of variation of {cv:.2f} is what that interval implies"


def _choose(request: Request, arms: dict[str, Arm]) -> tuple[str, str]:
    where, names = str(request.path), ", ".join(arms)
    if request.control not in arms:
        raise InvalidInputError(f"no arm is named {request.control}", where=where, remedy=f"arms: {names}")
    others = [name for name in arms if name != request.control]
    if not others:
        raise InvalidInputError("there is one arm alone", where=where, remedy="a treatment is missing")
    if request.treatment and request.treatment not in others:
        raise InvalidInputError(f"no other arm is named {request.treatment}", where=where, remedy=f"arms: {names}")
    if len(others) > 1 and not request.treatment:
        raise InvalidInputError(
            f"there are {len(others)} treatments", where=where, remedy=f"name one with --treatment: {', '.join(others)}"
        )
    return request.control, request.treatment or others[0]


def _read_split(text: str, names: list[str], where: str) -> tuple[float, ...]:
    """`a=0.5,b=0.5`, or as many for each."""
    if not text:
        return (1.0,) * len(names)
    try:
        given = {name.strip(): float(share) for name, _, share in (part.partition("=") for part in text.split(","))}
        if given.keys() != set(names) or not all(0 < share < math.inf for share in given.values()):
            raise ValueError(f"shares are wanted of {', '.join(names)}, each above 0")
    except ValueError as error:
        raise InvalidInputError(f"--split {text}: {error}", where=where) from error
    return tuple(given[name] for name in names)


def _percent(share: float) -> str:
    return "not known" if math.isnan(share) else f"{share:+.2%}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
