"""Guardrails of one process cluster: readings → findings, carried on from status, and what they mean for the stage.

What one reading means is core/guardrail.py's; which query gives it is observe/'s.
"""

from pilotage_core.guardrail import Finding, GuardrailRule, GuardrailVerdict, OnMissingData, Reading, decide_finding
from pilotage_core.stage import Breach, Stage
from pilotage_operator.api.automation_gate import AutomationGateSpec, Guardrail
from pilotage_operator.api.status import GuardrailReading, read_time, write_time


def rule_of(guardrail: Guardrail) -> GuardrailRule:
    """The core's rule of a manifest's guardrail."""
    return GuardrailRule(
        name=guardrail.name,
        comparator=guardrail.comparator,
        threshold=float(guardrail.threshold),
        stages=guardrail.stages,
        min_samples=guardrail.min_samples,
        for_seconds=guardrail.for_seconds,
        grace_seconds=guardrail.grace_seconds,
        on_missing_data=guardrail.on_missing_data,
        dry_run=guardrail.dry_run,
        window_seconds=float(guardrail.window_seconds),
    )


def decide_findings(
    gate: AutomationGateSpec, readings: dict[str, Reading], previous: tuple[GuardrailReading, ...], now: float
) -> tuple[Finding, ...]:
    """One finding for each guardrail, in the gate's order."""
    before = {reading.name: _previous_finding(reading) for reading in previous}
    return tuple(
        decide_finding(rule_of(guardrail), readings.get(guardrail.name), before.get(guardrail.name), now)
        for guardrail in gate.guardrails
    )


def find_breaches(gate: AutomationGateSpec, findings: tuple[Finding, ...], stage: Stage) -> tuple[Breach, ...]:
    """Guardrails that take leave back in `stage`: breached for long enough, or missing where that means the same."""
    breaches = []
    for guardrail, finding in zip(gate.guardrails, findings, strict=True):
        rolls_back_missing = guardrail.on_missing_data is OnMissingData.ROLLBACK and finding.missing_beyond_grace
        if (
            not guardrail.dry_run
            and stage in guardrail.stages
            and (finding.breached_for_long_enough or rolls_back_missing)
        ):
            breaches.append(Breach(finding.name, finding.detail, finding.value))
    return tuple(breaches)


def has_missing_data(gate: AutomationGateSpec, findings: tuple[Finding, ...], stage: Stage) -> bool:
    """Whether a guardrail that applies in `stage` has said nothing trustworthy for longer than its grace."""
    return any(
        finding.missing_beyond_grace and stage in guardrail.stages and not guardrail.dry_run
        for guardrail, finding in zip(gate.guardrails, findings, strict=True)
    )


def find_not_healthy(gate: AutomationGateSpec, findings: tuple[Finding, ...], stage: Stage) -> tuple[str, ...]:
    """Guardrails of `stage` that are not Healthy, with why."""
    return tuple(
        f"{finding.name} {finding.verdict} ({finding.detail})"
        for guardrail, finding in zip(gate.guardrails, findings, strict=True)
        if stage in guardrail.stages and not guardrail.dry_run and finding.verdict is not GuardrailVerdict.HEALTHY
    )


def readings_of(gate: AutomationGateSpec, findings: tuple[Finding, ...]) -> tuple[GuardrailReading, ...]:
    """Findings as they stand in status."""
    return tuple(
        GuardrailReading(
            name=finding.name,
            verdict=finding.verdict,
            detail=finding.detail,
            value=None if finding.value is None else f"{finding.value:.6g}",
            samples=int(finding.samples),
            threshold=f"{guardrail.comparator} {guardrail.threshold}",
            since=write_time(finding.since),
            breached_since=write_time(finding.breached_since) if finding.breached_since is not None else None,
            missing_since=write_time(finding.missing_since) if finding.missing_since is not None else None,
            reported=finding.reported,
            dry_run=guardrail.dry_run,
        )
        for guardrail, finding in zip(gate.guardrails, findings, strict=True)
    )


def _previous_finding(reading: GuardrailReading) -> Finding:
    return Finding(
        name=reading.name,
        verdict=reading.verdict,
        detail=reading.detail,
        value=None if reading.value is None else float(reading.value),
        samples=reading.samples,
        since=read_time(reading.since),
        breached_since=_find_since(reading.breached_since, reading, GuardrailVerdict.BREACHED),
        missing_since=_find_since(reading.missing_since, reading, GuardrailVerdict.MISSING),
        reported=reading.reported,
    )


def _find_since(written: str | None, reading: GuardrailReading, verdict: GuardrailVerdict) -> float | None:
    """A time as status has it; an older status tells only since when the verdict stands."""
    if written:
        return read_time(written)
    return read_time(reading.since) if reading.verdict is verdict else None
