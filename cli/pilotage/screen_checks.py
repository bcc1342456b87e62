"""`pilotage screen lint` and `diff`: what schemas miss on pages, and what another release of a user interface changed.

Pages are read as the gateway reads them. Not here: the reading itself (core/pilotage_core/reading.py).
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pilotage.screen import read_page
from pilotage_core.errors import InvalidInputError, InvalidScreenError
from pilotage_core.parsing import parse
from pilotage_core.reading import read_screen
from pilotage_core.screen import Control, Screen, ScreenSchema

PAGES = ("*.html", "*.htm", "*.xhtml")
Pages = dict[str, str]
"""HTML by the name of its file, within its folder."""


def read_pages(path: Path) -> Pages:
    """A page, or all pages of a folder. Raises InvalidInputError."""
    if path.is_file():
        return {path.name: read_page(path)}
    found = {
        file.relative_to(path).as_posix(): read_page(file)
        for pattern in PAGES
        for file in sorted(path.rglob(pattern))
        if file.is_file()
    }
    if not found:
        raise InvalidInputError("holds no page", where=str(path), remedy="give a page, or a folder of *.html")
    return found


# --- lint ------------------------------------------------------------------------------------------------------------
def lint(pages: Pages, schemas: tuple[ScreenSchema, ...]) -> Iterator[str]:
    """What is wrong with how `pages` are read by `schemas`, page by page, then of each schema."""
    seen: Counter[str] = Counter()
    for name, html in pages.items():
        screen = read_screen(html, schemas)
        seen[screen.name] += screen.recognised
        yield from (f"{name}: {what}" for what in _lint_screen(screen))
        yield from (f"{name}: {what}" for what in _lint_choice(html, schemas))
    for schema in schemas:
        if not seen[schema.name]:
            yield f"schema {schema.name}: recognises none of the pages ({schema.applies})"
            continue
        for rule in schema.controls:
            if not any(_matches(html, rule.selector) for html in pages.values()):
                yield f"schema {schema.name}: {rule.selector} matches nothing on any page"


def _lint_screen(screen: Screen) -> Iterator[str]:
    if screen.fault:
        yield f"fault: {screen.fault}"
    if not screen.recognised:
        yield "no schema recognises it: nothing on it can be executed"
    ids = Counter(control.control_id for control in screen.controls)
    for control_id, count in sorted(ids.items()):
        if count > 1:
            yield f"{count} controls are called {control_id!r}: none of them can be used"
    for control in screen.controls:
        if not control.known and ids[control.control_id] == 1:
            yield f"no rule names {control.kind} {control.label!r} ({control.control_id}): it is always critical"
        elif not control.label and control.visible:
            yield f"{control.kind} {control.control_id!r} has no label: a model sees an id alone"


def _lint_choice(html: str, schemas: tuple[ScreenSchema, ...]) -> Iterator[str]:
    applying = [schema.name for schema in schemas if _matches(html, schema.applies)]
    if len(applying) > 1:
        yield f"{' and '.join(applying)} both apply: the first is taken"


def _matches(html: str, selector: str) -> bool:
    try:
        return parse(html).css_first(selector) is not None
    except InvalidScreenError:  # over a limit: that is told as the screen's fault
        return False


# --- diff ------------------------------------------------------------------------------------------------------------
def compare(before: Pages, after: Pages, schemas: tuple[ScreenSchema, ...]) -> Iterator[str]:
    """What changed between two releases of pages, as a model and the gate would see it."""
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield f"{name}: gone"
        elif name not in before:
            yield f"{name}: new"
        else:
            old, new = (read_screen(pages[name], schemas) for pages in (before, after))
            yield from (f"{name}: {what}" for what in _compare_screens(old, new))


def _compare_screens(old: Screen, new: Screen) -> Iterator[str]:
    if old.name != new.name or old.recognised != new.recognised:
        yield f"was read as {_say_name(old)}, is read as {_say_name(new)}"
    if old.fault != new.fault:
        yield f"fault: {old.fault or 'none'} → {new.fault or 'none'}"
    was, now = _by_id(old), _by_id(new)
    gone, come = [was[key] for key in was if key not in now], [now[key] for key in now if key not in was]
    for control in list(gone):
        same = next((other for other in come if _look_alike(control, other)), None)
        if same is not None:
            gone.remove(control)
            come.remove(same)
            yield f"{control.kind} {control.label!r}: its id {control.control_id} → {same.control_id}"
    yield from (f"gone: {control.kind} {control.control_id} {control.label!r}" for control in gone)
    yield from (
        f"new: {control.kind} {control.control_id} {control.label!r}"
        + ("" if control.known else "  [no rule names it]")
        for control in come
    )
    for key in was.keys() & now.keys():
        yield from (f"{key}: {what}" for what in _compare_controls(was[key], now[key]))


def _compare_controls(old: Control, new: Control) -> Iterator[str]:
    for field in ("kind", "label", "required", "known", "pii", "multiline", "readonly", "enabled", "visible"):
        if getattr(old, field) != getattr(new, field):
            yield f"{field} {getattr(old, field)!r} → {getattr(new, field)!r}"
    lost, added = [set(one) - set(other) for one, other in ((old.options, new.options), (new.options, old.options))]
    if lost or added:
        yield f"options: {', '.join(sorted(lost)) or 'none'} gone, {', '.join(sorted(added)) or 'none'} new"


def _by_id(screen: Screen) -> dict[str, Control]:
    return {control.control_id: control for control in screen.controls}


def _look_alike(one: Control, other: Control) -> bool:
    return bool(one.label) and (one.kind, one.label) == (other.kind, other.label)


def _say_name(screen: Screen) -> str:
    return f"{screen.name}{'' if screen.recognised else ' (by no schema)'}"
