"""Records in, report.html and report.json out."""

from pathlib import Path

import msgspec

from pilotage.report.figures import build_figures
from pilotage.report.page import build_page
from pilotage.run import read_run
from pilotage_core.collector import nothing_collected


def write_report(folder: Path) -> bytes:
    """Write the report of the run in `folder`; its figures as JSON."""
    with nothing_collected():
        run = read_run(folder)
        figures = build_figures(run)
    (folder / "report.html").write_text(build_page(run, figures), encoding="utf-8")
    plain = msgspec.json.format(msgspec.json.encode(figures), indent=2)
    (folder / "report.json").write_bytes(plain)
    return plain
