"""The desk as pages: what a model sees of it is this and the chat, never an annotation.

Not here: what is enabled and why (desk.py).
"""

from html import escape

from pilotage_core.screen import ControlKind, ControlRule, FactRule, ScreenSchema
from pilotage_simulator.desk.desk import Desk, Reply, find_kind, write_text
from pilotage_simulator.desk.sgd import Slot

SCHEMA = ScreenSchema(
    name="desk",
    applies="body[data-screen=desk]",
    title="h1",
    controls=(
        ControlRule("nav button", ControlKind.PROCEDURE),
        ControlRule("form input[type=text]", ControlKind.INPUT),
        ControlRule("form input[type=radio]", ControlKind.RADIO),
        ControlRule("form select:not([role=combobox])", ControlKind.SELECT),
        ControlRule("form [role=combobox]", ControlKind.COMBO_BOX),
        ControlRule("#submit", ControlKind.BUTTON),
        ControlRule("table button", ControlKind.ROW),
        ControlRule("menu button", ControlKind.REPLY),
    ),
    facts=(FactRule("dd"),),
    required_controls=("open:*",),
)


def build_page(desk: Desk) -> str:
    """The page of `desk` as it is now."""
    parts = [f"<h1>{escape(_title(desk))}</h1>", _procedures(desk)]
    if desk.intent is not None:
        parts.append(_form(desk))
    parts += [_results(desk), "<menu>", *map(_reply, desk.replies()), "</menu>"]
    return f'<!doctype html><html><body data-screen="desk">{"".join(parts)}</body></html>'


def _title(desk: Desk) -> str:
    return f"{desk.service.service_name}: {desk.intent.name}" if desk.service and desk.intent else "Desk"


def _procedures(desk: Desk) -> str:
    buttons = (
        f'<button data-control-id="open:{service.service_name}/{intent.name}">{escape(intent.description)}</button>'
        for service in desk.services.schema.values()
        for intent in service.intents
    )
    return f"<nav>{''.join(buttons)}</nav>"


def _form(desk: Desk) -> str:
    assert desk.service is not None
    assert desk.intent is not None
    slots = [slot for name in desk.fields if (slot := desk.service.slot(name)) is not None]
    fields = "".join(_field(slot, desk.fields[slot.name], slot.name in desk.intent.required_slots) for slot in slots)
    label = desk.submit.capitalize()
    disabled = "" if desk.can_submit else " disabled"
    return f'<form>{fields}<button id="submit" data-control-id="{desk.submit}"{disabled}>{label}</button></form>'


def _field(slot: Slot, value: str, required: bool) -> str:
    name, label, needed = f"slot:{slot.name}", escape(slot.name.replace("_", " ")), " required" if required else ""
    match find_kind(slot):
        case ControlKind.RADIO:
            buttons = "".join(
                f'<label><input type="radio" name="{name}" value="{escape(option)}" data-control-id="{name}"{needed}'
                f"{' checked' if option == value else ''}>{escape(option)}</label>"
                for option in slot.options
            )
            return f"<fieldset><legend>{label}</legend>{buttons}</fieldset>"
        case ControlKind.INPUT:
            return f'<label>{label}<input type="text" data-control-id="{name}" value="{escape(value)}"{needed}></label>'
        case kind:
            options = "".join(
                f"<option{' selected' if option == value else ''}>{escape(option)}</option>"
                for option in ("", *slot.options)
            )
            role = ' role="combobox"' if kind is ControlKind.COMBO_BOX else ""
            return f'<label>{label}<select data-control-id="{name}"{role}{needed}>{options}</select></label>'


def _results(desk: Desk) -> str:
    facts: dict[str, str] = {}
    if desk.answer is not None:
        facts = {"results": str(desk.answer.total), "outcome": "failed" if desk.has_failed else "done"}
        facts |= {f"chosen {slot.replace('_', ' ')}": value for slot, value in (desk.row or {}).items()}
    if "say:goodbye" in desk.said:  # the page moves, so that whoever works it is asked again: it can be ended now
        facts["end"] = "possible"
    told = "".join(
        f'<dt>{escape(key)}</dt><dd data-fact="{escape(key)}">{escape(value)}</dd>' for key, value in facts.items()
    )
    rows = "".join(
        f'<tr><td><button data-control-id="row:{number}">{escape(", ".join(row.values()))}</button></td></tr>'
        for number, row in enumerate(desk.answer.rows if desk.answer is not None else ())
    )
    return f"<dl>{told}</dl><table>{rows}</table>"


def _reply(reply: Reply) -> str:
    return f'<button data-control-id="{escape(reply.control_id)}">{escape(write_text(reply))}</button>'
