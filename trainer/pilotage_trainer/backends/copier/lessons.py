"""From sessions to what is learned: what each turn called for, which words were typed into which field, what came next.

Nobody annotates: what an operator did until the customer spoke again is what the turn called for, and what was typed is
looked for in what was said. Not here: fitting (fitting.py, policy_training.py).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pilotage_core.actions import VALUE_TOOLS, Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.record import SessionRecord
from pilotage_trainer.backends.copier.calls import name_call, name_value
from pilotage_trainer.backends.copier.hearing import Token, find_tokens
from pilotage_trainer.backends.copier.openings import Question, ask
from pilotage_trainer.backends.situation import Situation, Turn, read_points
from pilotage_trainer.sessions.export import human_points

FORM = DEFAULT_FORMAT
"""Situations are read off compact dialogs; there is no other form."""


@dataclass
class Heard:
    """One turn: what it called for, and the words (first, last, field) of it that were typed."""

    turn: Turn
    calls: set[str] = field(default_factory=set)
    spans: list[tuple[int, int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Lesson:
    """One session that is learned from. `opened`: each procedure that was, among what might have been.

    `is_new`: it ended after the last rollback.
    """

    record: SessionRecord
    heard: tuple[Heard, ...]
    opened: tuple[tuple[Question, str], ...]
    is_new: bool = False


def build_lessons(records: Iterable[SessionRecord], *, are_new: bool = False) -> list[Lesson]:
    """What each of `records` teaches of hearing. What comes next is read again where the ranker is fitted."""
    lessons = []
    for record in records:
        last: Situation | None = None
        opened = []
        for point, situation in read_points(human_points(record, FORM)):
            last, taken = situation, point.taken
            if taken.tool is Tool.OPEN_PROCEDURE:
                opened.append((ask(situation), taken.control_id))
        if last is not None:
            lessons.append(Lesson(record, hear_session(last, taken), tuple(opened), are_new))
    return lessons


def hear_session(situation: Situation, taken: Action) -> tuple[Heard, ...]:
    """The turns of a session, by what was done after each; `taken` is what was done last."""
    heard = [Heard(turn) for turn in situation.turns]
    tokens = [find_tokens(turn.text) for turn in situation.turns]
    for number, action in (*situation.acts, (len(heard), taken)):
        if not number:
            continue
        told = _find_told(action, number, heard, tokens) if action.tool in VALUE_TOOLS and action.value else None
        if told is not None:
            place, first, last = told
            if not any(first <= end and begin <= last for begin, end, _ in heard[place].spans):
                heard[place].spans.append((first, last, action.control_id))
        if told is None or action.tool is not Tool.FILL_INPUT:
            place = told[0] if told is not None else number - 1
            heard[place].calls.add(name_call(action))
            if action.tool in VALUE_TOOLS:
                heard[place].calls.add(name_value(action))
    return tuple(heard)


def _find_told(
    action: Action, number: int, heard: Sequence[Heard], tokens: Sequence[Sequence[Token]]
) -> tuple[int, int, int] | None:
    """The latest turn up to `number` that has the value in its words, and the first and last of them."""
    wanted = [token.word for token in find_tokens(action.value)]
    if not wanted:
        return None
    for place in range(number - 1, -1, -1):
        words = [token.word for token in tokens[place]]
        for first in range(len(words) - len(wanted) + 1):
            if words[first : first + len(wanted)] == wanted:
                begin, end = tokens[place][first].start, tokens[place][first + len(wanted) - 1].end
                if heard[place].turn.text[begin:end].casefold() == action.value.casefold():
                    return place, first, first + len(wanted) - 1
    return None
