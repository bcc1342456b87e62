"""May these events follow in this session? Pure: raises an error that names the event and field, or says nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from pilotage_core.errors import ConflictError, InvalidEventError, PilotageError
from pilotage_core.events import (
    ActionTaken,
    Author,
    Event,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ResolutionJudged,
    ScreenShown,
    SessionClosed,
    SessionReviewed,
    Verdict,
)
from pilotage_core.gate import Decision
from pilotage_core.state import fold_event
from pilotage_core.wire import BY_PERMIT
from pilotage_gateway.sessions import VERDICTS, EventKey, LiveSession, key_of

MAX_ID_CHARS = 64
MAX_NAME_CHARS = 128
BY_OPERATOR = (ActionTaken, FeedbackGiven, SessionReviewed)


@dataclass(slots=True)
class _Seen:
    """What the events of this post have done so far."""

    moved_version: int
    answered: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    accepted: bool = False


def digest_event(event: Event) -> str:
    """Identity of an event as its adapter sent it, 16 hex digits."""
    sent = msgspec.structs.replace(event, received_at="")
    return hashlib.blake2b(msgspec.json.encode(sent), digest_size=8).hexdigest()


def split_repeated(session: LiveSession, events: Sequence[Event]) -> tuple[int, tuple[Event, ...]]:
    """How many of the first events are stored already, and the new ones after them.

    Raises ConflictError for a known id under another sequence or with other content, and for a repeated event after a
    new one.
    """
    repeated = 0
    for index, event in enumerate(events):
        known = session.event_ids.get(key_of(event))
        if known is None:
            continue
        sequence, digest = known
        if sequence != event.sequence or repeated != index:
            raise ConflictError(
                f"event {event.id} is stored with sequence {sequence}",
                where=f"events[{index}].sequence",
                remedy=f"the next event of this session has sequence {session.state.version}",
            )
        if digest and digest != digest_event(event):
            raise ConflictError(
                f"event {event.id} is stored with other content",
                where=f"events[{index}].id",
                remedy="nothing that is stored is changed: send what is new as an event with an id of its own",
            )
        repeated += 1
    return repeated, tuple(events[repeated:])


def check_events(session: LiveSession, events: Sequence[Event], first_index: int) -> None:
    """Raise InvalidEventError or ConflictError where `events` cannot follow; nothing is changed.

    `first_index` is the place of the first of them in the post, for the error's `where`.
    """
    state = session.state
    seen = _Seen(session.moved_version)
    keys: set[EventKey] = set()
    for index, event in enumerate(events, first_index):
        try:
            _check_form(event)
            if key_of(event) in keys:
                raise InvalidEventError("two events of this post have this id", where="id", remedy="send a UUIDv7")
            keys.add(key_of(event))
            if seen.accepted:
                raise InvalidEventError(
                    "an accept is the last event of its post", where="data", remedy="post the rest after"
                )
            _check_order(state.version, event)
            _check_references(session, event, seen)
            state = fold_event(state, event, session.ordered_action(event))
        except PilotageError as error:
            place = f"events[{index}].{error.where}" if error.where else f"events[{index}]"
            raise type(error)(error.what, where=place, remedy=error.remedy) from error
        if not isinstance(event.data, VERDICTS):
            seen.moved_version = state.version


def _check_form(event: Event) -> None:
    if not 0 < len(event.id) <= MAX_ID_CHARS:
        raise InvalidEventError(f"an id has 1 to {MAX_ID_CHARS} characters", where="id", remedy="send a UUIDv7")
    if len(event.source) > MAX_NAME_CHARS or not event.source.isprintable():
        raise InvalidEventError(
            f"a source has at most {MAX_NAME_CHARS} characters, on one line", where="source", remedy="send its name"
        )
    try:
        at = datetime.fromisoformat(event.at)
    except ValueError as error:
        raise InvalidEventError(
            f"{event.at[:64]!r} is no time", where="at", remedy="send RFC 3339 with an offset"
        ) from error
    if at.tzinfo is None:
        raise InvalidEventError(f"{event.at!r} has no offset", where="at", remedy="send RFC 3339 with an offset")
    seconds = getattr(event.data, "active_seconds", 0.0)
    if not 0.0 <= seconds < 1e7:
        raise InvalidEventError(
            f"{seconds} is no length of time", where="data.active_seconds", remedy="send seconds ≥ 0"
        )
    if isinstance(event.data, BY_OPERATOR):
        _check_operator(event.data.operator)
    if isinstance(event.data, ResolutionJudged):
        _check_name(event.data.by, "data.by", "send who or what found out, on one line")
    if isinstance(event.data, ActionTaken) and not event.data.actions:
        raise InvalidEventError("an action_taken without actions", where="data.actions", remedy="leave the event out")
    if isinstance(event.data, ScreenShown) and not event.data.html and event.data.screen is None:
        raise InvalidEventError("a screen without html and without screen", where="data", remedy="send one of them")
    if isinstance(event.data, MessagePosted) and event.data.author not in (Author.CUSTOMER, Author.BOT):
        raise InvalidEventError(
            f"{event.data.author} does not post messages", where="data.author", remedy="send it as action_taken"
        )


def _check_name(name: str, where: str, remedy: str) -> None:
    if not name.strip() or name != name.strip() or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise InvalidEventError(f"{name[:64]!r} is nobody's name", where=where, remedy=remedy)


def _check_operator(name: str) -> None:
    """An accept's order names who authorised it: it must be somebody, and not the word that stands for a permit."""
    _check_name(name, "data.operator", "send who did it, on one line")
    if name == BY_PERMIT:
        raise InvalidEventError(
            f"{name!r} stands for actions that no operator authorised", where="data.operator", remedy="send who did it"
        )


def _check_order(version: int, event: Event) -> None:
    if event.sequence != version:
        raise ConflictError(
            f"sequence {event.sequence} where {version} is next",
            where="sequence",
            remedy=f"the next event of this session has sequence {version}",
        )


def _check_references(session: LiveSession, event: Event, seen: _Seen) -> None:
    match event.data:
        case FeedbackGiven():
            _check_feedback(session, event.data, seen)
        case OutcomeReported():
            _check_outcome(session, event.data, seen)
        case SessionReviewed():
            _check_review(session, event.data, seen)
        case ActionTaken(corrects=corrects) if corrects:
            _require_proposal(session, corrects, "data.corrects")
            if not session.proposals[corrects].executed and corrects not in seen.done:
                raise ConflictError(f"proposal {corrects} was not executed", where="data.corrects")
        case SessionClosed() | _:
            pass


def _require_proposal(session: LiveSession, proposal_id: str, where: str) -> None:
    if proposal_id not in session.proposals:
        raise InvalidEventError(f"this session has no proposal {proposal_id[:64]!r}", where=where)


def _check_feedback(session: LiveSession, feedback: FeedbackGiven, seen: _Seen) -> None:
    where = "data.proposal_id"
    _require_proposal(session, feedback.proposal_id, where)
    proposal = session.proposals[feedback.proposal_id]
    if feedback.proposal_id in session.answered | seen.answered:
        raise ConflictError("this proposal was answered already", where=where, remedy="one verdict for each proposal")
    if proposal.decision != Decision.PROPOSE:
        raise ConflictError("this proposal was not put to an operator", where=where, remedy="use session_reviewed")
    seen.answered.add(feedback.proposal_id)
    if feedback.verdict is Verdict.ACCEPT:
        if proposal.at_version < seen.moved_version:
            raise ConflictError(
                f"proposed in state version {proposal.at_version}, but the state has moved on to {seen.moved_version}",
                where=where,
                remedy="act on what is there now",
            )
        seen.accepted = True


def _check_outcome(session: LiveSession, reported: OutcomeReported, seen: _Seen) -> None:
    intent = session.intents.get(reported.proposal_id)
    if intent is None:
        raise InvalidEventError(
            f"nothing was ordered for proposal {reported.proposal_id[:64]!r}", where="data.proposal_id"
        )
    if intent.idempotency_key != reported.idempotency_key:
        raise InvalidEventError("this is not the key of the order", where="data.idempotency_key")
    if reported.outcome is Outcome.WITHDRAWN:
        raise InvalidEventError(
            "only a gateway takes orders back", where="data.outcome", remedy="send refused, failed or ambiguous"
        )
    if reported.outcome is Outcome.DONE:
        seen.done.add(reported.proposal_id)


def _check_review(session: LiveSession, review: SessionReviewed, seen: _Seen) -> None:
    executed = set(session.executed_unattended(critical_only=False, done=seen.done))
    for number, item in enumerate(review.items):
        where = f"data.items[{number}].proposal_id"
        _require_proposal(session, item.proposal_id, where)
        if item.proposal_id not in executed:
            raise ConflictError("this proposal was not executed unattended", where=where, remedy="use feedback_given")
