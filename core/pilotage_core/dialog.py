"""The one serialiser of a session for training and serving: append-only lines, so each prompt extends the last.

A line starts with its kind: `@` case, `%` screen, `+`/`-` control, fact or announcement shown/gone, `<` what the
customer (or a bot) wrote, `>` an action as canonical JSON, `?` an error. `%!` begins a screen that is written whole and
makes all earlier ones void: the one shown when old lines were dropped. The prompt ends with a lone `>`: the model
continues with the next action. Formats are versioned by digest (`DialogFormat.digest`).

Compact tells of a control only kind, id and value, of what is gone only its name, of a value that changed only the new
one, and of a template message only the template.

What comes from outside (texts, ids, names, keys) is written by `write_text` and `write_name`: it ends no line, begins
none, and holds nothing that a tokenizer or a reader could take for ours. The newest customer message is never dropped;
one that is too long keeps its head and tail, marked and recorded (`Dialog.cuts`).
"""

import hashlib
import re
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from pilotage_core.actions import Action
from pilotage_core.events import Author
from pilotage_core.proposal import fill_text
from pilotage_core.screen import Control, Screen
from pilotage_core.state import State, is_identifier

VERSION = "3"
ACTION_MARK = ">"
VERDICT_MARK = "\n!"
"""What follows a proposed action where a critic is asked: the line whose one word is ACCEPT or REJECT."""
ACCEPT, REJECT = " accept", " reject"
"""A critic's two words. With the space, as byte-level vocabularies hold whole words: SmolLM2's has no `reject`."""


class SnapshotKind(StrEnum):
    """How a changed screen is written."""

    WHOLE = "whole"  # every line again
    DIFFERENCE = "difference"  # only lines that came or went
    COMPACT = "compact"  # difference, told shortly: see below


class DialogFormat(msgspec.Struct, frozen=True):
    """How sessions are written.

    `max_chars` bounds the dialog; past it whole blocks of old lines go, `block_chars` at a time.
    """

    snapshot: SnapshotKind = SnapshotKind.COMPACT
    max_chars: int = 24_000
    block_chars: int = 8_000

    @property
    def digest(self) -> str:
        """Identity of this serialiser, 16 hex digits: part of every certificate."""
        return hashlib.blake2b(f"{VERSION}:{msgspec.json.encode(self)!r}".encode(), digest_size=8).hexdigest()


DEFAULT_FORMAT = DialogFormat()
"""What policies are trained with unless their configuration says otherwise; sessions without a pair are written so."""


class Cut(msgspec.Struct, frozen=True):
    """The middle of a text that was too long, left out in state version `at_version`: so many `chars`."""

    at_version: int
    chars: int


class Trim(msgspec.Struct, frozen=True):
    """A block of lines that was dropped before state version `at_version`."""

    at_version: int
    lines: int
    chars: int


def encode_action(action: Action, form: DialogFormat) -> str:
    """The canonical JSON of an action as it stands in a dialog: what follows `>`, and what a policy is asked to write.

    Compact leaves out the text of a template reply, which follows from the template.
    """
    if form.snapshot is SnapshotKind.COMPACT and action.control_id and action.text:
        action = msgspec.structs.replace(action, text="")
    return encode_judged(action)


def encode_judged(action: Action) -> str:
    """The canonical JSON of an action whole: what a critic is asked about is what would run, to the last letter."""
    return _SEPARATORS.sub(_escape, msgspec.json.encode(action).decode())


def decode_action(text: str) -> Action:
    """The action written as canonical JSON; raises msgspec.ValidationError where it is none."""
    return msgspec.json.decode(text, type=Action)


class Dialog:
    """The growing text of one session. Give it each state after each event; read `prompt()` where a model is asked."""

    def __init__(self, form: DialogFormat) -> None:
        self.form = form
        self.lines: list[str] = []
        self.trims: list[Trim] = []
        self.cuts: list[Cut] = []
        self._chars = 0
        self._newest = ""
        self._screen: dict[str, list[str]] = {}
        self._seen = State()

    def append(self, state: State) -> None:
        """Write what changed between the last state given and `state`."""
        before, self._seen = self._seen, state
        if before.version == 0:
            case = {**state.metadata, **state.profile}
            told = sorted((k, v) for k, v in case.items() if not is_identifier(k))
            self._write("@ " + " ".join(f"{write_name(k)}={self._text(v).replace('=', _EQUALS)}" for k, v in told))
        if state.last_error and state.last_error != before.last_error:
            self._write(f"? {self._text(state.last_error)}")
        new = state.message_count - before.message_count
        for message in state.messages[len(state.messages) - min(new, len(state.messages)) :]:
            if message.author in (Author.CUSTOMER, Author.BOT):
                line = f"< {self._text(message.text)}"
                self._write(line)
                self._newest = line if message.author is Author.CUSTOMER else self._newest
        if state.screen is not before.screen and state.screen != before.screen:
            self._write_screen(state.screen)
        if self._chars > self.form.max_chars:
            self._trim(state)

    def append_action(self, action: Action) -> None:
        """Write an action that was taken on the screen seen last, before the state it led to is appended."""
        self._write(ACTION_MARK + encode_action(fill_text(action, self._seen.screen), self.form))

    def prompt(self) -> str:
        """The text a model is asked to continue with the next action."""
        return "\n".join((*self.lines, ACTION_MARK))

    def _write_screen(self, screen: Screen, mark: str = "%") -> None:
        lines: dict[str, list[str]] = {}
        for name, line in self._screen_lines(screen):
            lines.setdefault(name, []).append(line)
        self._write(f"{mark} {write_name(screen.name)}")
        for name, before in self._screen.items():
            after = lines.get(name, [])
            if not after or (before != after and len(before) + len(after) > 2):  # several of one name: told anew
                self._write(f"- {name}")
        for name, after in lines.items():
            if self.form.snapshot is SnapshotKind.WHOLE or self._screen.get(name) != after:
                for line in after:
                    self._write(f"+ {line}")
        self._screen = {} if self.form.snapshot is SnapshotKind.WHOLE else lines

    def _write(self, line: str) -> None:
        self.lines.append(line)
        self._chars += len(line) + 1

    def _text(self, text: str) -> str:
        """`text` as it stands within a line: head and tail where it would take more than a quarter of the dialog."""
        most = max(self.form.max_chars // 4, 16)
        if len(text) <= most:
            return write_text(text)
        head, tail = most - most // 2, most // 2
        left_out = len(text) - head - tail
        self.cuts.append(Cut(self._seen.version, left_out))
        return f"{write_text(text[:head])} \\cut {left_out}\\ {write_text(text[-tail:])}"

    def _trim(self, state: State) -> None:
        """Drop the oldest block, and write the screen shown whole: nothing may refer to lines that are gone.

        What the customer said last stays, wherever it stood.
        """
        kept_case = self.lines[0]
        dropped = chars = 0
        while chars < self.form.block_chars and dropped + 1 < len(self.lines):
            chars += len(self.lines[dropped + 1]) + 1
            dropped += 1
        rest = self.lines[dropped + 1 :]
        kept = [self._newest] if self._newest and self._newest not in rest else []
        self.lines = [kept_case, *kept, *rest]
        chars -= sum(len(line) + 1 for line in kept)
        self._chars -= chars
        self.trims.append(Trim(state.version, dropped - len(kept), chars))
        self._screen = {}
        if state.screen.name:
            self._write_screen(state.screen, "%!")

    def _screen_lines(self, screen: Screen) -> Iterator[tuple[str, str]]:
        """Every element shown, with its name in the dialog: in a difference a changed line is another element."""
        compact = self.form.snapshot is SnapshotKind.COMPACT
        for control in screen.controls:
            if control.visible:
                line = self._control_line(control)
                yield f"{control.kind} {write_name(control.control_id)}" if compact else line, line
        for key, value in screen.facts:
            line = f"fact {write_name(key)}={self._text(value)}"
            yield f"fact {write_name(key)}" if compact else line, line
        for text in screen.announcements:
            line = f"announcement {self._text(text)}"
            yield line, line

    def _control_line(self, control: Control) -> str:
        line = f"{control.kind} {write_name(control.control_id)}"
        if control.value:
            line += f"={_FLAGS.sub(_escape_space, self._text(control.value))}"
        if not control.enabled:
            line += " disabled"
        if self.form.snapshot is not SnapshotKind.COMPACT:
            if control.required:
                line += " required"
            line += f" | {self._text(control.label)}"
            if control.options:
                line += " | " + "; ".join(self._text(o) for o in control.options)
        return line


# --- what comes from outside ------------------------------------------------------------------------------------------
_SEPARATORS = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"  # ends a line for somebody, or is half a character
    r'|<(?=\S)|\{(?=")|\[(?=/?[A-Z_]+\])'  # begins a token with a meaning: <|end|>, <think>, {"tool":""}, [INST]
)
_UNSAFE_IN_NAMES = re.compile(_UNSAFE.pattern + r"|[ =|;<{\[]")
_FLAGS = re.compile(r" (?=(?:disabled|required)\b|\|)")
_ESCAPED = re.compile(r"\\(\\|n|u[0-9a-f]{4})")
_EQUALS = "\\u003d"


def _escape(found: re.Match[str]) -> str:
    return "\\n" if found[0] == "\n" else f"\\u{ord(found[0]):04x}"


def _escape_space(_: re.Match[str]) -> str:
    return "\\u0020"


def write_text(text: str) -> str:
    """`text` so that it stays within its line and none of it is taken for ours. `read_text` gives it back."""
    return _UNSAFE.sub(_escape, text.replace("\\", "\\\\"))


def write_name(text: str) -> str:
    """An id, key or screen name: as `write_text`, and without what ends a name in its line."""
    return _UNSAFE_IN_NAMES.sub(_escape, text.replace("\\", "\\\\"))


def read_text(written: str) -> str:
    """The inverse of `write_text` and `write_name`."""
    return _ESCAPED.sub(_unescape, written) if "\\" in written else written


def _unescape(found: re.Match[str]) -> str:
    code = found[1]
    return code if code == "\\" else "\n" if code == "n" else chr(int(code[1:], 16))
