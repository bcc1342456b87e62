"""How many screens of 40 KB a second become a state, on one core: HTML in, typed state out.

    python bench/screens.py [--seconds 5] [--out bench/results/screens.json]

The page is what a real case page looks like to the reader: a form, procedures, results, template replies, and as much
markup around them that says nothing. Each page differs from the one before, as in a session that goes on; each reading
is done anew, nothing is cached. CPU time is what counts, in rounds of 64 pages (median, best and worst round): other
programs may run beside it, and share the core's caches.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from provenance import describe_run
from selectolax.lexbor import LexborHTMLParser

from pilotage_core.events import Event, ScreenShown, SessionOpened
from pilotage_core.reading import read_screen
from pilotage_core.screen import ControlKind, ControlRule, FactRule, ScreenSchema
from pilotage_core.state import State, fold_event

PAGE_CHARS = 40 * 1024
SCHEMA = ScreenSchema(
    name="case",
    applies="body[data-screen=case]",
    controls=(
        ControlRule("button.procedure", ControlKind.PROCEDURE),
        ControlRule("input.field", ControlKind.INPUT, label="@aria-label", pii="@data-pii"),
        ControlRule("select.combo", ControlKind.COMBO_BOX, label="@aria-label", pii="@data-pii"),
        ControlRule("select.field", ControlKind.SELECT, label="@aria-label", pii="@data-pii"),
        ControlRule("button.action", ControlKind.BUTTON),
        ControlRule("tr.row", ControlKind.ROW),
        ControlRule("button.reply", ControlKind.REPLY),
    ),
    facts=(FactRule("[data-fact]"),),
    announcements="[role=status] p",
    required_controls=("procedure:*", "reply:*", "submit*"),
)


def build_page(number: int) -> str:
    """A page of about 40 KB with 24 procedures, 12 inputs, 3 buttons, 24 replies and 5 rows."""
    procedures = "".join(
        f'<li class="nav-item mdc-list-item"><button type="button" class="procedure nav-link" '
        f'data-control-id="procedure:{n}"><span class="icon" aria-hidden="true"></span>Procedure {n}</button></li>'
        for n in range(24)
    )
    inputs = "".join(
        f'<div class="form-row"><label class="label">Input {n}<input class="field form-control" '
        f'data-control-id="input:{n}" aria-label="Input {n}" value="{number + n}"></label></div>'
        for n in range(8)
    )
    options = "".join(f"<option>{hour} o'clock</option>" for hour in range(12))
    selects = "".join(
        f'<div class="form-row"><select class="combo form-control" data-control-id="select:{n}" aria-label="Pick {n}">'
        f"<option selected>{number}</option>{options}</select></div>"
        for n in range(4)
    )
    buttons = "".join(f'<button class="action btn" data-control-id="submit:{n}">Submit {n}</button>' for n in range(3))
    replies = "".join(
        f'<button type="button" class="reply btn" data-control-id="reply:{n}">Thank you for waiting; what date would '
        f"you like to have, number {n}?</button>"
        for n in range(24)
    )
    facts = "".join(f'<dt>Fact {n}</dt><dd data-fact="fact-{n}">{number * n}</dd>' for n in range(10))
    rows = "".join(
        f'<tr class="row" data-control-id="row:{n}"><td>{n}</td><td>Result {number + n}</td><td>Available</td></tr>'
        for n in range(5)
    )
    page = (
        f'<!doctype html><html><body data-screen="case"><header><h1>Case {number}</h1></header>'
        f"<nav><ul>{procedures}</ul></nav><main><form>{inputs}{selects}{buttons}</form><dl>{facts}</dl><table>{rows}</table>{replies}</main>"
        '<div role="status"><p>Saved.</p></div><aside>'
    )
    filler = (
        '<div class="history-entry history-entry--collapsed" data-testid="history"><span class="time">12:04</span><p '
        'class="history-text body-2">The address was confirmed by mail, and the case was handed over.</p></div>'
    )
    return page + filler * ((PAGE_CHARS - len(page)) // len(filler)) + "</aside></body></html>"


def measure(seconds: float) -> dict[str, float]:
    pages = [build_page(number) for number in range(64)]
    opened = Event("e-0", 0, "2026-01-01T00:00:00Z", SessionOpened())
    start = fold_event(State(), opened)
    rates, parses = [], []
    while not rates or sum(len(pages) / rate for rate in rates) < seconds:
        began = time.process_time()
        for page in pages:
            screen = read_screen(page, (SCHEMA,))
            fold_event(start, Event("e-1", 1, "2026-01-01T00:00:01Z", ScreenShown(screen=screen)))
        rates.append(len(pages) / (time.process_time() - began))
        began = time.process_time()
        for page in pages:
            LexborHTMLParser(page)
        parses.append(1000 * (time.process_time() - began) / len(pages))
    return {
        "screens_per_second": round(statistics.median(rates), 1),
        "screens_per_second_best": round(max(rates), 1),
        "screens_per_second_worst": round(min(rates), 1),
        "milliseconds_of_parsing_alone": round(statistics.median(parses), 3),
        "milliseconds_of_parsing_alone_best": round(min(parses), 3),
        "screens": len(rates) * len(pages),
        "page_chars": len(pages[0]),
        "controls": len(read_screen(pages[0], (SCHEMA,)).controls),
        "elements": pages[0].count("<") // 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="CPU seconds to measure for")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "screens.json")
    options = parser.parse_args()
    told = describe_run("selectolax", "msgspec")
    result = {
        "what": "screens (40 KB HTML) read into a state, per second of one core",
        "target": "> 1000 screens_per_second",
        **measure(options.seconds),
        **told,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
