"""An evaluation as one HTML page with its plots inline: no script, no request. Figures in, markup out.

The markup is page.html; matplotlib draws (extra `transformers`). Not here: measuring (report.py).
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import matplotlib.ticker
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pilotage_trainer.evaluation.report import Accuracies, Curve, EvaluationReport, ScoreReport
from pilotage_trainer.measures.slices import SliceShare

INK, BLUE, FAINT, RED = "#22304a", "#2f6fd0", "#8a94a6", "#c8372d"
COLOURS = (BLUE, "#d08a2f", "#23825a", "#8a4fb0", FAINT)
KINDS = ("accept", "reject", "macro", "weighted")
ACCURACY_COLUMNS = ("points", "tool", "arguments", "action, strict", "action, alike", "proposed", "no action at all")
Rows = list[tuple[str, ...]]
Table = tuple[tuple[str, ...], Rows]
"""Names of columns, and rows of cells."""


def build_page(report: EvaluationReport) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("pilotage_trainer.evaluation", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    overall = {"overall": report.overall, "rejection set": report.rejection_set}
    curves = {name: one.curve for name, one in report.scores.items()}
    return environment.get_template("page.html").render(
        report=report,
        accuracies=[
            build_accuracies("all points", overall),
            build_accuracies("by traffic", report.by_source),
            build_accuracies("by tool of what was done", report.by_tool),
        ],
        confidence=_build_confidence(report),
        confidence_plot=draw_curves(report.confidence_curves, "Precision against coverage of proposals"),
        critic=_build_scores(report),
        critic_plot=draw_curves(curves, "Precision against coverage of critical actions") if curves else "",
        acceptance=[
            (f"{one.tool} by {one.revision}", f"{one.n:,}", f"{one.accepted:.1%}") for one in report.acceptance
        ],
        zero_shot=build_accuracies("same points", report.zero_shot),
        slices=[draw_slices(f"By {kind}", shares) for kind, shares in report.slices.items() if len(shares) > 1],
    )


# --- tables -----------------------------------------------------------------------------------------------------------
def build_accuracies(title: str, rows: Mapping[str, Accuracies]) -> Table:
    """Accuracies by name."""
    cells: Rows = [
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
    return (title, *ACCURACY_COLUMNS), cells


def _build_confidence(report: EvaluationReport) -> Table:
    curves = report.confidence_curves
    rows: Rows = [
        (name, *(f"{curve.coverage_at.get(at, 0.0):.1%}" for at in curve.coverage_at), f"{curve.area_under_risk:.3f}")
        for name, curve in curves.items()
    ]
    targets = next(iter(curves.values())).coverage_at if rows else {}
    return ("confidence", *(f"coverage at {at}" for at in targets), "area under risk"), rows


def _build_scores(report: EvaluationReport) -> Table:
    rows: Rows = [
        (
            name, f"{one.n:,}", f"{one.accept_rate:.1%}", f"{one.auroc:.3f}" if one.auroc is not None else "–",
            f"{one.ece:.3f}", *(" / ".join(f"{value:.3f}" for value in _verdicts(one, kind)) for kind in KINDS),
            f"{one.curve.coverage_at.get('0.9', 0.0):.1%}",
        )
        for name, one in report.scores.items()
    ]  # fmt: skip
    measures = tuple(f"P / R / F1, {kind}" for kind in KINDS)
    return ("score", "labels", "accepted", "AUROC", "ECE", *measures, "coverage at 0.9"), rows


def _verdicts(one: ScoreReport, kind: str) -> tuple[float, float, float]:
    found: tuple[float, float, float] = getattr(one.verdicts, kind)
    return found


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
    return Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))
