"""What a query of the data is on a form: typed values, the button, the result shown. Pure.

The data writes conditions as calls (`api.is_at_most(3)`); on a form they stand as one would type them.
"""

import json
import re
from typing import Any

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_simulator.star import FormInput, StarEvent

COMBO_BOX_FROM = 9
"""Inputs with this many options are combo boxes, those with fewer are selects."""

_CALL = re.compile(r"^api\.(\w+)\((.*)\)$", re.DOTALL)


class Result(msgspec.Struct, frozen=True):
    """What a submit returned: the facts shown (none: nothing found)."""

    facts: tuple[tuple[str, str], ...]


def read_constraints(constraints: tuple[dict[str, Any], ...]) -> tuple[dict[str, str], str]:
    """Filled values by input, and the control id of the button (`RequestType` names it)."""
    values: dict[str, str] = {}
    button = "submit"
    for constraint in constraints:
        for name, given in constraint.items():
            value = read_value(str(given))
            if name == "RequestType":
                button = f"submit:{value.lower()}"
            elif value:
                values[name] = value
    return values, button


def read_value(given: str) -> str:
    """A constraint as one would type it: `"PNC"` → PNC, `api.is_at_most(3)` → at most 3, null → nothing."""
    call = _CALL.match(given)
    operator, argument = (call[1], call[2]) if call else ("", given)
    try:
        decoded = json.loads(argument)
    except ValueError:
        decoded = argument
    if decoded is None or decoded == "":
        return ""
    value = ", ".join(str(part) for part in decoded) if isinstance(decoded, list) else str(decoded)
    words = "" if operator in ("", "is_equal_to") else operator.removeprefix("is_").replace("_", " ") + " "
    return words + value


def build_fill(name: str, value: str, given: FormInput | None) -> Action:
    """The action that puts `value` into the input `name`."""
    tool = Tool.FILL_INPUT
    if given is not None and given.options:
        many = len(given.options) >= COMBO_BOX_FROM
        tool = Tool.SELECT_ELEMENT_IN_COMBO_BOX if many else Tool.SELECT_ELEMENT_IN_SELECT
    return Action(tool, control_id=f"input:{name}", value=value)


def build_result(event: StarEvent) -> Result:
    """What the screen shows of a result."""
    item = event.item or {}
    shown = [(key, _as_text(value)) for key, value in sorted(item.items()) if value not in (None, "")]
    return Result((("Found", "1" if item else "0"), *shown))


def _as_text(value: Any) -> str:
    return ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
