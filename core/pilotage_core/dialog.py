"""The one serialiser of a session for training and serving: append-only lines, so each prompt extends the last.

A line starts with its kind: `@` case, `%` screen, `+`/`-` control, fact or announcement shown/gone, `<` what the
customer (or a bot) wrote, `>` an action as canonical JSON, `?` an error. `%!` begins a screen that is written whole and
makes all earlier ones void: the one shown when old lines were dropped. The prompt ends with a lone `>`: the model
continues with the next action. Formats are versioned by digest (`DialogFormat.digest`).

Compact tells of a control only kind, id and value, of what is gone only its name, of a value that changed only the new
one, and of a template message only the template.
"""

import hashlib
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from pilotage_core.actions import Action
from pilotage_core.events import Author
from pilotage_core.screen import Control, Screen
from pilotage_core.state import State, is_identifier

VERSION = "2"
ACTION_MARK = ">"
VERDICT_MARK = "\n!"
"""What follows a proposed action where a critic is asked: the line whose one word is ACCEPT or REJECT."""
ACCEPT, REJECT = " accept", " reject"
"""A critic's two words. With the space, as byte-level vocabularies hold whole words: SmolLM2's has no `reject`."""


class Snapshot(StrEnum):
    """How a changed screen is written."""

    WHOLE = "whole"  # every line again
    DIFFERENCE = "difference"  # only lines that came or went
    COMPACT = "compact"  # difference, told shortly: see below


class DialogFormat(msgspec.Struct, frozen=True):
    """How sessions are written.

    `max_chars` bounds the dialog; past it whole blocks of old lines go, `block_chars` at a time.
    """

    snapshot: Snapshot = Snapshot.COMPACT
    max_chars: int = 24_000
    block_chars: int = 8_000

    @property
    def digest(self) -> str:
        """Identity of this serialiser, 16 hex digits: part of every certificate."""
        return hashlib.blake2b(f"{VERSION}:{msgspec.json.encode(self)!r}".encode(), digest_size=8).hexdigest()


DEFAULT_FORMAT = DialogFormat()
"""What policies are trained with unless their configuration says otherwise; sessions without a pair are written so."""


class Trim(msgspec.Struct, frozen=True):
    """A block of lines that was dropped before state version `at_version`."""

    at_version: int
    lines: int
    chars: int


def encode_action(action: Action, form: DialogFormat) -> str:
    """The canonical JSON of an action: what follows `>`, what a policy is asked to write, and a critic to judge."""
    if form.snapshot is Snapshot.COMPACT and action.control_id and action.text:
        action = msgspec.structs.replace(action, text="")
    return msgspec.json.encode(action).decode()


def decode_action(text: str) -> Action:
    """The action written as canonical JSON; raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(text, type=Action)


class Dialog:
    """The growing text of one session. Give it each state after each event; read `prompt()` where a model is asked."""

    def __init__(self, form: DialogFormat) -> None:
        self.form = form
        self.lines: list[str] = []
        self.trims: list[Trim] = []
        self._chars = 0
        self._screen: dict[str, list[str]] = {}
        self._seen = State()

    def append(self, state: State) -> None:
        """Write what changed between the last state given and `state`."""
        before, self._seen = self._seen, state
        if before.version == 0:
            case = {**state.metadata, **state.profile}
            self._write("@ " + " ".join(f"{k}={_one_line(v)}" for k, v in sorted(case.items()) if not is_identifier(k)))
        if state.last_error and state.last_error != before.last_error:
            self._write(f"? {_one_line(state.last_error)}")
        new = state.message_count - before.message_count
        for message in state.messages[len(state.messages) - min(new, len(state.messages)) :]:
            if message.author in (Author.CUSTOMER, Author.BOT):
                self._write(f"< {_one_line(message.text)}")
        if state.screen is not before.screen and state.screen != before.screen:
            self._write_screen(state.screen)
        if self._chars > self.form.max_chars:
            self._trim(state)

    def append_action(self, action: Action) -> None:
        """Write an action that was taken, before the state it led to is appended."""
        self._write(ACTION_MARK + encode_action(action, self.form))

    def prompt(self) -> str:
        """The text a model is asked to continue with the next action."""
        return "\n".join((*self.lines, ACTION_MARK))

    def _write_screen(self, screen: Screen, mark: str = "%") -> None:
        lines: dict[str, list[str]] = {}
        for name, line in _screen_lines(screen, self.form.snapshot):
            lines.setdefault(name, []).append(line)
        self._write(f"{mark} {screen.name}")
        for name, before in self._screen.items():
            after = lines.get(name, [])
            if not after or (before != after and len(before) + len(after) > 2):  # several of one name: told anew
                self._write(f"- {name}")
        for name, after in lines.items():
            if self.form.snapshot is Snapshot.WHOLE or self._screen.get(name) != after:
                for line in after:
                    self._write(f"+ {line}")
        self._screen = {} if self.form.snapshot is Snapshot.WHOLE else lines

    def _write(self, line: str) -> None:
        self.lines.append(line)
        self._chars += len(line) + 1

    def _trim(self, state: State) -> None:
        """Drop the oldest block, and write the screen shown whole: nothing may refer to lines that are gone."""
        kept_case = self.lines[0]
        dropped = chars = 0
        while chars < self.form.block_chars and dropped + 1 < len(self.lines):
            chars += len(self.lines[dropped + 1]) + 1
            dropped += 1
        self.lines = [kept_case, *self.lines[dropped + 1 :]]
        self._chars -= chars
        self.trims.append(Trim(state.version, dropped, chars))
        self._screen = {}
        if state.screen.name:
            self._write_screen(state.screen, "%!")


def _screen_lines(screen: Screen, snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    """Every element shown, with the name it has in the dialog: in a difference a changed line is another element."""
    compact = snapshot is Snapshot.COMPACT
    for control in screen.controls:
        if control.visible:
            line = _control_line(control, snapshot)
            yield f"{control.kind} {control.control_id}" if compact else line, line
    for key, value in screen.facts:
        line = f"fact {_one_line(key)}={_one_line(value)}"
        yield f"fact {_one_line(key)}" if compact else line, line
    for text in screen.announcements:
        line = f"announcement {_one_line(text)}"
        yield line, line


def _control_line(control: Control, snapshot: Snapshot) -> str:
    line = f"{control.kind} {control.control_id}"
    if control.value:
        line += f"={_one_line(control.value)}"
    if not control.enabled:
        line += " disabled"
    if snapshot is not Snapshot.COMPACT:
        if control.required:
            line += " required"
        line += f" | {_one_line(control.label)}"
        if control.options:
            line += " | " + "; ".join(_one_line(o) for o in control.options)
    return line


def _one_line(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "")
