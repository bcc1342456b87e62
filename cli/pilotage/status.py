"""All process clusters as a table: the columns of `kubectl get processclusters`, and what each is waiting for."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from pilotage.report.times import in_words, to_seconds
from pilotage.services import ApiObject

COLUMNS = ("NAME", "STAGE", "CEILING", "τ", "PRECISION", "COVERAGE", "HELD BY", "SINCE", "NEXT NEEDS")


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
        ", ".join(f"{one['condition']} {one['have']} ({one['need']})" for one in unmet[:2]),
    )
