"""Is an action right here? Judged against what the dialogue's wizard did. Pure: the case in, a judgement out.

`strict`: it is what the wizard did next. `graded`: that, or what the wizard did later before the next submit. A submit
is right only with every value that the wizard's had. Ending a chat is right only when it is next: it cannot be undone.
"""

import msgspec

from pilotage_core.actions import ALWAYS_FINALIZING, Action, Tool
from pilotage_core.events import Grade
from pilotage_simulator.case import Case
from pilotage_simulator.change import VERIFY
from pilotage_simulator.dialogue import Step, StepKind


class Judgement(msgspec.Struct, frozen=True):
    """What an action is in the script.

    `step` is the index of the step it is (None: of none before the next submit). `answer` is, for a deviation, the
    index of the message further on with the same template, whose customer replies answer it (None: nobody answers).
    """

    strict: bool
    graded: bool
    step: int | None = None
    answer: int | None = None


def judge_action(case: Case, action: Action) -> Judgement:
    """Judge `action` in the state that `case` is in now."""
    window_open, first = True, True
    for index, step in case.steps_left():
        if step.kind is StepKind.FILL:
            continue
        if is_same(step, action) and has_values(case, step):
            ends = action.tool in ALWAYS_FINALIZING
            if first or (window_open and not ends):
                return Judgement(strict=first, graded=True, step=index)
            if step.kind is StepKind.MESSAGE:
                return Judgement(strict=False, graded=False, answer=index)
        first = False
        window_open = window_open and step.kind is not StepKind.SUBMIT
    return Judgement(strict=False, graded=False)


def is_same(step: Step, action: Action) -> bool:
    """Whether `action` is what `step` does: the same tool and control, and the same text where there is one."""
    wanted = step.actions[0]
    if wanted.tool is not action.tool or wanted.control_id != action.control_id:
        return False
    return wanted.text == action.text or (bool(wanted.control_id) and not action.text)


def has_values(case: Case, step: Step) -> bool:
    """Whether the form on the screen holds what the wizard's held at this submit (true for anything else)."""
    if step.kind is not StepKind.SUBMIT:
        return True
    shown = {name: value for name, value in case.values.items() if value}
    return case.procedure == step.procedure and shown == dict(step.values)


def is_submit(action: Action) -> bool:
    """Whether `action` sends a form."""
    return action.tool is Tool.CLICK_CONTROL and action.control_id.startswith("submit")


def decide_grade(case: Case, action: Action, judgement: Judgement) -> Grade:
    """How wrong a rejected proposal is."""
    if judgement.graded:
        return Grade.ACCEPTABLE
    _, wanted = case.next_step()
    verifies = wanted.kind is StepKind.FILL or wanted.actions[0].control_id == VERIFY
    if is_submit(action) and (verifies or not any(case.values.values())):
        return Grade.MISSING_VERIFICATION
    if action.tool is Tool.OPEN_PROCEDURE or action.tool in ALWAYS_FINALIZING:
        return Grade.WRONG_ROUTE
    return Grade.INCORRECT
