"""A screen as typed controls, and the declarative schema by which one is read.

Not here: reading HTML (reading.py, page.py, naming.py), the session around the screen (state.py).
"""

from enum import StrEnum

import msgspec


class ControlKind(StrEnum):
    """What can be done with a control."""

    BUTTON = "button"
    PROCEDURE = "procedure"
    REPLY = "reply"
    ROW = "row"
    RADIO = "radio"
    COMBO_BOX = "combo_box"
    SELECT = "select"
    INPUT = "input"


class Control(msgspec.Struct, frozen=True, omit_defaults=True):
    """One actionable element: `label` is its accessible name, `value` what it holds now, `options` what can be chosen.

    The value of something that is checked, pressed, selected or expanded is that word. Radio buttons of a group are one
    control. `known`: a rule of the schema names it, and no other control has its id.
    """

    control_id: str
    kind: ControlKind
    label: str = ""
    value: str = ""
    options: tuple[str, ...] = ()
    required: bool = False
    visible: bool = True
    enabled: bool = True
    pii: str = ""
    known: bool = True
    multiline: bool = False
    readonly: bool = False


class Screen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the operator sees: a named screen, its controls in document order, and the facts it displays.

    `recognised`: a schema of the process cluster says how this screen is read. `fault` is why it is not what it should
    be (empty: it is): nothing is done on it until another screen passes.
    """

    name: str
    title: str = ""
    controls: tuple[Control, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    announcements: tuple[str, ...] = ()
    unknown_controls: int = 0
    recognised: bool = False
    fault: str = ""

    def control(self, control_id: str) -> Control | None:
        """The control named `control_id`, or None."""
        return next((c for c in self.controls if c.control_id == control_id), None)


class ControlRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Elements that match `selector` (CSS) are controls of `kind`; the rest says where to read their parts.

    A part is read from an attribute (`@name`) or from the text of a descendant (CSS selector). Left alone: id from
    `@data-control-id`, label, value and options as a browser has them (naming.py).
    """

    selector: str
    kind: ControlKind
    control_id: str = "@data-control-id"
    label: str = ""
    value: str = "@value"
    options: str = "option"
    required: str = "@required"
    pii: str = ""


class FactRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Elements that match `selector` are displayed facts: key and value are parts as in `ControlRule`."""

    selector: str
    key: str = "@data-fact"
    value: str = ""


class ScreenSchema(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one kind of screen is read. It applies where `applies` (CSS) matches; the first that applies wins.

    `hidden` and `disabled` (CSS) are what style sheets and scripts hide or disable, with all that is in it; `ignored`
    is not read at all.
    """

    name: str
    applies: str
    title: str = "h1"
    controls: tuple[ControlRule, ...] = ()
    facts: tuple[FactRule, ...] = ()
    announcements: str = ""
    required_controls: tuple[str, ...] = ()
    """Control ids (shell patterns) without which the screen fails its schema."""
    hidden: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
