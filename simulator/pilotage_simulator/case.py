"""One case being worked on: the script's progress, the BPM's own state, and what an action does to both.

No I/O. Knows what is next and what was done out of order; whether that was right is judge.py.
"""

from collections.abc import Iterator

from pilotage_core.actions import Action, Tool
from pilotage_simulator.dialogue import Script, Step, StepKind
from pilotage_simulator.forms import Result
from pilotage_simulator.screens import Renderer

CUSTOMER_LEFT = "The customer has left the chat."


class Case:
    """A case from its first message to its closing."""

    def __init__(self, script: Script, renderer: Renderer) -> None:
        self.script = script
        self.procedure = ""
        self.forms: dict[str, dict[str, str]] = {}
        self.results: list[Result] = []
        self.chosen: Result | None = None
        self.error = ""
        self.closed = False
        self._renderer = renderer
        self._done = [False] * len(script.steps)
        self._first = 0

    @property
    def values(self) -> dict[str, str]:
        """What the open form shows."""
        return self.forms.get(self.procedure, {})

    @property
    def customer_left(self) -> bool:
        """Whether nothing is left but closing."""
        return self._first >= len(self.script.steps) - 1

    def steps_left(self) -> Iterator[tuple[int, Step]]:
        """Steps not done yet, in the script's order."""
        for index in range(self._first, len(self._done)):
            if not self._done[index]:
                yield index, self.script.steps[index]

    def next_step(self) -> tuple[int, Step]:
        """The step the wizard took next; the last one is the closing."""
        return next(self.steps_left())

    def html(self) -> str:
        """The screen as it is now."""
        announcement = self.error or (CUSTOMER_LEFT if self.customer_left else "")
        return self._renderer.render(self.procedure, self.values, self.results, self.chosen, announcement)

    def tick(self, index: int) -> Step:
        """Mark a step as done, and with a submit the typing it was for: its values stood already."""
        step = self.script.steps[index]
        self._done[index] = True
        if step.kind is StepKind.SUBMIT:
            for earlier, left in list(self.steps_left()):
                if earlier < index and left.kind is StepKind.FILL and left.procedure == step.procedure:
                    self._done[earlier] = True
        while self._first < len(self._done) and self._done[self._first]:
            self._first += 1
        return step

    def apply(self, action: Action, step: Step | None) -> None:
        """Change the BPM's state by `action`; `step` is what it is in the script, None where it is nothing there."""
        self.error = ""
        match action.tool:
            case Tool.OPEN_PROCEDURE:
                self.procedure = action.control_id.removeprefix("procedure:")
            case Tool.FILL_INPUT | Tool.SELECT_ELEMENT_IN_COMBO_BOX | Tool.SELECT_ELEMENT_IN_SELECT:
                name = action.control_id.removeprefix("input:")
                self.forms[self.procedure] = {**self.values, name: action.value}
            case Tool.CLICK_CONTROL:
                self._apply_click(action, step)
            case Tool.CLOSE_CHAT | Tool.TRANSFER_CHAT:
                self.closed = step is not None

    def _apply_click(self, action: Action, step: Step | None) -> None:
        if action.control_id.startswith("row:"):
            number = int(action.control_id.removeprefix("row:"))
            if 1 <= number <= len(self.results):
                self.chosen = self.results[number - 1]
        elif step is not None and step.kind is StepKind.SUBMIT and step.result is not None:
            self.results.insert(0, step.result)
            self.chosen = step.result
