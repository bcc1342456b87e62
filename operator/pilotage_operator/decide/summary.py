"""A status in short, for people: thresholds, conditions. Nothing here is read back by a decision."""

from collections.abc import Iterable, Iterator

from pilotage_core.certificate import Certificate, ScoreSource, tighten
from pilotage_core.score import format_score
from pilotage_core.stage import StageDecision
from pilotage_operator.api.pipeline import Phase, PhaseState
from pilotage_operator.api.status import Condition, ProcessClusterStatus, TauStatus, read_time, write_time
from pilotage_operator.decide.pipeline import Making

STALLED_AFTER_SECONDS = 300.0


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
    """Conditions as in Kubernetes: the time of each is that of its last change."""
    old = {condition.type: condition for condition in before.conditions}
    found = []
    for kind, status, reason, message in _find_conditions(making, decision, now):
        same = kind in old and old[kind].status == status
        since = old[kind].last_transition_time if same else write_time(now)
        found.append(Condition(type=kind, status=status, reason=reason, message=message, last_transition_time=since))
    return tuple(found)


def _find_conditions(making: Making, decision: StageDecision, now: float) -> Iterator[tuple[str, str, str, str]]:
    """Ready always; the others only while they hold."""
    pipeline = making.pipeline
    waits_for_endpoint = pipeline.phase in (Phase.POLICY_ENDPOINT, Phase.CRITIC_ENDPOINT)
    late = waits_for_endpoint and now - read_time(pipeline.since) > STALLED_AFTER_SECONDS
    stalled, retrying = pipeline.state is PhaseState.STALLED, pipeline.state is PhaseState.FAILED
    refused = pipeline.state is PhaseState.REFUSED
    if decision.held_by is not None:
        yield "Ready", "False", decision.held_by.value, ""
    elif stalled or retrying:
        yield "Ready", "False", "JobFailed", pipeline.reason
    else:
        yield "Ready", "True", "Working", ""
    if decision.rollback is not None:
        yield "RolledBack", "True", "Latched", decision.rollback.reason
    if pipeline.state is PhaseState.RUNNING or refused or waits_for_endpoint or retrying:
        yield "Reconciling", "True", "JobRetried" if retrying else pipeline.phase.value, pipeline.reason
    if stalled or refused or late:
        why = "JobFailed" if stalled else "JobRefused" if refused else "EndpointNotReady"
        yield "Stalled", "True", why, pipeline.reason
