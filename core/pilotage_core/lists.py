"""Messages of lists: sessions, cards that wait for an operator, what operators said of them.

Of the gateway, like the rest of what travels between processes (wire.py).
"""

import msgspec

from pilotage_core.actions import Action
from pilotage_core.events import Grade, ReviewItem, Verdict


class SessionSummary(msgspec.Struct, frozen=True):
    """One session in a list. `handed_off` is why an operator has the wheel (empty: nobody has)."""

    session_id: str
    process_cluster: str
    opened_at: str
    closed_at: str
    handed_off: str


class SessionPage(msgspec.Struct, frozen=True):
    """`GET /v1/sessions`. `next` is what `after` of the next page is (empty: there is none)."""

    sessions: tuple[SessionSummary, ...]
    next: str


class WaitingCard(msgspec.Struct, frozen=True):
    """A proposal that waits for an operator: without score or reason, which would give audits away."""

    proposal_id: str
    session_id: str
    process_cluster: str
    at: str
    action: Action


class CardPage(msgspec.Struct, frozen=True):
    """`GET /v1/cards`. `next` is what `after` of the next page is (empty: there is none)."""

    cards: tuple[WaitingCard, ...]
    next: str


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an operator said of a proposal at the console, on its way to the adapter that holds the session's page.

    The adapter posts it as feedback in its own sequence, with a nonce of its own: so an accept gets its order, and the
    fence holds. `at_version` is the state version it was said in: what has moved on since is not carried out. `action`
    is what the operator wants done instead (an edit), `items` are verdicts on what ran before an ending, `note` is for
    people. `number` rises with time.
    """

    number: int
    session_id: str
    proposal_id: str
    verdict: Verdict
    operator: str
    at: str
    at_version: int
    grade: Grade | None = None
    action: Action | None = None
    items: tuple[ReviewItem, ...] = ()
    note: str = ""
    active_seconds: float = 0.0


class AnswerPage(msgspec.Struct, frozen=True):
    """`GET /v1/answers`: what adapters have to carry out. `next` is what to ask after."""

    answers: tuple[Answer, ...]
    next: int
