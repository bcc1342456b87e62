"""Which values may stand in a field: what was heard, chosen or typed before, or is on the screen.

Each with a chance and where it comes from; whether it is typed now is ranking.py's to say. Not here: how turns are
heard (calls.py, spans.py).
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pilotage_core.actions import VALUE_TOOLS, Action, Tool
from pilotage_core.dialog import read_text
from pilotage_core.proposal import CHOICES, TOOL_OF_KIND
from pilotage_core.screen import ControlKind
from pilotage_trainer.backends.copier.calls import ANY, Calls
from pilotage_trainer.backends.copier.hearing import find_argument, list_arguments
from pilotage_trainer.backends.copier.openings import find_service
from pilotage_trainer.backends.copier.spans import Spans
from pilotage_trainer.backends.situation import Situation, Turn

TURNS_HEARD = 12
MOST_VALUES, MOST_OF_FIELD = 10, 2
SURE, LEAST_CHANCE = 0.25, 0.02
ELSEWHERE = 0.1
"""What a span may be for that no field shown is for: shares among the fields shown are taken with it."""
LEVELS = (0.02, 0.05, 0.12, 0.25, 0.4, 0.6, 0.75, 0.88, 0.95, 0.985)


class Source(StrEnum):
    """Where a value comes from."""

    SPAN = "span"  # words of a turn
    CALL = "call"  # what a turn calls for, by this very field
    ANY = "any"  # the same, by the value alone
    TYPED = "typed"  # what stood in a field of that name before
    SHOWN = "shown"  # the screen


@dataclass(frozen=True)
class Value:
    """A value for a field: its chance, the turn it was said in (0: none), and the chance as the field's own.

    `here` says whether a value that was typed before was typed for the same service.
    """

    action: Action
    chance: float
    turn: int
    own: float
    source: Source
    here: bool = True


def find_level(chance: float) -> int:
    """`chance` in steps, finer at the ends."""
    return bisect_right(LEVELS, chance)


def list_values(situation: Situation, calls: Calls, spans: Spans, opened: int) -> list[Value]:
    """What may be typed or chosen on the form, the likeliest first. `opened` is the place of the last opening."""
    number = len(situation.turns)
    typed = {action.control_id: turn for turn, action in situation.acts[opened + 1 :] if action.tool in VALUE_TOOLS}
    kinds = _find_kinds(situation)
    found: dict[tuple[str, str], Value] = {}
    for place in range(max(0, number - TURNS_HEARD), number):
        for value in _list_said(kinds, place, situation.turns[place], calls, spans):
            name = value.action.control_id
            same = value.action.value.casefold() == situation.fields.get(name, "").casefold()
            if typed.get(name, 0) <= place and not same:
                earlier = found.get((name, value.action.value))
                if earlier is None or earlier.chance <= max(value.chance, SURE):
                    found[name, value.action.value] = value
    said = _leave_out_parts(list(found.values()), situation)
    best: Counter[str] = Counter()
    values = []
    for value in sorted(said, key=lambda each: (-(each.chance > SURE), -each.turn, -each.chance)):
        best[value.action.control_id] += 1
        if best[value.action.control_id] <= MOST_OF_FIELD:
            values.append(value)
    values = sorted(values, key=lambda each: -each.chance)[:MOST_VALUES]
    known = {(value.action.control_id, value.action.value.casefold()) for value in values}
    others = [*_list_shown(situation, kinds, typed), *_list_typed(situation, kinds, typed, opened)]
    return values + [each for each in others if (each.action.control_id, each.action.value.casefold()) not in known]


def _leave_out_parts(found: list[Value], situation: Situation) -> list[Value]:
    """`found` without what is only a part of more: of words that stand in another field, or that are likelier whole."""
    spans = [value for value in found if value.source is Source.SPAN]

    def is_part(value: Value) -> bool:
        own = value.action.value.casefold()
        held = (text for name, text in situation.fields.items() if name != value.action.control_id)
        more = (other.action.value for other in spans if other.turn == value.turn and other.chance >= value.chance)
        return any(_is_within(own, text.casefold()) for text in (*held, *more))

    return [value for value in found if value.source is not Source.SPAN or not is_part(value)]


def _is_within(words: str, longer: str) -> bool:
    """Whether `longer` says `words` and more."""
    return words != longer and f" {words} " in f" {longer} "


def _list_shown(situation: Situation, kinds: Mapping[str, ControlKind], typed: Mapping[str, int]) -> Iterator[Value]:
    """What the screen tells under the name of a field that holds something else."""
    number = len(situation.turns)
    for name, kind in kinds.items():
        label = find_argument(name).replace("_", " ")
        told = next((fact for key, fact in situation.facts.items() if label and f" {key}".endswith(f" {label}")), "")
        if told and told.casefold() != situation.fields[name].casefold() and typed.get(name, 0) < number:
            yield Value(Action(TOOL_OF_KIND[kind], name, read_text(told)), 1.0, 0, 1.0, Source.SHOWN)


def _list_typed(
    situation: Situation, kinds: Mapping[str, ControlKind], typed: Mapping[str, int], opened: int
) -> Iterator[Value]:
    """What stood in a field of the same name before this form was opened, the latest of each."""
    service, latest = "", {}
    for _, action in situation.acts[: max(opened, 0)]:
        if action.tool is Tool.OPEN_PROCEDURE:
            service = find_service(action.control_id)
        elif action.tool in VALUE_TOOLS and action.value:
            latest[action.control_id] = (action, service)
    for name, (action, service) in latest.items():
        same = action.value.casefold() == situation.fields.get(name, "").casefold()
        if name in kinds and TOOL_OF_KIND[kinds[name]] is action.tool and not same and name not in typed:
            here = service == find_service(situation.procedure)
            yield Value(action, 1.0, 0, 1.0, Source.TYPED, here)


def _find_kinds(situation: Situation) -> dict[str, ControlKind]:
    """The fields that can be filled now."""
    shown = situation.controls
    return {name: ControlKind(shown[name]) for name in situation.fields if name in shown}


def _list_said(kinds: Mapping[str, ControlKind], place: int, turn: Turn, calls: Calls, spans: Spans) -> Iterator[Value]:
    """What the turn at `place` says for the fields of `kinds`."""
    for span in spans.find(turn.text, turn.reply):
        shown = {name: share for name, share in span.fields.items() if name in kinds}
        total = sum(shown.values()) + ELSEWHERE
        for name, share in shown.items():
            kind, chance = kinds[name], span.chance * share / total
            if chance < LEAST_CHANCE:
                continue
            value = span.text if kind is ControlKind.INPUT else calls.options.get((name, span.text.casefold()), "")
            if value:
                action = Action(TOOL_OF_KIND[kind], name, value)
                yield Value(action, chance, place + 1, span.chance * share, Source.SPAN)
    asked = list_arguments(turn.reply)
    for (tool, name, value), chance in calls.find_values(turn.text, turn.reply):
        if chance < LEAST_CHANCE:
            continue
        if tool != ANY:
            if name in kinds and TOOL_OF_KIND[kinds[name]] == tool:
                action = Action(TOOL_OF_KIND[kinds[name]], name, value)
                yield Value(action, chance, place + 1, chance, Source.CALL)
            continue
        for field, kind in kinds.items():
            about = is_about(field, turn, asked)
            option = calls.options.get((field, value.casefold()), "") if kind in CHOICES else value if about else ""
            if option:
                yield Value(Action(TOOL_OF_KIND[kind], field, option), chance, place + 1, float(about), Source.ANY)


def is_about(name: str, turn: Turn, asked: Collection[str]) -> bool:
    """Whether a turn answers a question for the field `name`, or has its name in its words."""
    argument = find_argument(name)
    return bool(argument) and (argument in asked or argument.replace("_", " ") in turn.text.lower())


# --- what stands on the form ------------------------------------------------------------------------------------------
def list_form_chances(situation: Situation, calls: Calls, spans: Spans) -> Iterator[tuple[str, float, float]]:
    """Each value that was typed or chosen on the form: field, chance, and that of the likeliest other one since.

    Both as they were heard in the customer's turns; 0 where they were not.
    """
    typed = {action.control_id: action.value for _, action in situation.acts if action.tool in VALUE_TOOLS}
    names = [name for name, value in situation.fields.items() if value and typed.get(name) == value]
    kinds = _find_kinds(situation)
    own, other = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for place, turn in enumerate(situation.turns[-TURNS_HEARD:]):
        for value in _list_said(kinds, place, turn, calls, spans):
            name = value.action.control_id
            if name not in own:
                continue
            if value.action.value.casefold() == situation.fields[name].casefold():
                own[name], other[name] = max(own[name], value.chance), 0.0  # said again: what was before is over
            else:
                other[name] = max(other[name], value.chance)
    yield from ((name, own[name], other[name]) for name in names)
