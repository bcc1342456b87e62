"""A screen as typed controls, and the reading of HTML into it by a declarative schema (selectolax).

In: HTML and a `ScreenSchema`. Out: a `Screen`. Unknown actionable elements are kept, flagged and counted, never
dropped.
Not here: the session around the screen (state.py).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec
from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from pilotage_core.errors import InvalidScreenError


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
    multiline: bool = False


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


UNREAD = "unread"
"""The name of a screen that is over a limit: nothing of it was read."""
MAX_CONTROLS = 8_000
MAX_SCREEN_CHARS = 256 * 1024
MAX_SCREEN_TAGS = 8_000
MAX_SCREEN_DEPTH = 200

_DEEP = ">".join("*" * 25)
_DEEPER_THAN_LIMIT = ">".join("*" * (MAX_SCREEN_DEPTH + 1))
_ACTIONABLE = "button,select,textarea,input,a[href],summary,[role],[onclick],[contenteditable],[data-control-id]"
_CONCEALING = "[hidden],[aria-hidden],[style],[aria-disabled],[inert],fieldset[disabled]"
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_KIND_OF_ROLE = {
    "button": ControlKind.BUTTON,
    "link": ControlKind.BUTTON,
    "menuitem": ControlKind.BUTTON,
    "tab": ControlKind.BUTTON,
    "switch": ControlKind.BUTTON,
    "checkbox": ControlKind.BUTTON,
    "option": ControlKind.ROW,
    "row": ControlKind.ROW,
    "radio": ControlKind.RADIO,
    "combobox": ControlKind.COMBO_BOX,
    "listbox": ControlKind.SELECT,
    "textbox": ControlKind.INPUT,
    "searchbox": ControlKind.INPUT,
    "spinbutton": ControlKind.INPUT,
}
_KIND_OF_TAG = {
    "button": ControlKind.BUTTON,
    "a": ControlKind.BUTTON,
    "summary": ControlKind.BUTTON,
    "select": ControlKind.SELECT,
    "textarea": ControlKind.INPUT,
    "tr": ControlKind.ROW,
}
_ACTIONABLE_TAGS = frozenset({"button", "select", "textarea", "input", "a", "summary"})
_KIND_OF_INPUT_TYPE = {
    "radio": ControlKind.RADIO,
    "checkbox": ControlKind.BUTTON,
    "button": ControlKind.BUTTON,
    "submit": ControlKind.BUTTON,
    "reset": ControlKind.BUTTON,
    "image": ControlKind.BUTTON,
}
_GENERIC_RULE = ControlRule(selector="", kind=ControlKind.BUTTON)


def read_screen(html: str, schemas: Sequence[ScreenSchema]) -> Screen:
    """Read `html` by the first schema that applies, or by ARIA roles where none does (screen name "aria"). Total.

    Actionable elements that no rule names are kept with `known=False` and counted in `unknown_controls`; so are all
    elements with an id that several have. A page over a limit, or without a control that its schema requires, has a
    `fault`.
    """
    try:
        return _read_screen(html, schemas)
    except InvalidScreenError as error:
        return Screen(name=UNREAD, fault=str(error))


def _read_screen(html: str, schemas: Sequence[ScreenSchema]) -> Screen:
    tree = _parse(html)
    schema = next((s for s in schemas if _find_all(tree, s.applies, f"schema {s.name}: applies")), None)
    chosen = schema or ScreenSchema(name="aria", applies="*", announcements="[role=status],[role=alert],[aria-live]")
    controls = _mark_repeated(_read_controls(tree, chosen, by_aria=schema is None))
    titles = _find_all(tree, chosen.title, f"schema {chosen.name}: title") if chosen.title else []
    return Screen(
        name=chosen.name,
        title=_text(titles[0]) if titles else "",
        controls=controls,
        facts=_read_facts(tree, chosen),
        announcements=_read_announcements(tree, chosen),
        unknown_controls=sum(not c.known for c in controls),
        recognised=schema is not None,
        fault=_find_missing(chosen, controls),
    )


def admit_screen(screen: Screen, schemas: Sequence[ScreenSchema]) -> Screen:
    """A typed `screen` as an adapter sent it, held against the schema of its name: nothing else recognises it."""
    schema = next((s for s in schemas if s.name == screen.name), None)
    controls = _mark_repeated(screen.controls)
    fault = screen.fault
    if len(controls) > MAX_CONTROLS:
        controls, fault = (), f"{len(controls)} controls, the limit is {MAX_CONTROLS}"
    elif schema is not None and not fault:
        fault = _find_missing(schema, controls)
    return msgspec.structs.replace(
        screen,
        controls=controls,
        unknown_controls=sum(not c.known for c in controls),
        recognised=schema is not None,
        fault=fault,
    )


def _mark_repeated(controls: Sequence[Control]) -> tuple[Control, ...]:
    """`controls`; of those that share an id none is known: an action would not say which of them it means."""
    times = Counter(control.control_id for control in controls)
    if len(times) == len(controls):
        return tuple(controls)
    return tuple(msgspec.structs.replace(c, known=False) if times[c.control_id] > 1 else c for c in controls)


def _parse(html: str) -> LexborHTMLParser:
    # Tags are counted before parsing: building a tree takes time quadratic in its depth.
    if len(html) > MAX_SCREEN_CHARS:
        raise InvalidScreenError(
            f"{len(html)} characters, the limit is {MAX_SCREEN_CHARS}", where="html", remedy="send less of the page"
        )
    if (tags := html.count("<")) > MAX_SCREEN_TAGS:
        raise InvalidScreenError(
            f"{tags} tags, the limit is {MAX_SCREEN_TAGS}", where="html", remedy="send less of the page"
        )
    tree = LexborHTMLParser(html)
    # The long selector is slow to compile, and hardly any page nests deep enough to need it.
    if tree.css_first(_DEEP) is not None and tree.css_first(_DEEPER_THAN_LIMIT) is not None:
        raise InvalidScreenError(
            f"nested deeper than {MAX_SCREEN_DEPTH} elements, which is the limit",
            where="html",
            remedy="flatten the page",
        )
    return tree


def _find_all(tree: LexborHTMLParser, selector: str, where: str) -> list[LexborNode]:
    try:
        return tree.css(selector)
    except SelectolaxError as error:
        raise InvalidScreenError(f"{selector!r} is no CSS selector: {error}", where=where) from error


def _read_controls(tree: LexborHTMLParser, schema: ScreenSchema, by_aria: bool) -> tuple[Control, ...]:
    rules: dict[int, ControlRule] = {}
    for position, rule in enumerate(schema.controls):
        for node in _find_all(tree, rule.selector, f"schema {schema.name}: controls[{position}]"):
            rules.setdefault(node.mem_id, rule)
    hidden, disabled = _find_concealed(tree)
    controls: list[Control] = []
    for key, node in _find_actionable(tree, schema, rules).items():
        found = _read_control(node, rules.get(key), by_aria, len(controls))
        if found is None:
            continue
        if key in hidden:
            found = msgspec.structs.replace(found, visible=False)
        if key in disabled:
            found = msgspec.structs.replace(found, enabled=False)
        controls.append(found)
    return tuple(controls)


def _find_actionable(
    tree: LexborHTMLParser, schema: ScreenSchema, rules: Mapping[int, ControlRule]
) -> dict[int, LexborNode]:
    """Elements that are controls, by the schema or by their nature, in document order."""
    found = {node.mem_id: node for node in tree.css(_ACTIONABLE)}
    if rules.keys() <= found.keys():
        return found
    every = ",".join((*(rule.selector for rule in schema.controls), _ACTIONABLE))
    return {node.mem_id: node for node in tree.css(every)}


def _find_concealed(tree: LexborHTMLParser) -> tuple[set[int], set[int]]:
    """Elements that are hidden, and elements that are disabled, by themselves or by something around them."""
    hidden: set[int] = set()
    disabled: set[int] = set()
    # In document order: what lies inside a root seen before is in its set already.
    for node in tree.css(_CONCEALING):
        attributes = node.attributes
        if (
            "hidden" in attributes
            or attributes.get("aria-hidden") == "true"
            or _HIDING_STYLE.search(attributes.get("style") or "")
        ):
            _add_with_inside(node, hidden)
        if "inert" in attributes or "disabled" in attributes or attributes.get("aria-disabled") == "true":
            _add_with_inside(node, disabled)
    return hidden, disabled


def _add_with_inside(root: LexborNode, found: set[int]) -> None:
    if root.mem_id not in found:
        found.add(root.mem_id)
        if root.child is not None:
            found.update(node.mem_id for node in root.css("*"))


def _read_control(node: LexborNode, rule: ControlRule | None, by_aria: bool, position: int) -> Control | None:
    attributes = node.attributes
    if rule is not None:
        kind, known = rule.kind, True
    else:
        tag = node.tag or ""
        if not _is_actionable(tag, attributes):
            return None
        kind = _kind_of(tag, attributes)
        rule, known = _GENERIC_RULE, False
    name = _part(node, attributes, rule.control_id)
    label = _part(node, attributes, rule.label) if rule.label else _label(node, attributes)
    if not known:
        known = by_aria and bool(label)
        name = name or attributes.get("id") or attributes.get("name") or f"unknown:{position}"
    options: tuple[str, ...] = ()
    value = _part(node, attributes, rule.value) if rule.value else ""
    if kind in (ControlKind.SELECT, ControlKind.COMBO_BOX) and rule.options:
        options, chosen = _read_options(node, rule.options)
        value = value or chosen
    return Control(
        control_id=name or f"unknown:{position}",
        kind=kind,
        label=label,
        value=value,
        options=options,
        required=_has_part(node, attributes, rule.required),
        enabled="disabled" not in attributes and attributes.get("aria-disabled") != "true",
        pii=_part(node, attributes, rule.pii) if rule.pii else "",
        known=known and bool(name),
    )


def _is_actionable(tag: str, attributes: Mapping[str, str | None]) -> bool:
    role = attributes.get("role") or ""
    if attributes.get("type") == "hidden" or (role == "row" and "tabindex" not in attributes):
        return False
    by_nature = tag in _ACTIONABLE_TAGS or "onclick" in attributes or "contenteditable" in attributes
    return by_nature or "data-control-id" in attributes or role in _KIND_OF_ROLE


def _kind_of(tag: str, attributes: Mapping[str, str | None]) -> ControlKind:
    kind = _KIND_OF_ROLE.get(attributes.get("role") or "")
    if kind is None and tag == "input":
        kind = _KIND_OF_INPUT_TYPE.get(attributes.get("type") or "", ControlKind.INPUT)
    return kind or _KIND_OF_TAG.get(tag, ControlKind.BUTTON)


def _read_options(node: LexborNode, selector: str) -> tuple[tuple[str, ...], str]:
    chosen = ""
    options: list[str] = []
    for option in node.css(selector):
        text = option.text(strip=True)
        if text:
            options.append(text)
            if "selected" in option.attributes:
                chosen = text
    return tuple(options), chosen


def _label(node: LexborNode, attributes: Mapping[str, str | None]) -> str:
    named = attributes.get("aria-label") or attributes.get("title") or attributes.get("placeholder")
    if named or node.tag in ("input", "select"):
        return named or attributes.get("name") or ""
    return _text(node)


def _part(node: LexborNode, attributes: Mapping[str, str | None], part: str) -> str:
    if part.startswith("@"):
        return attributes.get(part[1:]) or ""
    if not part:
        return _text(node)
    found = node.css_first(part)
    return _text(found) if found is not None else ""


def _has_part(node: LexborNode, attributes: Mapping[str, str | None], part: str) -> bool:
    if part.startswith("@"):
        return part[1:] in attributes
    return bool(part) and node.css_first(part) is not None


def _text(node: LexborNode) -> str:
    return " ".join(node.text().split())  # as a browser shows it


def _read_facts(tree: LexborHTMLParser, schema: ScreenSchema) -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    for position, rule in enumerate(schema.facts):
        for node in _find_all(tree, rule.selector, f"schema {schema.name}: facts[{position}]"):
            attributes = node.attributes
            facts.append((_part(node, attributes, rule.key), _part(node, attributes, rule.value)))
    return tuple(facts)


def _read_announcements(tree: LexborHTMLParser, schema: ScreenSchema) -> tuple[str, ...]:
    if not schema.announcements:
        return ()
    found = _find_all(tree, schema.announcements, f"schema {schema.name}: announcements")
    return tuple(text for node in found if (text := _text(node)))


def _find_missing(schema: ScreenSchema, controls: tuple[Control, ...]) -> str:
    """Which control that the schema requires is not there; empty where all are."""
    missing = [p for p in schema.required_controls if not any(fnmatchcase(c.control_id, p) for c in controls)]
    if not missing:
        return ""
    return f"screen {schema.name}: no control matches {missing[0]!r} (the page or its schema has changed)"
