"""Radio buttons of one group read as one control.

In: controls and the buttons among them. Out: controls. Not here: which elements are radio buttons (reading.py).
"""

from collections.abc import Sequence

import msgspec
from selectolax.lexbor import LexborNode

from pilotage_core.naming import find_name
from pilotage_core.page import Scope
from pilotage_core.roles import Attributes
from pilotage_core.screen import Control, ControlRule


class Radio(msgspec.Struct, frozen=True):
    """One radio button: where it stands among the controls, what it is a choice of, and what that is called."""

    position: int
    group: tuple[int, str]
    label: str
    control_id: str


def find_group(
    scope: Scope, node: LexborNode, attributes: Attributes, control: Control, rule: ControlRule | None, position: int
) -> Radio:
    """The group of a radio button: native ones share form and name, others a radiogroup or fieldset."""
    name, native = attributes.get("name") or "", node.tag == "input"
    form = attributes.get("form")
    owner = scope.ids.get(form) if form and native else _ancestor(node, "form")
    box = _ancestor(node, "fieldset")
    label = control_id = ""
    if box is not None:
        role = "radiogroup" if (box.attributes.get("role") or "") == "radiogroup" else "group"
        label = find_name(scope, box, box.attributes, role)
        control_id = box.attributes.get("data-control-id") or ("" if native else box.attributes.get("id") or "")
    own = control.control_id if rule is not None and rule.control_id != "@data-control-id" else ""
    if native and name:
        key = (owner.mem_id if owner is not None else 0, name)
    else:
        key = (box.mem_id if box is not None and not native else node.mem_id, "")
    return Radio(position, key, label, own or control_id or name)


def _ancestor(node: LexborNode, tag: str) -> LexborNode | None:
    """The nearest `tag` around `node`; for a fieldset, a radiogroup does as well."""
    around = node.parent
    while around is not None and around.tag is not None:
        radios = tag == "fieldset" and (around.attributes.get("role") or "").lower() == "radiogroup"
        if around.tag == tag or radios:
            return around
        around = around.parent
    return None


def join_radios(controls: Sequence[Control], radios: Sequence[Radio]) -> list[Control]:
    """`controls` with the radio buttons of each group as one, where its first one stands."""
    groups: dict[tuple[int, str], list[Radio]] = {}
    for radio in radios:
        groups.setdefault(radio.group, []).append(radio)
    firsts = {members[0].position: members for members in groups.values()}
    parts = {radio.position for radio in radios}
    joined = []
    for position, control in enumerate(controls):
        if position in firsts:
            members = firsts[position]
            joined.append(_join(members[0], [controls[member.position] for member in members]))
        elif position not in parts:
            joined.append(control)
    return joined


def _join(radio: Radio, members: Sequence[Control]) -> Control:
    first = members[0]
    checked = [c.label for c in members if c.value]
    return msgspec.structs.replace(
        first,
        control_id=first.control_id if len({c.control_id for c in members}) == 1 else radio.control_id,
        label=radio.label or (first.label if len(members) == 1 else ""),
        value=checked[-1] if checked else "",
        options=tuple(c.label for c in members if c.visible and c.enabled),
        required=any(c.required for c in members),
        visible=any(c.visible for c in members),
        enabled=any(c.enabled for c in members),
        known=all(c.known for c in members),
    )
