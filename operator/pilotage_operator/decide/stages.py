"""The facts the stage machine looks at, read off status, manifests and observation; and its decision written to status.

The machine itself is core/stage.py: nothing here decides a stage.
"""

import math
from collections.abc import Sequence

from pilotage_core.certificate import Certificate, find_attempt_share
from pilotage_core.guardrail import Finding
from pilotage_core.monitoring import share_bound
from pilotage_core.stage import ORDER, UNATTENDED, Breach, Cap, Rollback, Stage, StageFacts
from pilotage_core.wire import Revocation
from pilotage_operator.api.automation_gate import Certify
from pilotage_operator.api.process_cluster import Promotion
from pilotage_operator.api.status import ProcessClusterStatus, read_time
from pilotage_operator.decide.evidence import standing_certificates
from pilotage_operator.decide.guardrails import find_breaches, find_not_healthy, has_missing_data
from pilotage_operator.decide.pipeline import Making
from pilotage_operator.decide.sessions import are_sessions_certified
from pilotage_operator.facts import Bundle, CounterFacts, Facts, PairCounts

FLAP_WINDOW_SECONDS = 86_400.0
LARGEST_CLOCK_SKEW_SECONDS = 5.0
ENDPOINT_GRACE_SECONDS = 10.0


def read_stage_facts(
    bundle: Bundle,
    status: ProcessClusterStatus,
    making: Making,
    counts: CounterFacts,
    facts: Facts,
    findings: tuple[Finding, ...],
    now: float,
) -> StageFacts:
    """Everything core/stage.py asks about one process cluster."""
    spec, gate, base = bundle.cluster, bundle.gate, making.baseline
    rollback = status.rollback
    standing = standing_certificates(bundle, making.pair, making.certificates)
    pair = making.pair
    of_pair = counts_of_pair(counts, making)
    proof, proof_of = find_proof(standing, facts)
    attempts = max(1, making.pipeline.calibrations, len(status.rollbacks) + 1) + len(status.tightened)
    return StageFacts(
        now=now,
        ceiling=spec.max_stage,
        earned=status.earned,
        rollback=read_rollback(status),
        acknowledged=rollback is not None and rollback.acknowledged,
        rollbacks_lately=sum(now - read_time(at) < FLAP_WINDOW_SECONDS for at in status.rollbacks),
        caps=find_caps(bundle, status, making, facts, findings, now),
        breaches=(*find_unwritten(status, facts.reported), *find_breaches(gate, findings, status.earned)),
        guardrails_not_healthy=find_not_healthy(gate, findings, Stage.CALIBRATION),
        demonstrations=counts.demonstrations,
        min_demonstrations=spec.supervision.min_demonstrations,
        cycle_seconds=now - read_time(status.first_seen),
        min_cycle_seconds=spec.supervision.minimum_cycle_seconds,
        policy_passed=pair is not None,
        policy_ready=pair is not None and is_ready(facts, pair.policy_endpoint),
        feedback_sessions=counts.feedback_sessions,
        min_feedback=spec.supervision.min_feedback,
        critic_passed=pair is not None and bool(pair.critic_digest),
        critic_ready=pair is not None and is_ready(facts, pair.critic_endpoint),
        certified_strata=len(standing),
        certified_after=read_time(making.certified_after),
        cooldown_seconds=gate.rollback.cooldown_seconds,
        flap_budget=gate.rollback.flap_budget,
        calibration_sessions=of_pair.calibration_sessions - base.calibration_sessions,
        min_calibration_sessions=gate.calibration.min_sessions,
        proof=proof,
        proof_of=proof_of,
        proof_wanted=find_proof_wanted(bundle, attempts),
        alarm=_find_alarm(bundle, status, facts),
        finalization_rejection=_bound(gate.delta, of_pair.rejected - base.rejected, of_pair.reviewed - base.reviewed),
        max_finalization_rejection=float(gate.calibration.max_finalization_rejection),
        corrective_intervention=_bound(
            gate.delta, of_pair.corrections - base.corrections, of_pair.executed - base.executed
        ),
        max_corrective_intervention=float(gate.calibration.max_corrective_intervention),
        approved=find_approved(bundle),
        termination_certified=are_sessions_certified(bundle, making, of_pair),
    )


def _find_alarm(bundle: Bundle, status: ProcessClusterStatus, facts: Facts) -> float:
    """The highest R since Calibration began. Where τ was tightened for it and F has begun anew, R as it is now: one
    alarm would else hold a process cluster in Calibration for ever.
    """
    if facts.monitor is None:
        return math.inf if status.earned is Stage.CALIBRATION else 0.0  # what is not known is no calm
    anew = bundle.gate.calibration.certify is Certify.FRESH and bool(status.tightened)
    return facts.monitor.r if anew else facts.monitor.r_peak


def find_proof(standing: Sequence[Certificate], facts: Facts) -> tuple[float, str]:
    """The least F over the strata of `standing` certificates, and of which."""
    proofs = facts.monitor.proofs if facts.monitor else {}
    return min(((proofs.get(each.stratum, 1.0), each.stratum) for each in standing), default=(1.0, ""))


def find_proof_wanted(bundle: Bundle, attempts: int) -> float:
    """The F that each stratum needs before Automation; 0 where Copilot's labels are enough.

    δ is shared over strata and over attempts, as for τ itself: each certificate is one, each return to Calibration, and
    each tightened τ, under which F begins anew.
    """
    gate = bundle.gate
    if gate.calibration.certify is not Certify.FRESH:
        return 0.0
    share = find_attempt_share(attempts)
    return max(len(gate.strata), 1) / (float(gate.delta) * share)


def find_caps(
    bundle: Bundle,
    status: ProcessClusterStatus,
    making: Making,
    facts: Facts,
    findings: tuple[Finding, ...],
    now: float,
) -> tuple[Cap, ...]:
    """What holds it back now and clears by itself."""
    unattended = status.earned in UNATTENDED
    pair = making.pair
    endpoints = [] if pair is None else [pair.policy_endpoint] + ([pair.critic_endpoint] if unattended else [])
    held = {
        Cap.SUSPENDED: bundle.cluster.suspend,
        Cap.NO_ADMISSION_POLICY: not facts.admission,
        Cap.NO_PERMIT_AUTHORITY: not facts.authority,
        Cap.CLOCK_SKEW: abs(facts.clock_skew_seconds) > LARGEST_CLOCK_SKEW_SECONDS,
        Cap.CERTIFICATE_VOID: unattended and not standing_certificates(bundle, making.pair, making.certificates),
        Cap.ENDPOINT_DOWN: any(is_down(facts, name, now) for name in endpoints),
        Cap.GUARDRAIL_DATA_MISSING: has_missing_data(bundle.gate, findings, status.earned),
    }
    return tuple(cap for cap, holds in held.items() if holds)


def find_approved(bundle: Bundle) -> frozenset[Stage]:
    """Stages that may be entered: all that promote by themselves, and those a person has raised maxStage to."""
    promotion = bundle.cluster.promotion
    manual = {
        Stage.COPILOT: promotion.copilot,
        Stage.CALIBRATION: promotion.calibration,
        Stage.AUTOMATION: promotion.automation,
    }
    ceiling = bundle.cluster.max_stage
    return frozenset(s for s in ORDER if manual.get(s) is not Promotion.MANUAL or s.rank <= ceiling.rank)


def read_rollback(status: ProcessClusterStatus) -> Rollback | None:
    """The latch as the machine knows it; None where nothing is latched."""
    rollback = status.rollback
    if rollback is None or not rollback.latched:
        return None
    value = None if rollback.value is None else float(rollback.value)
    return Rollback(rollback.id, rollback.reason, read_time(rollback.at), rollback.guardrail, value)


def read_revocation(status: ProcessClusterStatus) -> Revocation | None:
    """The latch as gateways are told of it; None where nothing is latched."""
    rollback = read_rollback(status)
    if rollback is None:
        return None
    return Revocation(rollback.guardrail, rollback.at, rollback.reason, rollback.value)


def find_unwritten(status: ProcessClusterStatus, reported: Revocation | None) -> tuple[Breach, ...]:
    """What gateways know was taken back, and no status says: an earlier leader died before it was written down."""
    known = read_time(status.rollback.at) if status.rollback is not None else float("-inf")
    if reported is None or reported.at <= known or status.earned not in UNATTENDED:
        return ()
    detail = f"taken back by an earlier controller, as gateways remember: {reported.detail}"
    return (Breach(reported.guardrail, detail, reported.value),)


def is_ready(facts: Facts, endpoint: str) -> bool:
    """Whether the model server of that name answers."""
    found = facts.endpoints.get(endpoint)
    return found is not None and found.ready


def is_down(facts: Facts, endpoint: str, now: float) -> bool:
    """Whether the model server of that name has not answered for a while: one late probe holds nobody back."""
    found = facts.endpoints.get(endpoint)
    return found is None or (not found.ready and now - found.since > ENDPOINT_GRACE_SECONDS)


def counts_of_pair(counts: CounterFacts, making: Making) -> PairCounts:
    """Counts of the current pair: zeros for one that has done nothing yet."""
    return counts.pairs.get(making.pair.revision, PairCounts()) if making.pair else PairCounts()


def _bound(delta: str, events: int, trials: int) -> float | None:
    return share_bound(float(delta), events, trials) if trials > 0 and 0 <= events <= trials else None
