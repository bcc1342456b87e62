"""What may come next, in words that a linear model can weigh: each action that is possible, and the moment it is in.

The steps are those that the screen shows; what is typed or chosen comes of what was heard (calls.py, spans.py). An
action is told by a few keys, the moment by a few tokens; ranking.py weighs each pair. Not here: what they weigh.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pilotage_core.actions import VALUE_TOOLS, Action, Tool
from pilotage_core.dialog import read_text
from pilotage_core.proposal import CHOICES, TOOL_OF_KIND, WHOLE_SESSION_TOOLS
from pilotage_core.screen import ControlKind
from pilotage_trainer.backends.copier.calls import Calls, name_call
from pilotage_trainer.backends.copier.hearing import find_argument, find_stem
from pilotage_trainer.backends.copier.spans import Spans
from pilotage_trainer.backends.situation import Situation, Turn

TURNS_HEARD = 12
MOST_PROCEDURES, MOST_VALUES, MOST_OF_FIELD = 4, 8, 2
SURE = 0.25
LEAST_CHANCE = 0.02
LEVELS = (0.02, 0.05, 0.12, 0.25, 0.4, 0.6, 0.75, 0.88, 0.95, 0.985)


@dataclass(frozen=True)
class Candidate:
    """One action that may come next, and its keys. None: nothing that could be proposed."""

    action: Action | None
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Moment:
    """What may come next, and the tokens of the moment."""

    candidates: tuple[Candidate, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Value:
    """A value for a field: its chance, the turn it was said in (0: it is on the screen), and how surely it was said."""

    action: Action
    chance: float
    turn: int
    said: float


def find_level(chance: float) -> int:
    """`chance` in steps, finer at the ends."""
    return bisect_right(LEVELS, chance)


def build_moment(situation: Situation, calls: Calls, spans: Spans) -> Moment:
    """What may come next in `situation`."""
    seen = _look_back(situation, calls)
    values = list_values(situation, calls, spans, seen.opened)
    found = [*_list_values(situation, values), *_list_procedures(situation, seen), *_list_steps(situation, seen)]
    return Moment((*found, Candidate(None, ("nothing",))), tuple(_list_tokens(situation, seen, values)))


# --- what was heard and done ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Seen:
    """Chances of each call in the last turn and in those before; actions of this turn; those since the last opening."""

    now: dict[str, float]
    before: dict[str, float]
    here: tuple[Action, ...]
    done: Counter[str]
    opened: int


def _look_back(situation: Situation, calls: Calls) -> _Seen:
    turns, number = situation.turns, len(situation.turns)
    now = calls.find(turns[-1].text, turns[-1].reply) if turns else {}
    before: dict[str, float] = {}
    for turn in turns[-TURNS_HEARD:-1]:
        for call, chance in calls.find(turn.text, turn.reply).items():
            before[call] = max(chance, before.get(call, 0.0))
    here = tuple(action for turn, action in situation.acts if turn == number)
    opened = next(
        (i for i in range(len(situation.acts) - 1, -1, -1) if situation.acts[i][1].tool is Tool.OPEN_PROCEDURE), -1
    )
    done = Counter(f"{action.tool} {action.control_id}" for _, action in situation.acts[opened + 1 :])
    return _Seen(now, before, here, done, opened)


def list_values(situation: Situation, calls: Calls, spans: Spans, opened: int) -> list[Value]:
    """What may be typed or chosen on the form, the likeliest first: at most two for each field, MOST_VALUES in all."""
    number = len(situation.turns)
    typed: dict[str, int] = {}
    for turn, action in situation.acts[opened + 1 :]:
        if action.tool in VALUE_TOOLS:
            typed[action.control_id] = turn
    kinds = _find_kinds(situation)
    found: dict[tuple[str, str], Value] = {}
    for place in range(max(0, number - TURNS_HEARD), number):
        heard = situation.turns[place]
        for action, chance, said in _list_said(kinds, heard, calls, spans):
            name = action.control_id
            same = action.value.casefold() == situation.fields.get(name, "").casefold()
            if typed.get(name, 0) <= place and not same:
                earlier = found.get((name, action.value))
                if earlier is None or earlier.turn <= place or earlier.chance < chance:
                    found[name, action.value] = Value(action, chance, place + 1, said)
    best: Counter[str] = Counter()
    values = []
    for value in sorted(found.values(), key=lambda each: (-(each.chance > SURE), -each.turn, -each.chance)):
        best[value.action.control_id] += 1
        if best[value.action.control_id] <= MOST_OF_FIELD:
            values.append(value)
    return [*sorted(values, key=lambda each: -each.chance)[:MOST_VALUES], *_list_facts(situation, typed)]


def _list_facts(situation: Situation, typed: Mapping[str, int]) -> Iterator[Value]:
    """What the screen tells under the name of a field that holds something else."""
    number = len(situation.turns)
    for name, value in situation.fields.items():
        label = find_argument(name).replace("_", " ")
        told = next((fact for key, fact in situation.facts.items() if label and f" {key}".endswith(f" {label}")), "")
        kind = situation.controls.get(name)
        if told and kind is not None and told != value and typed.get(name, 0) < number:
            yield Value(Action(TOOL_OF_KIND[ControlKind(kind)], name, read_text(told)), 1.0, 0, 1.0)


def _find_kinds(situation: Situation) -> dict[str, ControlKind]:
    """The fields that can be filled now."""
    shown = situation.controls
    return {name: ControlKind(shown[name]) for name in situation.fields if name in shown}


def _list_said(
    kinds: Mapping[str, ControlKind], turn: Turn, calls: Calls, spans: Spans
) -> Iterator[tuple[Action, float, float]]:
    """What one turn says for the fields of `kinds`: the action, its chance, and the chance that it is said at all."""
    for span in spans.find(turn.text, turn.reply):
        for name, share in span.fields.items():
            kind = kinds.get(name)
            if kind is None or share * span.chance < LEAST_CHANCE:
                continue
            value = span.text if kind is ControlKind.INPUT else calls.options.get((name, span.text.casefold()), "")
            if value:
                yield Action(TOOL_OF_KIND[kind], name, value), span.chance * share, span.chance
    for (tool, name, value), chance in calls.find_values(turn.text, turn.reply):
        kind = kinds.get(name)
        if chance >= LEAST_CHANCE and kind is not None and TOOL_OF_KIND[kind] == tool:
            yield Action(TOOL_OF_KIND[kind], name, value), chance, chance


# --- candidates -------------------------------------------------------------------------------------------------------
def _list_values(situation: Situation, values: Sequence[Value]) -> Iterator[Candidate]:
    number = len(situation.turns)
    ranks: Counter[str] = Counter()
    for order, value in enumerate(values):
        action, level = value.action, find_level(value.chance)
        name = f"{action.tool} {action.control_id}"
        age = min(number - value.turn, 3) if value.turn else "shown"
        held = "held" if situation.fields.get(action.control_id) else "empty"
        chosen = "chosen" if situation.controls[action.control_id] in CHOICES else "typed"
        rank = ranks[action.control_id]
        ranks[action.control_id] += 1
        yield Candidate(
            action,
            (
                "value",
                f"value {chosen} {level}",
                f"value {chosen} {level} {held} {age}",
                f"{name} {level}",
                f"{name} {held} {age}",
                f"value {min(order, 3)} {rank} {held}",
                f"value {find_level(value.said)} {level} {rank}",
                f"value said {action.control_id} {level // 3} {age}",
                f"value {situation.procedure} {action.control_id} {action.value if chosen == 'chosen' else level // 3}",
            ),
        )


def _list_procedures(situation: Situation, seen: _Seen) -> Iterator[Candidate]:
    """The procedures that the last turn most calls for, and what the last message named."""
    named = find_argument(situation.reply)
    case = {part for value in situation.case.values() for part in value.split(",")}
    found = []
    for name, kind in situation.controls.items():
        if kind == ControlKind.PROCEDURE:
            call = f"{Tool.OPEN_PROCEDURE} {name}"
            offered = bool(named) and name.endswith(f"/{named}")
            mine = find_argument(name).partition("/")[0] in case
            chance = seen.now.get(call, 0.0)
            found.append((offered + mine + chance, chance, seen.before.get(call, 0.0), name, (offered, mine)))
    found.sort(reverse=True)
    for rank, (_, chance, before, name, marks) in enumerate(found[:MOST_PROCEDURES]):
        level, current = find_level(chance), name == situation.procedure
        same = name.partition("/")[0] == situation.procedure.partition("/")[0]
        yield Candidate(
            Action(Tool.OPEN_PROCEDURE, name),
            (
                "open",
                f"open {level} {rank}",
                f"open {level} {current} {marks}",
                f"open {rank} {same} {current}",
                f"open {name}",
                f"open {name} {level // 2} {current}",
                f"open before {find_level(before) // 2} {level // 2} {current}",
                f"open {marks} {rank} {level // 2}",
            ),
        )


def _list_steps(situation: Situation, seen: _Seen) -> Iterator[Candidate]:
    """Clicks, messages and endings that the screen shows."""
    done_here = Counter(f"{action.tool} {action.control_id}" for action in seen.here)
    order: Counter[str] = Counter()
    actions = [
        Action(tool, name)
        for name, kind in situation.controls.items()
        if (tool := TOOL_OF_KIND[ControlKind(kind)]) in (Tool.CLICK_CONTROL, Tool.SEND_TEXT_TO_CHAT)
    ]
    for action in (*actions, *map(Action, WHOLE_SESSION_TOOLS)):
        call = name_call(action)
        stem = f"{action.tool} {find_stem(action.control_id)}"
        here, ever = min(done_here[call], 2), min(seen.done[call], 2)
        level, before = find_level(seen.now.get(call, 0.0)), find_level(seen.before.get(call, 0.0))
        place = order[f"{stem} {ever > 0}"]
        order[f"{stem} {ever > 0}"] += 1
        yield Candidate(
            action,
            (
                stem,
                call,
                f"{stem} {level}",
                f"{stem} {here} {ever} {min(place, 3)}",
                f"{stem} {level} {here} {ever}",
                f"{stem} before {before} {level // 2} {here}",
                f"{call} {level // 2} {ever}",
                f"{stem} many {'+' in action.control_id} {level // 3}",
            ),
        )


# --- the moment -------------------------------------------------------------------------------------------------------
def _list_tokens(situation: Situation, seen: _Seen, values: Sequence[Value]) -> Iterator[str]:
    last = situation.acts[-1][1] if situation.acts else None
    stems = [f"{action.tool} {find_stem(action.control_id)}" for action in seen.here]
    recent = ">".join(stems[-3:])
    shown = sorted({find_stem(n) for n, k in situation.controls.items() if k != ControlKind.PROCEDURE})
    logic = ",".join(name for name in shown if name not in situation.fields)
    reply = find_stem(situation.reply)
    kinds: dict[str, float] = {}
    for call, chance in seen.now.items():
        kind = find_stem(call.partition("=")[0])
        kinds[kind] = max(chance, kinds.get(kind, 0.0))
    ranked = sorted(kinds, key=kinds.__getitem__, reverse=True)
    top = ranked[0] if ranked else ""
    second = ranked[1] if len(ranked) > 1 else ""
    best = find_level(values[0].chance) if values else -1
    clicks = find_level(max((c for k, c in kinds.items() if k.startswith(Tool.CLICK_CONTROL)), default=0.0))
    says = find_level(max((c for k, c in kinds.items() if k.startswith(Tool.SEND_TEXT_TO_CHAT)), default=0.0))
    facts = ",".join(f"{key}={value}" for key, value in situation.facts.items() if len(value) < 9 and " " not in key)
    yield "always"
    yield f"logic {logic}"
    yield f"logic {logic} {bool(seen.here)} {reply}"
    yield f"logic {logic} {best}"
    yield f"recent {recent}"
    yield f"recent {recent} {reply} {best}"
    yield f"last {last.tool if last else ''} {find_stem(last.control_id) if last else ''} {bool(seen.here)}"
    yield f"reply {reply} {bool(seen.here)} {top}"
    yield f"best {best} {len(values)}"
    yield f"best {best} {top} {find_level(kinds[top]) if top else 0}"
    yield f"top {top} {find_level(kinds[top]) // 2 if top else 0} {second}"
    yield f"top {top} {reply} {recent}"
    yield f"clicks {clicks} {reply} {bool(seen.here)}"
    yield f"says {says} {reply} {bool(seen.here)}"
    yield f"facts {facts}"
    yield f"form {situation.form} {recent}"
    yield f"procedure {situation.procedure} {bool(seen.here)}"


# --- what stands on the form ------------------------------------------------------------------------------------------
def list_form_chances(situation: Situation, calls: Calls, spans: Spans) -> Iterator[tuple[float, float]]:
    """Of each value that was typed or chosen on the form: its chance, and that of the likeliest other one heard since.

    Both as they were heard in the customer's turns; 0 where they were not.
    """
    typed = {action.control_id: action.value for _, action in situation.acts if action.tool in VALUE_TOOLS}
    names = [name for name, value in situation.fields.items() if value and typed.get(name) == value]
    kinds = _find_kinds(situation)
    own, other = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for turn in situation.turns[-TURNS_HEARD:]:
        for action, chance, _ in _list_said(kinds, turn, calls, spans):
            name = action.control_id
            if name not in own:
                continue
            if action.value.casefold() == situation.fields[name].casefold():
                own[name], other[name] = max(own[name], chance), 0.0  # said again: what was said before is over
            else:
                other[name] = max(other[name], chance)
    yield from ((own[name], other[name]) for name in names)
