"""The state of a session: a pure fold over its events. The gateway folds live events, the trainer folds recorded ones.

Not here: how a state is written for a model (dialog.py), and what may be done in it (gate.py).
"""

import hashlib

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_core.errors import ConflictError, InvalidEventError
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ResolutionJudged,
    ScreenShown,
    SessionClosed,
    SessionOpened,
    SessionReviewed,
)
from pilotage_core.screen import Screen

MESSAGES_KEPT = 30
"""Chat messages in a state: the paper's window (section 3)."""

NO_SCREEN = Screen(name="")
AFTER_THE_END = (OutcomeReported, SessionReviewed, ResolutionJudged)
"""What may still come once a session is closed: what ran, and what became of it, is counted however late it is told."""


class Message(msgspec.Struct, frozen=True):
    """One chat message."""

    author: Author
    text: str


class State(msgspec.Struct, frozen=True):
    """What is known of a session after `version` events.

    `version` is the state version: the number of events folded. `profile` and `metadata` never reach a digest or a
    dialog under keys that name an id. `message_count` counts all messages, those that left the window included.
    `idle_actions` counts actions since the screen changed or the customer spoke, `repeats` how often in a row the last
    action met the same screen, whatever was answered: who asks again and again has not understood. `done` are the
    proposals that were reported done: a second report changes nothing. A fault is the screen's (`screen.fault`), and
    stays until another screen is shown. `resolved` is the first word on how it came out.
    """

    version: int = 0
    metadata: dict[str, str] = {}
    profile: dict[str, str] = {}
    messages: tuple[Message, ...] = ()
    message_count: int = 0
    screen: Screen = NO_SCREEN
    procedures: tuple[str, ...] = ()
    last_action: Action | None = None
    last_author: Author | None = None
    last_error: str = ""
    awaiting_customer: bool = False
    idle_actions: int = 0
    repeats: int = 0
    reviewed: bool = False
    done: tuple[str, ...] = ()
    closing: Closing | None = None
    resolved: bool | None = None

    @property
    def is_open(self) -> bool:
        """Whether the session has begun and not ended."""
        return self.version > 0 and self.closing is None

    @property
    def active_procedure(self) -> str:
        """The procedure opened last, or the empty string."""
        return self.procedures[-1] if self.procedures else ""


def is_looping(state: State, action: Action, same_action_limit: int, no_progress_limit: int) -> bool:
    """Whether `action` was just done `same_action_limit` times on this screen, or nothing has moved for long."""
    same = action == state.last_action and state.repeats + 1 >= same_action_limit
    return same or state.idle_actions >= no_progress_limit


def is_identifier(key: str) -> bool:
    """Whether a metadata or profile key names an id, which no model and no digest may see."""
    return key == "id" or key.endswith(("_id", "Id", "ID"))


def digest_state(state: State) -> str:
    """Digest of what a model could see of `state`, 16 hex digits: equal for sessions that differ only in ids."""
    visible = (
        sorted((k, v) for k, v in state.metadata.items() if not is_identifier(k)),
        sorted((k, v) for k, v in state.profile.items() if not is_identifier(k)),
        state.messages,
        state.screen,
        state.procedures,
        state.last_action,
        state.last_error,
    )
    return hashlib.blake2b(msgspec.json.encode(visible), digest_size=8).hexdigest()


def fold_event(state: State, event: Event, ordered: Action | None = None) -> State:
    """The state after `event`.

    `ordered` is the action that an `OutcomeReported` speaks of (the gateway's proposal records know it). Screens given
    as HTML must have been read into `ScreenShown.screen` before. Raises InvalidEventError for an event that cannot
    follow, ConflictError for one that comes out of order.
    """
    if event.sequence != state.version:
        raise ConflictError(
            f"event {event.id} has sequence {event.sequence}",
            where="sequence",
            remedy=f"the next event of this session has sequence {state.version}",
        )
    data = event.data
    if state.version == 0 and not isinstance(data, SessionOpened):
        raise InvalidEventError(
            "the first event of a session opens it", where="data.type", remedy="send session_opened"
        )
    if state.closing is not None and not isinstance(data, AFTER_THE_END):
        raise ConflictError("the session is closed", where="session", remedy="open a new session")
    after = msgspec.structs.replace(state, version=state.version + 1)
    match data:
        case SessionOpened():
            if state.version != 0:
                raise InvalidEventError("the session is open already", where="data.type")
            return msgspec.structs.replace(after, metadata=data.metadata, profile=data.profile)
        case ScreenShown():
            if data.screen is None:
                raise InvalidEventError("the screen was not read", where="data.screen")
            moved = data.screen != state.screen
            return msgspec.structs.replace(
                after,
                screen=data.screen,
                idle_actions=0 if moved else state.idle_actions,
                repeats=0 if moved else state.repeats,
                awaiting_customer=state.awaiting_customer and not moved,
            )
        case MessagePosted():
            return msgspec.structs.replace(
                _with_message(after, data.author, data.text), awaiting_customer=False, idle_actions=0
            )
        case ActionTaken():
            return _with_actions(after, data.actions, Author.OPERATOR)
        case OutcomeReported():
            if ordered is None:
                raise InvalidEventError(
                    f"no action was ordered for proposal {data.proposal_id}", where="data.proposal_id"
                )
            if data.proposal_id in state.done:
                return after
            if data.outcome is Outcome.DONE:
                after = msgspec.structs.replace(after, done=(*state.done, data.proposal_id))
                return _with_actions(after, (ordered,), Author.MODEL)
            return msgspec.structs.replace(after, last_error=data.error or data.outcome.value)
        case FeedbackGiven():
            return after
        case SessionReviewed():
            return msgspec.structs.replace(after, reviewed=data.approved)
        case SessionClosed():
            return msgspec.structs.replace(after, closing=data.closing)
        case ResolutionJudged():
            if state.closing is None:
                raise InvalidEventError("the session is open", where="data.type", remedy="send session_closed first")
            if not data.by.strip():
                raise InvalidEventError("nobody says so", where="data.by", remedy="send who or what found out")
            return msgspec.structs.replace(after, resolved=data.right if state.resolved is None else state.resolved)


def _with_message(state: State, author: Author, text: str) -> State:
    messages = (*state.messages, Message(author, text))[-MESSAGES_KEPT:]
    return msgspec.structs.replace(state, messages=messages, message_count=state.message_count + 1)


def _with_actions(state: State, actions: tuple[Action, ...], author: Author) -> State:
    for action in actions:
        repeated = action == state.last_action
        state = msgspec.structs.replace(
            state,
            last_action=action,
            last_author=author,
            last_error="",
            idle_actions=state.idle_actions + 1,
            repeats=state.repeats + 1 if repeated else 0,
            awaiting_customer=action.tool is Tool.SEND_TEXT_TO_CHAT,
        )
        if action.tool is Tool.SEND_TEXT_TO_CHAT:
            state = _with_message(state, author, action.text)
        if action.tool is Tool.OPEN_PROCEDURE:
            state = msgspec.structs.replace(state, procedures=(*state.procedures, action.control_id))
    return state
