"""How pages are read, held against Chromium's accessibility tree: what is there, its name, kind, state and value.

Nothing may be offered that Chromium hides or disables. Of all elements one can act on at least 98 % agree in all, and
90 % on each page; every other is listed. Real pages are form-js's, django-helpdesk's and Django admin's; pages of our
own stand for what else needs a server or a build. hack/screens/setup.sh installs what they need.
"""

import asyncio
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from chromium import Element, Seen, find_chromium, run_chromium
from helpdesk_server import INSTALLED, run_helpdesk

from pilotage_core.reading import read_screen
from pilotage_core.screen import Control, ControlKind, Screen, ScreenSchema

HERE = Path(__file__).parent
PAGES = sorted((HERE / "pages").glob("*.html"))
PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None or not INSTALLED.exists(), reason="not installed: hack/screens/setup.sh does it"
)
HELPDESK = (
    *("/tickets/", "/dashboard/", "/tickets/1/", "/tickets/1/edit/", "/tickets/submit/", "/settings/"),
    *("/tickets/1/delete/", "/tickets/1/cc/add/", "/admin/", "/admin/helpdesk/ticket/"),
    *("/admin/helpdesk/ticket/1/change/", "/admin/helpdesk/queue/add/", "/admin/auth/user/1/change/"),
    "/admin/auth/user/add/",
)
SETTLED = "new Promise(done => setTimeout(done, 500))"

KINDS = {
    **dict.fromkeys(("button", "link", "DisclosureTriangle", "DisclosureTriangleGrouped", "tab"), ControlKind.BUTTON),
    **dict.fromkeys(("menuitem", "menuitemcheckbox", "menuitemradio", "switch", "checkbox"), ControlKind.BUTTON),
    "treeitem": ControlKind.BUTTON,
    "row": ControlKind.ROW,  # where it can be acted on
    **dict.fromkeys(("combobox", "ComboBoxMenuButton", "ComboBoxSelect"), ControlKind.COMBO_BOX),
    **dict.fromkeys(("listbox",), ControlKind.SELECT),
    **dict.fromkeys(("textbox", "searchbox", "spinbutton", "slider", "Date"), ControlKind.INPUT),
    **dict.fromkeys(("DateTime", "InputTime", "ColorWell"), ControlKind.INPUT),
    "radio": ControlKind.RADIO,
}
CONTAINERS = ("RootWebArea", "document", "application", "Iframe", "Audio", "Video", "dialog", "main", "region")
TYPED = ("textbox", "searchbox", "combobox", "spinbutton", "slider", "Date", "DateTime", "InputTime", "ColorWell")
SCHEMAS = {
    name: (ScreenSchema(name="page", applies="html", hidden=hidden),)
    for name, hidden in {
        "11-modal-showmodal": ("#bg", "#bgi"),  # a script has opened a modal dialog
        "form-js": (".flatpickr-calendar:not(.open)",),
        "helpdesk": (  # Bootstrap's classes, and the admin's
            *(".dropdown-menu:not(.show)", ".modal:not(.show)", ".offcanvas:not(.show)", ".tab-pane:not(.active)"),
            *(".collapse:not(.show):not(.navbar-collapse)", ".d-none:not(.d-lg-inline):not(.d-md-inline-block)"),
            *(".theme-label-when-light", ".theme-label-when-dark"),
        ),
        "29-style-sheet": ("#s17", "#s20", "#s21"),  # @supports, @layer: style sheets beyond plain rules
    }.items()
}
"""What only a style sheet or a script knows, said as a process cluster would."""


@dataclass
class Page:
    """What was compared on one page."""

    name: str
    compared: int = 0
    differences: list[str] = field(default_factory=list)
    offered_wrongly: list[str] = field(default_factory=list)


def plain(text: str) -> str:
    """Text without what is no part of it for people: case, spaces, symbols of icon fonts."""
    return " ".join(re.sub("[\ue000-\uf8ff\u200b]", "", text).split()).casefold()


def is_interactive(element: Element) -> bool:
    """Whether people can act on it. What takes the keyboard for what is in it is no control."""
    if element.role in CONTAINERS or element.role in ("option", "MenuListOption"):  # told by what they are of
        return False
    if element.fact["tag"] == "body":
        return bool(element.properties.get("editable"))
    reached = element.fact["reached"] or element.properties.get("editable")
    focusable = bool(reached and element.properties.get("focusable"))
    return focusable or (element.role in KINDS and KINDS[element.role] is not ControlKind.ROW)


def compare(name: str, seen: Seen, screen: Screen) -> Page:
    """Each element that either side takes for one to act on."""
    page = Page(name)
    ours = {control.control_id: control for control in screen.controls if control.kind is not ControlKind.RADIO}
    radios = [control for control in screen.controls if control.kind is ControlKind.RADIO]
    theirs = {key: element for key, element in seen.elements.items() if is_interactive(element)}
    for key, element in theirs.items():
        page.compared += 1
        wrong = _compare_radio(element, radios) if element.role == "radio" else _compare(element, ours.get(key))
        if wrong:
            page.differences.append(f"{name}: <{element.fact['tag']} id={key}> {element.role}: {wrong}")
    for key, control in ours.items():
        clicked = key in seen.elements and seen.elements[key].fact["clicked"]  # Chromium does not tell of these
        if key not in theirs and control.visible and not clicked:
            page.compared += 1
            page.differences.append(f"{name}: {key} {control.kind} {control.label!r}: Chromium has nothing to act on")
    page.offered_wrongly = [
        f"{name}: {key} {control.label!r}"
        for key, control in ours.items()
        if control.visible
        and control.enabled
        and (key not in seen.elements or seen.elements[key].properties.get("disabled"))
    ]
    return page


def _compare(element: Element, control: Control | None) -> str:
    if control is None:
        return f"is not read ({element.name!r})"
    wrong = []
    if not control.visible:
        wrong.append("is hidden in ours")
    if control.enabled == bool(element.properties.get("disabled")):
        wrong.append(f"enabled {control.enabled}")
    kind = KINDS.get(element.role, ControlKind.INPUT if element.properties.get("editable") else ControlKind.BUTTON)
    if element.fact["tag"] == "select":
        kind = ControlKind.SELECT
    if control.kind is not kind:
        wrong.append(f"kind {control.kind}")
    if plain(element.name) != plain(control.label) and (element.name or not control.label):
        wrong.append(f"name {control.label!r}, not {element.name!r}")
    told = element.value or element.fact["tag"] == "input"  # of a combo box made of others we read what it shows
    if told and element.role in TYPED and plain(element.value) != plain(control.value):
        wrong.append(f"value {control.value!r}, not {element.value!r}")
    if element.fact["tag"] == "select":
        wrong = [line for line in wrong if not line.startswith("value")]
        chosen = "; ".join(element.fact["chosen"])
        if plain(chosen) != plain(control.value):
            wrong.append(f"value {control.value!r}, not {chosen!r}")
        options = list(filter(None, map(plain, element.fact["options"])))
        if options != [plain(option) for option in control.options]:
            wrong.append(f"options {control.options}, not {element.fact['options']}")
    for state, word in (("checked", "checked"), ("pressed", "pressed"), ("selected", "selected")):
        if state in element.properties and element.role not in ("radio",):
            told = element.properties[state] in (True, "true", "mixed")
            if told != (control.value in (word, "mixed")):
                wrong.append(f"{state} {element.properties[state]}, ours {control.value!r}")
    if element.properties.get("readonly") and control.enabled and not control.readonly:
        wrong.append("readonly is not told")
    return "; ".join(wrong)


def _compare_radio(element: Element, radios: list[Control]) -> str:
    name, checked = plain(element.name), element.properties.get("checked") in (True, "true")
    groups = [group for group in radios if name in map(plain, group.options) or name == plain(group.label)]
    if element.properties.get("disabled") and not any(group.enabled for group in groups):
        return ""
    if not groups:
        return f"is in no group ({element.name!r})"
    told = any(name == plain(group.value) for group in groups) or any(group.value == "checked" for group in groups)
    return "" if not checked or told else f"checked is not told ({groups[0].value!r})"


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    """Every page, compared."""
    return asyncio.run(_compare_all())


async def _compare_all() -> list[Page]:
    found: list[Page] = []
    with tempfile.TemporaryDirectory(prefix="pilotage-screens-") as folder, run_helpdesk(Path(folder)) as helpdesk:
        form = shutil.copytree(HERE / "form_js", Path(folder) / "form_js")
        (form / "node_modules").symlink_to(INSTALLED / "node_modules")
        wanted = [(path.stem, path.resolve().as_uri(), "") for path in PAGES]
        wanted += [("form-js", (form / "form.html").as_uri(), "window.ready")]
        wanted += [(f"helpdesk {path}", helpdesk.address + path, SETTLED) for path in HELPDESK]
        async with run_chromium(str(PROGRAM)) as tab:
            await tab.ask("Network.setCookie", name="sessionid", value=helpdesk.cookie, url=helpdesk.address)
            for name, url, settle in wanted:
                seen = await tab.read(url, settle)
                schemas = SCHEMAS.get(name.split(" ")[0], ())
                found.append(compare(name, seen, read_screen(seen.html, schemas)))
    return found


def test_nothing_is_offered_that_chromium_hides_or_disables(pages):
    assert [line for page in pages for line in page.offered_wrongly] == []


def test_what_is_read_is_what_chromium_tells(pages):
    differences = [line for page in pages for line in page.differences]
    compared = sum(page.compared for page in pages)
    print(f"{len(pages)} pages, {compared} elements, {1 - len(differences) / compared:.2%} agree")
    print(*differences, sep="\n")
    assert len(pages) >= 40
    assert compared > 850
    assert 1 - len(differences) / compared >= 0.98
    assert [page.name for page in pages if page.compared and 1 - len(page.differences) / page.compared < 0.9] == []
