"""One process cluster, one moment: what its status, its Jobs, its model servers and its leave should be.

The same function for Kubernetes and local processes. The stage is core/stage.py's word alone.
"""

from dataclasses import dataclass, replace

from pilotage_core.certificate import Certificate
from pilotage_core.guardrail import Finding
from pilotage_core.stage import UNATTENDED, Stage, StageDecision, decide_stage
from pilotage_operator.api.certificates import decode_certificates, encode_certificates
from pilotage_operator.api.pipeline import Phase, PhaseState
from pilotage_operator.api.status import (
    Baseline,
    Condition,
    ProcessClusterStatus,
    RollbackStatus,
    SupervisionStatus,
    Transition,
    UnmetStatus,
    read_time,
    write_time,
)
from pilotage_operator.decide.guardrails import decide_findings, readings_of
from pilotage_operator.decide.leave import build_leave
from pilotage_operator.decide.pipeline import Making, decide_making, restart_making, start_making, wanted_job
from pilotage_operator.decide.sessions import describe_sessions
from pilotage_operator.decide.stages import counts_of_pair, read_revocation, read_stage_facts
from pilotage_operator.decide.summary import INVALID_SECONDS, describe_tau, least, list_conditions, summarize_tau
from pilotage_operator.decide.tightening import certificates_in_force, find_tightened
from pilotage_operator.decide.workloads import kept_revisions, retiring_endpoints, wanted_endpoints
from pilotage_operator.facts import Bundle, CounterFacts, Facts, LifecycleDecision, PairCounts

TRANSITIONS_KEPT = 20
ROLLBACKS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Moment:
    """What a decision is about, gathered once: the rest of this module reads it."""

    bundle: Bundle
    before: ProcessClusterStatus
    counts: CounterFacts
    facts: Facts
    now: float


def decide_lifecycle(bundle: Bundle, before: ProcessClusterStatus, facts: Facts, now: float) -> LifecycleDecision:
    """Everything that follows for one process cluster from what was observed at `now` (seconds since the epoch)."""
    before = _acknowledge(bundle, before, now)
    counts = facts.counts or _remembered_counts(before)
    moment = Moment(bundle, before, counts, facts, now)
    making = decide_making(bundle, _read_making(before, now), counts, facts, now)
    making = _stop_if_acknowledged(making, before, now)
    pair_changed = before.pair is not None and making.pair is not None and before.pair.revision != making.pair.revision
    # Series are keyed by pair: what an old pair's guardrails said is not carried over to a new one.
    readings, said = ({}, ()) if pair_changed else (facts.readings, before.guardrails)
    findings = decide_findings(bundle.gate, readings, said, now)
    decision = _decide_stage(moment, making, findings)
    making = _on_move(moment, making, decision)
    tightened = find_tightened(before, making, facts.monitor)
    in_force = certificates_in_force(bundle, making, tightened)
    status = _write_status(moment, making, findings, decision, in_force, tightened)
    leave = build_leave(
        bundle,
        decision.effective,
        making.pair,
        in_force,
        finalizing_by_human=decision.finalizing_by_human,
        audits_all=facts.monitor is not None and facts.monitor.audits_all,
        revoked=read_revocation(status),
    )
    job = wanted_job(bundle, making)
    return LifecycleDecision(
        status=status,
        leave=leave,
        jobs=(job,) if job else (),
        endpoints=wanted_endpoints(making),
        kept_endpoints=frozenset(item.endpoint for item in status.retiring),
        kept_revisions=kept_revisions(bundle, making),
        kept_jobs=frozenset({making.pipeline.job}),
        revoked=decision.effective.rank < before.stage.rank and before.stage in UNATTENDED,
    )


def decide_faulty(
    before: ProcessClusterStatus, fault: str, generation: int, now: float
) -> tuple[ProcessClusterStatus, float]:
    """The status of a process cluster whose manifests do not go together, everything else as it is; and when to look
    again: what is applied in any order does for a moment, and is a person's to mend after INVALID_SECONDS.
    """
    old = next((c for c in before.conditions if c.type == "Ready"), None)
    since = old.last_transition_time if old is not None and old.reason == "Invalid" else write_time(now)
    ready = Condition(type="Ready", status="False", reason="Invalid", message=fault, last_transition_time=since)
    others = tuple(c for c in before.conditions if c.type not in ("Ready", "Reconciling", "Stalled", "Quarantined"))
    late_at = read_time(since) + INVALID_SECONDS
    kind = "Stalled" if now >= late_at else "Reconciling"
    told = Condition(type=kind, status="True", reason="Invalid", message=fault, last_transition_time=since)
    update = {"conditions": (ready, told, *others), "observed_generation": generation}
    return before.model_copy(update=update), late_at if now < late_at else float("inf")


def _decide_stage(moment: Moment, making: Making, findings: tuple[Finding, ...]) -> StageDecision:
    return decide_stage(
        read_stage_facts(moment.bundle, moment.before, making, moment.counts, moment.facts, findings, moment.now)
    )


# --- from and to status ----------------------------------------------------------------------------------------------
def _read_making(status: ProcessClusterStatus, now: float) -> Making:
    if status.pipeline is None:
        return start_making(now)
    return Making(
        pipeline=status.pipeline,
        baseline=status.baseline,
        pair=status.pair,
        candidate=status.candidate,
        certificates=decode_certificates(status.certificates),
        certified_after=status.certified_after,
        metrics={name: float(value) for name, value in status.metrics.items()},
    )


def _acknowledge(bundle: Bundle, status: ProcessClusterStatus, now: float) -> ProcessClusterStatus:
    """Record `spec.acknowledgedRollback` once it is seen: a later revert in Git changes nothing."""
    if not status.first_seen:
        status = status.model_copy(update={"first_seen": write_time(now), "stage_since": write_time(now)})
    rollback = status.rollback
    if rollback is None or rollback.acknowledged or bundle.cluster.acknowledged_rollback != rollback.id:
        return status
    acknowledged = rollback.model_copy(update={"acknowledged": True})
    return status.model_copy(update={"rollback": acknowledged, "acknowledged": rollback.id})


def _stop_if_acknowledged(making: Making, status: ProcessClusterStatus, now: float) -> Making:
    """An acknowledged rollback keeps its pair: what was being made to replace it is given up."""
    rollback = status.rollback
    replacing = making.pipeline.fresh_after and making.pipeline.phase is not Phase.CERTIFIED
    if rollback is None or not rollback.acknowledged or not rollback.latched or not replacing:
        return making
    update = {"phase": Phase.CERTIFIED, "state": PhaseState.DONE, "since": write_time(now), "job": "", "reason": ""}
    return replace(making, pipeline=making.pipeline.model_copy(update=update), candidate=None)


def _remembered_counts(status: ProcessClusterStatus) -> CounterFacts:
    """Counts as last seen: they only ever rise, so acting on old ones is acting late, never wrongly."""
    seen, base = status.supervision, status.baseline
    pair = PairCounts(
        base.calibration_sessions,
        base.reviewed,
        base.rejected,
        base.executed,
        base.corrections,
        base.unasked + (status.sessions.unasked if status.sessions else 0),
        base.unasked_wrong + (status.sessions.wrong if status.sessions else 0),
    )
    return CounterFacts(
        sessions=seen.sessions,
        demonstrations=seen.demonstrations,
        feedback_sessions=seen.feedback_sessions,
        pairs={status.pair.revision: pair} if status.pair else {},
    )


def _on_move(moment: Moment, making: Making, decision: StageDecision) -> Making:
    """What a change of the earned stage means for the pipeline: counting starts anew, or another pair is wanted."""
    if not decision.moved:
        return making
    facts = moment.facts
    if decision.earned is Stage.CALIBRATION:
        counts = counts_of_pair(moment.counts, making)
        baseline = Baseline(
            sessions=making.baseline.sessions,
            calibration_sessions=counts.calibration_sessions,
            reviewed=counts.reviewed,
            rejected=counts.rejected,
            executed=counts.executed,
            corrections=counts.corrections,
            unasked=making.baseline.unasked,  # of a certificate: an acknowledged rollback wipes no slate
            unasked_wrong=making.baseline.unasked_wrong,
            label_cursor=facts.monitor.cursor if facts.monitor else making.baseline.label_cursor,
        )
        return replace(making, baseline=baseline)
    if decision.earned is Stage.COPILOT and decision.rollback is not None:
        return restart_making(making, moment.counts, write_time(decision.rollback.at), moment.now)
    return making


def _write_status(
    moment: Moment,
    making: Making,
    findings: tuple[Finding, ...],
    decision: StageDecision,
    in_force: tuple[Certificate, ...],
    tightened: tuple[str, ...],
) -> ProcessClusterStatus:
    before, now = moment.before, moment.now
    moved = decision.effective is not before.stage
    if decision.rollback is not None:
        in_force, tightened = (), ()  # latched: what it was certified on before says nothing to people now
    return before.model_copy(
        update={
            "stage": decision.effective,
            "earned": decision.earned,
            "stage_since": write_time(now) if moved else before.stage_since,
            "ceiling": moment.bundle.cluster.max_stage,
            "held_by": decision.held_by.value if decision.held_by else "",
            "observed_generation": moment.bundle.generation,
            "rollback": _rollback(before, making, decision),
            "rolled_back_by": decision.rollback.guardrail if decision.rollback else "",
            "rollbacks": _rollbacks(before, decision),
            "supervision": _supervision(moment, making),
            "baseline": making.baseline,
            "copilot_since": before.copilot_since or (write_time(now) if decision.earned is Stage.COPILOT else ""),
            "pair": making.pair,
            "candidate": making.candidate,
            "retiring": retiring_endpoints(before, making, now),
            "pipeline": making.pipeline,
            "certificates": encode_certificates(making.certificates),
            "certified_after": making.certified_after,
            "tau": {c.stratum: describe_tau(c, is_tightened=c.stratum in tightened) for c in making.certificates},
            "tightened": tightened,
            "tau_summary": summarize_tau(in_force, tightened),
            "precision": least(c.bound for c in in_force),
            "coverage": least(c.coverage for c in in_force),
            "permit_epoch": moment.facts.permit_epoch,
            "metrics": {name: f"{value:.6g}" for name, value in (making.metrics or {}).items()},
            "transitions": _transitions(before, decision, now),
            "sessions": describe_sessions(moment.bundle, making, counts_of_pair(moment.counts, making)),
            "ends": "Model" if not decision.finalizing_by_human else "Human",
            "guardrails": readings_of(moment.bundle.gate, findings),
            "unmet": tuple(UnmetStatus(condition=u.need.value, have=u.have, need=u.wanted) for u in decision.unmet),
            "conditions": list_conditions(before, making, decision, now),
        }
    )


def _rollback(before: ProcessClusterStatus, making: Making, decision: StageDecision) -> RollbackStatus | None:
    if decision.moved and decision.rollback is not None and decision.earned is Stage.COPILOT:
        new = decision.rollback
        return RollbackStatus(
            id=new.id,
            reason=new.reason,
            at=write_time(new.at),
            guardrail=new.guardrail,
            value=None if new.value is None else f"{new.value:.6g}",
            pair=making.pair.revision if making.pair else "",
        )
    if before.rollback is not None and decision.earned in UNATTENDED:
        return before.rollback.model_copy(update={"latched": False})
    return before.rollback


def _rollbacks(before: ProcessClusterStatus, decision: StageDecision) -> tuple[str, ...]:
    if decision.moved and decision.rollback is not None and decision.earned is Stage.COPILOT:
        return (*before.rollbacks, write_time(decision.rollback.at))[-ROLLBACKS_KEPT:]
    return before.rollbacks


def _supervision(moment: Moment, making: Making) -> SupervisionStatus:
    counts, base = moment.counts, making.baseline
    of_pair = counts_of_pair(counts, making)
    return SupervisionStatus(
        sessions=counts.sessions,
        demonstrations=counts.demonstrations,
        feedback_sessions=counts.feedback_sessions,
        fresh_sessions=max(0, counts.sessions - base.sessions),
        calibration_sessions=max(0, of_pair.calibration_sessions - base.calibration_sessions),
    )


def _transitions(before: ProcessClusterStatus, decision: StageDecision, now: float) -> tuple[Transition, ...]:
    first = not before.transitions
    if decision.effective is before.stage and not decision.moved and not first:
        return before.transitions
    reason = decision.reason or _reason_of_cap(before, decision, first)
    transition = Transition(stage=decision.effective, earned=decision.earned, at=write_time(now), reason=reason)
    return (*before.transitions, transition)[-TRANSITIONS_KEPT:]


def _reason_of_cap(before: ProcessClusterStatus, decision: StageDecision, first: bool) -> str:
    if first:
        return "first seen"
    if decision.held_by is not None:
        return f"held by {decision.held_by}"
    if before.held_by:
        return f"no longer held by {before.held_by}"
    return "maxStage changed"
