"""What is written, each function one part of a transaction that store.py commits. No memory, no network; `utc_now` is
the one clock.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from sqlalchemy import BigInteger, Connection, bindparam, func, insert, or_, select, update

from pilotage_core.errors import ConflictError
from pilotage_core.events import Event, Outcome, OutcomeReported, ScreenShown
from pilotage_core.record import DecisionRecord, Label, ProposalRecord
from pilotage_core.resolution import Resolution
from pilotage_core.stage import Stage
from pilotage_gateway import tables as t
from pilotage_gateway.prepared import Prepared, prepare_insert
from pilotage_gateway.sessions import Intent

ENCODE = msgspec.json.Encoder().encode
CHAIN_START = "0" * 32
ALL = "*"
SUSPENSIONS = int.from_bytes(b"suspends")


def utc_now() -> str:
    """The time as the records write it: UTC, microseconds, always the same width, so that it sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class NewLabel:
    """A label with the `verdict` that it is of ("" where nobody answered)."""

    label: Label
    verdict: str


@dataclass(frozen=True, slots=True)
class Review:
    """A finalization review that counts: its session ran at least one critical action unattended."""

    sequence: int
    pair: str
    approved: bool


@dataclass(slots=True)
class PostWrite:
    """Everything that one post adds to the records, in one transaction."""

    session_id: str
    process_cluster: str
    opened_at: str
    received_at: str
    opens: bool
    events: Sequence[Event]
    digests: Sequence[str] = ()
    labels: list[NewLabel] = field(default_factory=list)
    outcomes: list[OutcomeReported] = field(default_factory=list)
    newly_done: tuple[str, ...] = ()
    ambiguous: Intent | None = None
    corrections: list[ProposalRecord] = field(default_factory=list)
    reviews: list[Review] = field(default_factory=list)
    session_changes: dict[str, str | bool] = field(default_factory=dict)
    accepted: Intent | None = None
    resolution: Resolution | None = None


_INSERT_SESSION = prepare_insert(t.sessions)
_INSERT_EVENT = prepare_insert(t.events)
_INSERT_PROPOSAL = prepare_insert(t.proposals)
_INSERT_DECISION = prepare_insert(t.decisions, "number")
_INSERT_INTENT = prepare_insert(t.intents)
_INSERT_OUTCOME = prepare_insert(t.outcomes)
_INSERT_LABEL = prepare_insert(t.labels, "number")
_UPDATE_OUTCOME = Prepared(
    update(t.outcomes)
    .where(t.outcomes.c.proposal_id == bindparam("of_proposal"))
    .values({name: bindparam(name) for name in ("outcome", "error", "at")})
)
_MARK_EXECUTED = Prepared(
    update(t.proposals)
    .where(t.proposals.c.proposal_id == bindparam("of_proposal"))
    .values(executed=bindparam("executed"))
)
_LAST_DIGEST = Prepared(select(t.decisions.c.digest).order_by(t.decisions.c.number.desc()).limit(1))
_LAST_SEQUENCE = Prepared(select(func.max(t.events.c.sequence)).where(t.events.c.session_id == bindparam("session_id")))
_SUSPENDED = Prepared(
    select(t.suspensions.c.process_cluster)
    .where(t.suspensions.c.suspended)
    .where(
        or_(t.suspensions.c.process_cluster == bindparam("key"), t.suspensions.c.process_cluster == bindparam("all"))
    )
    .with_for_update(read=True)
)

_SHARE_SUSPENSIONS = Prepared(select(func.pg_advisory_xact_lock_shared(bindparam("lock", type_=BigInteger))))


def is_suspended(connection: Connection, process_cluster: str) -> bool:
    """Whether people have stopped this process cluster, or all of them; holds until the transaction ends.

    Where several connections write, a row that is not there yet cannot be locked: so all of them share one lock, and
    who stops something waits for those that have looked.
    """
    if connection.dialect.name == "postgresql":
        _SHARE_SUSPENSIONS.run(connection, {"lock": SUSPENSIONS})
    return _SUSPENDED.run(connection, {"key": process_cluster, "all": ALL}).first() is not None


def write_post(connection: Connection, post: PostWrite) -> bool:
    """Store one post. False: all of it is stored, but the accepted proposal got no leave, since people said stop."""
    if post.opens:
        _INSERT_SESSION.run(connection, _session_row(post))
    if post.events and not post.opens:
        stored = _LAST_SEQUENCE.run(connection, {"session_id": post.session_id}).scalar()
        if stored is None or stored + 1 != post.events[0].sequence:
            raise ConflictError("the records and what is remembered of this session differ", where="database")
    if post.events:
        _INSERT_EVENT.run_many(
            connection, [_event_row(post, *each) for each in zip(post.events, post.digests, strict=True)]
        )
    for reported in post.outcomes:
        write_outcome(connection, reported.proposal_id, reported.outcome, reported.error, post.received_at)
    if post.ambiguous is not None:
        write_outcome(connection, post.ambiguous.proposal_id, Outcome.AMBIGUOUS, "", post.received_at)
    if post.labels:
        _INSERT_LABEL.run_many(connection, [_label_row(new) for new in post.labels])
    _write_corrections_and_reviews(connection, post)
    if post.resolution is not None:
        connection.execute(insert(t.resolutions).values(_resolution_row(post, post.resolution)))
    if post.session_changes:
        mine = t.sessions.c.session_id == post.session_id
        connection.execute(update(t.sessions).where(mine).values(**post.session_changes))
    if post.accepted is None:
        return True
    if is_suspended(connection, post.process_cluster):
        return False
    write_intent(connection, post.session_id, post.accepted, post.received_at)
    return True


def write_intent(connection: Connection, session_id: str, intent: Intent, at: str) -> None:
    """Store leave to execute. A second one for the same proposal breaks the primary key."""
    _INSERT_INTENT.run(
        connection,
        {
            "proposal_id": intent.proposal_id,
            "session_id": session_id,
            "idempotency_key": intent.idempotency_key,
            "state_version": intent.state_version,
            "authorised_by": intent.authorised_by,
            "epoch": intent.epoch,
            "at": at,
        },
    )


def write_outcome(connection: Connection, proposal_id: str, outcome: Outcome, error: str, at: str) -> None:
    """Store what became of an order; a report that comes after all replaces "ambiguous"."""
    values = {"outcome": outcome.value, "error": error, "at": at}
    if _UPDATE_OUTCOME.run(connection, {**values, "of_proposal": proposal_id}).rowcount == 0:
        _INSERT_OUTCOME.run(connection, {**values, "proposal_id": proposal_id})
    if outcome is Outcome.DONE:
        _MARK_EXECUTED.run(connection, {"of_proposal": proposal_id, "executed": True})


def write_decision(connection: Connection, record: DecisionRecord, stage: Stage) -> None:
    """Store what the gate saw and said, chained to the decision before it, and the proposal it was about."""
    proposal = record.proposal
    former = _LAST_DIGEST.run(connection, {}).scalar() or CHAIN_START
    facts = ENCODE(record)
    _INSERT_DECISION.run(
        connection,
        {
            "session_id": record.session_id,
            "proposal_id": proposal.proposal_id if proposal is not None else "",
            "process_cluster": record.process_cluster,
            "pair": record.pair,
            "stage": stage.value,
            "decision": record.verdict.decision.value,
            "reason": record.verdict.reason.value,
            "at": record.at,
            "facts": facts,
            "former": former,
            "digest": chain(former, facts),
        },
    )
    if proposal is not None:
        _INSERT_PROPOSAL.run(connection, _proposal_row(record.session_id, record.process_cluster, proposal))


def chain(former: str, facts: bytes) -> str:
    """Digest of a decision row that follows the one with digest `former`: changing any row changes all later ones."""
    return hashlib.blake2b(former.encode() + facts, digest_size=16).hexdigest()


def write_handed_off(connection: Connection, session_id: str, why: str) -> None:
    """Note that the operator has the wheel of a session (empty: no more)."""
    connection.execute(update(t.sessions).where(t.sessions.c.session_id == session_id).values(handed_off=why))


def write_suspension(
    connection: Connection, process_cluster: str, suspended: bool, who: str, why: str, at: str
) -> None:
    """Stop (or let go on) one process cluster, or all with "*"."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(SUSPENSIONS)))
    values = {"suspended": suspended, "who": who, "why": why, "at": at}
    changed = connection.execute(
        update(t.suspensions).where(t.suspensions.c.process_cluster == process_cluster).values(**values)
    )
    if changed.rowcount == 0:
        connection.execute(insert(t.suspensions).values(process_cluster=process_cluster, **values))


def write_epoch(connection: Connection, domain: str, epoch: int, seen_at: float) -> None:
    """Remember the highest epoch of a domain. Raises ConflictError where a higher one is stored."""
    stored = connection.execute(select(t.epochs.c.epoch).where(t.epochs.c.domain == domain)).scalar()
    if stored is None:
        connection.execute(insert(t.epochs).values(domain=domain, epoch=epoch, seen_at=seen_at))
    elif stored > epoch:
        raise ConflictError(f"epoch {epoch} is older than {stored}", where="epoch")
    else:
        connection.execute(update(t.epochs).where(t.epochs.c.domain == domain).values(epoch=epoch, seen_at=seen_at))


def write_parts(connection: Connection, parts: Mapping[int, bytes]) -> None:
    """Remember parts of the last snapshot, so that sessions can be opened after a restart without a controller."""
    for number, body in parts.items():
        slot = number + t.FIRST_SLOT
        if connection.execute(update(t.snapshots).where(t.snapshots.c.slot == slot).values(body=body)).rowcount == 0:
            connection.execute(insert(t.snapshots).values(slot=slot, body=body))


def _session_row(post: PostWrite) -> dict[str, object]:
    return {
        "session_id": post.session_id,
        "process_cluster": post.process_cluster,
        "opened_at": post.opened_at,
        "closed_at": "",
        "closed_pair": "",
        "closed_stage": "",
        "demonstrated": False,
        "handed_off": "",
    }


def _event_row(post: PostWrite, event: Event, digest: str) -> dict[str, object]:
    html = ""
    if isinstance(event.data, ScreenShown):
        html = event.data.html.replace("\0", "\ufffd")  # as HTML reads it; PostgreSQL's texts hold no NUL
        event = msgspec.structs.replace(event, data=ScreenShown(screen=event.data.screen))
    return {
        "session_id": post.session_id,
        "sequence": event.sequence,
        "source": event.source,
        "event_id": event.id,
        "digest": digest,
        "received_at": post.received_at,
        "body": ENCODE(event),
        "html": html,
    }


def _proposal_row(session_id: str, process_cluster: str, proposal: ProposalRecord) -> dict[str, object]:
    return {
        "proposal_id": proposal.proposal_id,
        "session_id": session_id,
        "at_version": proposal.at_version,
        "process_cluster": process_cluster,
        "pair": proposal.pair,
        "stage": proposal.stage.value,
        "decision": proposal.decision,
        "tool": proposal.action.tool.value,
        "critical": proposal.critical,
        "executed": False,
        "body": ENCODE(proposal),
    }


def _label_row(new: NewLabel) -> dict[str, object]:
    label = new.label
    return {
        "session_id": label.session_id,
        "proposal_id": label.proposal_id,
        "process_cluster": label.process_cluster,
        "pair": label.pair,
        "stage": label.stage,
        "stratum": label.stratum,
        "tool": label.tool,
        "verdict": new.verdict,
        "accepted": label.accepted,
        "reviewed": label.reviewed,
        "body": ENCODE(label),
    }


def _resolution_row(post: PostWrite, resolution: Resolution) -> dict[str, object]:
    return {
        "session_id": post.session_id,
        "process_cluster": post.process_cluster,
        "pair": resolution.pair,
        "unasked": resolution.unasked,
        "right": resolution.right,
    }


def _write_corrections_and_reviews(connection: Connection, post: PostWrite) -> None:
    for proposal in post.corrections:
        connection.execute(
            insert(t.corrections).values(
                proposal_id=proposal.proposal_id,
                process_cluster=post.process_cluster,
                pair=proposal.pair,
                at=post.received_at,
            )
        )
    for review in post.reviews:
        connection.execute(
            insert(t.reviews).values(
                session_id=post.session_id,
                sequence=review.sequence,
                process_cluster=post.process_cluster,
                pair=review.pair,
                approved=review.approved,
            )
        )
