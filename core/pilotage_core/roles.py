"""What an element is to a person: role, type, whether one can type into it, reach it, look only. Attributes in.

Rules are those of HTML-AAM and ARIA 1.2, as Chromium has them. Not here: what an element has from what it stands in
(page.py).
"""

import re
from collections.abc import Mapping

from selectolax.lexbor import LexborNode

Attributes = dict[str, str | None]

INPUT_ROLES = {
    "button": "button", "submit": "button", "reset": "button", "image": "button", "file": "button",
    "checkbox": "checkbox", "radio": "radio", "range": "slider", "number": "spinbutton", "search": "searchbox",
    "text": "textbox", "email": "textbox", "tel": "textbox", "url": "textbox", "password": "textbox",
    "date": "textbox", "time": "textbox", "datetime-local": "textbox", "month": "textbox", "week": "textbox",
    "color": "textbox", "hidden": "none",
}  # fmt: skip

_WITH_LIST = frozenset(
    ("text", "search", "url", "tel", "email", "number", "date", "time", "month", "week", "datetime-local")
)

_NOT_READONLY = frozenset(
    ("checkbox", "radio", "range", "file", "color", "button", "submit", "reset", "image", "hidden")
)

_ROLES_NAMES = """
alert alertdialog application article banner blockquote button caption cell checkbox code columnheader
combobox complementary contentinfo definition deletion dialog directory document emphasis feed figure form
generic grid gridcell group heading img image insertion link list listbox listitem log main mark marquee math
menu menubar menuitem menuitemcheckbox menuitemradio meter navigation none note option paragraph presentation
progressbar radio radiogroup region row rowgroup rowheader scrollbar search searchbox separator slider
spinbutton status strong subscript superscript switch tab table tablist tabpanel term textbox time timer
toolbar tooltip tree treegrid treeitem
"""

_ROLES = frozenset(_ROLES_NAMES.split())

NATIVE = frozenset({"button", "input", "select", "textarea"})

_NATIVE_ROLES = {"button": "button", "textarea": "textbox"}

_INDEX = re.compile(r"\s*[-+]?\d")


def is_true(value: str | None) -> bool:
    """Whether an ARIA attribute says yes: any value but "", "false" and "undefined"."""
    return value is not None and value.lower() not in ("", "false", "undefined")


def is_first(node: LexborNode, parent: LexborNode, tag: str) -> bool:
    """Whether `node` is the first child of its kind: the summary of a details, the legend of a fieldset."""
    if node.tag != tag:
        return False
    first = next((child for child in parent.iter() if child.tag == tag), None)
    return first is not None and first.mem_id == node.mem_id


def is_labelable(node: LexborNode) -> bool:
    """Whether a label can be of `node`."""
    if node.tag == "input":
        return (node.attributes.get("type") or "").lower() != "hidden"
    return node.tag in ("button", "select", "textarea", "meter", "output", "progress")


def is_editable(attributes: Attributes) -> bool:
    """Whether one can type into an element by its contenteditable."""
    if "contenteditable" not in attributes:
        return False
    return (attributes["contenteditable"] or "").lower() in ("", "true", "plaintext-only")


def find_role(ids: Mapping[str, LexborNode], node: LexborNode, attributes: Attributes) -> str:
    """The role that a browser gives `node`: the first known one it names, else its own; "none" is no role.

    `ids` are the elements of its tree by id.
    """
    tag, said = node.tag, attributes.get("role")
    for named in said.lower().split() if said else ():
        if named in ("none", "presentation"):
            if tag in NATIVE or tag == "summary" or "tabindex" in attributes or (tag == "a" and "href" in attributes):
                break  # what can be reached by keyboard cannot be taken out
            return "none"
        if named in _ROLES:
            return named
    match tag:
        case "input":
            kind = input_type(attributes)
            listed = ids.get(attributes.get("list") or "\0") if kind in _WITH_LIST else None
            return "combobox" if listed is not None and listed.tag == "datalist" else INPUT_ROLES[kind]
        case "a":
            return "link" if "href" in attributes or "onclick" in attributes else "generic"
        case "select":
            size = attributes.get("size") or ""
            rows = int(size) if size.isdecimal() and len(size) < 9 else 0
            return "listbox" if rows > 1 or ("multiple" in attributes and rows != 1) else "combobox"
        case "summary":
            parent = node.parent
            own = parent is not None and parent.tag == "details" and is_first(node, parent, "summary")
            return "summary" if own else "generic"
    return _NATIVE_ROLES.get(tag or "", "generic")


def input_type(attributes: Attributes) -> str:
    """The type of an input as a browser takes it: what it does not know is text."""
    kind = (attributes.get("type") or "text").lower()
    return kind if kind in INPUT_ROLES else "text"


def is_focusable(node: LexborNode, attributes: Attributes, role: str) -> bool:
    """Whether the keyboard can reach `node`."""
    link = node.tag == "a" and "href" in attributes
    index = _INDEX.match(attributes.get("tabindex") or "") is not None
    return node.tag in NATIVE or link or role == "summary" or index or is_editable(attributes)


def is_readonly(node: LexborNode, attributes: Attributes, role: str) -> bool:
    """Whether one can look at `node` and not type into it."""
    typed = node.tag == "textarea" or (node.tag == "input" and input_type(attributes) not in _NOT_READONLY)
    if typed and "readonly" in attributes:
        return True
    return role in ("textbox", "searchbox", "combobox") and is_true(attributes.get("aria-readonly"))
