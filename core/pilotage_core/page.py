"""A page as a browser shows it: which elements one can act on, and what hides or disables them. No layout, no scripts.

In: HTML. Out: elements with role and state; their names and values are in naming.py, what a schema makes of them in
reading.py. Rules are those of HTML-AAM, ARIA 1.2 and Chromium, against whose accessibility tree a contract test holds
them (tests/contract/test_screens_in_chromium.py). What only a style sheet or a script knows is not here: a schema can
say what is hidden or disabled.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from pilotage_core.errors import InvalidScreenError
from pilotage_core.roles import NATIVE, Attributes, is_first, is_focusable, is_labelable, is_true
from pilotage_core.styles import Styled, read_style, read_style_sheet, stronger

ACTIONABLE = (
    "button,select,textarea,input,a[href],a[onclick],summary,[role],[onclick],[contenteditable],[data-control-id],"
    "[tabindex]"
)

_STATEFUL_TAGS = frozenset({"details", "dialog", "noscript", "datalist", "video", "audio", "object", "template"})

_STATEFUL_ATTRIBUTES = frozenset({"hidden", "aria-hidden", "style", "aria-disabled", "inert", "disabled", "popover"})

_TELLING = ",".join(
    [
        "[id],label,style,iframe,object,embed",
        *sorted(_STATEFUL_TAGS),
        *(f"[{name}]" for name in sorted(_STATEFUL_ATTRIBUTES)),
    ]
)

_HIDE_CHILDREN = frozenset({"fieldset", "details"})

MAX_STYLE_RULES = 64
"""Rules of `<style>` elements that are looked at: each costs a search of the page."""

MAX_SCOPES = 64
"""Documents of frames and shadow trees that are read."""

_HOSTS = frozenset(
    "article aside blockquote body div footer h1 h2 h3 h4 h5 h6 header main nav p section span".split()  # noqa: SIM905
)
"""Elements that can have a shadow tree, beside custom ones."""


class ElementState(NamedTuple):
    """What an element has from itself and from what it stands in."""

    gone: bool = False  # display: none, closed details and dialogs, the hidden attribute, …
    invisible: bool = False  # visibility
    unheard: bool = False  # aria-hidden, inert
    fieldset_disabled: bool = False
    aria_disabled: bool = False
    barred: bool = False  # disabled by the schema
    ignored: bool = False  # by the schema

    @property
    def is_shown(self) -> bool:
        """Whether a person is offered it."""
        return not (self.gone or self.invisible or self.unheard)


def collapse(text: str) -> str:
    """`text` with white space as a browser shows it."""
    return " ".join(text.split())


class Scope:
    """One tree of a page: the document, a shadow tree, or the document of a frame. Ids and styles end at its border."""

    def __init__(
        self,
        tree: LexborHTMLParser,
        source: str,
        roots: tuple[LexborNode, ...] | None = None,
        base: ElementState = ElementState(),
        outer: "tuple[Scope, LexborNode] | None" = None,
    ) -> None:
        self.tree, self.source, self._roots, self._base = tree, source, roots, base
        self.outer = outer
        """Of a shadow tree: the scope and the element that it belongs to."""
        self.ids: dict[str, LexborNode] = {}
        self.memo: dict[object, Any] = {}
        """What has been worked out already; what naming.py has, by mem_id."""
        self.frames: list[LexborNode] = []
        self.shadows: dict[int, tuple[LexborNode, tuple[LexborNode, ...]]] = {}
        self._stateful: set[int] = set()
        self._states: dict[int, ElementState] = {}
        self._barred: set[int] = set()
        self._ignored: set[int] = set()
        labels, styles = self._look_around()
        self._styled = self._read_styles(styles)
        self.labels = self._read_labels(labels)

    def css(self, selector: str) -> list[LexborNode]:
        """Elements of this tree that match, each once. Raises SelectolaxError for a selector that is none."""
        if self._roots is None:
            found = self.tree.css(selector)
        else:
            found = [node for root in self._roots for node in root.css(selector)]
        if "," not in selector:
            return found
        return list({node.mem_id: node for node in found}.values())  # lexbor gives one that two of a list match twice

    def hide(self, nodes: list[LexborNode]) -> None:
        """Take `nodes`, and what is in them, for hidden. Before any state is asked for."""
        for node in nodes:
            self._styled[node.mem_id] = Styled(("none", True))

    def bar(self, nodes: list[LexborNode]) -> None:
        """Take `nodes`, and what is in them, for disabled. Before any state is asked for."""
        self._barred.update(node.mem_id for node in nodes)

    def ignore(self, nodes: list[LexborNode]) -> None:
        """Read nothing of `nodes`, and of what is in them. Before any state is asked for."""
        self._ignored.update(node.mem_id for node in nodes)

    def refer(self, ids: str | None) -> list[LexborNode]:
        """The elements that an attribute such as aria-owns names, in its order."""
        return [self.ids[name] for name in (ids or "").split() if name in self.ids]

    def state(self, node: LexborNode) -> ElementState:
        """The state of `node`, by way of what it stands in."""
        key = node.mem_id
        known = self._states.get(key)
        if known is not None:
            return known
        parent = node.parent
        inside = parent is not None and parent.tag is not None and parent.is_element_node
        above = self.state(parent) if inside and parent is not None else self._base
        if key in self._stateful or key in self._styled:
            above = self._own_state(node, above)
        if inside and parent is not None and (parent.mem_id in self._stateful or parent.tag in _HIDE_CHILDREN):
            above = _state_in(node, parent, above)
        if key in self._barred or key in self._ignored:
            above = above._replace(
                barred=above.barred or key in self._barred, ignored=above.ignored or key in self._ignored
            )
        if inside and parent is not None and parent.mem_id in self.shadows and not self._is_slotted(node, parent):
            above = above._replace(gone=True)
        self._states[key] = above
        return above

    def _is_slotted(self, node: LexborNode, host: LexborNode) -> bool:
        """Whether the shadow tree of `host` has a place for this child of it that is shown."""
        key = ("slots", host.mem_id)
        if key not in self.memo:
            slots = [slot for root in self.shadows[host.mem_id][1] for slot in root.css("slot")]
            self.memo[key] = {slot.attributes.get("name") or "" for slot in slots if not _is_within_hidden(slot)}
        return (node.attributes.get("slot") or "") in self.memo[key]

    @property
    def hosting(self) -> set[int]:
        """Elements that have a shadow tree in or under them, by mem_id: what they show is not what stands in them."""
        if "hosting" not in self.memo:
            self.memo["hosting"] = set()
            for host, _ in self.shadows.values():
                around: LexborNode | None = host
                while around is not None and around.mem_id not in self.memo["hosting"]:
                    self.memo["hosting"].add(around.mem_id)
                    around = around.parent
        found: set[int] = self.memo["hosting"]
        return found

    def slotted(self, slot: LexborNode) -> list[LexborNode]:
        """What of this shadow tree's host is shown in `slot`: the first of its name has all of it."""
        if self.outer is None:
            return []
        if "slotted" not in self.memo:
            given: dict[str, list[LexborNode]] = {}
            for child in self.outer[1].iter(include_text=True):
                if child.tag != "template":
                    wanted = "" if child.tag == "-text" else child.attributes.get("slot") or ""
                    given.setdefault(wanted, []).append(child)
            self.memo["slotted"] = {
                each.mem_id: given.pop(each.attributes.get("name") or "", []) for each in self.css("slot")
            }
        found: list[LexborNode] = self.memo["slotted"].get(slot.mem_id, [])
        return found

    def _own_state(self, node: LexborNode, above: ElementState) -> ElementState:
        attributes = node.attributes
        display, visibility = self._find_style(node, attributes)
        disabled = attributes.get("aria-disabled")
        says = bool(disabled) and (disabled or "").lower() != "undefined"
        return ElementState(
            gone=above.gone or display == "none",
            invisible=visibility in ("hidden", "collapse")
            if visibility in ("hidden", "collapse", "visible")
            else above.invisible,
            unheard=above.unheard or is_true(attributes.get("aria-hidden")) or "inert" in attributes,
            fieldset_disabled=above.fieldset_disabled,
            aria_disabled=is_true(disabled) if says else above.aria_disabled,
            barred=above.barred,
            ignored=above.ignored,
        )

    def is_hidden_itself(self, node: LexborNode) -> bool:
        """Whether `node`, apart from what it stands in, is not shown."""
        if node.mem_id not in self._stateful and node.mem_id not in self._styled:
            return False
        attributes = node.attributes
        if is_true(attributes.get("aria-hidden")):
            return True
        display, visibility = self._find_style(node, attributes)
        return display == "none" or visibility in ("hidden", "collapse")

    def _find_style(self, node: LexborNode, attributes: Attributes) -> tuple[str, str]:
        hidden = "hidden" in attributes and (attributes["hidden"] or "").lower() != "until-found"
        hidden = hidden or (node.tag == "dialog" and "open" not in attributes) or "popover" in attributes
        hidden = hidden or node.tag in ("noscript", "datalist", "template")
        display, visibility = ("none" if hidden else "", False), ("", False)
        if node.mem_id not in self._styled and "style" not in attributes:
            return display[0], ""
        sheet, inline = self._styled.get(node.mem_id), read_style(attributes.get("style") or "")
        for styled in (sheet, inline):
            if styled is not None:
                display = stronger(display, styled.display)
                visibility = stronger(visibility, styled.visibility)
        return display[0], visibility[0]

    def _look_around(self) -> tuple[list[LexborNode], list[LexborNode]]:
        """One search for everything that says something of other elements; labels and style sheets are given back."""
        labels, styles = [], []
        for node in self.css(_TELLING):
            attributes = node.attributes
            if "id" in attributes:
                self.ids.setdefault(attributes["id"] or "", node)
            match node.tag:
                case "label":
                    labels.append(node)
                case "style":
                    if (attributes.get("media") or "all").strip().lower() in ("all", "screen"):
                        styles.append(node)
                case "iframe" | "object" | "embed":
                    self.frames.append(node)
                case "template" if "shadowrootmode" in attributes:
                    self._add_shadow(node, attributes)
            if node.tag in _STATEFUL_TAGS or not _STATEFUL_ATTRIBUTES.isdisjoint(attributes):
                self._stateful.add(node.mem_id)
        return labels, styles

    def _add_shadow(self, template: LexborNode, attributes: Attributes) -> None:
        """A declarative shadow tree: the first template of a host counts."""
        host, mode = template.parent, (attributes["shadowrootmode"] or "").lower()
        can = host is not None and host.tag is not None and (host.tag in _HOSTS or "-" in host.tag)
        if host is not None and can and mode in ("open", "closed"):
            self.shadows.setdefault(host.mem_id, (host, tuple(template.template_fragments())))

    def _read_styles(self, styles: list[LexborNode]) -> dict[int, Styled]:
        found: dict[int, Styled] = {}
        rules = [rule for style in styles for rule in read_style_sheet(style.text())]
        for selector, styled in rules[:MAX_STYLE_RULES]:
            try:
                nodes = self.css(selector)
            except SelectolaxError:
                continue  # a browser passes over it too
            for node in nodes:
                before = found.get(node.mem_id, Styled())
                found[node.mem_id] = Styled(
                    stronger(before.display, styled.display), stronger(before.visibility, styled.visibility)
                )
        return found

    def _read_labels(self, labels: list[LexborNode]) -> dict[int, list[LexborNode]]:
        found: dict[int, list[LexborNode]] = {}
        for label in labels:
            attributes = label.attributes
            if "for" in attributes:
                target = self.ids.get(attributes["for"] or "\0")
            else:
                inside = label.css("button,input,select,textarea,meter,output,progress")
                target = next((node for node in inside if is_labelable(node)), None)
            if target is not None and is_labelable(target):
                found.setdefault(target.mem_id, []).append(label)
        return found


def _is_within_hidden(node: LexborNode) -> bool:
    """Whether a place in a shadow tree is hidden by its own tree: what is shown there is hidden too."""
    around: LexborNode | None = node
    while around is not None and around.tag is not None and around.is_element_node:
        attributes = around.attributes
        style = attributes.get("style")
        if "hidden" in attributes or "inert" in attributes or is_true(attributes.get("aria-hidden")):
            return True
        if style and (read_style(style).display[0] == "none" or read_style(style).visibility[0] == "hidden"):
            return True
        around = around.parent
    return False


def _state_in(node: LexborNode, parent: LexborNode, state: ElementState) -> ElementState:
    """`state` of a child, after what its parent does to its children."""
    attributes = parent.attributes
    match parent.tag:
        case "details" if "open" not in attributes and not is_first(node, parent, "summary"):
            return state._replace(gone=True)
        case "fieldset" if "disabled" in attributes and not is_first(node, parent, "legend"):
            return state._replace(fieldset_disabled=True)
        case "video" | "audio" | "object":
            return state._replace(gone=True)
    if (attributes.get("hidden") or "").lower() == "until-found":
        return state._replace(gone=True)
    return state


def is_disabled(state: ElementState, node: LexborNode, attributes: Attributes, role: str) -> bool:
    """Whether a browser lets nobody use `node`. A native disabled beats aria-disabled, which focusable ones inherit."""
    if state.barred or (node.tag in NATIVE and ("disabled" in attributes or state.fieldset_disabled)):
        return True
    own = attributes.get("aria-disabled")
    if own and own.lower() != "undefined":
        return is_true(own)
    return state.aria_disabled and is_focusable(node, attributes, role)


Waiting = tuple[LexborHTMLParser, str, tuple[LexborNode, ...] | None, ElementState, tuple[Scope, LexborNode] | None]


def list_scopes(tree: LexborHTMLParser, html: str, parse: Callable[[str], LexborHTMLParser]) -> Iterator[Scope]:
    """The scope of the document `html`, which `tree` is, and those of shadow trees and frames in it.

    Not reached: frames with an address of their own, and shadow trees that a script makes. Raises InvalidScreenError
    for more than MAX_SCOPES, and what `parse` raises.
    """
    waiting: list[Waiting] = [(tree, html, None, ElementState(), None)]
    for _ in range(MAX_SCOPES):
        if not waiting:
            return
        scope = Scope(*waiting.pop(0))
        yield scope
        for host, roots in scope.shadows.values():
            waiting.append((scope.tree, scope.source, roots, scope.state(host), (scope, host)))
        for frame in scope.frames:
            if "srcdoc" not in frame.attributes:
                continue
            state = scope.state(frame)
            source = frame.attributes["srcdoc"] or ""
            inside = ElementState(state.gone, state.invisible, state.unheard, ignored=state.ignored)
            waiting.append((parse(source), source, None, inside, None))
    if waiting:
        raise InvalidScreenError(
            f"more than {MAX_SCOPES} frames and shadow trees", where="html", remedy="send less of the page"
        )
