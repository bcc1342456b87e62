"""The BPM's screens as HTML, and the schemas by which they are read.

Pure. Two screens: `search` (procedures and courtesies) and `case` (the form, its buttons, results, the procedure's
template replies). Every control has `data-control-id`. Parts that repeat are rendered once and kept: the simulator has
two cores to share with everything else.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape

from pilotage_core.screen import ControlKind, ControlRule, FactRule, ScreenSchema
from pilotage_simulator.change import REVIEWED_SUBMIT, VERIFY
from pilotage_simulator.dialogue import ROWS_SHOWN
from pilotage_simulator.forms import COMBO_BOX_FROM, Result
from pilotage_simulator.star import COMMON_REPLIES, FormInput, Procedure

PERSONAL = {
    "PIN": "secret",
    "AccountNumber": "account",
    "FullName": "name",
    "CustomerName": "name",
    "DateOfBirth": "date",
}

_COMMON_RULES = (
    ControlRule("button.procedure", ControlKind.PROCEDURE),
    ControlRule("input.field", ControlKind.INPUT, label="@aria-label", pii="@data-pii"),
    ControlRule("select.combo", ControlKind.COMBO_BOX, label="@aria-label", pii="@data-pii"),
    ControlRule("select.field", ControlKind.SELECT, label="@aria-label", pii="@data-pii"),
    ControlRule("button.action", ControlKind.BUTTON),
    ControlRule("tr.row", ControlKind.ROW),
    ControlRule("button.reply", ControlKind.REPLY),
)
_FACTS = (FactRule("[data-fact]"),)
_ANNOUNCEMENTS = "[role=status] p"

SCHEMAS: tuple[ScreenSchema, ...] = (
    ScreenSchema(
        name="case",
        applies="body[data-screen=case]",
        controls=_COMMON_RULES,
        facts=_FACTS,
        announcements=_ANNOUNCEMENTS,
        required_controls=("procedure:*", "reply:*", "submit*"),
    ),
    ScreenSchema(
        name="search",
        applies="body[data-screen=search]",
        controls=_COMMON_RULES,
        facts=_FACTS,
        announcements=_ANNOUNCEMENTS,
        required_controls=("procedure:*", "reply:*"),
    ),
)


class Renderer:
    """Renders the screens of one set of procedures."""

    def __init__(self, procedures: Mapping[str, Procedure]) -> None:
        self.procedures = procedures
        self._nav = "".join(
            f'<button type="button" class="procedure" data-control-id="procedure:{escape(name)}">'
            f"{escape(_title(name))}</button>"
            for name in procedures
        )
        self._replies = {name: _render_replies(p.replies) for name, p in procedures.items()} | {"": _render_replies({})}
        self._buttons = {name: _render_buttons(p.submits) for name, p in procedures.items()}

    def render(
        self,
        procedure: str,
        values: Mapping[str, str],
        results: Sequence[Result],
        chosen: Result | None,
        announcement: str,
    ) -> str:
        """One screen. `results` newest first; `chosen` is the one whose facts are shown."""
        opened = self.procedures.get(procedure)
        title = _title(procedure) if opened else "Search"
        facts = _render_facts(procedure if opened else "", chosen)
        rows = "".join(_render_row(number, result) for number, result in enumerate(results[:ROWS_SHOWN], start=1))
        form = ""
        if opened is not None:
            inputs = "".join(_render_input(given, values.get(given.name, "")) for given in opened.inputs)
            form = f'<form aria-label="{escape(title)}">{inputs}{self._buttons[procedure]}</form>'
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title></head>'
            f'<body data-screen="{"case" if opened else "search"}"><header><h1>{escape(title)}</h1></header>'
            f'<nav aria-label="Procedures">{self._nav}</nav><main>{form}'
            f"<dl>{facts}</dl><table><tbody>{rows}</tbody></table>"
            f'<section aria-label="Replies">{self._replies[procedure if opened else ""]}</section></main>'
            f'<div role="status">{f"<p>{escape(announcement)}</p>" if announcement else ""}</div></body></html>'
        )


def _title(procedure: str) -> str:
    return procedure.replace("_", " ")


def _render_replies(replies: Mapping[str, str]) -> str:
    return "".join(
        f'<button type="button" class="reply" data-control-id="reply:{escape(label)}">{escape(text)}</button>'
        for label, text in {**COMMON_REPLIES, **replies}.items()
    )


def _render_buttons(submits: Sequence[str]) -> str:
    return "".join(
        f'<button type="button" class="action" data-control-id="{control}">{label}</button>'
        for control, label in [
            *((control, control.removeprefix("submit:").capitalize()) for control in submits),
            (VERIFY, "Verify"),
            (REVIEWED_SUBMIT, "Reviewed"),
        ]
    )


@lru_cache(maxsize=4096)
def _render_input(given: FormInput, value: str) -> str:
    name, label = escape(given.name), escape(given.label)
    personal = f' data-pii="{PERSONAL[given.name]}"' if given.name in PERSONAL else ""
    required = " required" if given.required else ""
    parts = f'data-control-id="input:{name}" name="{name}" aria-label="{label}"{personal}{required}'
    if not given.options:
        return f'<label>{label}<input class="field" {parts} value="{escape(value)}"></label>'
    offered = given.options if not value or value in given.options else (*given.options, value)
    options = "".join(
        f"<option selected>{escape(option)}</option>" if option == value else f"<option>{escape(option)}</option>"
        for option in offered
    )
    kind = "combo" if len(given.options) >= COMBO_BOX_FROM else "field"
    return f'<label>{label}<select class="{kind}" {parts}><option></option>{options}</select></label>'


@lru_cache(maxsize=1024)
def _render_facts(procedure: str, result: Result | None) -> str:
    facts = (("procedure", procedure), *(result.facts if result else ()))
    return "".join(
        f'<dt>{escape(key)}</dt><dd data-fact="{escape(key)}">{escape(value)}</dd>' for key, value in facts if value
    )


@lru_cache(maxsize=1024)
def _render_row(number: int, result: Result) -> str:
    cells = "".join(f"<td>{escape(value)}</td>" for key, value in result.facts[:4] if key != "Found")
    return f'<tr class="row" data-control-id="row:{number}"><th scope="row">{number}</th>{cells}</tr>'
