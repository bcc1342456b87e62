"""The customer: a program with one dialogue's goal and that dialogue's own words.

It answers an operator's turn with the line in which the recorded customer answered the like of it, else by a template;
it corrects what it is told wrongly, asks what was asked, and leaves when it has what it came for or when its patience
ends. Not here: whether it was served right (outcome.py).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from pilotage_simulator.desk.desk import Message
from pilotage_simulator.desk.sgd import DONTCARE, SYSTEM, Act, Call, Dialogue, Frame, Turn

KINDS = ("CONFIRM", "OFFER_INTENT", "OFFER", "NOTIFY_SUCCESS", "NOTIFY_FAILURE", "REQUEST", "INFORM", "REQ_MORE")
"""What an operator's turn is about, the weightiest first."""
TELLS = frozenset({"INFORM", "OFFER", "CONFIRM"})
BEGINS = frozenset({"INFORM_INTENT", "AFFIRM_INTENT"})
ENDS = ("NOTIFY_SUCCESS", "OFFER", "NOTIFY_FAILURE")
"""What a task may be for, the best first."""
TURNS_OF_PATIENCE = 3
"""A customer speaks at most that many times as often as the recorded one."""
CORRECTIONS_OF_PATIENCE = 2
"""A value is corrected that often; then the customer lets it be."""


class Said(Message, frozen=True):
    """What the customer says. `service` is the one it speaks of; empty: the one it spoke of last."""

    service: str = ""


class Line(NamedTuple):
    """One recorded customer's turn, and the operator's acts that it answered.

    `task` counts intents from 0; `expects` is what the recorded operator then told of each slot that the line asks for.
    """

    said: Said
    heard: tuple[Act, ...]
    task: int
    expects: dict[str, frozenset[str]]

    def has(self, act: str) -> bool:
        """Whether `act` is among what it means."""
        return any(meant.act == act for meant in self.said.acts)

    @property
    def kind(self) -> str:
        """The kind of turn that it answered."""
        return find_kind_of_turn(self.heard)


@dataclass
class Task:
    """One intent as recorded: what was told, confirmed or called (the last word of each slot), and what it was for.

    `calls` are those that the recorded operator made for it.
    """

    service: str
    intent: str
    values: dict[str, Act]
    ends: str = ""
    calls: list[tuple[str, Call]] = field(default_factory=list)


class Question(msgspec.Struct):
    """A question that was asked: the slot, the right answers, and whether it was `answered` so (None: not yet)."""

    slot: str
    expected: frozenset[str]
    answered: bool | None = None


def find_kind_of_turn(acts: Sequence[Act]) -> str:
    """The weightiest kind in `acts`; empty where there is none."""
    names = {act.act for act in acts}
    return next((kind for kind in KINDS if kind in names), "")


def read_goal(dialogue: Dialogue) -> tuple[tuple[Line, ...], tuple[Task, ...]]:
    """The customer's lines of `dialogue`, and the tasks they belong to."""
    lines: list[Line] = []
    tasks: list[Task] = []
    heard: tuple[Act, ...] = ()
    for number, turn in enumerate(dialogue.turns):
        acts = tuple(act for frame in turn.frames for act in frame.actions)
        frame = _find_frame(turn)
        if turn.speaker == SYSTEM:
            heard = acts
            if tasks and frame is not None:
                _note_task(tasks[-1], acts, frame.service_call.parameters if frame.service_call else {})
                tasks[-1].calls += [(frame.service, frame.service_call)] if frame.service_call else []
            continue
        if intent := _find_intent(acts, heard):
            tasks.append(Task(frame.service if frame else "", intent, {}))
        if tasks:
            tasks[-1].values |= {act.slot: act for act in acts if act.act == "INFORM"}
        reply = [act for frame in dialogue.turns[number + 1].frames for act in frame.actions]
        expects = {act.slot: _find_told(reply, act.slot) for act in acts if act.act == "REQUEST" and act.slot}
        said = Said(turn.utterance, acts, frame.service if frame else "")
        lines.append(Line(said, heard, max(0, len(tasks) - 1), {slot: told for slot, told in expects.items() if told}))
    return tuple(lines), tuple(tasks)


def _find_frame(turn: Turn) -> Frame | None:
    """The frame that a turn is about: the one that begins an intent, else the last."""
    begins = [frame for frame in turn.frames if any(act.act in BEGINS for act in frame.actions)]
    return next(reversed(begins or turn.frames), None)


def _find_intent(acts: Sequence[Act], heard: Sequence[Act]) -> str:
    """The intent that begins with `acts`; an affirmed one is what was offered."""
    for said, name in ((acts, "INFORM_INTENT"), (heard, "OFFER_INTENT")):
        if any(act.act == ("AFFIRM_INTENT" if said is heard else name) for act in acts):
            return next((act.values[0] for act in said if act.act == name), "")
    return ""


def _note_task(task: Task, acts: Sequence[Act], called: dict[str, str]) -> None:
    for slot, value in called.items():
        if slot not in task.values or value not in task.values[slot].canonical_values:
            task.values[slot] = Act("INFORM", slot, (value,), (value,))
    for act in acts:
        if act.act == "CONFIRM" and act.values:
            task.values[act.slot] = Act("INFORM", act.slot, act.values, act.canonical_values)
    kind = find_kind_of_turn(acts)
    if kind in ENDS:
        task.ends = min(kind, task.ends or kind, key=ENDS.index)


def _find_told(reply: Sequence[Act], slot: str) -> frozenset[str]:
    told = [act for act in reply if act.act in TELLS and act.slot == slot]
    return frozenset().union(*(act.names for act in told))


@dataclass
class Customer:
    """One customer. `finished`: it left with all that it came for; `gave_up`: it left without. `heard` is by task."""

    lines: tuple[Line, ...]
    tasks: tuple[Task, ...]
    cursor: int = -1
    spoken: set[int] = field(default_factory=set)
    turns: int = 0
    finished: bool = False
    gave_up: bool = False
    heard: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    questions: list[Question] = field(default_factory=list)
    corrected: Counter[str] = field(default_factory=Counter)
    repeated: set[str] = field(default_factory=set)

    @property
    def has_left(self) -> bool:
        """Whether it says nothing more."""
        return self.finished or self.gave_up

    @property
    def task(self) -> int:
        """The task it is at."""
        return self.lines[self.cursor].task

    def begin(self) -> Said:
        """Its first words."""
        return self._speak(0)

    def hear(self, acts: Sequence[Act]) -> Said:
        """Answer an operator's turn."""
        if self.has_left:
            return Said("Goodbye.", (Act("GOODBYE"),))
        self.turns += 1
        self.listen(acts)
        if self.turns > TURNS_OF_PATIENCE * len(self.lines):
            self.gave_up = True
            return Said("I have no more time for this.", (Act("GOODBYE"),))
        self.heard[self.task] |= {act.act for act in acts}
        if open_question := self._find_open_question(acts):
            self.repeated.add(open_question)
            return Said(f"And the {_name(open_question)}?", (Act("REQUEST", open_question),))
        match find_kind_of_turn(acts):
            case "REQUEST":
                return self._answer([act.slot for act in acts if act.act == "REQUEST"])
            case "CONFIRM":
                return self._check(acts)
            case "OFFER":
                return self._weigh(acts)
            case "OFFER_INTENT":
                return self._choose(next(act.values[0] for act in acts if act.act == "OFFER_INTENT"))
            case kind:
                return self._go_on(kind)

    def listen(self, acts: Sequence[Act]) -> None:
        """Note what answers its questions."""
        for question in self.questions:
            told = [act for act in acts if act.act in TELLS and act.slot == question.slot]
            if told and question.answered is None:
                question.answered = all(question.expected & act.names for act in told)

    def _find_open_question(self, acts: Sequence[Act]) -> str:
        """What it asked and was not told in a turn that tells something: it asks again, once."""
        if find_kind_of_turn(acts) not in ("INFORM", "NOTIFY_SUCCESS"):
            return ""
        asked = (question.slot for question in self.questions if question.answered is None)
        return next((slot for slot in asked if slot not in self.repeated), "")

    # --- what it answers ---------------------------------------------------------------------------------------------
    def _answer(self, slots: Sequence[str]) -> Said:
        """Tell `slots`: by the line that does, else by templates."""
        for number, line in self._unspoken():
            if line.kind == "REQUEST" and any(act.act == "INFORM" and act.slot in slots for act in line.said.acts):
                told = {act.slot for act in line.said.acts}
                return _join(self._speak(number), *(self._tell(slot) for slot in slots if slot not in told))
        return _join(*(self._tell(slot) for slot in slots))

    def _tell(self, slot: str) -> Act:
        """What it wants of `slot`: what it said last, else what the recorded session came to."""
        said = [line for n, line in enumerate(self.lines) if n in self.spoken and line.task == self.task]
        for line in reversed(said):
            for act in line.said.acts:
                if act.act == "INFORM" and act.slot == slot:
                    return act
        return self.tasks[self.task].values.get(slot) or Act("INFORM", slot, (DONTCARE,), (DONTCARE,))

    def _check(self, acts: Sequence[Act]) -> Said:
        """Affirm what the recorded operator had confirmed by then; else correct each value that is another."""
        ahead = self._next("CONFIRM")
        behind = [n for n in sorted(self.spoken) if self.lines[n].kind == "CONFIRM" and self._is_here(n)]
        number = ahead if ahead is not None else next(reversed(behind), None)
        if number is None:
            return Said("Yes, that is right.", (Act("AFFIRM"),))
        wanted = {act.slot: act for act in self.lines[number].heard if act.act == "CONFIRM" and act.values}
        if ahead is None:
            wanted |= {act.slot: act for act in self.lines[number].said.acts if act.act == "INFORM"}
        shown = {act.slot: act.names for act in acts if act.act == "CONFIRM"}
        wrong = [
            Act("INFORM", slot, act.values, act.canonical_values)
            for slot, act in wanted.items()
            if not act.names & shown.get(slot, {DONTCARE}) and self.corrected[slot] < CORRECTIONS_OF_PATIENCE
        ]
        self.corrected.update(act.slot for act in wrong)
        if wrong:
            return _join(Said("No.", (Act("NEGATE"),)), *wrong)
        return self._speak(ahead) if ahead is not None else Said("Yes, that is right.", (Act("AFFIRM"),))

    def _weigh(self, acts: Sequence[Act]) -> Said:
        """Answer an offer as it was answered, if it is one that the dialogue knows; else ask for another."""
        shown = {act.slot: act.names for act in acts if act.act in TELLS}

        def is_shown(line: Line) -> bool:
            offered = [act for act in line.heard if act.act == "OFFER"]
            both = [act for act in offered if act.slot in shown]
            return bool(both) and all(act.names & shown[act.slot] for act in both)

        number = self._next("OFFER", is_shown)
        if number is not None:
            return self._speak(number)
        if self._next("OFFER") is None:
            return self._go_on("OFFER")
        return Said("Do you have anything else?", (Act("REQUEST_ALTS"),))

    def _choose(self, intent: str) -> Said:
        number = self._next("OFFER_INTENT", lambda line: any(act.values == (intent,) for act in line.heard))
        if number is not None:
            return self._speak(number)
        opening = self._opening()
        if opening is not None and self.tasks[self.task + 1].intent == intent:
            self._speak(opening)
            return Said("Yes, please.", (Act("AFFIRM_INTENT"),))
        return _join(Said("No, not that.", (Act("NEGATE_INTENT"),)), self._go_on("REQ_MORE"))

    def _go_on(self, kind: str) -> Said:
        """The line that answered the like; else what is left: a question, this task, the next one, a goodbye."""
        number = self._next(kind)
        if number is not None and (self._is_done() or not self._leaves(number)):
            return self._speak(number)
        skipped = [n for n, line in self._unspoken() if line.expects and n < self.cursor]
        if skipped:
            return self._speak(skipped[0])
        if not self._is_done():
            return self._wish()
        opening = self._opening()
        if opening is None:
            return self._speak(len(self.lines) - 1)
        said = self._speak(opening)
        return said if self.lines[opening].has("INFORM_INTENT") else self._wish()

    def _wish(self) -> Said:
        task = self.tasks[self.task]
        meant = Act("INFORM_INTENT", "intent", (task.intent,), (task.intent,))
        return Said(f"I would like this: {task.intent}.", (meant,), task.service)

    # --- where it is -------------------------------------------------------------------------------------------------
    def _is_here(self, number: int) -> bool:
        return self.lines[number].task == self.task

    def _unspoken(self) -> Iterator[tuple[int, Line]]:
        """The lines of this task that are not spoken."""
        return ((n, line) for n, line in enumerate(self.lines) if n not in self.spoken and self._is_here(n))

    def _opening(self) -> int | None:
        """The first line of the next task."""
        return next((n for n, line in enumerate(self.lines) if line.task == self.task + 1), None)

    def _next(self, kind: str, fits: Callable[[Line], bool] = lambda _: True) -> int | None:
        """The next line that answered `kind`: of this task, or the one that opens the next."""
        opening = self._opening()
        ahead = range(self.cursor + 1, len(self.lines) if opening is None else opening + 1)
        return next((n for n in ahead if self.lines[n].kind == kind and fits(self.lines[n])), None)

    def _leaves(self, number: int) -> bool:
        """Whether `number` leaves this task: it opens the next one, or is the last word."""
        return not self._is_here(number) or number == len(self.lines) - 1

    def _is_done(self) -> bool:
        """Whether what this task was for has been heard, or that it cannot be had."""
        return (
            not self.tasks
            or not self.tasks[self.task].ends
            or bool(self.heard[self.task] & {self.tasks[self.task].ends, "NOTIFY_FAILURE"})
        )

    # --- what it does ------------------------------------------------------------------------------------------------
    def _speak(self, number: int) -> Said:
        """Say a recorded line: what it asks is asked, and the last one is a goodbye."""
        line = self.lines[number]
        if number > self.cursor:
            if self.cursor >= 0 and not self._is_here(number):
                self.corrected.clear()
            self.cursor = number
        self.spoken.add(number)
        self.questions += [Question(slot, expected) for slot, expected in line.expects.items()]
        self.finished = number == len(self.lines) - 1
        return line.said


def _join(*parts: Said | Act) -> Said:
    """One message of several; an act alone is said by a template."""
    said = [part if isinstance(part, Said) else Said(_put(part), (part,)) for part in parts]
    acts = tuple(act for part in said for act in part.acts)
    return Said(" ".join(part.text for part in said), acts, next((part.service for part in said if part.service), ""))


def _put(act: Act) -> str:
    name = _name(act.slot)
    return f"I do not mind about the {name}." if DONTCARE in act.values else f"The {name} is {act.values[0]}."


def _name(slot: str) -> str:
    return slot.replace("_", " ")
