"""Live sessions: what the gateway keeps in memory of each, rebuilt from the records when it is not there.

Only state and bookkeeping. Whether events may follow is in checks.py, what is done with them in turns.py.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from pilotage_core.actions import VALUE_TOOLS, Action
from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import UnavailableError
from pilotage_core.events import (
    ActionTaken,
    Author,
    Event,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    OutcomeReported,
    SessionReviewed,
    Verdict,
)
from pilotage_core.gate import Decision
from pilotage_core.record import Label, ProposalRecord, SessionRecord, read_labels
from pilotage_core.state import State
from pilotage_core.walk import SessionWalk
from pilotage_core.wire import Turn

KEPT_CLOSED = 512
KEPT_LIVE = 6_000
"""At some 60 KB each (nine large screens), 350 MB: a pod has a limit. Others come back from the records in 6 ms."""
VERDICTS = (FeedbackGiven, SessionReviewed)


@dataclass(slots=True)
class Intent:
    """Leave given to execute one proposal, and what became of it (None: not reported yet)."""

    proposal_id: str
    idempotency_key: str
    state_version: int
    authorised_by: str
    epoch: int
    outcome: Outcome | None = None


class EventKey(NamedTuple):
    """What an event is told by within its session: ids count within their source."""

    source: str
    event_id: str


def key_of(event: Event) -> EventKey:
    """The key of `event`."""
    return EventKey(event.source, event.id)


def settle(known: Outcome | None, reported: Outcome) -> Outcome:
    """What became of an order that was reported again: what ran has run, else the newest word counts."""
    return Outcome.DONE if known is Outcome.DONE else reported


@dataclass(slots=True)
class LiveSession:
    """One session in memory. `lock` is held from the first look at it until its turn is answered.

    `moved_version` is the state version after the last event that was not a verdict: a proposal made in it or later is
    current. `verdicts` are the feedback and review events so far: labels are read off them. `labelled` are proposals
    that have one, as proposed (False) and as reviewed (True). `event_ids` has the sequence and content digest of every
    event. `first_act` is the version in which an operator first acted, `rejected` are digests of the values that one
    would not have since the customer's last message. `handed_off` is why the operator has the wheel.
    `last_turn` is the answer to the last post, whose events ended at `last_turn.sequence`.
    """

    session_id: str
    process_cluster: str
    opened_at: str
    walk: SessionWalk
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    event_ids: dict[EventKey, tuple[int, str]] = field(default_factory=dict)
    proposals: dict[str, ProposalRecord] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    corrected: set[str] = field(default_factory=set)
    intents: dict[str, Intent] = field(default_factory=dict)
    verdicts: list[Event] = field(default_factory=list)
    labelled: set[tuple[str, bool]] = field(default_factory=set)
    moved_version: int = 0
    asked_version: int = -1
    demonstrated: bool = False
    first_act: int | None = None
    rejected: set[str] = field(default_factory=set)
    handed_off: str = ""
    closed_at: str = ""
    last_turn: Turn | None = None

    @property
    def state(self) -> State:
        """The state now."""
        return self.walk.state

    @property
    def was_asked(self) -> bool:
        """Whether an operator acted in this session, or was asked to."""
        return self.first_act is not None or any(p.decision != Decision.EXECUTE for p in self.proposals.values())

    def is_waiting(self, proposal: ProposalRecord) -> bool:
        """Whether `proposal` still waits for an operator."""
        unanswered = proposal.proposal_id not in self.answered
        return proposal.decision == Decision.PROPOSE and unanswered and proposal.proposal_id not in self.intents

    def find_card(self) -> ProposalRecord | None:
        """The proposal that waits for an operator in the state as it is now, if there is one."""
        last = next(reversed(self.proposals.values()), None)
        is_current = last is not None and last.at_version >= self.moved_version
        return last if last is not None and is_current and self.is_waiting(last) else None

    def open_intent(self) -> Intent | None:
        """The intent whose outcome is not known, if there is one."""
        return next((intent for intent in self.intents.values() if intent.outcome is None), None)

    def ordered_action(self, event: Event) -> Action | None:
        """The action that an outcome event speaks of; None for every other event."""
        if isinstance(event.data, OutcomeReported) and event.data.proposal_id in self.intents:
            return self.proposals[event.data.proposal_id].action
        return None

    def executed_unattended(self, *, critical_only: bool = True, done: Collection[str] = ()) -> tuple[str, ...]:
        """Ids of proposals that ran without an operator, in order. `done` are those that only this post reports so."""
        return tuple(
            p.proposal_id
            for p in self.proposals.values()
            if (p.executed or p.proposal_id in done)
            and p.decision == Decision.EXECUTE
            and (p.critical or not critical_only)
        )

    def apply(self, event: Event) -> None:
        """Take in one stored event."""
        self.walk.step(event, self.ordered_action(event))
        if not isinstance(event.data, VERDICTS):
            self.moved_version = self.state.version
        match event.data:
            case ActionTaken(corrects=corrects):
                self.demonstrated = True
                self.first_act = event.sequence if self.first_act is None else self.first_act
                if corrects:
                    self.corrected.add(corrects)
            case MessagePosted(author=Author.CUSTOMER):
                self.rejected.clear()
            case FeedbackGiven(proposal_id=proposal_id, verdict=verdict):
                self.answered.add(proposal_id)
                if verdict is not Verdict.ACCEPT and self.proposals[proposal_id].action.tool in VALUE_TOOLS:
                    self.rejected.add(self.proposals[proposal_id].action.digest)
                self.verdicts.append(event)
            case SessionReviewed(items=items):
                self.corrected.update(item.proposal_id for item in items if item.verdict is not Verdict.ACCEPT)
                self.verdicts.append(event)
            case OutcomeReported(proposal_id=proposal_id, outcome=outcome):
                intent = self.intents[proposal_id]
                intent.outcome = settle(intent.outcome, outcome)
                if outcome is Outcome.DONE:
                    self.mark_executed(proposal_id)
            case _:
                pass

    def rewrite_dialog(self, form: DialogFormat, events: Iterable[Event]) -> None:
        """Write the dialog anew in `form`; `events` are the session's as they are stored, in order.

        Raises UnavailableError where they are not all there: then nothing has changed.
        """
        walk = SessionWalk(form)
        for event in islice(events, self.state.version):
            walk.step(event, self.ordered_action(event))
        if walk.state.version != self.state.version:
            raise UnavailableError("the records lack events", where=f"session {self.session_id}")
        self.walk = walk

    def mark_executed(self, proposal_id: str) -> None:
        """Note that a proposal was carried out."""
        proposal = self.proposals[proposal_id]
        self.proposals[proposal_id] = ProposalRecord(
            **{name: getattr(proposal, name) for name in proposal.__struct_fields__} | {"executed": True}
        )

    def labels_of(self, verdicts: list[Event], closed_at: str) -> list[Label]:
        """Every label so far, given all verdict events."""
        record = SessionRecord(
            session_id=self.session_id,
            process_cluster=self.process_cluster,
            opened_at=self.opened_at,
            events=tuple(verdicts),
            proposals=tuple(self.proposals.values()),
            closed_at=closed_at,
        )
        return read_labels(record)


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session as the records hold it (queries.py)."""

    record: SessionRecord
    intents: tuple[Intent, ...]
    handed_off: str
    event_ids: dict[EventKey, tuple[int, str]]


def rebuild(stored: StoredSession, form: DialogFormat) -> LiveSession:
    """The live session that `stored` is the trace of, its dialog written in `form`."""
    record = stored.record
    live = LiveSession(record.session_id, record.process_cluster, record.opened_at, SessionWalk(form))
    live.proposals = {p.proposal_id: p for p in record.proposals}
    outcomes = {intent.proposal_id: intent.outcome for intent in stored.intents}
    live.intents = {intent.proposal_id: intent for intent in stored.intents}
    for event in record.events:
        live.apply(event)
    for proposal_id, outcome in outcomes.items():
        live.intents[proposal_id].outcome = outcome
    live.event_ids = dict(stored.event_ids)
    live.closed_at = record.closed_at
    live.labelled = {(label.proposal_id, label.reviewed) for label in live.labels_of(live.verdicts, live.closed_at)}
    live.asked_version = max((p.at_version for p in record.proposals), default=-1)
    live.handed_off = stored.handed_off
    return live


class LiveSessions:
    """Live sessions by id, least recently used first; closed ones, and ones beyond a bound, leave memory."""

    def __init__(self) -> None:
        self._live: OrderedDict[str, LiveSession] = OrderedDict()
        self._closed: OrderedDict[str, LiveSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._live)

    def find(self, session_id: str) -> LiveSession | None:
        """The session, if it is in memory."""
        for sessions in (self._live, self._closed):
            if session_id in sessions:
                sessions.move_to_end(session_id)
                return sessions[session_id]
        return None

    def keep(self, session: LiveSession) -> LiveSession:
        """Hold `session` (or the one that was already there) where it belongs, and let others go."""
        held = self._live.pop(session.session_id, None) or self._closed.pop(session.session_id, None) or session
        (self._closed if held.closed_at else self._live)[session.session_id] = held
        while len(self._closed) > KEPT_CLOSED and not next(iter(self._closed.values())).lock.locked():
            self._closed.popitem(last=False)
        while len(self._live) > KEPT_LIVE and not next(iter(self._live.values())).lock.locked():
            self._live.popitem(last=False)
        return held

    def forget(self, session_id: str) -> None:
        """Drop a session from memory: the records know it better (a write of it failed)."""
        self._live.pop(session_id, None)
        self._closed.pop(session_id, None)
