"""All process clusters as a table: the columns of `kubectl get processclusters`, and what each is waiting for."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pilotage.report.times import in_words, to_seconds
from pilotage.services import ApiObject

WIDTH_WITHOUT_TERMINAL = 200
COLUMNS = ("NAME", "STAGE", "CEILING", "τ", "PRECISION", "COVERAGE", "HELD BY", "SINCE", "NEXT NEEDS")


def print_table(items: Iterable[ApiObject], now: float) -> None:
    """Print it: as wide as the terminal, or as it needs where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_WITHOUT_TERMINAL)
    console.print(build_table(items, now))


def build_table(items: Iterable[ApiObject], now: float) -> Table:
    """One row for each process cluster. `now` in seconds since the epoch."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in COLUMNS:
        table.add_column(column, header_style="dim")
    for item in items:
        table.add_row(*(Text(cell) for cell in _cells(item, now)))
    return table


def _cells(item: ApiObject, now: float) -> tuple[str, ...]:
    status = item.get("status") or {}
    since = to_seconds(status.get("stageSince") or "")
    unmet = status.get("unmet") or []
    rollback = status.get("rollback") or {}
    latched = " (latched)" if rollback.get("latched") and not rollback.get("acknowledged") else ""
    return (
        f"{item['metadata']['namespace']}/{item['metadata']['name']}",
        f"{status.get('stage', '?')}{latched}",
        item["spec"].get("maxStage", "Logging"),
        status.get("tauSummary", ""),
        status.get("precision", ""),
        status.get("coverage", ""),
        status.get("heldBy", ""),
        in_words(now - since) if since else "",
        ", ".join(need_in_short(one) for one in unmet[:2]),
    )


def need_in_short(unmet: dict[str, str]) -> str:
    """`Demonstrations 212/300` where both are numbers, else the condition and what it is at."""
    wanted = unmet["need"].removeprefix("at least ")
    return f"{unmet['condition']} {unmet['have']}" + (f"/{wanted}" if wanted.replace(".", "").isdigit() else "")
