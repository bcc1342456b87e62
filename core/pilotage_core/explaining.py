"""One decision in words: each line of the gate with its value, down to the one that decided. Pure.

For the command line and the console alike.
"""

from collections.abc import Callable

from pilotage_core.gate import RULES, Decision, GateFacts, Reason, usable_score
from pilotage_core.record import DecisionRecord, ProposalRecord

VALUES: dict[Reason, Callable[[GateFacts], str]] = {
    Reason.SUSPENDED: lambda f: f"suspended: {_yes(f.suspended)}",
    Reason.HANDED_OFF: lambda f: f"session already handed off: {_yes(f.handed_off)}",
    Reason.STAGE_LOGGING: lambda f: f"stage: {f.stage}",
    Reason.STATE_INVALID: lambda f: f"state's fault: {f.state_fault or 'none'}",
    Reason.NOTHING_PROPOSED: lambda f: f"proposed: {f.action.tool if f.action else 'nothing'}",
    Reason.CONTROL_INVALID: lambda f: f"control's fault: {f.control_fault or 'none'}",
    Reason.MASK_UNRESOLVED: lambda f: f"unresolved mask: {f.mask_fault or 'none'}",
    Reason.LOOP: lambda f: f"looping: {_yes(f.looping)}",
    Reason.ILLEGAL_NEXT_STEP: lambda f: f"legal next step: {_yes(f.legal_next_step)}",
    Reason.STOP_LIST: lambda f: f"on the stop-list: {_yes(f.action_class.stopped)}",
    Reason.NOT_CRITICAL: lambda f: (
        f"critical: {_yes(f.action_class.critical)}, may run in Copilot: {_yes(f.action_class.unattended_in_copilot)}"
    ),
    Reason.NOT_CRITICAL_UNLISTED: lambda f: f"critical: {_yes(f.action_class.critical)}",
    Reason.STAGE_COPILOT: lambda f: f"stage: {f.stage}",
    Reason.NO_PERMIT: lambda f: f"fresh permit for this pair: {_yes(f.permit_fresh)}",
    Reason.FINALIZING_BY_HUMAN: lambda f: (
        f"finalizing: {_yes(f.action_class.finalizing)}, endings are a human's: {_yes(f.finalizing_by_human)}"
    ),
    Reason.NO_CERTIFICATE: lambda f: (
        f"τ of stratum {f.action_class.stratum}: {_number(f.tau)}"
        if f.action_class.stratum
        else f"no stratum: {f.action_class.doubt or 'no rule names this action'}"
    ),
    Reason.NO_SCORE: lambda f: (
        f"score: {_number(f.score)}, of state version {f.score_version} (now {f.state_version}), "
        f"of this very action: {_yes(f.action is not None and f.scored == f.action.digest)}"
    ),
    Reason.BELOW_TAU: lambda f: f"score {_number(usable_score(f))} against τ {_number(f.tau)}",
    Reason.ASKED_BEFORE: lambda f: f"asked before, where sessions are to run whole: {_yes(f.asked_before)}",
    Reason.AUDIT: lambda f: f"drawn for an audit: {_yes(f.audit)}",
    Reason.CERTIFIED: lambda f: "nothing above stopped it",
    Reason.OPERATOR_ACCEPTED: lambda f: "an operator let it run",
}


def explain_decision(record: DecisionRecord) -> str:
    """Each line of the gate with its value, down to the one that decided."""
    action = record.facts.action
    proposed = f"{action.tool} {action.control_id}".strip() if action else "nothing"
    lines = [
        f"Session {record.session_id} of {record.process_cluster}, {record.at}: pair {record.pair or 'none'} "
        f"proposed {proposed}."
    ]
    for applies, decision, reason in RULES:
        decided = applies(record.facts)
        mark = "→" if decided else " "
        verdict = f"  {decision.upper()}" if decided else ""
        lines.append(f"{mark} {reason:<22} {VALUES[reason](record.facts)}{verdict}")
        if decided:
            break
    if record.critic is not None or record.confidence is not None:
        lines.append(f"Critic: {_number(record.critic)}, confidence: {_number(record.confidence)}.")
    if record.audit_draw is not None:
        lines.append(f"Audit draw: {record.audit_draw:.3f}, a look below {record.audit_share:g}.")
    if record.epoch:
        lines.append(f"Permit: epoch {record.epoch}, {record.permit_remaining_ms} ms left.")
    if record.proposal is not None:
        lines.append(_what_became(record.proposal))
    return "\n".join(lines)


def _what_became(proposal: ProposalRecord) -> str:
    if proposal.decision == Decision.EXECUTE:
        return "It was executed." if proposal.executed else "It was ordered; no outcome DONE is stored."
    return "An operator let it run." if proposal.executed else "It was not run."


def _yes(held: bool) -> str:
    return "yes" if held else "no"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
