"""The stage machine: one enum, one transition table, pure. Only here does a stage flip.

effective stage = min(ceiling, earned, caps). Caps clear themselves and cost nothing earned; only a breach lowers what
is earned, and latches. Facts come from the controller's observe step; nothing here reads a clock or the world.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

import msgspec


class Stage(StrEnum):
    """How much a process cluster's model may do, in rising order."""

    LOGGING = "Logging"
    COPILOT = "Copilot"
    CALIBRATION = "Calibration"
    AUTOMATION = "Automation"

    @property
    def rank(self) -> int:
        """0 for Logging … 3 for Automation."""
        return ORDER.index(self)


ORDER: tuple[Stage, ...] = (Stage.LOGGING, Stage.COPILOT, Stage.CALIBRATION, Stage.AUTOMATION)
UNATTENDED: frozenset[Stage] = frozenset({Stage.CALIBRATION, Stage.AUTOMATION})
"""The only stages in which a critical action may run without an operator."""


class Cap(StrEnum):
    """Why a process cluster is held below what it has earned. Every cap clears itself."""

    SUSPENDED = "Suspended"
    GUARDRAIL_DATA_MISSING = "GuardrailDataMissing"
    ENDPOINT_DOWN = "EndpointDown"
    NO_PERMIT_AUTHORITY = "NoPermitAuthority"
    NO_ADMISSION_POLICY = "NoAdmissionPolicy"
    CLOCK_SKEW = "ClockSkew"
    CERTIFICATE_VOID = "CertificateVoid"


CAP_STAGE: dict[Cap, Stage] = dict.fromkeys(Cap, Stage.COPILOT) | {Cap.SUSPENDED: Stage.LOGGING}


class Need(StrEnum):
    """What an edge asks for."""

    DEMONSTRATIONS = "Demonstrations"
    MINIMUM_CYCLE = "MinimumCycle"
    POLICY_EVALUATION = "PolicyEvaluation"
    POLICY_ENDPOINT = "PolicyEndpoint"
    FEEDBACK = "Feedback"
    CRITIC_EVALUATION = "CriticEvaluation"
    CRITIC_ENDPOINT = "CriticEndpoint"
    CERTIFICATE = "Certificate"
    FRESH_EVIDENCE = "FreshEvidence"
    COOLDOWN = "Cooldown"
    FLAP_BUDGET = "FlapBudget"
    NO_BREACH = "NoBreach"
    CALIBRATION_SESSIONS = "CalibrationSessions"
    FRESH_PRECISION = "FreshPrecision"
    NO_ALARM = "NoAlarm"
    FINALIZATION_REJECTION = "FinalizationRejection"
    CORRECTIVE_INTERVENTION = "CorrectiveIntervention"
    GUARDRAILS_HEALTHY = "GuardrailsHealthy"
    APPROVAL = "Approval"


class Rollback(msgspec.Struct, frozen=True):
    """A latched return to Copilot. `at` in seconds since the epoch; `value` is the reading that breached."""

    id: str
    reason: str
    at: float
    guardrail: str
    value: float | None = None


class Breach(msgspec.Struct, frozen=True):
    """A guardrail that is Breached (or Missing where it says so), is not a dry run, and has stood long enough."""

    guardrail: str
    detail: str
    value: float | None = None


class StageFacts(msgspec.Struct, frozen=True):
    """Everything the machine looks at, observed at `now` (seconds since the epoch).

    Shares are certified upper bounds, None while there is too little to say. `alarm` is the Shiryaev-Roberts R.
    `certified_after` is the time after which the oldest label of the standing certificate was given. `proof` is the
    least F over its strata, of `proof_of`, where Calibration has to certify anew: `proof_wanted` (0: it has not).
    `breaches` lists the guardrails breached that apply in the stage now effective.
    """

    now: float
    ceiling: Stage
    earned: Stage
    rollback: Rollback | None = None
    acknowledged: bool = False
    rollbacks_lately: int = 0
    caps: tuple[Cap, ...] = ()
    breaches: tuple[Breach, ...] = ()
    guardrails_not_healthy: tuple[str, ...] = ()
    demonstrations: int = 0
    min_demonstrations: int = 1
    cycle_seconds: float = 0.0
    min_cycle_seconds: float = 0.0
    policy_passed: bool = False
    policy_ready: bool = False
    feedback_sessions: int = 0
    min_feedback: int = 1
    critic_passed: bool = False
    critic_ready: bool = False
    certified_strata: int = 0
    certified_after: float = 0.0
    cooldown_seconds: float = 0.0
    flap_budget: int = 3
    calibration_sessions: int = 0
    min_calibration_sessions: int = 1
    proof: float = 1.0
    proof_of: str = ""
    proof_wanted: float = 0.0
    alarm: float = 0.0
    alarm_limit: float = 1e3
    finalization_rejection: float | None = None
    max_finalization_rejection: float = 1.0
    corrective_intervention: float | None = None
    max_corrective_intervention: float = 1.0
    approved: frozenset[Stage] = frozenset(ORDER)
    termination_certified: bool = False


class Unmet(msgspec.Struct, frozen=True):
    """One thing still missing, with the number it is at and the number it needs."""

    need: Need
    have: str
    wanted: str


class Edge(msgspec.Struct, frozen=True):
    """One promotion. Downwards there is one rule for all: a breach in an unattended stage earns Copilot, latched."""

    source: Stage
    target: Stage
    needs: tuple[Need, ...]


EDGES: tuple[Edge, ...] = (
    Edge(
        Stage.LOGGING,
        Stage.COPILOT,
        (Need.DEMONSTRATIONS, Need.MINIMUM_CYCLE, Need.POLICY_EVALUATION, Need.POLICY_ENDPOINT, Need.APPROVAL),
    ),
    Edge(
        Stage.COPILOT,
        Stage.CALIBRATION,
        (
            Need.FEEDBACK,
            Need.CRITIC_EVALUATION,
            Need.CRITIC_ENDPOINT,
            Need.CERTIFICATE,
            Need.FRESH_EVIDENCE,
            Need.COOLDOWN,
            Need.FLAP_BUDGET,
            Need.NO_BREACH,
            Need.APPROVAL,
        ),
    ),
    Edge(
        Stage.CALIBRATION,
        Stage.AUTOMATION,
        (
            Need.CALIBRATION_SESSIONS,
            Need.CERTIFICATE,
            Need.FRESH_PRECISION,
            Need.NO_ALARM,
            Need.FINALIZATION_REJECTION,
            Need.CORRECTIVE_INTERVENTION,
            Need.GUARDRAILS_HEALTHY,
            Need.NO_BREACH,
            Need.APPROVAL,
        ),
    ),
)


class StageDecision(msgspec.Struct, frozen=True):
    """What the machine says: earned and effective stage, why, and what is missing for the next edge.

    `rollback` is the latch as it now stands (None: nothing latched). `moved` says that `earned` changed.
    """

    earned: Stage
    effective: Stage
    reason: str
    moved: bool
    rollback: Rollback | None
    held_by: Cap | None
    finalizing_by_human: bool
    unmet: tuple[Unmet, ...]


def find_edge(earned: Stage) -> Edge | None:
    """The promotion out of `earned`, or None at the top."""
    return next((edge for edge in EDGES if edge.source is earned), None)


def find_unmet(facts: StageFacts) -> tuple[Unmet, ...]:
    """What is missing for the next promotion, in the order of the edge's needs."""
    edge = find_edge(facts.earned)
    if edge is None:
        return ()
    found = (_CHECKS[need](facts, edge) for need in edge.needs)
    return tuple(unmet for unmet in found if unmet is not None)


def decide_stage(facts: StageFacts) -> StageDecision:
    """One step of the machine: a breach first, then at most one promotion, then ceiling and caps."""
    latched = facts.rollback if not facts.acknowledged else None
    if facts.breaches and facts.earned in UNATTENDED:
        breach = facts.breaches[0]
        rollback = Rollback(
            id=f"{breach.guardrail}-{int(facts.now)}",
            reason=f"guardrail {breach.guardrail} breached: {breach.detail}",
            at=facts.now,
            guardrail=breach.guardrail,
            value=breach.value,
        )
        return _decision(facts, Stage.COPILOT, rollback.reason, rollback, ())
    unmet = find_unmet(facts)
    edge = find_edge(facts.earned)
    if edge is not None and not unmet:
        reason = f"{edge.source} has what {edge.target} needs: " + ", ".join(need.value for need in edge.needs)
        return _decision(facts, edge.target, reason, None if edge.source is Stage.COPILOT else latched, ())
    return _decision(facts, facts.earned, "", latched, unmet)


def _decision(
    facts: StageFacts, earned: Stage, reason: str, rollback: Rollback | None, unmet: tuple[Unmet, ...]
) -> StageDecision:
    held = min(facts.caps, key=lambda cap: CAP_STAGE[cap].rank, default=None)
    ranks = [facts.ceiling.rank, earned.rank] + ([CAP_STAGE[held].rank] if held else [])
    effective = ORDER[min(ranks)]
    if held is not None and CAP_STAGE[held].rank >= min(facts.ceiling.rank, earned.rank):
        held = None  # a cap above what is earned holds nothing back
    return StageDecision(
        earned=earned,
        effective=effective,
        reason=reason,
        moved=earned is not facts.earned,
        rollback=rollback,
        held_by=held,
        finalizing_by_human=not (effective is Stage.AUTOMATION and facts.termination_certified),
        unmet=unmet,
    )


def _after(need: Need, now: float, passed: float, wanted: float) -> Unmet | None:
    """Told as the moment it is reached, which does not change while nothing happens."""
    at = datetime.fromtimestamp(round(now - passed + wanted), UTC)
    return None if passed >= wanted else Unmet(need, f"not before {at:%Y-%m-%dT%H:%M:%SZ}", f"{wanted:g} s")


def _at_least(need: Need, have: float, wanted: float) -> Unmet | None:
    return None if have >= wanted else Unmet(need, f"{have:g}", f"at least {wanted:g}")


def _holds(need: Need, held: bool, have: str, wanted: str) -> Unmet | None:
    return None if held else Unmet(need, have, wanted)


def _share(need: Need, bound: float | None, limit: float) -> Unmet | None:
    if bound is None:
        return Unmet(need, "too little to say", f"certified at most {limit:g}")
    return _holds(need, bound <= limit, f"certified at most {bound:.3g}", f"certified at most {limit:g}")


def _fresh_evidence(facts: StageFacts) -> Unmet | None:
    if facts.rollback is None or facts.acknowledged:
        return None
    return _holds(
        Need.FRESH_EVIDENCE,
        facts.certified_after >= facts.rollback.at,
        "a certificate from before the rollback" if facts.certified_strata else "no certificate",
        f"one on labels newer than rollback {facts.rollback.id}, or acknowledgedRollback: {facts.rollback.id}",
    )


def _cooldown(facts: StageFacts) -> Unmet | None:
    if facts.rollback is None:
        return None
    return _after(Need.COOLDOWN, facts.now, facts.now - facts.rollback.at, facts.cooldown_seconds)


def _flap_budget(facts: StageFacts) -> Unmet | None:
    held = facts.acknowledged or facts.rollbacks_lately <= facts.flap_budget
    return _holds(
        Need.FLAP_BUDGET,
        held,
        f"{facts.rollbacks_lately} rollbacks lately",
        f"at most {facts.flap_budget}, or acknowledgedRollback",
    )


_CHECKS: dict[Need, Callable[[StageFacts, Edge], Unmet | None]] = {
    Need.DEMONSTRATIONS: lambda f, e: _at_least(Need.DEMONSTRATIONS, f.demonstrations, f.min_demonstrations),
    Need.MINIMUM_CYCLE: lambda f, e: _after(Need.MINIMUM_CYCLE, f.now, f.cycle_seconds, f.min_cycle_seconds),
    Need.POLICY_EVALUATION: lambda f, e: _holds(
        Need.POLICY_EVALUATION, f.policy_passed, "no revision has passed", "a policy revision that passed evaluation"
    ),
    Need.POLICY_ENDPOINT: lambda f, e: _holds(
        Need.POLICY_ENDPOINT, f.policy_ready, "not ready", "policy endpoint Ready"
    ),
    Need.FEEDBACK: lambda f, e: _at_least(Need.FEEDBACK, f.feedback_sessions, f.min_feedback),
    Need.CRITIC_EVALUATION: lambda f, e: _holds(
        Need.CRITIC_EVALUATION, f.critic_passed, "no critic evaluated", "a critic revision evaluated"
    ),
    Need.CRITIC_ENDPOINT: lambda f, e: _holds(
        Need.CRITIC_ENDPOINT, f.critic_ready, "not ready", "critic endpoint Ready"
    ),
    Need.CERTIFICATE: lambda f, e: _at_least(Need.CERTIFICATE, f.certified_strata, 1),
    Need.FRESH_EVIDENCE: lambda f, e: _fresh_evidence(f),
    Need.COOLDOWN: lambda f, e: _cooldown(f),
    Need.FLAP_BUDGET: lambda f, e: _flap_budget(f),
    Need.NO_BREACH: lambda f, e: _holds(
        Need.NO_BREACH, not f.breaches, ", ".join(b.guardrail for b in f.breaches), "no guardrail breached"
    ),
    Need.CALIBRATION_SESSIONS: lambda f, e: _at_least(
        Need.CALIBRATION_SESSIONS, f.calibration_sessions, f.min_calibration_sessions
    ),
    Need.FRESH_PRECISION: lambda f, e: _holds(
        Need.FRESH_PRECISION,
        f.proof >= f.proof_wanted,
        f"{f.proof_of}: evidence of {f.proof:.3g} from Calibration's own labels",
        f"{f.proof_wanted:.3g} in each stratum",
    ),
    Need.NO_ALARM: lambda f, e: _holds(
        Need.NO_ALARM, f.alarm < f.alarm_limit, f"R = {f.alarm:.3g}", f"R < {f.alarm_limit:g}"
    ),
    Need.FINALIZATION_REJECTION: lambda f, e: _share(
        Need.FINALIZATION_REJECTION, f.finalization_rejection, f.max_finalization_rejection
    ),
    Need.CORRECTIVE_INTERVENTION: lambda f, e: _share(
        Need.CORRECTIVE_INTERVENTION, f.corrective_intervention, f.max_corrective_intervention
    ),
    Need.GUARDRAILS_HEALTHY: lambda f, e: _holds(
        Need.GUARDRAILS_HEALTHY, not f.guardrails_not_healthy, ", ".join(f.guardrails_not_healthy), "all Healthy"
    ),
    Need.APPROVAL: lambda f, e: _holds(
        Need.APPROVAL, e.target in f.approved, f"promotion to {e.target} is Manual", f"approval for {e.target}"
    ),
}
