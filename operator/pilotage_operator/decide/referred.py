"""What is said of a PolicyCritic and of a gate, from what is known of the process clusters that refer to it. Pure."""

from collections.abc import Iterator, Mapping

from pilotage_core.stage import Stage
from pilotage_operator.api.pipeline import Phase, PhaseState
from pilotage_operator.api.referred import (
    MOST,
    AutomationGateStatus,
    CertifiedStatus,
    PolicyCriticStatus,
    RevisionStatus,
    TakenBackStatus,
    WatchedStatus,
)
from pilotage_operator.api.status import Condition, PairStatus, ProcessClusterStatus
from pilotage_operator.decide.summary import date_conditions

Statuses = Mapping[str, ProcessClusterStatus]
"""Statuses of those listed, by name."""
FAILED = (PhaseState.FAILED, PhaseState.STALLED, PhaseState.REFUSED)
MOST_STRATA = 8


def describe_policy_critic(
    generation: int,
    fault: str,
    stages: Mapping[str, Stage],
    statuses: Statuses,
    said: tuple[Condition, ...],
    now: float,
) -> PolicyCriticStatus:
    """Of a PolicyCritic that the process clusters in `stages` refer to; `statuses` are of at most MOST of them.

    `fault` is what is wrong with its spec, `said` what conditions it has now.
    """
    revisions = tuple(row for name, status in statuses.items() for row in _list_revisions(name, status))
    serving = [row for row in revisions if row.phase == "InService"]
    failed = next((row for row in revisions if row.state in FAILED), None)
    return PolicyCriticStatus(
        observed_generation=generation,
        process_clusters=len(stages),
        serving=serving[0].revision if len(stages) == 1 and serving else f"{len(serving)}" if serving else "",
        revisions=revisions,
        conditions=date_conditions(_find_states(fault, stages, failed), said, now),
    )


def describe_gate(
    generation: int,
    fault: str,
    stages: Mapping[str, Stage],
    statuses: Statuses,
    said: tuple[Condition, ...],
    now: float,
) -> AutomationGateStatus:
    """The same of a gate."""
    counts = {stage.value: sum(each is stage for each in stages.values()) for stage in Stage}
    return AutomationGateStatus(
        observed_generation=generation,
        process_clusters=len(stages),
        stages={stage: count for stage, count in counts.items() if count},
        lowest=min(stages.values(), key=lambda stage: stage.rank) if stages else None,
        certificates=tuple(row for name, status in statuses.items() for row in _list_certified(name, status)),
        guardrails=tuple(
            WatchedStatus(process_cluster=name, name=each.name, verdict=each.verdict.value, since=each.since)
            for name, status in statuses.items()
            for each in status.guardrails
            if each.verdict.value != "Healthy"
        ),
        rollbacks=tuple(
            TakenBackStatus(process_cluster=name, id=found.id, guardrail=found.guardrail, at=found.at)
            for name, status in statuses.items()
            if (found := status.rollback) is not None and found.latched
        ),
        conditions=date_conditions(_find_states(fault, stages, None), said, now),
    )


def choose_listed(names: Mapping[str, Stage]) -> list[str]:
    """Of those that refer to something, the ones that are listed."""
    return sorted(names)[:MOST]


def _list_revisions(name: str, status: ProcessClusterStatus) -> Iterator[RevisionStatus]:
    pipeline = status.pipeline
    making = status.candidate
    if status.pair is not None:
        yield _describe_revision(name, status.pair, "InService", "", "", status.metrics)
    if pipeline is None or pipeline.phase in (Phase.CERTIFIED, Phase.FRESH):
        return
    told = making or status.pair
    if told is None or told.revision != pipeline.revision or told is status.pair:
        told = PairStatus(revision=pipeline.revision)
    is_bad = pipeline.state in FAILED
    reason = pipeline.reason if is_bad else ""
    yield _describe_revision(name, told, pipeline.phase.value, pipeline.state.value, reason, {})


def _describe_revision(
    name: str, pair: PairStatus, phase: str, state: str, reason: str, metrics: dict[str, str]
) -> RevisionStatus:
    return RevisionStatus(
        process_cluster=name,
        revision=pair.revision,
        phase=phase,
        state=state,
        reason=reason,
        policy_digest=pair.policy_digest,
        critic_digest=pair.critic_digest,
        policy_endpoint=pair.policy_endpoint,
        critic_endpoint=pair.critic_endpoint,
        metrics=metrics,
    )


def _list_certified(name: str, status: ProcessClusterStatus) -> Iterator[CertifiedStatus]:
    for stratum, tau in list(status.tau.items())[:MOST_STRATA]:
        yield CertifiedStatus(
            process_cluster=name,
            stratum=stratum,
            tau=tau.tau,
            bound=tau.bound,
            target=tau.target,
            labels=tau.labels,
            errors=tau.errors,
            issued_at=tau.issued_at,
            tightened_to=tau.tightened_to,
        )


def _find_states(
    fault: str, stages: Mapping[str, Stage], failed: RevisionStatus | None
) -> Iterator[tuple[str, str, str, str]]:
    """Ready always; Stalled where only a person can mend it, Reconciling where it is tried again."""
    if fault:
        yield "Ready", "False", "Invalid", fault
        yield "Stalled", "True", "Invalid", fault
    elif failed is not None:
        told = f"{failed.process_cluster}: {failed.reason}"
        yield "Ready", "False", "JobFailed", told
        yield "Reconciling" if failed.state == PhaseState.FAILED else "Stalled", "True", "JobFailed", told
    elif stages:
        yield "Ready", "True", "InUse", ""
    else:
        yield "Ready", "True", "NotUsed", "no ProcessCluster refers to it"
