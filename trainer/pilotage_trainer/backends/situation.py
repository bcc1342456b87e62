"""A prompt read back into a situation: what a session's dialog tells, line by line.

In: the prompt (pilotage_core.dialog, screens as differences) and nothing else. Not here: what a model makes of it
(counts/features.py, copier/candidates.py).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import decode_action, read_text
from pilotage_core.screen import ControlKind
from pilotage_trainer.sessions.steps import TYPE, name_step

CUSTOMER = "C"
"""The customer (or a bot) wrote: a step in the history."""

TYPED_KINDS = frozenset({ControlKind.INPUT, ControlKind.SELECT, ControlKind.COMBO_BOX, ControlKind.RADIO})

WORDS = re.compile(r"[a-z']+")

OUTCOME_KEY = re.compile(r"message|status|result|outcome|available", re.IGNORECASE)


@dataclass(slots=True)
class Turn:
    """What the customer wrote between two actions, `reply` being the template of the last message to it ("": none)."""

    text: str
    reply: str


@dataclass(slots=True)
class Situation:
    """A session as its dialog tells it. Filled line by line by `read_line`.

    `controls` maps what is shown now to its kind; `fields` and `facts` to values. `history` holds the steps so far,
    customer messages among them. `done` counts each step taken so far. `heard` is what the customer wrote last.
    `submitted` are the field values at the last click. `turns` are the customer's, `acts` all actions, each with the
    number of turns before it.
    """

    case: dict[str, str] = field(default_factory=dict)
    screen: str = ""
    procedure: str = ""
    controls: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    announcements: dict[str, None] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    submitted: dict[str, str] = field(default_factory=dict)
    clicks: int = 0
    typed_since_click: bool = False
    facts_since_click: bool = False
    failed: bool = False
    turns: list[Turn] = field(default_factory=list)
    acts: list[tuple[int, Action]] = field(default_factory=list)
    reply: str = ""

    def read_line(self, line: str) -> None:
        """Take in one line of the dialog. Lines of unknown kind are passed over: a newer serialiser may have more."""
        kind, rest = line[:1], line[2:]
        match kind:
            case "@":
                items = (item.partition("=")[::2] for item in _split_case(rest))
                self.case = {read_text(key): read_text(value) for key, value in items}
            case "%":
                if line[1:2] == "!":
                    self._forget_screen()
                self.screen = read_text(line.partition(" ")[2])
            case "+":
                self._show(rest)
            case "-":
                self._hide(rest)
            case "<":
                self._hear(rest)
            case ">" if len(line) > 1:
                self._act(decode_action(line[1:]))
            case "?":
                self.failed = True

    def _forget_screen(self) -> None:
        for shown in (self.fields, self.controls, self.facts, self.announcements):
            shown.clear()

    def _show(self, element: str) -> None:
        kind, _, rest = element.partition(" ")
        if kind == "fact":
            key, _, value = rest.partition("=")
            self.facts[read_text(key)] = value
            self.facts_since_click = True
        elif kind == "announcement":
            self.announcements[rest] = None
        else:
            control_id, value, enabled = _split_control(rest)
            if kind in TYPED_KINDS:
                self.fields[control_id] = value
            if enabled:
                self.controls[control_id] = kind
            else:
                self.controls.pop(control_id, None)

    def _hide(self, element: str) -> None:
        kind, _, rest = element.partition(" ")
        if kind == "fact":
            self.facts.pop(read_text(rest.partition("=")[0]), None)
        elif kind == "announcement":
            self.announcements.pop(rest, None)
        else:
            control_id = _split_control(rest)[0]
            self.controls.pop(control_id, None)
            self.fields.pop(control_id, None)

    def _hear(self, text: str) -> None:
        if self.history[-1:] != [CUSTOMER]:
            self.history.append(CUSTOMER)
            self.heard = []
            self.turns.append(Turn(read_text(text), self.reply))
        else:
            self.turns[-1].text += f" {read_text(text)}"
        self.heard.append(text)
        self.failed = False

    def _act(self, action: Action) -> None:
        step = name_step(action)
        self.failed = False
        self.acts.append((len(self.turns), action))
        if action.tool is Tool.SEND_TEXT_TO_CHAT:
            self.reply = action.control_id
        if step == TYPE:
            self.typed_since_click = True
            if self.history[-1:] == [TYPE]:
                return
        if action.tool is Tool.CLICK_CONTROL:
            self.submitted = dict(self.fields)
            self.clicks += 1
            self.typed_since_click = self.facts_since_click = False
        if action.tool is Tool.OPEN_PROCEDURE:
            self.procedure = action.control_id
            self.submitted = {}
            self.typed_since_click = self.facts_since_click = False
        self.history.append(step)
        self.done[step] = self.done.get(step, 0) + 1

    @property
    def place(self) -> str:
        """Where the operator is: the screen, and the procedure open on it."""
        return f"{self.screen} {self.procedure}" if self.procedure else self.screen

    @property
    def filled(self) -> list[str]:
        """Fields that hold something, by name."""
        return sorted(name for name, value in self.fields.items() if value)

    @property
    def changed(self) -> list[str]:
        """Fields that hold something else than at the last click."""
        return sorted(name for name, value in self.fields.items() if value != self.submitted.get(name, ""))

    @property
    def form(self) -> str:
        """The form in four letters: filled, changed, typed into, and answered since the last click."""
        flags = (bool(self.filled), bool(self.changed), self.typed_since_click, self.facts_since_click)
        return "".join(letter if flag else "-" for letter, flag in zip("fcta", flags, strict=True))

    @property
    def outcome(self) -> str:
        """What the last result looks like: its keys, and the first words of the fact that tells how it ended."""
        told = [" ".join(WORDS.findall(v.lower())[:3]) for k, v in self.facts.items() if OUTCOME_KEY.search(k)]
        return ",".join(sorted(self.facts)) + "|" + ";".join(told)


def read_prompt(prompt: str) -> Situation:
    """The situation that `prompt` tells of. Raises msgspec.ValidationError where an action line is damaged."""
    situation = Situation()
    for line in prompt.split("\n"):
        situation.read_line(line)
    return situation


class Reader:
    """Reads prompts into situations: on from the last one where a prompt extends it, else anew."""

    def __init__(self) -> None:
        self._situation = Situation()
        self._read = ""

    def read(self, prompt: str) -> Situation:
        """The situation that `prompt` (which ends with the mark that asks for an action) tells of.

        It is read on in place: use it before asking for the next. Raises msgspec.ValidationError where an action line
        is damaged.
        """
        body = prompt[:-1]
        if not self._read or not body.startswith(self._read):
            self._situation, self._read = Situation(), ""
        read, self._read = self._read, ""  # damaged lines leave nothing to go on from
        for line in body[len(read) :].split("\n"):
            self._situation.read_line(line)
        self._read = body
        return self._situation


class Prompted(Protocol):
    """Anything with a prompt: a point, a moment."""

    @property
    def prompt(self) -> str:
        """The dialog, with the mark that asks for an action."""
        ...


Asked = TypeVar("Asked", bound=Prompted)


def read_points(points: Iterable[Asked]) -> Iterator[tuple[Asked, Situation]]:
    """Each point with the situation its prompt tells of.

    One situation is read on from point to point while the dialog only grows: use it before asking for the next.
    """
    reader = Reader()
    for point in points:
        yield point, reader.read(point.prompt)


def _split_case(rest: str) -> Iterable[str]:
    """`k=v` items; a value may hold spaces, so an item ends where the next ` key=` begins."""
    return re.split(r" (?=[^ =]+=)", rest)


def _split_control(rest: str) -> tuple[str, str, bool]:
    """Control id, value, and whether it is enabled, from a control's line in any snapshot kind."""
    head, labelled, _ = rest.partition(" | ")
    rest = head.removesuffix(" required") if labelled else rest
    enabled = not rest.endswith(" disabled")
    control_id, _, value = rest.removesuffix(" disabled").partition("=")
    return read_text(control_id), read_text(value), enabled
