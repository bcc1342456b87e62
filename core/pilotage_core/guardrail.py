"""Guardrail verdicts: what one reading means. No Prometheus, no clock; the controller's observe/ has both."""

from enum import StrEnum
from math import isfinite

import msgspec

from pilotage_core.stage import Stage


class GuardrailVerdict(StrEnum):
    """What a guardrail says now. Missing and Insufficient are never Healthy."""

    HEALTHY = "Healthy"
    BREACHED = "Breached"
    INSUFFICIENT = "Insufficient"  # too little said yet: blocks promotion, demotes nothing
    MISSING = "Missing"  # nothing trustworthy said: caps at Copilot after its grace


class Comparator(StrEnum):
    """How a reading violates its threshold."""

    ABOVE = ">"
    AT_LEAST = ">="
    BELOW = "<"
    AT_MOST = "<="

    def is_violated_by(self, value: float, threshold: float) -> bool:
        """Whether `value` is on the wrong side of `threshold`."""
        match self:
            case Comparator.ABOVE:
                return value > threshold
            case Comparator.AT_LEAST:
                return value >= threshold
            case Comparator.BELOW:
                return value < threshold
            case Comparator.AT_MOST:
                return value <= threshold


class OnMissingData(StrEnum):
    """What missing data does beyond its grace: hold at Copilot until it is back, or roll back and latch."""

    CAP = "Cap"
    ROLLBACK = "Rollback"


class GuardrailRule(msgspec.Struct, frozen=True):
    """One guardrail of an AutomationGate. Times in seconds; `threshold` in the reading's own unit."""

    name: str
    comparator: Comparator
    threshold: float
    stages: tuple[Stage, ...] = (Stage.CALIBRATION, Stage.AUTOMATION)
    min_samples: int = 20
    for_seconds: float = 0.0
    grace_seconds: float = 30.0
    on_missing_data: OnMissingData = OnMissingData.CAP
    dry_run: bool = False


class Reading(msgspec.Struct, frozen=True):
    """One value of one guardrail for one process cluster and pair, over its window. `samples` counts its denominator.

    `fault` says why nothing here can be trusted (stale, several series, time-out); empty where it can.
    """

    value: float
    samples: float
    fault: str = ""


class Finding(msgspec.Struct, frozen=True):
    """A verdict with its reason, and since when it stands (seconds since the epoch, for `for` and grace)."""

    name: str
    verdict: GuardrailVerdict
    detail: str
    value: float | None = None
    samples: float = 0.0
    since: float = 0.0
    breached_for_long_enough: bool = False
    missing_beyond_grace: bool = False


def decide_verdict(
    rule: GuardrailRule, reading: Reading | None, *, ever_reported: bool
) -> tuple[GuardrailVerdict, str]:
    """Judge one reading by one rule. None is no series: Missing where there has been one before, else Insufficient."""
    if reading is None:
        return (GuardrailVerdict.MISSING if ever_reported else GuardrailVerdict.INSUFFICIENT), "no series"
    if reading.fault:
        return GuardrailVerdict.MISSING, reading.fault
    if not isfinite(reading.samples) or reading.samples < 0:
        return GuardrailVerdict.MISSING, f"samples are not a count: {reading.samples}"
    if reading.samples < rule.min_samples:
        return GuardrailVerdict.INSUFFICIENT, f"{reading.samples:.0f} of {rule.min_samples} samples"
    if not isfinite(reading.value):
        return GuardrailVerdict.MISSING, f"not a number: {reading.value}"
    if rule.comparator.is_violated_by(reading.value, rule.threshold):
        return GuardrailVerdict.BREACHED, f"{reading.value:.3g} {rule.comparator} {rule.threshold:g}"
    return GuardrailVerdict.HEALTHY, f"{reading.value:.3g} against {rule.threshold:g}"


def decide_finding(rule: GuardrailRule, reading: Reading | None, previous: Finding | None, now: float) -> Finding:
    """Judge one reading and carry on how long its verdict has stood.

    `previous` comes from status, so a restart of the controller changes nothing.
    """
    ever_reported = previous is not None and (
        previous.value is not None or previous.verdict is GuardrailVerdict.MISSING
    )
    verdict, detail = decide_verdict(rule, reading, ever_reported=ever_reported)
    since = previous.since if previous is not None and previous.verdict is verdict else now
    stood = now - since
    value = reading.value if reading is not None and not reading.fault and isfinite(reading.value) else None
    return Finding(
        name=rule.name,
        verdict=verdict,
        detail=detail,
        value=value,
        samples=reading.samples if reading is not None and isfinite(reading.samples) else 0.0,
        since=since,
        breached_for_long_enough=verdict is GuardrailVerdict.BREACHED and stood >= rule.for_seconds,
        missing_beyond_grace=verdict is GuardrailVerdict.MISSING and stood >= rule.grace_seconds,
    )
