"""A process that changes: from a point on, what is right in half of the sessions is something else.

Pure. Sessions of segment "plus" (the case line says so) then need `verify` before a submit, submit with
`submit:reviewed`, and say another template after the result. Both buttons and all templates are on the screens before
and after: only what is right changes, so a model can tell from nothing but the segment, and can learn it again.
"""

from collections.abc import Mapping

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_simulator.dialogue import CLICK_SECONDS, Script, Step, StepKind
from pilotage_simulator.star import Procedure, find_reply

CHANGED_SEGMENT = "plus"
VERIFY = "verify"
REVIEWED_SUBMIT = "submit:reviewed"


def is_affected(script: Script) -> bool:
    """Whether the change concerns this session."""
    return script.segment == CHANGED_SEGMENT


def change_script(script: Script, procedures: Mapping[str, Procedure]) -> Script:
    """`script` as it is right after the change: the same customer, the same results, other steps."""
    if not is_affected(script):
        return script
    steps: list[Step] = []
    after_submit = False
    for step in script.steps:
        if step.kind is StepKind.SUBMIT:
            verify = Action(Tool.CLICK_CONTROL, control_id=VERIFY)
            steps.append(Step(StepKind.CLICK, (verify,), step.procedure, CLICK_SECONDS))
            submit = Action(Tool.CLICK_CONTROL, control_id=REVIEWED_SUBMIT)
            steps.append(msgspec.structs.replace(step, actions=(submit,)))
            after_submit = True
        elif step.kind is StepKind.MESSAGE and after_submit:
            steps.append(_with_other_template(step, procedures))
            after_submit = False
        else:
            steps.append(step)
    return msgspec.structs.replace(script, steps=tuple(steps))


def _with_other_template(step: Step, procedures: Mapping[str, Procedure]) -> Step:
    procedure = procedures.get(step.procedure)
    label = step.actions[0].control_id.removeprefix("reply:")
    if procedure is None or label not in procedure.replies:
        return step
    labels = sorted(procedure.replies)
    other = labels[(labels.index(label) + 1) % len(labels)]
    message = Action(Tool.SEND_TEXT_TO_CHAT, control_id=f"reply:{other}", text=find_reply(other, procedure))
    return msgspec.structs.replace(step, actions=(message,))
