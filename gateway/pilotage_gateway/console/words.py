"""How a person reads an action, a change of text, a score. Pure; templates escape what is given here."""

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple

from pilotage_core.actions import Action, Tool
from pilotage_core.events import (
    ActionTaken,
    Event,
    FeedbackGiven,
    MessagePosted,
    OutcomeReported,
    ScreenShown,
    SessionClosed,
    SessionReviewed,
)
from pilotage_core.record import DecisionRecord
from pilotage_core.screen import Screen

SAYS = {
    Tool.SEND_TEXT_TO_CHAT: "Send",
    Tool.OPEN_PROCEDURE: "Open",
    Tool.CLICK_CONTROL: "Click",
    Tool.SELECT_RADIO_BUTTON: "Choose",
    Tool.SELECT_ELEMENT_IN_COMBO_BOX: "Choose",
    Tool.SELECT_ELEMENT_IN_SELECT: "Choose",
    Tool.FILL_INPUT: "Type",
    Tool.CLOSE_CHAT: "Close the chat",
    Tool.TRANSFER_CHAT: "Transfer the chat",
}
_WORD = re.compile(r"\S*\s+|\S+")
MOST_WORDS = 300
"""Compared word by word, on each side; of more only that they changed is told: it would take seconds."""


class Said(NamedTuple):
    """An action: what is done, with what, to which element. `value` is what may be edited."""

    verb: str
    value: str
    target: str


def say_action(action: Action, screen: Screen) -> Said:
    """`action` as a person reads it on `screen`."""
    control = screen.control(action.control_id) if action.control_id else None
    label = (control.label if control is not None else "") or action.control_id
    if action.tool is Tool.SEND_TEXT_TO_CHAT:
        return Said(SAYS[action.tool], action.text, f"template {label}" if action.control_id else "free text")
    return Said(SAYS[action.tool], action.value, label)


def can_edit(action: Action) -> bool:
    """Whether there is something to change: a text or a value."""
    return bool(action.text or action.value)


class Piece(NamedTuple):
    """A stretch of text and what became of it: kept, gone or new."""

    kind: str
    text: str


def find_changes(before: str, after: str) -> list[Piece]:
    """What an edit changed, word by word. Of very long texts only that they changed."""
    a, b = _WORD.findall(before), _WORD.findall(after)
    head = next((n for n, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))
    tail = next((n for n in range(min(len(a), len(b)) - head) if a[-n - 1] != b[-n - 1]), min(len(a), len(b)) - head)
    ends = Piece("kept", "".join(a[:head])), Piece("kept", "".join(a[len(a) - tail :]))
    a, b = a[head : len(a) - tail], b[head : len(b) - tail]
    between = [Piece("gone", "".join(a)), Piece("new", "".join(b))]
    if len(a) <= MOST_WORDS and len(b) <= MOST_WORDS:
        between = _compare(a, b)
    return [piece for piece in (ends[0], *between, ends[1]) if piece.text]


def normalise(text: str) -> str:
    """`text` as it comes back from a form: line ends are of one kind."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _compare(a: list[str], b: list[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("kept", "".join(a[i:j])))
            continue
        pieces += [Piece("gone", "".join(a[i:j]))] * (j > i) + [Piece("new", "".join(b[k:m]))] * (m > k)
    return pieces


def say_since(events: tuple[Event, ...]) -> Iterator[str]:
    """What happened, in words: what a card that came too late was overtaken by."""
    for event in events:
        match event.data:
            case MessagePosted(author=author, text=text):
                yield f"the {author} wrote: {text[:120]}"
            case ScreenShown():
                yield "the screen changed"
            case ActionTaken(operator=operator, actions=actions):
                yield f"{operator} did {len(actions)} action{'s' * (len(actions) != 1)} in the page"
            case OutcomeReported(outcome=outcome):
                yield f"an action was reported {outcome}"
            case SessionClosed(closing=closing):
                yield f"the session ended: {closing}"
            case FeedbackGiven(operator=operator, verdict=verdict):
                yield f"{operator} answered: {verdict}"
            case SessionReviewed(operator=operator):
                yield f"{operator} reviewed what had run"


class Band(NamedTuple):
    """A score against τ, as shares of the bar's width in percent; None: there is none."""

    score: float | None
    tau: float | None


def find_band(record: DecisionRecord) -> Band:
    """Where the score lay. Shown after the verdict only: read_decision keeps it until then."""
    facts = record.facts
    score = facts.score if facts.score is not None and 0.0 <= facts.score <= 1.0 else None
    return Band(
        None if score is None else round(100 * score, 1), None if facts.tau is None else round(100 * facts.tau, 1)
    )
