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
    window_seconds: float = 3600.0


class Reading(msgspec.Struct, frozen=True):
    """One value of one guardrail for one process cluster and pair, over its window. `samples` counts its denominator.

    `fault` says why nothing here can be trusted (stale, several series, time-out); empty where it can.
    """

    value: float
    samples: float
    fault: str = ""


class Finding(msgspec.Struct, frozen=True):
    """A verdict with its reason, and since when it stands (seconds since the epoch).

    `breached_since` and `missing_since` are what `for` and grace count from: a gap between two breached readings does
    not begin `for` anew. `reported`: something trustworthy, or that it is missing, was said before.
    """

    name: str
    verdict: GuardrailVerdict
    detail: str
    value: float | None = None
    samples: float = 0.0
    since: float = 0.0
    breached_for_long_enough: bool = False
    missing_beyond_grace: bool = False
    breached_since: float | None = None
    missing_since: float | None = None
    reported: bool = False


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

    `previous` comes from status, so a restart of the controller changes nothing. Only a breached reading can roll back:
    while nothing trustworthy is said, grace runs, and a breach that was there before goes on where it was.
    """
    before = previous or Finding(rule.name, GuardrailVerdict.INSUFFICIENT, "")
    ever_reported = before.reported or before.value is not None or before.verdict is GuardrailVerdict.MISSING
    verdict, detail = decide_verdict(rule, reading, ever_reported=ever_reported)
    since = before.since if previous is not None and before.verdict is verdict else now
    breached_since = _find_breached_since(rule, verdict, before, since, now)
    missing_since = (before.missing_since or now) if verdict is GuardrailVerdict.MISSING else None
    trusted = reading is not None and not reading.fault
    value = reading.value if reading is not None and trusted and isfinite(reading.value) else None
    breached, missing = verdict is GuardrailVerdict.BREACHED, verdict is GuardrailVerdict.MISSING
    return Finding(
        name=rule.name,
        verdict=verdict,
        detail=detail,
        value=value,
        samples=reading.samples if reading is not None and isfinite(reading.samples) else 0.0,
        since=since,
        breached_for_long_enough=breached and now - (breached_since or now) >= rule.for_seconds,
        missing_beyond_grace=missing and now - (missing_since or now) >= rule.grace_seconds,
        breached_since=breached_since,
        missing_since=missing_since,
        reported=ever_reported or trusted,
    )


def _find_breached_since(
    rule: GuardrailRule, verdict: GuardrailVerdict, before: Finding, since: float, now: float
) -> float | None:
    """When the breach began that stands, or may go on after a gap: until it is Healthy, or a window said too little."""
    match verdict:
        case GuardrailVerdict.BREACHED:
            return before.breached_since if before.breached_since is not None else now
        case GuardrailVerdict.HEALTHY:
            return None
        case GuardrailVerdict.INSUFFICIENT if now - since > rule.window_seconds:
            return None
    return before.breached_since
