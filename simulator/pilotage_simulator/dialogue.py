"""A recorded dialogue as a script: what the customer says, and the steps that the operator takes between.

Pure. Here: order, times, which values are typed, which screens' controls are named. Not here: how a process changes
(change.py), what the screens look like (screens.py), who plays it (bpm.py).

Rules, where the data leaves a choice:
- Typing stands right after the customer's last word before the query it is for, and only where values change.
- The wizards leafed through procedures: of a run of `select_task` only the last counts, when the wizard acts next.
- A query, or a reply template, of a procedure that is not open opens it first: a BPM has no other way.
- In the end the customer leaves and the operator closes the chat, or for a stated share transfers it.
"""

from collections.abc import Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_simulator.forms import Result, build_fill, build_result, read_constraints
from pilotage_simulator.star import COMMON_REPLIES, Dialogue, Procedure, StarEvent, find_reply

GAP_CAP_SECONDS = 60.0
CLICK_SECONDS = 1.0
"""Assumption: what a step costs that the data gives no time for (opening, the submit after typing, closing)."""
DEFAULT_TRANSFER_SHARE = 0.03
LEAST_STEPS = 1
ROWS_SHOWN = 5


class StepKind(StrEnum):
    """What the operator does in a step."""

    MESSAGE = "message"
    OPEN = "open"
    FILL = "fill"
    SUBMIT = "submit"
    CLICK = "click"
    ROW = "row"
    CLOSE = "close"


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing the operator does, and what the customer says to it.

    `procedure` is the one that has to be open for it. `values` are the form's filled values at a submit. `result` is
    what a submit or a clicked row shows.
    """

    kind: StepKind
    actions: tuple[Action, ...]
    procedure: str
    active_seconds: float
    replies: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()
    result: Result | None = None


class Script(msgspec.Struct, frozen=True):
    """A dialogue to be played. The last step is the closing one; before it the customer leaves."""

    dialogue_id: str
    operator: str
    domains: tuple[str, ...]
    segment: str
    opening: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def active_seconds(self) -> float:
        """The operator's time on all of it, unassisted."""
        return sum(step.active_seconds for step in self.steps)


def draw_share(salt: str, dialogue_id: str) -> float:
    """A number in [0, 1) that depends on nothing but the dialogue and `salt`."""
    return int.from_bytes(blake2b(f"{salt}:{dialogue_id}".encode(), digest_size=8).digest()) / 2**64


def build_script(
    dialogue: Dialogue, procedures: Mapping[str, Procedure], transfer_share: float = DEFAULT_TRANSFER_SHARE
) -> Script | None:
    """The script of `dialogue`; None for one in which too little happens (no customer, or no step of the wizard's)."""
    writer = _ScriptWriter(dialogue, procedures)
    for event in dialogue.events:
        writer.add(event)
    if not writer.opening_or_replies or writer.own_steps < LEAST_STEPS:
        return None
    identity = str(dialogue.dialogue_id)
    tool = Tool.TRANSFER_CHAT if draw_share("transfer", identity) < transfer_share else Tool.CLOSE_CHAT
    closing = Step(StepKind.CLOSE, (Action(tool),), writer.procedure, CLICK_SECONDS)
    return Script(
        dialogue_id=identity,
        operator=dialogue.wizard,
        domains=dialogue.domains,
        segment="plus" if draw_share("segment", identity) < 0.5 else "standard",
        opening=tuple(writer.opening),
        steps=(*writer.steps, closing),
    )


class _ScriptWriter:
    """Steps so far, and what is needed to place the next: which procedure is open, what its form shows, the clock."""

    def __init__(self, dialogue: Dialogue, procedures: Mapping[str, Procedure]) -> None:
        self.procedures = procedures
        tasks = [c.task for c in dialogue.scenario.capabilities if c.task in procedures]
        self.tasks = tuple(dict.fromkeys(tasks))
        self.single_task = self.tasks[0] if self.tasks and not dialogue.scenario.multi_task else ""
        self.opening: list[str] = []
        self.steps: list[Step] = []
        self.procedure = ""
        self.forms: dict[str, dict[str, str]] = {}
        self.results: list[tuple[dict[str, Any], Result]] = []
        self.own_steps = 0
        self.opening_or_replies = False
        self._pending_task = ""
        self._fill_from = 0
        self._seconds = 0.0
        self._clock: float | None = None

    def add(self, event: StarEvent) -> None:
        gap = self._tick(event)
        if event.agent == "User" and event.action == "utter":
            self._add_customer(event.text or "")
        elif event.agent == "KnowledgeBase":
            self._add_result(event)
        elif event.agent == "Wizard":
            self._seconds += gap
            self._add_wizard(event)

    def _tick(self, event: StarEvent) -> float:
        if event.unix_time is None or event.agent == "UserGuide":
            return 0.0
        before, self._clock = self._clock, event.unix_time
        return min(GAP_CAP_SECONDS, max(0.0, event.unix_time - before)) if before is not None else 0.0

    def _add_customer(self, text: str) -> None:
        if not text.strip():
            return
        self.opening_or_replies = True
        if self.steps:
            last = self.steps[-1]
            self.steps[-1] = msgspec.structs.replace(last, replies=(*last.replies, text.strip()))
        else:
            self.opening.append(text.strip())
        self._fill_from = len(self.steps)

    def _add_wizard(self, event: StarEvent) -> None:
        match event.action:
            case "pick_suggestion" | "utter" if (event.text or "").strip():
                self._open_first(self._procedure_of(event.label) or self._pending_task)
                label = event.label if self._has_reply(event.label) else ""
                action = Action(
                    Tool.SEND_TEXT_TO_CHAT,
                    control_id=f"reply:{label}" if label else "",
                    # Pressing a template sends what it says, not the words that its wizard saw filled in.
                    text=self._find_reply(label) if label else (event.text or "").strip(),
                )
                self._append(StepKind.MESSAGE, (action,))
            case "select_task":
                self._pending_task = event.task
            case "query":
                self._open_first(event.api)
                self._add_query(event)
            case "select_primary" | "select_secondary":
                self._add_row(event)

    def _procedure_of(self, label: str) -> str:
        """The procedure that has to be opened for a template: the only one of the dialogue's that has it."""
        if not label or label in COMMON_REPLIES or self._has_reply(label):
            return ""
        owners = [task for task in self.tasks if label in self.procedures[task].replies]
        return owners[0] if len(owners) == 1 else ""

    def _has_reply(self, label: str) -> bool:
        shown = self.procedures[self.procedure].replies if self.procedure else {}
        return bool(label) and (label in COMMON_REPLIES or label in shown)

    def _find_reply(self, label: str) -> str:
        return find_reply(label, self.procedures.get(self.procedure))

    def _open_first(self, wanted: str) -> None:
        if not wanted and not self.procedure and self.opening_or_replies:
            wanted = self.single_task
        self._pending_task = ""
        if wanted in self.procedures and wanted != self.procedure:
            self.procedure = wanted
            kept, self._seconds = self._seconds, CLICK_SECONDS
            self._append(StepKind.OPEN, (Action(Tool.OPEN_PROCEDURE, control_id=f"procedure:{wanted}"),))
            self._seconds = kept
            self._fill_from = len(self.steps)

    def _add_query(self, event: StarEvent) -> None:
        if event.api not in self.procedures:
            return
        values, button = read_constraints(event.constraints)
        shown = self.forms.get(event.api, {})
        changed = {name: values.get(name, "") for name in (*values, *shown)}
        changed = {name: value for name, value in changed.items() if value != shown.get(name, "")}
        if changed:
            inputs = {given.name: given for given in self.procedures[event.api].inputs}
            actions = tuple(build_fill(name, value, inputs.get(name)) for name, value in changed.items())
            typing, self._seconds = max(0.0, self._seconds - CLICK_SECONDS), CLICK_SECONDS
            self.steps.insert(self._fill_from, self._build(StepKind.FILL, actions, typing))
        self.forms[event.api] = values
        self._append(StepKind.SUBMIT, (Action(Tool.CLICK_CONTROL, control_id=button),), tuple(sorted(values.items())))
        self._fill_from = len(self.steps)

    def _add_result(self, event: StarEvent) -> None:
        last = self.steps[-1] if self.steps else None
        if last is None or last.kind is not StepKind.SUBMIT:
            return
        result = build_result(event)
        self.results.append((event.item or {}, result))
        self.steps[-1] = msgspec.structs.replace(last, result=result)

    def _add_row(self, event: StarEvent) -> None:
        item = event.secondary_item if event.action == "select_secondary" else event.primary_item
        item = item or event.primary_item or event.secondary_item
        for position, (seen, result) in enumerate(reversed(self.results[-ROWS_SHOWN:]), start=1):
            if seen == item:
                self._append(StepKind.ROW, (Action(Tool.CLICK_CONTROL, control_id=f"row:{position}"),), result=result)
                return

    def _append(
        self,
        kind: StepKind,
        actions: tuple[Action, ...],
        values: tuple[tuple[str, str], ...] = (),
        result: Result | None = None,
    ) -> None:
        seconds, self._seconds = self._seconds, 0.0
        self.own_steps += kind is not StepKind.OPEN
        self.steps.append(self._build(kind, actions, seconds, values, result))

    def _build(
        self,
        kind: StepKind,
        actions: tuple[Action, ...],
        seconds: float,
        values: tuple[tuple[str, str], ...] = (),
        result: Result | None = None,
    ) -> Step:
        return Step(kind, actions, self.procedure, seconds, values=values, result=result)
