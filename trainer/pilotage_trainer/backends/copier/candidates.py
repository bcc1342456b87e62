"""What may come next, in words that a linear model can weigh: each action that is possible, and the moment it is in.

The steps are those that the screen shows; what is typed or chosen comes of what was heard (calls.py, spans.py). An
action is told by a few keys, the moment by a few tokens; ranking.py weighs each pair. Not here: what they weigh.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pilotage_core.actions import Action, Tool
from pilotage_core.proposal import CHOICES, TOOL_OF_KIND, WHOLE_SESSION_TOOLS
from pilotage_core.screen import ControlKind
from pilotage_trainer.backends.copier.calls import ANY, OPENING, Calls, name_call
from pilotage_trainer.backends.copier.hearing import find_argument, find_kind, find_stem
from pilotage_trainer.backends.copier.openings import Openings, ask, find_service
from pilotage_trainer.backends.copier.ranking import Candidate, Moment
from pilotage_trainer.backends.copier.spans import Spans
from pilotage_trainer.backends.copier.values import TURNS_HEARD, Value, find_level, list_values
from pilotage_trainer.backends.situation import Situation

MOST_PROCEDURES = 4
NEW = "new"
"""Paired with each key: what it is worth more or less since a rollback. All else is learned of both."""


def build_moment(situation: Situation, calls: Calls, spans: Spans, openings: Openings, *, is_new: bool) -> Moment:
    """What may come next in `situation`; `is_new`: after the last rollback, where a process may have changed."""
    seen = _look_back(situation, calls)
    values = list_values(situation, calls, spans, seen.opened)
    found = [*_list_values(situation, values), *_list_procedures(situation, seen, openings)]
    found += _list_steps(situation, seen)
    tokens = (*_list_tokens(situation, seen, values), *([NEW] if is_new else []))
    return Moment((*found, Candidate(None, ("nothing",))), tokens)


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
    opened = find_opened(situation)
    done = Counter(f"{action.tool} {action.control_id}" for _, action in situation.acts[opened + 1 :])
    return _Seen(now, before, here, done, opened)


def find_opened(situation: Situation) -> int:
    """The place among all actions of the one that opened the form shown; -1: none did."""
    places = range(len(situation.acts) - 1, -1, -1)
    return next((i for i in places if situation.acts[i][1].tool is Tool.OPEN_PROCEDURE), -1)


# --- candidates -------------------------------------------------------------------------------------------------------
def _list_values(situation: Situation, values: Sequence[Value]) -> Iterator[Candidate]:
    number = len(situation.turns)
    ranks: Counter[str] = Counter()
    for order, value in enumerate(values):
        action, level = value.action, find_level(value.chance)
        name, source = f"{action.tool} {action.control_id}", f"{value.source} {value.here}"
        age = min(number - value.turn, 3) if value.turn else "old"
        held = "held" if situation.fields.get(action.control_id) else "empty"
        chosen = "chosen" if situation.controls[action.control_id] in CHOICES else "typed"
        rank = ranks[action.control_id]
        ranks[action.control_id] += 1
        yield Candidate(
            action,
            (
                "value",
                f"value {chosen} {level}",
                f"value {source} {level} {held} {age}",
                f"value {source} {level} {rank} {min(order, 2)}",
                f"{name} {source} {level}",
                f"{name} {held} {age}",
                f"value {source} {find_level(value.own)} {level} {rank}",
                f"value {situation.procedure} {action.control_id} {action.value if chosen == 'chosen' else level // 3}",
                f"value {source} {action.control_id} {find_service(situation.procedure)} {held}",
            ),
        )


def _list_procedures(situation: Situation, seen: _Seen, openings: Openings) -> Iterator[Candidate]:
    """The procedures that the last turn most calls for."""
    question = ask(situation)
    offered = find_argument(situation.reply)
    level = find_level(seen.now.get(OPENING, 0.0))
    before = find_level(seen.before.get(OPENING, 0.0)) // 2
    shares = sorted(openings.find(question).items(), key=lambda each: -each[1])
    rival = find_level(shares[1][1]) if len(shares) > 1 else 0
    for rank, (name, chance) in enumerate(shares[:MOST_PROCEDURES]):
        share, current = find_level(chance), name == situation.procedure
        same = find_service(name) == find_service(situation.procedure)
        is_offered = bool(offered) and name.endswith(f"/{offered}")
        yield Candidate(
            Action(Tool.OPEN_PROCEDURE, name),
            (
                "open",
                f"open {share} {rank}",
                f"open {share} {level}",
                f"open {level} {rank} {current}",
                f"open {rank} {same} {current} {is_offered}",
                f"open {name} {level // 2}",
                f"open {name} {share // 2} {current}",
                f"open before {before} {level // 2} {current} {rank}",
                f"open {share} {rival} {is_offered}",
            ),
        )


def _list_steps(situation: Situation, seen: _Seen) -> Iterator[Candidate]:
    """Clicks, messages and endings that the screen shows."""
    done_here = Counter(f"{action.tool} {action.control_id}" for action in seen.here)
    order: Counter[str] = Counter()
    heard = situation.turns[-1].text.lower() if situation.turns else ""
    actions = [
        Action(tool, name)
        for name, kind in situation.controls.items()
        if (tool := TOOL_OF_KIND[ControlKind(kind)]) in (Tool.CLICK_CONTROL, Tool.SEND_TEXT_TO_CHAT)
    ]
    for action in (*actions, *map(Action, WHOLE_SESSION_TOOLS)):
        call = name_call(action)
        stem = find_kind(action)
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
                f"{stem} named {_is_named(action.control_id, heard)} {here} {ever}",
            ),
        )


def _is_named(control_id: str, heard: str) -> bool:
    """Whether what the control is about stands in these words."""
    argument = find_argument(control_id).replace("_", " ")
    return bool(argument) and argument in heard


def _find_kind_of_call(call: str) -> str:
    tool, _, rest = call.partition("=")[0].partition(" ")
    return find_kind(Action(Tool(tool), rest)) if tool != ANY else ANY


# --- the moment -------------------------------------------------------------------------------------------------------
def _list_tokens(situation: Situation, seen: _Seen, values: Sequence[Value]) -> Iterator[str]:
    last = situation.acts[-1][1] if situation.acts else None
    stems = [find_kind(action) for action in seen.here]
    recent = ">".join(stems[-3:])
    steps = (TOOL_OF_KIND[ControlKind(kind)] for kind in situation.controls.values())
    shown = {find_kind(Action(tool, name)) for tool, name in zip(steps, situation.controls, strict=True)}
    logic = ",".join(sorted(shown))
    since = ",".join(sorted({find_kind(action) for _, action in situation.acts[max(seen.opened, 0) :]}))
    reply = find_stem(situation.reply)
    kinds: dict[str, float] = {}
    for call, chance in seen.now.items():
        kind = _find_kind_of_call(call)
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
    yield f"last {find_kind(last) if last else ''} {bool(seen.here)}"
    yield f"reply {reply} {bool(seen.here)} {top}"
    yield f"best {best} {len(values)}"
    yield f"best {best} {top} {find_level(kinds[top]) if top else 0}"
    yield f"top {top} {find_level(kinds[top]) // 2 if top else 0} {second}"
    yield f"top {top} {reply} {recent}"
    yield f"clicks {clicks} {reply} {bool(seen.here)}"
    yield f"says {says} {reply} {bool(seen.here)}"
    yield f"facts {facts}"
    yield f"since {since} {bool(seen.here)}"
    yield f"form {situation.form} {recent}"
    yield f"procedure {situation.procedure} {bool(seen.here)}"
