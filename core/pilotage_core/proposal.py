"""What a policy may answer in a state (a JSON schema for structured output) and the reading of its answer."""

import re
from typing import Any

import msgspec

from pilotage_core.actions import VALUE_TOOLS, Action, ActionRules, Tool
from pilotage_core.errors import InvalidActionError
from pilotage_core.screen import Control, ControlKind, Screen

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What ends a line, submits a form or leaves a field where values are typed key by key."""

TOOL_OF_KIND: dict[ControlKind, Tool] = {
    ControlKind.BUTTON: Tool.CLICK_CONTROL,
    ControlKind.ROW: Tool.CLICK_CONTROL,
    ControlKind.PROCEDURE: Tool.OPEN_PROCEDURE,
    ControlKind.REPLY: Tool.SEND_TEXT_TO_CHAT,
    ControlKind.RADIO: Tool.SELECT_RADIO_BUTTON,
    ControlKind.COMBO_BOX: Tool.SELECT_ELEMENT_IN_COMBO_BOX,
    ControlKind.SELECT: Tool.SELECT_ELEMENT_IN_SELECT,
    ControlKind.INPUT: Tool.FILL_INPUT,
}
WHOLE_SESSION_TOOLS = (Tool.CLOSE_CHAT, Tool.TRANSFER_CHAT)
CHOICES = frozenset({ControlKind.RADIO, ControlKind.COMBO_BOX, ControlKind.SELECT})
"""Kinds whose value is one of their options, and nothing where none is shown."""


def visible_controls(rules: ActionRules, screen: Screen) -> dict[Tool, tuple[str, ...]]:
    """The control ids each tool can act on now, in document order; tools that need none map to an empty tuple."""
    found: dict[Tool, list[str]] = {}
    for control in screen.controls:
        if control.visible and control.enabled:
            found.setdefault(TOOL_OF_KIND[control.kind], []).append(control.control_id)
    allowed = set(rules.tools or tuple(Tool))
    listed = {tool: tuple(ids) for tool, ids in found.items() if tool in allowed}
    return listed | {tool: () for tool in WHOLE_SESSION_TOOLS if tool in allowed}


def build_action_schema(rules: ActionRules, screen: Screen) -> dict[str, Any]:
    """JSON schema of exactly the actions that are possible now: only tools and control ids visible on `screen`.

    The empty string as `tool` means that the policy has nothing to propose (the operator goes on).
    """
    branches: list[dict[str, Any]] = []
    for tool, ids in visible_controls(rules, screen).items():
        properties: dict[str, Any] = {"tool": {"const": tool.value}}
        if ids:
            properties["control_id"] = {"enum": list(ids)}
        if tool is Tool.SEND_TEXT_TO_CHAT:
            properties["text"] = {"type": "string"}
        if tool in VALUE_TOOLS:
            properties["value"] = {"type": "string"}
        if tool is Tool.TRANSFER_CHAT and rules.transfer_targets:
            properties["value"] = {"enum": list(rules.transfer_targets)}
        required = [name for name in properties if name != "text"]
        branches.append(
            {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        )
    branches.append({"type": "object", "properties": {"tool": {"const": ""}}, "required": ["tool"]})
    return {"anyOf": branches}


def read_reply(reply: str, screen: Screen) -> Action | None:
    """The action a policy's reply proposes, or None where it proposes nothing.

    A template reply without text takes the text of its control. Raises InvalidActionError for anything else.
    """
    try:
        if msgspec.json.decode(reply, type=dict[str, Any]).get("tool") == "":
            return None
        action = msgspec.json.decode(reply, type=Action)
    except msgspec.DecodeError as error:
        raise InvalidActionError(f"the policy's reply is no action: {error}", where="reply") from error
    return fill_text(action, screen)


def fill_text(action: Action, screen: Screen) -> Action:
    """`action` as it would run: a template reply has the text of its control, or is free text.

    Without text it takes the template's. With the template's own text it stays a template reply. With any other text it
    is no template's any more: the control goes, so whoever judges it judges what the customer would read.
    """
    if action.tool is not Tool.SEND_TEXT_TO_CHAT or not action.control_id:
        return action
    template = screen.control(action.control_id)
    if template is None or template.kind is not ControlKind.REPLY:
        return action
    text = template.value or template.label
    if not action.text:
        return msgspec.structs.replace(action, text=text)
    return action if action.text == text else msgspec.structs.replace(action, control_id="")


def find_fault(action: Action, screen: Screen, rules: ActionRules = ActionRules()) -> str:
    """Why `action` cannot be done on `screen`: empty where it can. Total; the gate hands off on any fault."""
    used = {"text": action.tool is Tool.SEND_TEXT_TO_CHAT, "value": action.tool in VALUE_TOOLS}
    used |= {"control_id": action.tool not in WHOLE_SESSION_TOOLS}
    used["value"] = used["value"] or (action.tool is Tool.TRANSFER_CHAT and bool(rules.transfer_targets))
    for name, is_used in used.items():
        if getattr(action, name) and not is_used:
            return f"{action.tool} takes no {name}"
    if action.tool in WHOLE_SESSION_TOOLS:
        if action.tool is Tool.TRANSFER_CHAT and rules.transfer_targets and action.value not in rules.transfer_targets:
            return f"{action.value!r} is none of the process cluster's transfer targets"
        return ""
    if action.tool is Tool.SEND_TEXT_TO_CHAT and not action.control_id:
        return "" if action.text.strip() else "a message without text"
    control = screen.control(action.control_id)
    if control is None:
        return f"control {action.control_id!r} is not on screen {screen.name!r}"
    return _find_control_fault(action, control)


def _find_control_fault(action: Action, control: Control) -> str:
    name = f"control {control.control_id!r}"
    if not control.visible:
        return f"{name} is hidden"
    if not control.enabled:
        return f"{name} is disabled"
    if TOOL_OF_KIND[control.kind] is not action.tool:
        return f"{name} is a {control.kind}, not something for {action.tool}"
    if action.tool is Tool.SEND_TEXT_TO_CHAT and (not action.text or action.text != (control.value or control.label)):
        return f"the text is not that of template {control.control_id!r}"
    clears = not action.value and bool(control.options) and control.kind is not ControlKind.RADIO
    if control.kind in CHOICES and action.value not in control.options and not (clears and not control.required):
        return f"value {action.value!r} is not among the options of {name}"
    if action.tool is Tool.FILL_INPUT and control.readonly:
        return f"{name} can only be read"
    if action.tool is Tool.FILL_INPUT and not control.multiline and _CONTROL.search(action.value):
        return f"{name} takes one line"
    return ""
