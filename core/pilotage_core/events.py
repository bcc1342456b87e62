"""What happens in a session, as one append-only sequence of events. Contract between BPM adapter, gateway and trainer.

Everything the gateway knows of a session is a fold over these (state.py); nothing is ever rewritten.
"""

from enum import StrEnum

import msgspec

from pilotage_core.actions import Action
from pilotage_core.screen import Screen


class Author(StrEnum):
    """Who did it."""

    CUSTOMER = "customer"
    OPERATOR = "operator"
    MODEL = "model"
    BOT = "bot"


class Verdict(StrEnum):
    """An operator's answer to a proposal."""

    ACCEPT = "accept"
    EDIT = "edit"
    REJECT = "reject"


class Grade(StrEnum):
    """How wrong a rejected or edited proposal was. Grades weigh the critic's training, never the label for τ."""

    ACCEPTABLE = "acceptable"
    MINOR_EDITS = "minor_edits"
    INCORRECT = "incorrect"
    MISSING_VERIFICATION = "missing_verification"
    WRONG_ROUTE = "wrong_route"


class Outcome(StrEnum):
    """What became of an action that was to be executed."""

    DONE = "done"
    REFUSED = "refused"  # the BPM's fence or a stale state refused it; nothing happened
    FAILED = "failed"  # it was tried and the BPM reported an error
    AMBIGUOUS = "ambiguous"  # nobody knows whether it happened: an operator looks, nothing repeats it
    WITHDRAWN = "withdrawn"  # the gateway took the order back before it left; no adapter reports this


class Closing(StrEnum):
    """How a session ended."""

    CLOSED = "closed"
    TRANSFERRED = "transferred"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"


class SessionOpened(msgspec.Struct, frozen=True, tag="session_opened", forbid_unknown_fields=True):
    """A case begins. `metadata` is what selectors match (domain, business_line, …); `profile` is the customer's."""

    metadata: dict[str, str] = {}
    profile: dict[str, str] = {}


class ScreenShown(msgspec.Struct, frozen=True, tag="screen_shown", forbid_unknown_fields=True):
    """The operator's screen after the last change, as HTML (read by the process cluster's schemas) or already typed."""

    html: str = ""
    screen: Screen | None = None


class MessagePosted(msgspec.Struct, frozen=True, tag="message_posted", forbid_unknown_fields=True):
    """Chat text by the customer or a bot. The operator's and the model's own messages come as actions."""

    author: Author
    text: str


class ActionTaken(msgspec.Struct, frozen=True, tag="action_taken", forbid_unknown_fields=True):
    """A demonstration: what the operator did in the state before it. A filled form is one event with many actions.

    `corrects` names an executed proposal that this action repairs: a corrective intervention.
    `active_seconds` is the operator's time on it.
    """

    actions: tuple[Action, ...]
    operator: str
    active_seconds: float = 0.0
    corrects: str = ""


class FeedbackGiven(msgspec.Struct, frozen=True, tag="feedback_given", forbid_unknown_fields=True):
    """An operator's verdict on one proposal. On an accept the reply carries the order to execute it."""

    proposal_id: str
    verdict: Verdict
    operator: str
    grade: Grade | None = None
    active_seconds: float = 0.0


class OutcomeReported(msgspec.Struct, frozen=True, tag="outcome_reported", forbid_unknown_fields=True):
    """What became of an ordered action."""

    proposal_id: str
    idempotency_key: str
    outcome: Outcome
    error: str = ""


class ReviewItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A finalization reviewer's verdict on one executed action: a label like any other."""

    proposal_id: str
    verdict: Verdict
    grade: Grade | None = None


class SessionReviewed(msgspec.Struct, frozen=True, tag="session_reviewed", forbid_unknown_fields=True):
    """Finalization review: the verdict on ending the session, and on what was executed in it."""

    operator: str
    approved: bool
    items: tuple[ReviewItem, ...] = ()
    active_seconds: float = 0.0


class SessionClosed(msgspec.Struct, frozen=True, tag="session_closed", forbid_unknown_fields=True):
    """The case is over."""

    closing: Closing


class ResolutionJudged(msgspec.Struct, frozen=True, tag="resolution_judged", forbid_unknown_fields=True):
    """How a closed case came out: whether what was to be done was, and nothing else. Told once it is known.

    `by` says who or what found out (the BPM's books, a second look); never who ended the session.
    """

    right: bool
    by: str


Happening = (
    SessionOpened
    | ScreenShown
    | MessagePosted
    | ActionTaken
    | FeedbackGiven
    | OutcomeReported
    | SessionReviewed
    | SessionClosed
    | ResolutionJudged
)


class Event(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One thing that happened (CloudEvents-shaped).

    `id` is a UUIDv7 given by the adapter; a repeated id is answered as the first time. `sequence` counts a session's
    events from 0 without gaps. `at` is RFC 3339 with the adapter's own offset; the gateway adds `received_at` in UTC.
    """

    id: str
    sequence: int
    at: str
    data: Happening
    source: str = ""
    received_at: str = ""
