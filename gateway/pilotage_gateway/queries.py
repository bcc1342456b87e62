"""What is read back: sessions, exports, labels, decisions, and the counts that metrics start from. Reads only."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, Row, and_, case, func, or_, select

from pilotage_core.errors import ConflictError
from pilotage_core.events import Event, FeedbackGiven, MessagePosted, Outcome, ScreenShown, SessionOpened
from pilotage_core.gate import Decision
from pilotage_core.record import PROPOSED, DecisionRecord, Label, ProposalRecord, SessionRecord, blind
from pilotage_core.snapshot import PARTS
from pilotage_core.stage import Stage
from pilotage_core.wire import BY_PERMIT, LabelPage
from pilotage_gateway import tables as t
from pilotage_gateway.access import namespace_of
from pilotage_gateway.sessions import VERDICTS, EventKey, Intent, StoredSession

DECODE_EVENT = msgspec.json.Decoder(Event).decode
DECODE_PROPOSAL = msgspec.json.Decoder(ProposalRecord).decode
ROWS_AT_ONCE = 2000
DECODE_LABEL = msgspec.json.Decoder(Label).decode


class ExportedRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A SessionRecord to be written out: its events as they are stored, which is as they are exported."""

    session_id: str
    process_cluster: str
    opened_at: str
    events: tuple[msgspec.Raw, ...]
    proposals: tuple[ProposalRecord, ...] = ()
    closed_at: str = ""


@dataclass(frozen=True, slots=True)
class ExportCursor:
    """Where an export stands: closed sessions after this time and id."""

    closed_at: str
    session_id: str


def read_record(connection: Connection, session_id: str, *, with_html: bool = False) -> SessionRecord | None:
    """One session; None where it is unknown. HTML is left out unless asked for: typed screens are always there."""
    row = connection.execute(select(t.sessions).where(t.sessions.c.session_id == session_id)).first()
    return None if row is None else _record(connection, row, with_html)


def read_events(connection: Connection, session_id: str) -> tuple[Event, ...]:
    """The events of one session in order, without HTML; none where it is unknown."""
    return tuple(DECODE_EVENT(body) for body in _event_bodies(connection, session_id))


def _event_bodies(connection: Connection, session_id: str) -> Iterable[bytes]:
    mine = t.events.c.session_id == session_id
    return connection.execute(select(t.events.c.body).where(mine).order_by(t.events.c.sequence)).scalars()


def read_session(connection: Connection, session_id: str) -> StoredSession | None:
    """One session with its intents, as a gateway needs it to go on; None where it is unknown."""
    row = connection.execute(select(t.sessions).where(t.sessions.c.session_id == session_id)).first()
    if row is None:
        return None
    found = connection.execute(
        select(t.intents, t.outcomes.c.outcome)
        .outerjoin(t.outcomes, t.outcomes.c.proposal_id == t.intents.c.proposal_id)
        .where(t.intents.c.session_id == session_id)
        .order_by(t.intents.c.state_version)
    )
    intents = tuple(
        Intent(
            i.proposal_id,
            i.idempotency_key,
            i.state_version,
            i.authorised_by,
            i.epoch,
            Outcome(i.outcome) if i.outcome else None,
        )
        for i in found
    )
    e = t.events.c
    keys = connection.execute(
        select(e.source, e.event_id, e.sequence, e.digest).where(e.session_id == session_id).order_by(e.sequence)
    )
    known = {EventKey(key.source, key.event_id): (key.sequence, key.digest) for key in keys}
    return StoredSession(_record(connection, row, False), intents, row.handed_off, known)


def _record(connection: Connection, row: Row[tuple[object, ...]], with_html: bool) -> SessionRecord:
    read = _read_events_with_html if with_html else read_events
    return SessionRecord(
        session_id=row.session_id,
        process_cluster=row.process_cluster,
        opened_at=row.opened_at,
        events=read(connection, row.session_id),
        proposals=_proposals(connection, row.session_id),
        closed_at=row.closed_at,
    )


def _is_told(connection: Connection, proposal_id: str, session_id: str) -> bool:
    """Whether the verdict on a proposal that was put to an operator is in, or its session over without one."""
    labelled = select(t.labels.c.number).where(t.labels.c.proposal_id == proposal_id).limit(1)
    if connection.execute(labelled).first() is not None:
        return True
    closed = select(t.sessions.c.closed_at).where(t.sessions.c.session_id == session_id)
    return bool(connection.execute(closed).scalar())


def blind_untold(record: SessionRecord) -> SessionRecord:
    """`record` as it may be shown: proposals that wait for a verdict tell nothing of score, reason or audit."""
    if record.closed_at:
        return record
    answered = {e.data.proposal_id for e in record.events if isinstance(e.data, FeedbackGiven)}
    return msgspec.structs.replace(record, proposals=_blind_waiting(record.proposals, answered))


def _blind_waiting(proposals: Iterable[ProposalRecord], answered: Collection[str]) -> tuple[ProposalRecord, ...]:
    waiting = Decision.PROPOSE.value
    return tuple(blind(p) if p.decision == waiting and p.proposal_id not in answered else p for p in proposals)


def _proposals(connection: Connection, session_id: str) -> tuple[ProposalRecord, ...]:
    proposals = connection.execute(
        select(t.proposals.c.body, t.proposals.c.executed, t.outcomes.c.outcome)
        .outerjoin(t.outcomes, t.outcomes.c.proposal_id == t.proposals.c.proposal_id)
        .where(t.proposals.c.session_id == session_id)
        .order_by(t.proposals.c.at_version)
    )
    return tuple(
        msgspec.structs.replace(DECODE_PROPOSAL(p.body), executed=p.executed, outcome=p.outcome or "")
        for p in proposals
    )


def _exported(connection: Connection, row: Row[tuple[object, ...]]) -> ExportedRecord:
    return ExportedRecord(
        session_id=row.session_id,
        process_cluster=row.process_cluster,
        opened_at=row.opened_at,
        events=tuple(msgspec.Raw(body) for body in _event_bodies(connection, row.session_id)),
        proposals=_proposals(connection, row.session_id),
        closed_at=row.closed_at,
    )


def _read_events_with_html(connection: Connection, session_id: str) -> tuple[Event, ...]:
    mine = t.events.c.session_id == session_id
    stored = connection.execute(select(t.events.c.body, t.events.c.html).where(mine).order_by(t.events.c.sequence))
    return tuple(_with_html(DECODE_EVENT(event.body), event.html) for event in stored)


def _with_html(event: Event, html: str) -> Event:
    if not html or not isinstance(event.data, ScreenShown):
        return event
    return msgspec.structs.replace(event, data=ScreenShown(html=html, screen=event.data.screen))


def read_export(
    connection: Connection, process_cluster: str, since: str, until: str, after: ExportCursor | None, limit: int
) -> list[ExportedRecord]:
    """Closed sessions with `closed_at` in [since, until), by it and then by id: at most `limit`, from `after` on."""
    s = t.sessions.c
    within = [s.process_cluster == process_cluster, s.closed_at != "", s.closed_at >= since]
    if until:
        within.append(s.closed_at < until)
    if after is not None:
        same = and_(s.closed_at == after.closed_at, s.session_id > after.session_id)
        within.append(or_(s.closed_at > after.closed_at, same))
    rows = connection.execute(select(t.sessions).where(*within).order_by(s.closed_at, s.session_id).limit(limit)).all()
    return [_exported(connection, row) for row in rows]


def read_open(connection: Connection, process_cluster: str, after: str, limit: int) -> list[ExportedRecord]:
    """Sessions that are not closed, by id: at most `limit` after the id `after`."""
    s = t.sessions.c
    rows = connection.execute(
        select(t.sessions)
        .where(s.process_cluster == process_cluster, s.closed_at == "", s.session_id > after)
        .order_by(s.session_id)
        .limit(limit)
    ).all()
    exported = [_exported(connection, row) for row in rows]
    ids = [record.session_id for record in exported]
    answered = set(connection.execute(select(t.labels.c.proposal_id).where(t.labels.c.session_id.in_(ids))).scalars())
    return [msgspec.structs.replace(r, proposals=_blind_waiting(r.proposals, answered)) for r in exported]


def read_labels_after(connection: Connection, process_cluster: str, pair: str, after: int, limit: int) -> LabelPage:
    """Labels in label order with a number above `after`: of one process cluster, or of all where none is named."""
    c = t.labels.c
    wanted = [c.number > after]
    if process_cluster:
        wanted.append(c.process_cluster == process_cluster)
    if pair:
        wanted.append(c.pair == pair)
    rows = connection.execute(select(c.number, c.body).where(*wanted).order_by(c.number).limit(limit)).all()
    numbers = tuple(row.number for row in rows)
    mine = [c.process_cluster == process_cluster] if process_cluster else []
    newest = connection.execute(select(func.max(c.number)).where(*mine)).scalar() or 0
    return LabelPage(max(numbers, default=after), tuple(DECODE_LABEL(row.body) for row in rows), numbers, newest)


def read_decision(
    connection: Connection, proposal_id: str, namespaces: Collection[str] | None = None
) -> tuple[DecisionRecord, str, str] | None:
    """What the gate saw, with the digests of the row before and of this row; None where it is unknown, or of a process
    cluster outside `namespaces` (None: of all).

    Raises ConflictError for a proposal that waits for an operator's verdict: until then nothing is told of any, or an
    audit could be told from the others.
    """
    row = connection.execute(
        select(t.decisions.c.facts, t.decisions.c.former, t.decisions.c.digest, t.proposals.c.executed)
        .join(t.proposals, t.proposals.c.proposal_id == t.decisions.c.proposal_id)
        .where(t.decisions.c.proposal_id == proposal_id)
    ).first()
    if row is None:
        return None
    record = msgspec.json.decode(row.facts, type=DecisionRecord)
    if namespaces is not None and namespace_of(record.process_cluster) not in namespaces:
        return None
    waits = record.verdict.decision is Decision.PROPOSE
    if waits and not _is_told(connection, proposal_id, record.session_id):
        raise ConflictError(
            "its verdict is not in", where="proposal_id", remedy="ask again once the operator has answered it"
        )
    if record.proposal is not None:
        record = msgspec.structs.replace(
            record, proposal=msgspec.structs.replace(record.proposal, executed=row.executed)
        )
    return record, row.former, row.digest


def read_decision_row(connection: Connection, proposal_id: str) -> bytes | None:
    """The facts of one decision as they are stored, whoever waits for them; None where it is unknown."""
    c = t.decisions.c
    found: bytes | None = connection.execute(select(c.facts).where(c.proposal_id == proposal_id)).scalar()
    return found


def read_chain(connection: Connection) -> Iterator[tuple[int, str, str, bytes]]:
    """Every decision row in order: number, digest of the one before, own digest, facts. Some at a time."""
    c, last = t.decisions.c, 0
    while True:
        page = (
            select(c.number, c.former, c.digest, c.facts).where(c.number > last).order_by(c.number).limit(ROWS_AT_ONCE)
        )
        rows = connection.execute(page).all()
        for row in rows:
            yield row.number, row.former, row.digest, row.facts
        if len(rows) < ROWS_AT_ONCE:
            return
        last = rows[-1].number


def read_suspended(connection: Connection) -> set[str]:
    """Process clusters that people have stopped ("*": all)."""
    c = t.suspensions.c
    return set(connection.execute(select(c.process_cluster).where(c.suspended)).scalars())


def has_moved(connection: Connection, session_id: str, version: int) -> bool:
    """Whether something else than a verdict has happened since: what was proposed in `version` is old then."""
    e = t.events.c
    later = select(e.body).where(e.session_id == session_id, e.sequence >= version)
    return any(not isinstance(DECODE_EVENT(body).data, VERDICTS) for body in connection.execute(later).scalars())


def read_due_and_said(connection: Connection, session_id: str, key: str) -> tuple[str, str]:
    """What a session's metadata says under `key`, and what its customer said last; empty where there is nothing."""
    events = read_events(connection, session_id)
    opened = events[0].data if events else None
    due = opened.metadata.get(key, "") if isinstance(opened, SessionOpened) else ""
    texts = (e.data.text for e in reversed(events) if isinstance(e.data, MessagePosted) and e.data.author == "customer")
    return due, next(texts, "")


def read_handed_off(connection: Connection) -> list[str]:
    """Open sessions whose operator has the wheel."""
    s = t.sessions.c
    return list(connection.execute(select(s.session_id).where(s.closed_at == "", s.handed_off != "")).scalars())


def read_epochs(connection: Connection) -> dict[str, int]:
    """Highest epoch seen, by domain; the first domain seen comes first."""
    c = t.epochs.c
    return {row.domain: row.epoch for row in connection.execute(select(c.domain, c.epoch).order_by(c.seen_at))}


def read_parts(connection: Connection) -> dict[int, bytes]:
    """The parts of the last snapshot seen, by number; empty where there never was one."""
    c = t.snapshots.c
    found = {row.slot: row.body for row in connection.execute(select(c.slot, c.body))}
    parts = {slot - t.FIRST_SLOT: body for slot, body in found.items() if slot >= t.FIRST_SLOT}
    # An earlier release kept it whole, in slot 1.
    return {0: found[1]} if 1 in found and len(parts) < PARTS else parts


Count = tuple[str, dict[str, str], int]


def read_counts(connection: Connection) -> Iterator[Count]:
    """Every counter of metrics.py that the records hold, as (short name, labels, value)."""
    for name, query in _COUNTS.items():
        for row in connection.execute(query):
            values = dict(row._mapping)
            n = values.pop("n")
            yield name, {key: _label_value(value) for key, value in values.items()}, n


def _label_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _by(*columns: object) -> list[object]:
    return [*columns, func.count().label("n")]


_s, _p, _l, _d, _r, _c = t.sessions.c, t.proposals.c, t.labels.c, t.decisions.c, t.reviews.c, t.corrections.c
_u = t.resolutions.c
_told_reason = case((_d.decision == Decision.PROPOSE.value, PROPOSED), else_=_d.reason)
_ordered_by = case((t.intents.c.authorised_by == BY_PERMIT, BY_PERMIT), else_="operator")
_unattended = and_(_p.executed, _p.decision == "execute")
_feedback_sessions = (
    select(_l.session_id, _l.process_cluster, _l.pair)
    .join(t.sessions, _s.session_id == _l.session_id)
    .where(_s.closed_at != "", _l.verdict != "", ~_l.reviewed, _l.stage == Stage.COPILOT.value)
    .distinct()
    .subquery()
)
_COUNTS = {
    "sessions_closed": select(
        _s.process_cluster, _s.closed_pair.label("pair"), _s.closed_stage.label("stage"), func.count().label("n")
    )
    .where(_s.closed_at != "")
    .group_by(_s.process_cluster, _s.closed_pair, _s.closed_stage),
    "demonstration_sessions": select(_s.process_cluster, func.count().label("n"))
    .where(_s.closed_at != "", _s.demonstrated)
    .group_by(_s.process_cluster),
    "feedback_sessions": select(
        _feedback_sessions.c.process_cluster, _feedback_sessions.c.pair, func.count().label("n")
    ).group_by(_feedback_sessions.c.process_cluster, _feedback_sessions.c.pair),
    "feedback": select(_l.process_cluster, _l.pair, _l.tool, _l.verdict, func.count().label("n"))
    .where(_l.verdict != "", ~_l.reviewed)
    .group_by(_l.process_cluster, _l.pair, _l.tool, _l.verdict),
    "decisions": select(
        _d.process_cluster, _d.pair, _d.stage, _d.decision, _told_reason.label("reason"), func.count().label("n")
    ).group_by(_d.process_cluster, _d.pair, _d.stage, _d.decision, _told_reason),
    "orders": select(_p.process_cluster, _ordered_by.label("by"), func.count().label("n"))
    .join(t.intents, t.intents.c.proposal_id == _p.proposal_id)
    .group_by(_p.process_cluster, _ordered_by),
    "outcomes": select(_p.process_cluster, t.outcomes.c.outcome, func.count().label("n"))
    .join(t.outcomes, t.outcomes.c.proposal_id == _p.proposal_id)
    .group_by(_p.process_cluster, t.outcomes.c.outcome),
    "executed": select(_p.process_cluster, _p.pair, _p.tool, _p.critical, func.count().label("n"))
    .where(_unattended)
    .group_by(_p.process_cluster, _p.pair, _p.tool, _p.critical),
    "executed_critical": select(_p.process_cluster, _p.pair, func.count().label("n"))
    .where(_unattended, _p.critical)
    .group_by(_p.process_cluster, _p.pair),
    "corrections": select(_c.process_cluster, _c.pair, func.count().label("n")).group_by(_c.process_cluster, _c.pair),
    "finalizations_reviewed": select(_r.process_cluster, _r.pair, func.count().label("n")).group_by(
        _r.process_cluster, _r.pair
    ),
    "finalizations_rejected": select(_r.process_cluster, _r.pair, func.count().label("n"))
    .where(~_r.approved)
    .group_by(_r.process_cluster, _r.pair),
    "sessions_judged": select(_u.process_cluster, _u.right, func.count().label("n")).group_by(
        _u.process_cluster, _u.right
    ),
    "sessions_unasked": select(_u.process_cluster, _u.pair, func.count().label("n"))
    .where(_u.unasked)
    .group_by(_u.process_cluster, _u.pair),
    "sessions_unasked_wrong": select(_u.process_cluster, _u.pair, func.count().label("n"))
    .where(_u.unasked, ~_u.right)
    .group_by(_u.process_cluster, _u.pair),
    "labels": select(_l.process_cluster, _l.pair, _l.stratum, _l.accepted, func.count().label("n")).group_by(
        _l.process_cluster, _l.pair, _l.stratum, _l.accepted
    ),
}
