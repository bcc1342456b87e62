"""The report of an ablation: results.json for programs, table.md for people, plot.svg. Not here: the runs."""

import io
import platform
import sys
from collections.abc import Iterator, Sequence
from statistics import fmean

import matplotlib
import matplotlib.figure
import msgspec

from pilotage_trainer.ablations.arms import Kind
from pilotage_trainer.ablations.noise import (
    CONFIDENCE,
    Difference,
    Measure,
    Word,
    compare_arms,
    measure_ranks,
    measure_share,
)
from pilotage_trainer.ablations.running import Run
from pilotage_trainer.ablations.study import Study
from pilotage_trainer.backends.transformers import find_maker
from pilotage_trainer.evaluation.page import BLUE, FAINT, INK

RESULTS, TABLE, PLOT = "results.json", "table.md", "plot.svg"
MAIN = {Kind.POLICIES: "action_accuracy", Kind.TUNED: "action_accuracy", Kind.SCORES: "auroc"}
"""The figure that arms are compared by."""
SHOWN = {
    Kind.POLICIES: ("action_accuracy", "tool_accuracy", "coverage_at_target", "rejection_set_accuracy"),
    Kind.TUNED: ("action_accuracy", "tool_accuracy", "coverage_at_target", "rejection_set_accuracy", "pairs"),
    Kind.SCORES: ("auroc", "f1_macro", "f1_weighted", "calibration_error", "coverage_at_target"),
}
ABOUT = {Kind.POLICIES: ("training_sessions", "actions_with_loss", "tokens_trained"), Kind.TUNED: (), Kind.SCORES: ()}


class Row(msgspec.Struct, frozen=True):
    """One arm: the mean of its seeds' figures, what it is against the reference, and its failures."""

    arm: str
    seeds: int
    figures: dict[str, float]
    by_seed: list[dict[str, float]]
    word: Word
    difference: Difference | None
    prompt_format: str
    policies: list[str]
    failures: list[str]


class Results(msgspec.Struct, frozen=True):
    """results.json."""

    ablation: str
    question: str
    source: str
    compared_by: str
    budget: str
    split: dict[str, object]
    seeds: int
    notes: list[str]
    rows: list[Row]
    command: str
    machine: str
    code: str


def build_results(study: Study, runs: Sequence[Run], budget: int) -> Results:
    """All of it, out of the runs."""
    kind = study.ablation.kind
    done = {arm.name: [r for r in runs if r.arm == arm.name and not r.failure] for arm in study.arms}
    reference = done[study.arms[0].name]
    rows = []
    for arm in study.arms:
        own = done[arm.name]
        difference = _compare(own, reference, kind, len(study.arms) - 1) if arm is not study.arms[0] else None
        word = Word.REFERENCE if own and arm is study.arms[0] else difference.word if difference else Word.FAILED
        names = sorted({name for run in own for name in run.figures})
        rows.append(
            Row(
                arm.name,
                len(own),
                {name: fmean(run.figures[name] for run in own if name in run.figures) for name in names},
                [run.figures for run in own],
                word,
                difference,
                study.find_prompt_format(arm),
                [run.policy for run in own if run.policy],
                [f"seed {run.seed}: {run.failure}" for run in runs if run.arm == arm.name and run.failure],
            )
        )
    one = study.ablation
    return Results(
        one.name, one.question, one.source, MAIN[kind], _tell_budget(study, budget), study.describe_split(),
        study.request.seeds, list(_notes(study, runs)), rows, " ".join(sys.argv), platform.platform(),
        find_maker().code,
    )  # fmt: skip


def _compare(own: Sequence[Run], reference: Sequence[Run], kind: Kind, arms: int) -> Difference | None:
    """None where one of them has no run. Scores are compared on the labels of one policy: the first seed's."""
    if kind is Kind.SCORES:
        shared = {run.seed for run in own} & {run.seed for run in reference}
        own, reference = ([run for run in some if run.seed == min(shared, default=-1)] for some in (own, reference))
    if not own or not reference:
        return None
    measure = measure_ranks if kind is Kind.SCORES else measure_share
    of: list[list[Measure]] = [[measure(run.answers) for run in some] for some in (own, reference)]
    return compare_arms(of[0], of[1], [each.session for each in reference[0].answers], arms)


def _tell_budget(study: Study, budget: int) -> str:
    return f"{budget:,} tokens a policy" if budget else f"{study.request.budget_seconds:,} seconds a policy"


def _notes(study: Study, runs: Sequence[Run]) -> Iterator[str]:
    yield (
        f"Differences are to the first arm, with {CONFIDENCE:.0%} intervals for all arms at once (Bonferroni), by a "
        "bootstrap of whole held-out sessions, the same for both arms. An interval that holds 0 is within noise."
    )
    if study.request.seeds == 1:
        yield "One seed: what another seed would change is not in the intervals."
    if any(run.figures.get("points_too_long") for run in runs):
        yield "Prompts too long for the model (points_too_long in results.json) were not asked and count as wrong."
    if study.ablation.kind is Kind.TUNED:
        yield "Tuned arms go on from the first arm's policy; what that costs comes on top of the budget."
    if study.ablation.kind is Kind.SCORES:
        yield "The critic's training comes on top of the policy's budget. Verdicts accept from 0.5 on."
        if study.request.seeds > 1:
            yield "Each seed's labels are those of its own policy: intervals are of the first seed, figures of all."
    if any(arm.plan for arm in study.arms):
        yield "A policy that was told the plan cannot be served: no gateway writes such a prompt."


# --- table and plot ---------------------------------------------------------------------------------------------------
def write_report(results: Results, study: Study) -> None:
    """All three files. Raises OSError."""
    folder, kind = study.out, study.ablation.kind
    (folder / RESULTS).write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    (folder / TABLE).write_text(write_table(results, kind))
    (folder / PLOT).write_text(draw(results))


def write_table(results: Results, kind: Kind) -> str:
    """Markdown that reads well in a terminal too."""
    columns = [name for name in (*SHOWN[kind], *ABOUT[kind]) if any(name in row.figures for row in results.rows)]
    head = ["arm", "seeds", *(name.replace("_", " ") for name in columns), "difference", ""]
    body = [
        [row.arm, str(row.seeds), *(_number(row.figures.get(name)) for name in columns), *_verdict(row)]
        for row in results.rows
    ]
    widths = [max(len(line[i]) for line in [head, *body]) for i in range(len(head))]
    lines = [_line(head, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    lines += [_line(line, widths) for line in body]
    failures = [f"- {row.arm}: {failure}" for row in results.rows for failure in row.failures]
    sides = ", ".join(f"{side['sessions']} {name}" for name, side in results.split.items() if isinstance(side, dict))
    source = f" ({results.source} of the paper)" if results.source else ""
    title = f"# {results.ablation}: {results.question}{source}"
    parts = [title, f"Sessions: {sides}. Budget: {results.budget}.", "\n".join(lines), *results.notes]
    if failures:
        parts.append("Failed:\n" + "\n".join(failures))
    return "\n\n".join(parts) + "\n"


def _verdict(row: Row) -> tuple[str, str]:
    if row.difference is None:
        return "", row.word.value
    d = row.difference
    return f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}]", row.word.value


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}" if value > 1.0 else f"{value:.3f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def draw(results: Results) -> str:
    """A dot for each arm, faint ones for its seeds, and the interval of its difference; the reference is the line."""
    rows = [row for row in results.rows if results.compared_by in row.figures]
    figure = matplotlib.figure.Figure(figsize=(7.0, 1.1 + 0.3 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    places = list(range(len(rows)))[::-1]
    for place, row in zip(places, rows, strict=True):
        value = row.figures[results.compared_by]
        if row.difference is not None:
            base = value - row.difference.value
            axes.plot([base + row.difference.low, base + row.difference.high], [place, place], color=INK, linewidth=1)
        seeds = [one[results.compared_by] for one in row.by_seed]
        axes.plot(seeds, [place] * len(seeds), "o", color=FAINT, markersize=3)
        axes.plot([value], [place], "o", color=BLUE, markersize=5)
    if rows and rows[0].word is Word.REFERENCE:
        axes.axvline(rows[0].figures[results.compared_by], color=FAINT, linestyle="--", linewidth=1)
    axes.set_yticks(places, [f"{row.arm} ({row.word})" for row in rows], fontsize=8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(results.compared_by.replace("_", " "), fontsize=8)
    axes.set_title(f"{results.ablation}: {results.question}", fontsize=9, loc="left", color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e3e7ee")
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": results.ablation, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()
