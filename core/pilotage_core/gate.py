"""The gate: may this one action run now? Pure and total: every input gives exactly one decision with one reason.

`RULES` is read from top to bottom and the first line that applies decides; what no line stops is executed. Nothing
else lets an action run unasked.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from pilotage_core.actions import Action, ActionClass
from pilotage_core.stage import UNATTENDED, Stage


class Decision(StrEnum):
    """What happens with a proposal."""

    OBSERVE = "observe"  # the operator works, the model is silent
    HAND_OFF = "hand_off"  # the operator takes the wheel of this session
    PROPOSE = "propose"  # an operator looks
    EXECUTE = "execute"  # it runs


class Reason(StrEnum):
    """The line of the gate that decided."""

    SUSPENDED = "suspended"
    HANDED_OFF = "handed-off"
    STAGE_LOGGING = "stage-logging"
    NOTHING_PROPOSED = "nothing-proposed"
    STATE_INVALID = "state-invalid"
    CONTROL_INVALID = "control-invalid"
    MASK_UNRESOLVED = "mask-unresolved"
    LOOP = "loop"
    ILLEGAL_NEXT_STEP = "illegal-next-step"
    STOP_LIST = "stop-list"
    NOT_CRITICAL = "not-critical"
    NOT_CRITICAL_UNLISTED = "not-critical-unlisted"
    STAGE_COPILOT = "stage-copilot"
    NO_PERMIT = "no-permit"
    FINALIZING_BY_HUMAN = "finalizing-by-human"
    NO_CERTIFICATE = "no-certificate"
    NO_SCORE = "no-score"
    BELOW_TAU = "below-tau"
    ASKED_BEFORE = "asked-before"
    AUDIT = "audit"
    CERTIFIED = "certified"
    OPERATOR_ACCEPTED = "operator-accepted"


class GateFacts(msgspec.Struct, frozen=True):
    """Everything the gate looks at.

    `*_fault` texts are empty where all is well. `permit_fresh` means: verified, unexpired, of the newest epoch, and of
    a snapshot in which this process cluster has this very pair. `tau` is None without a standing certificate for the
    action's stratum. `score_version` is the state version the score was computed in, `scored` the digest of the action
    that it is of. `asked_before`: an operator was asked before in this session, where leave is for whole sessions.
    `audit` is the outcome of a draw whose propensity is logged.
    """

    stage: Stage
    state_version: int
    action: Action | None
    action_class: ActionClass
    suspended: bool = False
    handed_off: bool = False
    state_fault: str = ""
    control_fault: str = ""
    mask_fault: str = ""
    looping: bool = False
    legal_next_step: bool = True
    permit_fresh: bool = False
    finalizing_by_human: bool = True
    tau: float | None = None
    score: float | None = None
    score_version: int = -1
    scored: str = ""
    asked_before: bool = False
    audit: bool = False


class GateVerdict(msgspec.Struct, frozen=True):
    """One decision with one reason."""

    decision: Decision
    reason: Reason
    detail: str = ""


def usable_score(facts: GateFacts) -> float | None:
    """The score if it is one: a number in [0, 1], of these very bytes, computed in the state that is current now."""
    score = facts.score
    if score is None or not 0.0 <= score <= 1.0 or facts.score_version != facts.state_version:
        return None  # NaN fails the comparison too
    return score if facts.action is not None and facts.scored == facts.action.digest else None


def _usable_tau(facts: GateFacts) -> float | None:
    return facts.tau if facts.tau is not None and 0.0 <= facts.tau <= 1.0 else None


def _is_below_tau(facts: GateFacts) -> bool:
    score, tau = usable_score(facts), _usable_tau(facts)
    return score is None or tau is None or score < tau


def _may_run_uncritical(facts: GateFacts) -> bool:
    if facts.action_class.critical:
        return False
    return facts.action_class.unattended_in_copilot or (facts.stage in UNATTENDED and facts.permit_fresh)


Line = tuple[Callable[[GateFacts], bool], Decision, Reason]

RULES: tuple[Line, ...] = (
    (lambda f: f.suspended, Decision.OBSERVE, Reason.SUSPENDED),
    (lambda f: f.handed_off, Decision.OBSERVE, Reason.HANDED_OFF),
    (lambda f: f.stage is Stage.LOGGING, Decision.OBSERVE, Reason.STAGE_LOGGING),
    (lambda f: bool(f.state_fault), Decision.HAND_OFF, Reason.STATE_INVALID),
    (lambda f: f.action is None, Decision.OBSERVE, Reason.NOTHING_PROPOSED),
    (lambda f: bool(f.control_fault), Decision.HAND_OFF, Reason.CONTROL_INVALID),
    (lambda f: bool(f.mask_fault), Decision.HAND_OFF, Reason.MASK_UNRESOLVED),
    (lambda f: f.looping, Decision.HAND_OFF, Reason.LOOP),
    (lambda f: not f.legal_next_step, Decision.HAND_OFF, Reason.ILLEGAL_NEXT_STEP),
    (lambda f: f.action_class.stopped, Decision.PROPOSE, Reason.STOP_LIST),
    (_may_run_uncritical, Decision.EXECUTE, Reason.NOT_CRITICAL),
    (lambda f: not f.action_class.critical, Decision.PROPOSE, Reason.NOT_CRITICAL_UNLISTED),
    (lambda f: f.stage not in UNATTENDED, Decision.PROPOSE, Reason.STAGE_COPILOT),
    (lambda f: not f.permit_fresh, Decision.PROPOSE, Reason.NO_PERMIT),
    (lambda f: f.action_class.finalizing and f.finalizing_by_human, Decision.PROPOSE, Reason.FINALIZING_BY_HUMAN),
    (lambda f: _usable_tau(f) is None, Decision.PROPOSE, Reason.NO_CERTIFICATE),
    (lambda f: usable_score(f) is None, Decision.PROPOSE, Reason.NO_SCORE),
    (_is_below_tau, Decision.PROPOSE, Reason.BELOW_TAU),
    (lambda f: f.asked_before, Decision.PROPOSE, Reason.ASKED_BEFORE),
    (lambda f: f.audit, Decision.PROPOSE, Reason.AUDIT),
    (lambda f: True, Decision.EXECUTE, Reason.CERTIFIED),
)

ACCEPT_RULES: tuple[Line, ...] = (
    *(line for line in RULES if line[2] in {Reason.SUSPENDED, Reason.STATE_INVALID, Reason.CONTROL_INVALID}),
    *(line for line in RULES if line[2] is Reason.MASK_UNRESOLVED),
    (lambda f: True, Decision.EXECUTE, Reason.OPERATOR_ACCEPTED),
)
"""What an operator's accept does not overrule: people have said stop, or it cannot be done."""


def decide_gate(facts: GateFacts, rules: tuple[Line, ...] = RULES) -> GateVerdict:
    """The first line of `rules` that applies."""
    decision, reason = next((decision, reason) for applies, decision, reason in rules if applies(facts))
    return GateVerdict(decision, reason, explain_line(facts, reason))


def find_look(facts: GateFacts, audit_share: float, review_share: float) -> tuple[float, bool]:
    """How likely an action that would be executed is looked at, and whether that is drawn before it runs.

    Where people end sessions, every action is drawn for by itself (`audit_share`). Where they end by themselves, asking
    before each audited action would leave (1 − a)^11 of the sessions whole: there the draw is for the session, at its
    ending (`review_share`), and who reviews an ending looks at all that ran. An `audit_share` of 1 asks before all.
    """
    if facts.finalizing_by_human or facts.stage is not Stage.AUTOMATION or audit_share >= 1.0:
        return audit_share, True
    return review_share, facts.action_class.finalizing


def decide_accept(facts: GateFacts) -> GateVerdict:
    """Whether an action that an operator accepted may be ordered now."""
    return decide_gate(facts, ACCEPT_RULES)


def explain_line(facts: GateFacts, reason: Reason) -> str:
    """The values behind one reason, in words; empty where the reason says it all."""
    match reason:
        case Reason.STATE_INVALID:
            return facts.state_fault
        case Reason.CONTROL_INVALID:
            return facts.control_fault
        case Reason.MASK_UNRESOLVED:
            return facts.mask_fault
        case Reason.NO_CERTIFICATE:
            return facts.action_class.doubt
        case Reason.NO_SCORE:
            of = "" if facts.action is None or facts.scored == facts.action.digest else " of another action"
            return f"score {facts.score}{of} of state version {facts.score_version}, now {facts.state_version}"
        case Reason.BELOW_TAU | Reason.AUDIT | Reason.CERTIFIED:
            return f"score {facts.score} against τ {facts.tau}"
        case _:
            return ""
