"""What is stored of a session and exported to trainers, and the labels that can be read off it.

One `SessionRecord` is one line of an export (JSON). Contract between gateway, trainer, report and replay.
"""

import msgspec

from pilotage_core.actions import Action
from pilotage_core.events import Event, FeedbackGiven, Grade, SessionReviewed, Verdict
from pilotage_core.gate import GateFacts, GateVerdict
from pilotage_core.stage import Stage


class ProposalRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One proposal and what the gate made of it.

    `at_version` is the state version it was made in. `score` is what the pair's rule makes of critic and confidence
    (None: not scored) and `scored` the digest of the action it is of; `confidence` is the policy's own probability of
    the action. `propensity` is the probability with which a look was drawn (1 where every
    proposal is looked at). `decision` and `reason` are gate.Decision and gate.Reason values. `outcome` is what became
    of its order (events.Outcome; empty: none was given, or it was never told of).
    """

    proposal_id: str
    at_version: int
    action: Action
    pair: str
    policy_digest: str
    critic_digest: str
    stage: Stage
    decision: str
    reason: str
    critical: bool
    stratum: str
    state_digest: str
    at: str
    score: float | None = None
    scored: str = ""
    confidence: float | None = None
    tau: float | None = None
    propensity: float = 1.0
    audited: bool = False
    executed: bool = False
    outcome: str = ""


PROPOSED = "proposed"
"""What is told of any proposal's reason until its verdict is in: an audit looks like every other one."""


def blind(proposal: ProposalRecord) -> ProposalRecord:
    """`proposal` as it may be shown before its verdict: nothing in it tells an audit from any other."""
    return msgspec.structs.replace(
        proposal, reason=PROPOSED, score=None, scored="", confidence=None, tau=None, propensity=1.0, audited=False
    )


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything the gate saw of one proposal: what `pilotage explain DECISION` prints.

    `audit_draw` is u ~ U(0, 1), drawn only where the gate would execute; the look happens where u < `audit_share`.
    `trimmed_chars` of old lines and `cut_chars` of long texts were left out of what the models read.
    """

    session_id: str
    process_cluster: str
    at: str
    pair: str
    facts: GateFacts
    verdict: GateVerdict
    proposal: ProposalRecord | None = None
    critic: float | None = None
    confidence: float | None = None
    snapshot_digest: str = ""
    epoch: int = 0
    permit_remaining_ms: int = 0
    audit_draw: float | None = None
    audit_share: float = 0.0
    trimmed_chars: int = 0
    cut_chars: int = 0
    detail: str = ""


class SessionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One session as stored: its events in order, and its proposals."""

    session_id: str
    process_cluster: str
    opened_at: str
    events: tuple[Event, ...]
    proposals: tuple[ProposalRecord, ...] = ()
    closed_at: str = ""


class ArchiveRow(msgspec.Struct, frozen=True):
    """One session as a row of a Parquet archive: what a reader chooses by, and the line of the export whole."""

    session_id: str
    process_cluster: str
    opened_at: str
    closed_at: str
    record: bytes


def build_archive_row(record: SessionRecord) -> ArchiveRow:
    """The row that holds `record`."""
    line = msgspec.json.encode(record)
    return ArchiveRow(record.session_id, record.process_cluster, record.opened_at, record.closed_at, line)


class Label(msgspec.Struct, frozen=True):
    """An operator's word on one proposal: the unit of τ, guardrails and monitors.

    `accepted` is True only for an unedited accept. `reviewed` marks a verdict given after execution. `stage` and
    `reason` are the gate's of the proposal; empty in records from before they were kept.
    """

    session_id: str
    proposal_id: str
    process_cluster: str
    pair: str
    stratum: str
    critical: bool
    accepted: bool
    operator: str
    at: str
    score: float | None = None
    grade: Grade | None = None
    propensity: float = 1.0
    reviewed: bool = False
    tool: str = ""
    control_id: str = ""
    stage: str = ""
    reason: str = ""


def read_labels(record: SessionRecord) -> list[Label]:
    """Every label in `record`, in the order given. A proposal verdict is followed by at most one review of it: of
    several reviews of one proposal the first counts.

    An audited proposal that nobody answered before the session closed is a reject.
    """
    proposals = {p.proposal_id: p for p in record.proposals}
    labels: list[Label] = []
    answered: set[str] = set()
    given: set[tuple[str, bool]] = set()

    def add(proposal_id: str, verdict: Verdict, grade: Grade | None, operator: str, at: str, reviewed: bool) -> None:
        proposal = proposals.get(proposal_id)
        if proposal is None or (proposal_id, reviewed) in given:
            return
        given.add((proposal_id, reviewed))
        answered.add(proposal_id)
        labels.append(
            Label(
                session_id=record.session_id,
                proposal_id=proposal_id,
                process_cluster=record.process_cluster,
                pair=proposal.pair,
                stratum=proposal.stratum,
                critical=proposal.critical,
                accepted=verdict is Verdict.ACCEPT,
                operator=operator,
                at=at,
                score=proposal.score,
                grade=grade,
                propensity=proposal.propensity,
                reviewed=reviewed,
                tool=proposal.action.tool,
                control_id=proposal.action.control_id,
                stage=proposal.stage.value,
                reason=proposal.reason,
            )
        )

    for event in record.events:
        if isinstance(event.data, FeedbackGiven):
            add(event.data.proposal_id, event.data.verdict, event.data.grade, event.data.operator, event.at, False)
        elif isinstance(event.data, SessionReviewed):
            for item in event.data.items:
                add(item.proposal_id, item.verdict, item.grade, event.data.operator, event.at, True)
    if record.closed_at:
        for proposal in record.proposals:
            if proposal.audited and proposal.proposal_id not in answered:
                add(proposal.proposal_id, Verdict.REJECT, None, "", record.closed_at, False)
    return labels
