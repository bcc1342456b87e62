"""The output of `calibrate --feedback`: JSON, or a table for people.

Not here: the figures (calibration.py).
"""

from collections.abc import Iterator, Sequence

import msgspec

from pilotage_core.score import format_score
from pilotage_trainer.certify.table.calibration import Caveat, GateResult
from pilotage_trainer.certify.table.monitoring import Monitoring, Step

NUMBERS = ("target", "tau", "coverage", "selected", "errors", "bound", "n", "operators", "deff")
HEADINGS = ("process cluster", "stratum", *NUMBERS, "reason")
EXPLAINED = {
    Caveat.ROWS_REPEATED: "rows tell a label again (pasted, or sent again): each label counted once",
    Caveat.ONE_OPERATOR: "all labels are by one operator: τ speaks for that operator only",
    Caveat.FEW_OPERATORS: "two operators tell little of how others differ: get labels of more",
    Caveat.FEW_DAYS: "labels of under five days: how days differ is not covered, get labels of more",
    Caveat.OPERATORS_MISSING: "labels without operator count as one more operator, the worst case",
    Caveat.SESSIONS_MISSING: "labels without session_id count as one session for each operator",
    Caveat.LEAST_PROPENSITY_MISSING: "R and K take the gate's smallest propensity for that of every time: "
    "a column least_propensity would say it, and lets them see more where it varies by time alone",
}


def build_json(results: Sequence[GateResult]) -> str:
    """`results` as a JSON list, a gate a line."""
    return "[" + ",\n ".join(msgspec.json.encode(result).decode() for result in results) + "]"


def build_table(results: Sequence[GateResult]) -> str:
    """A line for each gate, and below them what stands behind their caveats."""
    monitored = any(result.monitor for result in results)
    rows = [HEADINGS + (("in force",) if monitored else ())]
    rows += [(*_build_cells(result), *((_describe(result.monitor),) if monitored else ())) for result in results]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if heading in NUMBERS else cell.ljust(width)
            for heading, cell, width in zip(rows[0], row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", *_explain(results)])


def _build_cells(result: GateResult) -> Iterator[str]:
    yield result.process_cluster
    yield result.stratum
    yield f"{result.target:g}"
    yield "–" if result.tau is None else format_score(result.tau)
    yield f"{result.coverage:.3f}"
    yield str(result.selected)
    yield str(result.errors)
    yield f"{result.bound:.4f}"
    yield str(result.n)
    yield str(result.operators)
    yield f"{result.design_effect:.2f}"
    yield " ".join([result.reason, *(f"({caveat})" for caveat in result.caveats)])


def _describe(monitor: Monitoring | None) -> str:
    if monitor is None:
        return "–"
    leads = (
        f" to {format_score(monitor.next_tau)}"
        if monitor.step in (Step.TIGHTEN, Step.LOOSEN) and monitor.next_tau
        else ""
    )
    audits = ", audit all" if monitor.audits_all else ""
    return f"{monitor.step}{leads}: R {monitor.r:.3g}, K {monitor.k:.3g} after {monitor.labels} labels{audits}"


def _explain(results: Sequence[GateResult]) -> Iterator[str]:
    certified = sum(result.tau is not None for result in results)
    yield f"{certified} of {len(results)} gates certified"
    for caveat, words in EXPLAINED.items():
        if any(caveat in result.caveats for result in results):
            yield f"{caveat}: {words}"
