"""An evaluation as one HTML page with its plots inline: no script, no request. Figures in, markup out.

matplotlib draws (extra `transformers`). Not here: measuring (report.py).
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.ticker

from pilotage_trainer.evaluation.report import Accuracies, Curve, EvaluationReport, ScoreReport
from pilotage_trainer.measures.slices import SliceShare

INK, BLUE, FAINT, RED = "#22304a", "#2f6fd0", "#8a94a6", "#c8372d"
COLOURS = (BLUE, "#d08a2f", "#23825a", "#8a4fb0", FAINT)
STYLE = """
body { margin: 0; background: #f6f8fb; color: #22304a; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 36px 28px 60px; }
h1 { font-size: 27px; margin: 0; } h2 { font-size: 19px; margin: 0 0 10px; }
section { background: #fff; border: 1px solid #e3e7ee; border-radius: 10px; padding: 20px 24px; margin-top: 20px; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; margin-bottom: 12px; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid #e3e7ee; }
th { color: #67728a; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
svg { display: block; max-width: 100%; height: auto; }
.note { color: #67728a; font-size: 13px; } .two { display: grid; grid-template-columns: 1fr 1fr; gap: 8px 28px; }
"""


def build_page(report: EvaluationReport) -> str:
    """The whole page."""
    body = [_header(report), _accuracy(report), _confidence(report), _critic(report), _acceptance(report)]
    body += [_zero_shot(report), _slices(report)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pilotage: evaluation</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(report: EvaluationReport) -> str:
    critic = f", critic {escape(report.critic[:12])}" if report.critic else ", no critic"
    return (
        f"<header><h1>Right in {report.overall.action:.1%} of {report.overall.n:,} actions</h1>"
        f"<p>Policy {escape(report.policy[:12])} ({escape(report.backend)}){critic}, on {report.sessions:,} sessions. "
        f"The tool is right in {report.overall.tool:.1%}; where it is, the arguments are in "
        f"{report.overall.argument:.1%}.</p></header>"
    )


# --- tables -----------------------------------------------------------------------------------------------------------
ACCURACY_COLUMNS = ("points", "tool", "arguments", "action, strict", "action, alike", "proposed", "no action at all")


def _accuracy(report: EvaluationReport) -> str:
    groups: list[tuple[str, Mapping[str, Accuracies]]] = [
        ("all points", {"overall": report.overall, "rejection set": report.rejection_set}),
        ("by traffic", report.by_source),
        ("by tool of what was done", report.by_tool),
    ]
    return (
        "<section><h2>Accuracy</h2>"
        f"{''.join(_accuracy_table(title, rows) for title, rows in groups)}"
        f'<p class="note">Tool F1: {report.tool_f1_weighted:.3f} weighted by how often each tool is used, '
        f"{report.tool_f1_macro:.3f} macro (evenly). Alike: typed values and free texts count as right from a "
        f"Levenshtein likeness of {report.likeness_threshold:g} on (1 − distance / length of the longer). Arguments: "
        "of the points whose tool is right. Proposing nothing is a miss. The rejection set are the points at which an "
        "operator saw a proposal and did something else.</p></section>"
    )


def _accuracy_table(title: str, rows: Mapping[str, Accuracies]) -> str:
    cells = [
        (
            name,
            f"{one.n:,}",
            *(
                f"{share:.1%}" if one.n else "–"
                for share in (one.tool, one.argument, one.action, one.action_alike, one.proposed, one.invalid)
            ),
        )
        for name, one in rows.items()
    ]
    return _table((title, *ACCURACY_COLUMNS), cells)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th{_numeric(i)}>{escape(name)}</th>" for i, name in enumerate(columns))
    body = "".join(
        f"<tr>{''.join(f'<td{_numeric(i)}>{escape(cell)}</td>' for i, cell in enumerate(row))}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _numeric(column: int) -> str:
    return ' class="n"' if column else ""


def _confidence(report: EvaluationReport) -> str:
    rows = [
        (name, *(f"{curve.coverage_at.get(at, 0.0):.1%}" for at in curve.coverage_at), f"{curve.area_under_risk:.3f}")
        for name, curve in report.confidence_curves.items()
    ]
    targets = next(iter(report.confidence_curves.values())).coverage_at if rows else {}
    columns = ("confidence", *(f"coverage at {at}" for at in targets), "area under risk")
    return (
        "<section><h2>The policy's own confidence</h2>"
        f"{draw_curves(report.confidence_curves, 'Precision against coverage of proposals')}{_table(columns, rows)}"
        '<p class="note">Proposals against what was done, most confident first. A certificate is made on other labels '
        "(calibrate); nothing here is one.</p></section>"
    )


def _critic(report: EvaluationReport) -> str:
    if not report.scores:
        return ""
    rows = [
        (
            name, f"{one.n:,}", f"{one.accept_rate:.1%}", f"{one.auroc:.3f}" if one.auroc is not None else "–",
            f"{one.ece:.3f}", *(" / ".join(f"{value:.3f}" for value in _verdicts(one, kind)) for kind in KINDS),
            f"{one.curve.coverage_at.get('0.9', 0.0):.1%}",
        )
        for name, one in report.scores.items()
    ]  # fmt: skip
    columns = (
        "score",
        "labels",
        "accepted",
        "AUROC",
        "ECE",
        *(f"P / R / F1, {kind}" for kind in KINDS),
        "coverage at 0.9",
    )
    curves = {name: one.curve for name, one in report.scores.items()}
    return (
        "<section><h2>The critic, and action confidence beside it</h2>"
        f"{draw_curves(curves, 'Precision against coverage of critical actions')}{_table(columns, rows)}"
        f'<p class="note">{report.live_labels:,} labels are live verdicts on this policy, the others replay. Accept '
        f"from a score of {report.verdict_threshold:g} on; macro averages accept and reject evenly, weighted by how "
        f"often each is the truth. ECE over {report.ece_bins} bins of equal width.</p></section>"
    )


KINDS = ("accept", "reject", "macro", "weighted")


def _verdicts(one: ScoreReport, kind: str) -> tuple[float, float, float]:
    found: tuple[float, float, float] = getattr(one.verdicts, kind)
    return found


def _acceptance(report: EvaluationReport) -> str:
    if not report.acceptance:
        return ""
    rows = [(f"{one.tool} by {one.revision}", f"{one.n:,}", f"{one.accepted:.1%}") for one in report.acceptance]
    return (
        f"<section><h2>What operators accepted</h2>{_table(('tool, revision', 'verdicts', 'accepted'), rows)}</section>"
    )


def _zero_shot(report: EvaluationReport) -> str:
    if not report.zero_shot:
        return ""
    return (
        f"<section><h2>Against a general model, zero-shot</h2>{_accuracy_table('same points', report.zero_shot)}"
        '<p class="note">The general model is told the tools and the session, and has learned nothing from the logs. A '
        "reply that is no action is a miss.</p></section>"
    )


def _slices(report: EvaluationReport) -> str:
    drawn = "".join(
        f"<div>{draw_slices(f'By {kind}', shares)}</div>" for kind, shares in report.slices.items() if len(shares) > 1
    )
    return (
        f'<section><h2>Strict action accuracy by slice</h2><div class="two">{drawn}</div>'
        '<p class="note">Bars: 95 % intervals that hold for all rows of a plot at once, from draws of whole sessions '
        "(max-t bootstrap).</p></section>"
    )


# --- plots ------------------------------------------------------------------------------------------------------------
def draw_curves(curves: Mapping[str, Curve], title: str) -> str:
    """Precision against coverage, one line a curve."""
    figure, axes = _figure(9.0, 3.3)
    for (name, curve), colour in zip(curves.items(), COLOURS * 3, strict=False):
        shown = [(x, y) for x, y in zip(curve.coverage, curve.precision, strict=True) if x >= 0.01]
        axes.plot([x for x, _ in shown], [y for _, y in shown], label=name, color=colour, linewidth=1.8)
    axes.axhline(0.9, color=RED, linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), xlabel="coverage", ylabel="precision")
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.grid(color="#e3e7ee")
    if curves:
        axes.legend(frameon=False, fontsize=8)
    return _svg(figure, title)


def draw_slices(title: str, shares: Sequence[SliceShare]) -> str:
    """A dot with its interval for each slice."""
    figure, axes = _figure(5.2, 0.9 + 0.26 * len(shares))
    places = list(range(len(shares)))[::-1]
    centre = [one.share for one in shares]
    reach = [[one.share - one.low for one in shares], [one.high - one.share for one in shares]]
    axes.errorbar(centre, places, xerr=reach, fmt="o", color=BLUE, ecolor=INK, elinewidth=1, capsize=3, markersize=4)
    names = [f"{one.name if len(one.name) < 30 else one.name[:28] + '…'}  ({one.n:,})" for one in shares]
    axes.set_yticks(places, names, fontsize=8)
    axes.set(xlim=(0, 1), ylim=(-0.7, len(shares) - 0.3))
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.grid(axis="x", color="#e3e7ee")
    return _svg(figure, title)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    figure = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    return figure, axes


def _svg(figure: Any, title: str) -> str:
    """The figure as inline SVG: text as text, ids that no other figure of the page has, no date."""
    file = io.StringIO()
    salt = {"svg.hashsalt": title, "svg.fonttype": "none", "font.family": "DejaVu Sans"}
    with matplotlib.rc_context(salt):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    name = re.sub(r"\W+", "-", title)
    drawn = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', drawn)
    drawn = re.sub(r'(href="#|url\(#)', rf"\1{name}-", drawn)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
