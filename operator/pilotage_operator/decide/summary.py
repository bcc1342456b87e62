"""A status in short, for people: thresholds, conditions. Nothing here is read back by a decision."""

from collections.abc import Iterable, Iterator

from pilotage_core.certificate import Certificate, ScoreSource, tighten
from pilotage_core.score import format_score
from pilotage_core.stage import Cap, StageDecision
from pilotage_operator.api.pipeline import Phase, PhaseState
from pilotage_operator.api.status import Condition, ProcessClusterStatus, TauStatus, read_time, write_time
from pilotage_operator.decide.pipeline import JOB_PHASES, Making

STALLED_AFTER_SECONDS, INVALID_SECONDS = 300.0, 30.0
"""From when on a person has to look: a model server that does not come up, manifests that do not go together."""
STALLS = {PhaseState.STALLED: "JobFailed", PhaseState.REFUSED: "JobRefused"}


def describe_tau(certificate: Certificate, *, is_tightened: bool) -> TauStatus:
    """A certificate in short."""
    stricter = tighten(certificate) if is_tightened else None
    return TauStatus(
        tau=format_score(certificate.tau),
        labels=certificate.n,
        selected=certificate.selected,
        errors=certificate.errors,
        target=f"{certificate.target:.6g}",
        delta=f"{certificate.delta:.6g}",
        bound=f"{certificate.bound:.4f}",
        coverage=f"{certificate.coverage:.4f}",
        labels_from=certificate.labels_from,
        issued_at=certificate.issued_at,
        days=certificate.days,
        score_from=certificate.score_from,
        tightened_to=(format_score(stricter.tau) if stricter else "nothing") if is_tightened else "",
    )


def summarize_tau(certificates: Iterable[Certificate], tightened: tuple[str, ...]) -> str:
    """τ in force by stratum in one line; whether they are thresholds of confidence, and which were tightened."""
    told = list(certificates)
    parts = [f"{each.stratum}={format_score(each.tau)}" for each in told]
    if any(each.score_from is ScoreSource.CONFIDENCE for each in told):
        parts.append("(confidence)")
    if tightened:
        parts.append(f"(tightened: {', '.join(tightened)})")
    return " ".join(parts)


def least(values: Iterable[float]) -> str:
    """The lowest of `values` with three decimals; empty without any."""
    numbers = list(values)
    return f"{min(numbers):.3f}" if numbers else ""


def list_conditions(
    before: ProcessClusterStatus, making: Making, decision: StageDecision, now: float
) -> tuple[Condition, ...]:
    """The conditions of a process cluster."""
    return date_conditions(_find_conditions(making, decision, now), before.conditions, now)


def date_conditions(
    found: Iterable[tuple[str, str, str, str]], said: Iterable[Condition], now: float
) -> tuple[Condition, ...]:
    """(type, status, reason, message) as conditions in Kubernetes: the time of each is that of its last change."""
    since = {(condition.type, condition.status): condition.last_transition_time for condition in said}
    return tuple(
        Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=since[kind, status] if (kind, status) in since else write_time(now),
        )
        for kind, status, reason, message in found
    )


def _find_conditions(making: Making, decision: StageDecision, now: float) -> Iterator[tuple[str, str, str, str]]:
    """Ready always; the others only while they hold, and never Reconciling beside Stalled.

    Read as kstatus and Argo CD do: who waits for evidence, trains for hours, is suspended by people or rolled back is
    Ready, so that a roll-out over an empty installation ends; only what ends within minutes is Reconciling.
    """
    pipeline = making.pipeline
    waits_for_endpoint = pipeline.phase in (Phase.POLICY_ENDPOINT, Phase.CRITIC_ENDPOINT)
    late = waits_for_endpoint and now - read_time(pipeline.since) > STALLED_AFTER_SECONDS
    yield _find_ready(making, decision, late)
    if decision.rollback is not None:
        yield "RolledBack", "True", "Latched", decision.rollback.reason
    if pipeline.state in STALLS:
        yield "Stalled", "True", STALLS[pipeline.state], pipeline.reason
    elif late:
        yield "Stalled", "True", "EndpointNotReady", pipeline.reason
    elif pipeline.state is PhaseState.FAILED:
        yield "Reconciling", "True", "JobRetried", pipeline.reason
    elif waits_for_endpoint:
        yield "Reconciling", "True", pipeline.phase.value, pipeline.reason


def _find_ready(making: Making, decision: StageDecision, late: bool) -> tuple[str, str, str, str]:
    pipeline = making.pipeline
    if decision.held_by is not None and decision.held_by is not Cap.SUSPENDED:
        return "Ready", "False", decision.held_by.value, ""
    if pipeline.state is PhaseState.FAILED or pipeline.state in STALLS:
        return "Ready", "False", STALLS.get(pipeline.state, "JobFailed"), pipeline.reason
    if late:
        return "Ready", "False", "EndpointNotReady", pipeline.reason
    if decision.held_by is not None:
        return "Ready", "True", decision.held_by.value, "people suspended it"
    if decision.rollback is not None:
        return "Ready", "True", "RolledBack", decision.rollback.reason
    if pipeline.phase in JOB_PHASES:
        return "Ready", "True", "Training", pipeline.reason
    if pipeline.phase is Phase.CERTIFIED:
        return "Ready", "True", "InService", ""
    return "Ready", "True", "CollectingEvidence", pipeline.reason
