"""What an element is called, what it holds and what it can hold: accessible names and values as Chromium computes them.

Sources: Accessible Name and Description Computation 1.2, HTML-AAM 1.0; where Chromium differs, Chromium. Not here:
roles (roles.py), states (page.py). Not to be had without style sheets: text of ::before and ::after.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from selectolax.lexbor import LexborNode

from pilotage_core.page import Scope, collapse
from pilotage_core.roles import Attributes, find_role, input_type, is_editable, is_focusable, is_true

NAMED_FROM_CONTENT_NAMES = """
button link menuitem menuitemcheckbox menuitemradio tab switch checkbox radio treeitem option summary heading
cell gridcell columnheader rowheader row tooltip
"""
NAMED_FROM_CONTENT = frozenset(NAMED_FROM_CONTENT_NAMES.split())
_TEXT_ROLES = frozenset({"textbox", "searchbox", "combobox"})
_SKIPPED_NAMES = """
script style template noscript datalist rt rp object video audio iframe math head title
"""
_SKIPPED = frozenset(_SKIPPED_NAMES.split())
_BLOCKS_NAMES = """
address article aside blockquote button dd details dialog div dl dt fieldset figcaption figure footer form h1
h2 h3 h4 h5 h6 header hr li main nav ol p pre section summary table tbody td th thead tfoot tr ul caption
legend optgroup option
"""
_BLOCKS = frozenset(_BLOCKS_NAMES.split())
_FIELDS = frozenset({"input", "select", "textarea"})
_APART = re.compile(r"(?i)display\s*:\s*(?:block|inline-block|flex|grid|list-item)|float\s*:\s*(?:left|right)")
_NUMBER = re.compile(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
_MOMENTS = {
    kind: re.compile(shape)
    for kind, shape in {
        "date": r"\d{4,}-\d\d-\d\d",
        "month": r"\d{4,}-\d\d",
        "week": r"\d{4,}-W\d\d",
        "time": r"\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?",
        "datetime-local": r"\d{4,}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?",
    }.items()
}


def find_name(scope: Scope, node: LexborNode, attributes: Attributes, role: str) -> str:
    """The accessible name. In order: aria-labelledby, aria-label, labels, own text or value, title, placeholder."""
    referred = attributes.get("aria-labelledby") or attributes.get("aria-labeledby")
    if referred and (named := collapse(" ".join(_named_by(scope, other) for other in scope.refer(referred)))):
        return named
    if named := collapse(attributes.get("aria-label") or ""):
        return named
    labels = scope.labels.get(node.mem_id)
    if labels and (named := collapse(" ".join(_label_text(scope, label, node) for label in labels))):
        return named
    if node.tag == "input":
        if named := _input_name(attributes):
            return named
    elif node.tag == "img":
        if named := collapse(attributes.get("alt") or ""):
            return named
    elif role in NAMED_FROM_CONTENT and (named := collapse(read_text(scope, node, without=_find_below(node, role)))):
        return named
    if named := collapse(attributes.get("title") or ""):
        return named
    if node.tag in _FIELDS or role in _TEXT_ROLES:
        return collapse(attributes.get("placeholder") or attributes.get("aria-placeholder") or "")
    if role in ("group", "radiogroup") and node.tag == "fieldset":
        legend = next((child for child in node.iter() if child.tag == "legend"), None)
        return collapse(read_text(scope, legend)) if legend is not None else ""
    return ""


def _find_below(node: LexborNode, role: str) -> int:
    """Of an item of a tree: the group of the items below it, which have names of their own."""
    if role != "treeitem":
        return 0
    return next((child.mem_id for child in node.iter() if child.attributes.get("role") == "group"), 0)


def _input_name(attributes: Attributes) -> str:
    match input_type(attributes):
        case "submit" | "reset" as kind:
            return collapse(attributes["value"] or "") if "value" in attributes else kind.capitalize()
        case "button":
            return collapse(attributes.get("value") or "")
        case "image":
            return collapse(attributes.get("alt") or attributes.get("value") or attributes.get("title") or "Submit")
    return ""


def _named_by(scope: Scope, node: LexborNode) -> str:
    """What `node` says when it names another element: its label, a field's value, a picture's text. Hidden ones too."""
    attributes = node.attributes
    if label := collapse(attributes.get("aria-label") or ""):
        return label
    if node.tag in _FIELDS:
        return find_value(scope, node, attributes, find_role(scope.ids, node, attributes))
    if node.tag == "img":
        return attributes.get("alt") or ""
    return read_text(scope, node, with_hidden=not scope.state(node).is_shown)


def _label_text(scope: Scope, label: LexborNode, of: LexborNode) -> str:
    if not scope.state(label).is_shown:
        return ""
    attributes = label.attributes
    named = collapse(attributes.get("aria-label") or "")
    return named or collapse(read_text(scope, label, without=of.mem_id)) or (attributes.get("title") or "")


def read_text(scope: Scope, node: LexborNode, *, without: int = 0, with_hidden: bool = False) -> str:
    """The text of what is in `node` as a browser would read it out: fields by their values, pictures by their texts.

    `without` is the mem_id of an element to leave out; `with_hidden` reads what is not shown as well.
    """
    child = node.child
    if child is None:
        return ""
    if child.tag == "-text" and child.next is None:  # nothing else in it, as in most buttons
        return child.text_content or ""
    parts: list[str] = []
    _collect(scope, node.iter(include_text=True), parts, without, with_hidden)
    return "".join(parts)


def _collect(scope: Scope, children: Iterable[LexborNode], parts: list[str], without: int, with_hidden: bool) -> None:
    for child in children:
        tag = child.tag
        if tag == "-text":
            parts.append(child.text_content or "")
            continue
        if tag is None or tag in _SKIPPED or tag[0] in "-!" or child.mem_id == without:
            continue
        if not with_hidden and scope.is_hidden_itself(child):
            continue
        if tag in ("br", "wbr", "hr"):
            parts.append(" ")
        else:
            told = _tell(scope, child, child.attributes)
            if told is not None:
                parts.append(f" {told} ")
            elif tag == "details" and "open" not in child.attributes:
                summary = next((each for each in child.iter() if each.tag == "summary"), None)
                if summary is not None:
                    parts.append(f" {read_text(scope, summary)} ")
            elif child.mem_id in scope.shadows:
                continue  # what is shown there is its shadow tree's: reading.py takes such a control for unknown
            elif tag == "slot" and scope.outer is not None and (given := scope.slotted(child)):
                _collect(scope.outer[0], given, parts, without, with_hidden)
            else:
                apart = tag in _BLOCKS or _stands_apart(child.attributes)
                before, after = ("“", "”") if tag == "q" else (" ", " ") if apart else ("", "")
                parts.append(before)
                _collect(scope, child.iter(include_text=True), parts, without, with_hidden)
                parts.append(after)


def _stands_apart(attributes: Attributes) -> bool:
    style = attributes.get("style")
    return (attributes.get("role") or "") in ("cell", "gridcell", "option") or (
        style is not None and _APART.search(style) is not None
    )


def _tell(scope: Scope, node: LexborNode, attributes: Attributes) -> str | None:
    """What stands for an element within a text, where that is not its own text: then None."""
    tag = node.tag
    if tag == "input" and input_type(attributes) == "hidden":
        return ""
    if tag in _FIELDS:
        role = find_role(scope.ids, node, attributes)
        if role in ("checkbox", "radio", "button"):
            return _input_name(attributes) or collapse(attributes.get("aria-label") or "")
        return find_value(scope, node, attributes, role)
    if label := collapse(attributes.get("aria-label") or ""):
        return label
    if tag == "img":
        return (attributes["alt"] or "") if "alt" in attributes else (attributes.get("title") or "")
    if tag == "svg":
        title = next((child for child in node.iter() if child.tag == "title"), None)
        return title.text() if title is not None else ""
    if tag in ("progress", "meter"):
        return attributes.get("value") or ""
    if (attributes.get("role") or "") == "listbox":
        chosen = (o for o in node.css("[role=option]") if is_true(o.attributes.get("aria-selected")))
        return " ".join(read_text(scope, option) for option in chosen)
    return None


# --- values -----------------------------------------------------------------------------------------------------------
def find_value(scope: Scope, node: LexborNode, attributes: Attributes, role: str) -> str:
    """What an element holds now. A password is never told, only that there is one."""
    tag = node.tag
    if tag == "button" and role != "combobox":
        return find_choice(node, attributes, role)
    if tag == "select":
        return _chosen_option(scope, node, attributes, role)
    if tag == "textarea":
        return node.text()
    if tag == "input":
        if role in ("button", "checkbox", "radio", "switch"):
            return find_choice(node, attributes, role)
        return _input_value(input_type(attributes), attributes)
    if role == "combobox":
        return _combobox_value(scope, node, attributes)
    if role == "listbox":
        chosen = (o for o in node.css("[role=option]") if is_true(o.attributes.get("aria-selected")))
        return "; ".join(collapse(read_text(scope, option)) for option in chosen)
    if role in ("textbox", "searchbox") or is_editable(attributes):
        return collapse(read_text(scope, node))
    if role in ("spinbutton", "slider"):
        return attributes.get("aria-valuetext") or attributes.get("aria-valuenow") or ("50" if role == "slider" else "")
    return find_choice(node, attributes, role)


def _input_value(kind: str, attributes: Attributes) -> str:
    """What a field shows: a browser leaves out of a value what its type does not allow, and fills in what it needs."""
    value = attributes.get("value") or ""
    match kind:
        case "password":
            return "•" * min(len(value), 8)
        case "number":
            return value if _NUMBER.fullmatch(value) else ""
        case "range":
            return _range_value(value, attributes)
        case "color":
            return value.lower() if re.fullmatch("#[0-9a-fA-F]{6}", value) else "#000000"
        case "date" | "time" | "month" | "week" | "datetime-local":
            return value if _MOMENTS[kind].fullmatch(value) else ""
    return value.replace("\r", "").replace("\n", "")


def _range_value(value: str, attributes: Attributes) -> str:
    if _NUMBER.fullmatch(value):
        return value
    low, high = (
        float(said) if _NUMBER.fullmatch(said := attributes.get(name) or "") else default
        for name, default in (("min", 0.0), ("max", 100.0))
    )
    return f"{low if high < low else (low + high) / 2:g}"


def find_choice(node: LexborNode, attributes: Attributes, role: str) -> str:
    """The state of something that is chosen, pressed or opened, as one word; empty where it has none."""
    if node.tag == "input" and input_type(attributes) in ("checkbox", "radio"):  # whatever ARIA says beside it
        return ("pressed" if role == "button" else "checked") if "checked" in attributes else ""
    if role in ("checkbox", "radio", "switch", "menuitemcheckbox", "menuitemradio"):
        said = (attributes.get("aria-checked") or "").lower()
        if said == "mixed":
            return "mixed" if role in ("checkbox", "menuitemcheckbox") else ""
        return "checked" if is_true(said) else ""
    if role == "summary":
        return "expanded" if node.parent is not None and "open" in node.parent.attributes else ""
    for name, word in (("aria-pressed", "pressed"), ("aria-selected", "selected"), ("aria-expanded", "expanded")):
        if is_true(attributes.get(name)):
            return word
    return ""


def _combobox_value(scope: Scope, node: LexborNode, attributes: Attributes) -> str:
    """Its own text, a field in it, or what is selected in the list that it opens."""
    field = next((each for each in node.css("input,select") if each.attributes.get("type") != "hidden"), None)
    if field is not None and (value := find_value(scope, field, field.attributes, "")):
        return value
    select = node.css_first("select")
    if select is not None and (value := find_value(scope, select, select.attributes, "combobox")):
        return value
    if is_focusable(node, attributes, "combobox") and (value := collapse(read_text(scope, node))):
        return value
    lists = scope.refer(attributes.get("aria-owns")) + scope.refer(attributes.get("aria-controls"))
    chosen = (o for each in lists for o in each.css("[role=option]") if is_true(o.attributes.get("aria-selected")))
    return next((collapse(read_text(scope, option)) for option in chosen), "") or collapse(read_text(scope, node))


# --- options ----------------------------------------------------------------------------------------------------------
def find_options(scope: Scope, node: LexborNode, attributes: Attributes, role: str) -> tuple[str, ...]:
    """What can be chosen, by what is shown of it: no disabled one, no empty one."""
    if node.tag == "select":
        return _read_native(scope, node).offered
    if role not in ("combobox", "listbox"):
        return ()
    places = [node, *scope.refer(attributes.get("aria-owns")), *scope.refer(attributes.get("aria-controls"))]
    places += scope.refer(attributes.get("list"))
    for place in places:
        native = _read_native(scope, place).offered
        if native:
            return native
        found = [
            collapse(option.attributes.get("aria-label") or "") or collapse(read_text(scope, option))
            for option in place.css("[role=option]")
            if not is_true(option.attributes.get("aria-disabled"))
        ]
        if found := [option for option in found if option]:
            return tuple(found)
    return ()


class Options(NamedTuple):
    """Of a native list: what can be chosen, what is, and what a browser chooses where nothing is."""

    offered: tuple[str, ...]
    chosen: tuple[str, ...]
    first: str


def _read_native(scope: Scope, node: LexborNode) -> Options:
    known: Options | None = scope.memo.get(node.mem_id)
    if known is not None:
        return known
    offered: list[str] = []
    chosen: list[str] = []
    first: str | None = None
    for option in node.css("option"):
        attributes = option.attributes
        label = _option_label(scope, option, attributes)
        if "selected" in attributes:
            chosen.append(label)
        if "disabled" not in attributes and not _is_in_disabled_group(option):
            first = label if first is None else first
            if label and not is_true(attributes.get("aria-disabled")):
                offered.append(label)
    made = scope.memo[node.mem_id] = Options(tuple(offered), tuple(chosen), first or "")
    return made


def _chosen_option(scope: Scope, select: LexborNode, attributes: Attributes, role: str) -> str:
    options = _read_native(scope, select)
    if "multiple" in attributes:
        return "; ".join(options.chosen)
    if options.chosen:
        return options.chosen[-1]
    return options.first if role == "combobox" else ""


def _is_in_disabled_group(option: LexborNode) -> bool:
    parent = option.parent
    return parent is not None and parent.tag == "optgroup" and "disabled" in parent.attributes


def _option_label(scope: Scope, option: LexborNode, attributes: Attributes) -> str:
    """What is shown of an option; one of a datalist is its value."""
    if attributes.get("value") and option.parent is not None and option.parent.tag == "datalist":
        return collapse(attributes["value"] or "")
    return collapse(attributes.get("label") or "") or collapse(read_text(scope, option))
