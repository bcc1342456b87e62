"""One verdict of the gate on its way into the records: its proposal, its intent, and a last look at suspensions."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection

from pilotage_core.gate import Decision, GateFacts, GateVerdict, decide_gate
from pilotage_core.record import PROPOSED, DecisionRecord, ProposalRecord
from pilotage_core.stage import Stage
from pilotage_core.wire import BY_PERMIT, Leave
from pilotage_gateway import writes
from pilotage_gateway.asking import NO_DRAW, Asked, Look, build_proposal
from pilotage_gateway.metrics import Metrics
from pilotage_gateway.posts import build_key
from pilotage_gateway.sessions import Intent, LiveSession


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gate was asked and said, and under what authority."""

    session: LiveSession
    leave: Leave
    stage: Stage
    asked: Asked
    facts: GateFacts
    verdict: GateVerdict
    at: str
    snapshot_digest: str
    epoch: int
    remaining_ms: int = 0
    look: Look = NO_DRAW


@dataclass(frozen=True, slots=True)
class Ruled:
    """What stands in the records: `intent` only where the verdict executes."""

    verdict: GateVerdict
    proposal: ProposalRecord | None
    intent: Intent | None


def write_ruling(connection: Connection, ruling: Ruling) -> Ruled:
    """Store a verdict. One that executes is turned down where people have said stop, in this very transaction."""
    facts, verdict = ruling.facts, ruling.verdict
    if verdict.decision is Decision.EXECUTE and writes.is_suspended(connection, ruling.leave.key):
        facts = msgspec.structs.replace(facts, suspended=True)
        verdict = decide_gate(facts)
    record = _build_record(ruling, facts, verdict)
    writes.write_decision(connection, record, ruling.stage)
    session_id, proposal = ruling.session.session_id, record.proposal
    if verdict.decision is Decision.HAND_OFF:
        writes.write_handed_off(connection, session_id, verdict.reason.value)
    if proposal is None or verdict.decision is not Decision.EXECUTE:
        return Ruled(verdict, proposal, None)
    key = build_key(proposal.proposal_id)
    intent = Intent(proposal.proposal_id, key, proposal.at_version, BY_PERMIT, ruling.epoch)
    writes.write_intent(connection, session_id, intent, ruling.at)
    return Ruled(verdict, proposal, intent)


def _build_record(ruling: Ruling, facts: GateFacts, verdict: GateVerdict) -> DecisionRecord:
    asked, leave, look, dialog = ruling.asked, ruling.leave, ruling.look, ruling.session.walk.dialog
    return DecisionRecord(
        session_id=ruling.session.session_id,
        process_cluster=leave.key,
        at=ruling.at,
        pair=asked.pair.revision,
        facts=facts,
        verdict=verdict,
        proposal=build_proposal(ruling.session, asked, facts, verdict, ruling.stage, look.share, ruling.at),
        critic=asked.critic,
        confidence=asked.confidence,
        snapshot_digest=ruling.snapshot_digest,
        epoch=ruling.epoch,
        permit_remaining_ms=ruling.remaining_ms,
        audit_draw=look.draw,
        audit_share=leave.audit_share if look is NO_DRAW else look.share,
        trimmed_chars=sum(trim.chars for trim in dialog.trims),
        cut_chars=sum(cut.chars for cut in dialog.cuts),
        detail=asked.detail,
    )


def apply_ruling(ruling: Ruling, ruled: Ruled, metrics: Metrics) -> None:
    """Take what stands in the records into memory and into the counters."""
    session, verdict = ruling.session, ruled.verdict
    if verdict.decision is Decision.HAND_OFF:
        session.handed_off = verdict.reason.value
    if ruled.proposal is not None:
        session.proposals[ruled.proposal.proposal_id] = ruled.proposal
    if ruled.intent is not None:
        session.intents[ruled.intent.proposal_id] = ruled.intent
        metrics.count("orders", process_cluster=ruling.leave.key, by=BY_PERMIT)
    metrics.count(
        "decisions",
        process_cluster=ruling.leave.key,
        pair=ruling.asked.pair.revision,
        stage=ruling.stage.value,
        decision=verdict.decision.value,
        reason=PROPOSED if verdict.decision is Decision.PROPOSE else verdict.reason.value,
    )
