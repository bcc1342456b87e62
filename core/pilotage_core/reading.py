"""The reading of HTML into a `Screen` by declarative schemas. Total: whatever is wrong with a page is its `fault`.

In: HTML and `ScreenSchema`s. Out: a `Screen`. Unknown actionable elements are kept, flagged and counted, never dropped.
Not here: what a browser makes of an element (page.py, naming.py).
"""

import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from pilotage_core.errors import InvalidScreenError
from pilotage_core.naming import find_name, find_options, find_value, read_text
from pilotage_core.page import ACTIONABLE, ElementState, Scope, collapse, is_disabled, list_scopes
from pilotage_core.parsing import FrameParser, parse
from pilotage_core.radios import Radio, find_group, join_radios
from pilotage_core.roles import (
    INPUT_ROLES,
    NATIVE,
    Attributes,
    find_role,
    input_type,
    is_editable,
    is_readonly,
    is_true,
)
from pilotage_core.screen import Control, ControlKind, ControlRule, Screen, ScreenSchema

UNREAD = "unread"
"""The name of a screen that is over a limit: nothing of it was read."""

MAX_CONTROLS = 8_000

_CUSTOM = re.compile(r"</[A-Za-z][A-Za-z0-9]*-")

_KIND_OF_ROLE = {
    "button": ControlKind.BUTTON,
    "link": ControlKind.BUTTON,
    "summary": ControlKind.BUTTON,
    "menuitem": ControlKind.BUTTON,
    "menuitemcheckbox": ControlKind.BUTTON,
    "menuitemradio": ControlKind.BUTTON,
    "tab": ControlKind.BUTTON,
    "switch": ControlKind.BUTTON,
    "checkbox": ControlKind.BUTTON,
    "treeitem": ControlKind.BUTTON,
    "radio": ControlKind.RADIO,
    "combobox": ControlKind.COMBO_BOX,
    "listbox": ControlKind.SELECT,
    "textbox": ControlKind.INPUT,
    "searchbox": ControlKind.INPUT,
    "spinbutton": ControlKind.INPUT,
    "slider": ControlKind.INPUT,
}

_ONLY_FOCUSED_NAMES = """
dialog alertdialog main region document application article form search
"""

_ONLY_FOCUSED = frozenset(_ONLY_FOCUSED_NAMES.split())
"""What takes the keyboard for what is in it, and cannot be acted on itself."""

_SAYS_ITS_TEXT = frozenset({ControlKind.BUTTON, ControlKind.PROCEDURE, ControlKind.REPLY, ControlKind.ROW})

_GENERIC_RULE = ControlRule(selector="", kind=ControlKind.BUTTON)

_ARIA = ScreenSchema(name="aria", applies="*", announcements="[role=status],[role=alert],[aria-live]")


def read_screen(html: str, schemas: Sequence[ScreenSchema]) -> Screen:
    """Read `html` by the first schema that applies, or by ARIA roles where none does (screen name "aria"). Total.

    Actionable elements that no rule names are kept with `known=False` and counted in `unknown_controls`; so are all
    elements with an id that several have, and places that cannot be looked into are counted. A page over a limit, or
    without a control that its schema requires, has a `fault`.
    """
    try:
        return _read(html, schemas)
    except InvalidScreenError as error:
        return Screen(name=UNREAD, fault=str(error))
    except RecursionError:
        return Screen(name=UNREAD, fault="html: nested too deep within a frame or shadow tree")


def check_schemas(schemas: Sequence[ScreenSchema]) -> None:
    """Try every selector of `schemas`. Raises InvalidScreenError naming the first that is none."""
    tree = LexborHTMLParser("<p></p>")
    for schema in schemas:
        for where, selector in _list_selectors(schema):
            if selector.count(":has(") > 1:
                what = f"{selector!r} has more than one :has(), which takes seconds on a large page"
                raise InvalidScreenError(what, where=f"schema {schema.name}: {where}")
            try:
                tree.css(selector)
            except SelectolaxError as error:
                raise InvalidScreenError(
                    f"{selector!r} is no CSS selector: {error}", where=f"schema {schema.name}: {where}"
                ) from error


def admit_screen(screen: Screen, schemas: Sequence[ScreenSchema]) -> Screen:
    """A typed `screen` as an adapter sent it, held against the schema of its name: nothing else recognises it."""
    schema = next((s for s in schemas if s.name == screen.name), None)
    controls = _mark_repeated(screen.controls, frozenset())
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


def _read(html: str, schemas: Sequence[ScreenSchema]) -> Screen:
    tree = parse(html)
    schema = next((s for s in schemas if _find_all(tree, s.applies, f"schema {s.name}: applies")), None)
    chosen = schema or _ARIA
    scopes = list(list_scopes(tree, html, FrameParser(html)))
    closed = sum(_count_closed(scope) for scope in scopes)
    for scope in scopes:
        _apply_states(scope, chosen)
    controls = _mark_repeated(
        [control for scope in scopes for control in _read_controls(scope, chosen)],
        _find_repeated(scopes, schema) if schema is not None else frozenset(),
    )
    titles = _find_all(tree, chosen.title, f"schema {chosen.name}: title") if chosen.title else []
    return Screen(
        name=chosen.name,
        title=collapse(read_text(scopes[0], titles[0])) if titles else "",
        controls=controls,
        facts=_read_facts(scopes, chosen),
        announcements=_read_announcements(scopes, chosen),
        unknown_controls=sum(not c.known for c in controls) + closed,
        recognised=schema is not None,
        fault=_find_missing(chosen, controls),
    )


def _find_all(tree: LexborHTMLParser | Scope, selector: str, where: str) -> list[LexborNode]:
    try:
        return tree.css(selector)
    except SelectolaxError as error:
        raise InvalidScreenError(f"{selector!r} is no CSS selector: {error}", where=where) from error


def _list_selectors(schema: ScreenSchema) -> Iterator[tuple[str, str]]:
    yield "applies", schema.applies
    for name in ("title", "announcements"):
        if selector := getattr(schema, name):
            yield name, selector
    for name in ("hidden", "disabled", "ignored"):
        for place, selector in enumerate(getattr(schema, name)):
            yield f"{name}[{place}]", selector
    for place, rule in enumerate(schema.controls):
        yield f"controls[{place}]", rule.selector
        for part in ("control_id", "label", "value", "options", "required", "pii"):
            if (selector := getattr(rule, part)) and not selector.startswith("@"):
                yield f"controls[{place}].{part}", selector
    for place, fact in enumerate(schema.facts):
        yield f"facts[{place}]", fact.selector
        for part in ("key", "value"):
            if (selector := getattr(fact, part)) and not selector.startswith("@"):
                yield f"facts[{place}].{part}", selector


def _apply_states(scope: Scope, schema: ScreenSchema) -> None:
    for name, mark in (("hidden", scope.hide), ("disabled", scope.bar), ("ignored", scope.ignore)):
        for place, selector in enumerate(getattr(schema, name)):
            mark(_find_all(scope, selector, f"schema {schema.name}: {name}[{place}]"))


def _count_closed(scope: Scope) -> int:
    """Places that may hold controls and cannot be looked into: frames with an address, elements that scripts fill."""
    frames = sum("srcdoc" not in frame.attributes for frame in scope.frames)
    if _CUSTOM.search(scope.source) is None:
        return frames
    own = [node for node in scope.css("*:not(:has(*))") if "-" in (node.tag or "")]
    return frames + sum(node.mem_id not in scope.shadows and not node.attributes.get("role") for node in own)


# --- controls ---------------------------------------------------------------------------------------------------------
def _read_controls(scope: Scope, schema: ScreenSchema) -> list[Control]:
    rules: dict[int, ControlRule] = {}
    for position, rule in enumerate(schema.controls):
        for node in _find_all(scope, rule.selector, f"schema {schema.name}: controls[{position}]"):
            rules.setdefault(node.mem_id, rule)
    by_aria = schema is _ARIA
    controls: list[Control] = []
    radios: list[Radio] = []
    for key, node in _find_actionable(scope, schema, rules).items():
        attributes, rule_of = node.attributes, rules.get(key)
        role, state = find_role(scope.ids, node, attributes), scope.state(node)
        if state.ignored or (rule_of is None and not _is_actionable(node, attributes, role)):
            continue
        control = _read_control(scope, node, attributes, role, state, rule_of, by_aria, len(controls))
        if control.kind is ControlKind.RADIO:
            radios.append(find_group(scope, node, attributes, control, rule_of, len(controls)))
        controls.append(control)
    return join_radios(controls, radios) if radios else controls


def _find_actionable(scope: Scope, schema: ScreenSchema, rules: Mapping[int, ControlRule]) -> dict[int, LexborNode]:
    """Elements that are controls, by the schema or by their nature, in document order."""
    found = {node.mem_id: node for node in scope.css(ACTIONABLE)}
    if rules.keys() <= found.keys():
        return found
    every = ",".join((*(rule.selector for rule in schema.controls), ACTIONABLE))
    return {node.mem_id: node for node in scope.css(every)}


def _is_actionable(node: LexborNode, attributes: Attributes, role: str) -> bool:
    """Whether one can act on an element that no rule names."""
    if node.tag == "input" and input_type(attributes) == "hidden":
        return False
    if node.tag == "button" and node.parent is not None and node.parent.tag == "select":
        return False  # it shows what is selected
    if role in _KIND_OF_ROLE or node.tag in NATIVE or is_editable(attributes):
        return True
    if "onclick" in attributes or "data-control-id" in attributes:
        return True
    if role in _ONLY_FOCUSED or node.tag in ("main", "dialog", "body", "video", "audio", "iframe"):
        return False
    index = (attributes.get("tabindex") or "").strip()
    return index.lstrip("+").isdecimal() and role != "option"


def _read_control(
    scope: Scope,
    node: LexborNode,
    attributes: Attributes,
    role: str,
    state: ElementState,
    rule: ControlRule | None,
    by_aria: bool,
    position: int,
) -> Control:
    kind = rule.kind if rule is not None else _kind_of(node, attributes, role)
    made = rule or _GENERIC_RULE
    name = _part(scope, node, attributes, made.control_id)
    if rule is None:
        name = name or attributes.get("id") or attributes.get("name") or ""
    named = _part(scope, node, attributes, made.label) if made.label else find_name(scope, node, attributes, role)
    if not named and kind in _SAYS_ITS_TEXT:
        named = collapse(read_text(scope, node))
    label = named or ((attributes.get("name") or "") if rule is None else "")
    known = by_aria and bool(label) if rule is None else True
    value = find_value(scope, node, attributes, role)
    if made.value != "@value":
        value = _part(scope, node, attributes, made.value) if made.value else ""
    return Control(
        control_id=name or f"unknown:{position}",
        kind=kind,
        label=label,
        value=value,
        options=_read_options(scope, node, attributes, role, kind, made),
        required=_has_part(node, attributes, made.required) or is_true(attributes.get("aria-required")),
        visible=state.is_shown,
        enabled=not is_disabled(state, node, attributes, role),
        pii=_part(scope, node, attributes, made.pii) if made.pii else "",
        known=known and bool(name) and node.mem_id not in scope.hosting,
        multiline=node.tag == "textarea" or is_editable(attributes) or is_true(attributes.get("aria-multiline")),
        readonly=is_readonly(node, attributes, role),
    )


def _kind_of(node: LexborNode, attributes: Attributes, role: str) -> ControlKind:
    if node.tag == "select":
        return ControlKind.SELECT
    if node.tag == "input" and input_type(attributes) == "file":
        return ControlKind.BUTTON
    if role == "row" or (node.tag == "tr" and role not in _KIND_OF_ROLE):
        return ControlKind.ROW
    if is_editable(attributes) and role == "generic":
        return ControlKind.INPUT
    if role not in _KIND_OF_ROLE and node.tag == "input":
        role = INPUT_ROLES[input_type(attributes)]
    return _KIND_OF_ROLE.get(role, ControlKind.ROW if role == "option" else ControlKind.BUTTON)


def _read_options(
    scope: Scope, node: LexborNode, attributes: Attributes, role: str, kind: ControlKind, rule: ControlRule
) -> tuple[str, ...]:
    if kind not in (ControlKind.SELECT, ControlKind.COMBO_BOX) or not rule.options:
        return ()
    if rule.options == "option":
        return find_options(scope, node, attributes, role if role in ("combobox", "listbox") else "combobox")
    texts = (collapse(read_text(scope, option)) for option in node.css(rule.options))
    return tuple(text for text in texts if text)


def _mark_repeated(controls: Sequence[Control], repeated: frozenset[str]) -> tuple[Control, ...]:
    """`controls`; of those that share an id, or have one of `repeated`, none is known: an action would not say which
    of them it means. Nor is one that offers two choices of one label.
    """
    times = Counter(control.control_id for control in controls)

    def is_doubtful(control: Control) -> bool:
        options = control.options
        return times[control.control_id] > 1 or control.control_id in repeated or len(set(options)) < len(options)

    return tuple(msgspec.structs.replace(c, known=False) if c.known and is_doubtful(c) else c for c in controls)


def _find_repeated(scopes: Sequence[Scope], schema: ScreenSchema) -> frozenset[str]:
    """Ids that several elements of a page have, controls or not, hidden or not. Radio buttons share theirs."""
    repeated: set[str] = set()
    for name in {"data-control-id", *(r.control_id[1:] for r in schema.controls if r.control_id.startswith("@"))}:
        times: Counter[str] = Counter()
        for scope in scopes:
            for node in _find_all(scope, f"[{name}]", f"schema {schema.name}: control_id"):
                attributes = node.attributes
                kind = input_type(attributes) if node.tag == "input" else attributes.get("role") or ""
                if kind != "radio" and not (kind == "hidden" and name == "name"):
                    times[attributes.get(name) or ""] += 1
        repeated |= {value for value, count in times.items() if count > 1}
    return frozenset(repeated)


def _find_missing(schema: ScreenSchema, controls: tuple[Control, ...]) -> str:
    """Which control that the schema requires is not there; empty where all are."""
    ids = [control.control_id for control in controls]
    missing = next((p for p in schema.required_controls if not fnmatch.filter(ids, p)), None)
    if missing is None:
        return ""
    return f"screen {schema.name}: no control matches {missing!r} (the page or its schema has changed)"


# --- parts, facts, announcements --------------------------------------------------------------------------------------
def _part(scope: Scope, node: LexborNode, attributes: Attributes, part: str) -> str:
    if part.startswith("@"):
        return attributes.get(part[1:]) or ""
    if not part:
        return collapse(read_text(scope, node))
    found = node.css_first(part)
    return collapse(read_text(scope, found)) if found is not None else ""


def _has_part(node: LexborNode, attributes: Attributes, part: str) -> bool:
    if part.startswith("@"):
        return part[1:] in attributes
    return bool(part) and node.css_first(part) is not None


def _read_facts(scopes: Sequence[Scope], schema: ScreenSchema) -> tuple[tuple[str, str], ...]:
    facts: list[tuple[str, str]] = []
    for position, rule in enumerate(schema.facts):
        for scope in scopes:
            for node in _find_all(scope, rule.selector, f"schema {schema.name}: facts[{position}]"):
                attributes = node.attributes
                if not scope.state(node).is_shown:
                    continue
                facts.append((_part(scope, node, attributes, rule.key), _part(scope, node, attributes, rule.value)))
    return tuple(facts)


def _read_announcements(scopes: Sequence[Scope], schema: ScreenSchema) -> tuple[str, ...]:
    if not schema.announcements:
        return ()
    where = f"schema {schema.name}: announcements"
    found = ((scope, node) for scope in scopes for node in _find_all(scope, schema.announcements, where))
    return tuple(text for scope, node in found if (text := collapse(read_text(scope, node))))
