"""What an action is called when two are compared or counted: one token, without values and texts.

Not here: what a model sees of a session (backends/), verdicts (labels.py).
"""

from pilotage_core.actions import VALUE_TOOLS, Action, Tool

TYPE = "type"
"""The operator fills or chooses form fields: known only as one step, whatever the fields."""

SAY = "say"
"""A message in the operator's own words."""

OPERATOR_ONLY = frozenset({TYPE, SAY})
"""Steps that a count model never proposes: their content is not in its outcomes."""


def name_step(action: Action) -> str:
    """The step an action is, as one token: what a count model predicts. Values and texts are left out."""
    if action.tool in VALUE_TOOLS:
        return TYPE
    if action.tool is Tool.SEND_TEXT_TO_CHAT and not action.control_id:
        return SAY
    return f"{action.tool} {action.control_id}" if action.control_id else action.tool.value


def step_action(step: str) -> Action:
    """The action that `step` names; the inverse of `name_step` for every step a model may propose."""
    tool, _, control_id = step.partition(" ")
    return Action(Tool(tool), control_id)


def tool_of(step: str) -> str:
    """The tool of a step; all form-filling tools are one."""
    if step == SAY:
        return "send_text_to_chat"
    return step if step == TYPE else step.partition(" ")[0]
