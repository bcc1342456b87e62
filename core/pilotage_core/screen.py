"""A screen as typed controls, and the reading of HTML into it by a declarative schema (selectolax).

In: HTML and a `ScreenSchema`. Out: a `Screen`. Unknown actionable elements are kept, flagged and counted, never
dropped.
Not here: the session around the screen (state.py).
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
    """One actionable element. `value` is what it holds now; `options` what it can hold (empty: anything)."""

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


class Screen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the operator sees: a named screen, its controls in document order, and the facts it displays."""

    name: str
    title: str = ""
    controls: tuple[Control, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    announcements: tuple[str, ...] = ()
    unknown_controls: int = 0

    def control(self, control_id: str) -> Control | None:
        """The control named `control_id`, or None."""
        return next((c for c in self.controls if c.control_id == control_id), None)


class ControlRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Elements that match `selector` (CSS) are controls of `kind`; the rest says where to read their parts.

    A part is read from an attribute (`@name`) or from the text of a descendant (CSS selector); empty means the default:
    id from `@data-control-id`, label from the element's text, value from `@value`, options from `option` descendants.
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
    """How one kind of screen is read. It applies where `applies` (CSS) matches; the first that applies wins."""

    name: str
    applies: str
    title: str = "h1"
    controls: tuple[ControlRule, ...] = ()
    facts: tuple[FactRule, ...] = ()
    announcements: str = ""
    required_controls: tuple[str, ...] = ()
    """Control ids (shell patterns) without which the screen fails its schema."""
