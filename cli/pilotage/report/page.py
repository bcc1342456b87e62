"""The report as one HTML page: no script, no request, prints well. Figures and curves in, markup out.

The markup is templates/report.html. Not here: counting (figures.py) and drawing (charts.py).
"""

from collections.abc import Iterator, Sequence
from typing import Any

from pilotage.report import charts
from pilotage.report.breach import Evidence
from pilotage.report.figures import Figures, ProcessClusterWork
from pilotage.report.sessions import TOUCHES, Share, WholeSessions
from pilotage.report.times import in_words, to_seconds
from pilotage.run import Curve, Run
from pilotage.templates import build_environment, drawn, percent
from pilotage_core.actions import Action
from pilotage_core.score import format_score
from pilotage_core.screen import Control
from pilotage_core.stage import UNATTENDED, Stage

CHAT_SHOWN = 8
MODES = {"local": "as plain local processes", "kubernetes": "on Kubernetes"}
CERTIFICATE_COLUMNS = (
    "stratum", "issued", "τ", "labels", "≥ τ", "wrong", "bound", "target", "coverage", "design effect", "labels from",
    "score",
)  # fmt: skip


def build_page(run: Run, figures: Figures) -> str:
    """The whole page."""
    environment = build_environment()
    environment.filters |= {
        "in_short": in_short, "score": format_score, "words": in_words,
        "shown_controls": list_controls, "count_replies": count_replies,
    }  # fmt: skip
    clusters = in_order_of_interest(figures)
    start, end = run_bounds(run, figures)
    return environment.get_template("report.html").render(
        figures=figures,
        mode=MODES.get(str(figures.run.get("mode")), ""),
        said=" ".join(in_a_sentence(one) for one in clusters),
        tiles=_tiles(figures),
        colours=charts.STAGE_COLOURS,
        red=charts.RED,
        lanes=drawn(charts.draw_lanes([_lane(run, one, start, end) for one in clusters], end - start)),
        process_clusters=[_view(run, one) for one in clusters],
        certificate_columns=CERTIFICATE_COLUMNS,
        chat_shown=CHAT_SHOWN,
        refused=", ".join(f"{count} × {fault}" for fault, count in figures.orders_refused.items()) or "none",
        assumed=figures.assumptions,
        footer=[figures.run.get(name) for name in ("reached", "dialogues", "machine", "started_at")],
    )


# --- the top ----------------------------------------------------------------------------------------------------------
def in_order_of_interest(figures: Figures) -> list[ProcessClusterWork]:
    """Process clusters, those to which most happened first."""
    return sorted(figures.process_clusters, key=lambda one: (-len(one.stages), -one.sessions))


def in_a_sentence(one: ProcessClusterWork) -> str:
    """What happened to one process cluster, in one sentence."""
    name = one.name.replace("-", " ").capitalize()
    highest = max((Stage(flip.stage) for flip in one.stages), key=lambda stage: stage.rank, default=Stage.LOGGING)
    if not one.breaches:
        if highest.rank <= Stage.COPILOT.rank:
            first = one.unmet[0] if one.unmet else None
            waits = f" ({first['condition']} {first['have']}, needs {first['need']})" if first else ""
            return f"{name} stayed in {one.stage or highest}{waits}."
        return f"{name} earned {highest} and kept it." if one.stage == highest else f"{name} reached {highest}."
    breach = one.breaches[-1]
    after = (
        f"and earned {breach.recovered_stage} again {in_words(breach.recovered_at - breach.copilot_at)} later"
        if breach.recovered_at is not None
        else "and is still there"
    )
    return (
        f"{name} earned {highest}, was back in Copilot {in_words(breach.seconds)} after its guardrail tipped, {after}."
    )


def _tiles_of_sessions(clusters: Sequence[ProcessClusterWork]) -> Iterator[tuple[str, str, str]]:
    """The same of sessions in Automation; of several process clusters the one with most of them speaks."""
    one = max(clusters, key=lambda one: one.whole.automation_rate.n if one.whole and one.whole.automation_rate else 0)
    whole = one.whole
    assert whole is not None
    assert whole.automation_rate is not None
    yield "", f"{whole.automation_rate.part:,}", "sessions that nobody touched, endings included"
    yield "", percent(whole.automation_rate.share), f"of {one.name}’s sessions in Automation"
    right = whole.resolution_correctness["before_change"] or whole.resolution_correctness["unattended"]
    label = "of those came out right, while the process was as learned"
    yield "", percent(right.share if right is not None else None), label
    taken = [b.copilot_at - b.changed_at for b in one.breaches if b.changed_at is not None]
    yield "", in_words(taken[0]) if taken else "none", "from a change of the process to Copilot"


def _tiles(figures: Figures) -> list[tuple[str, str, str]]:
    """Kind, value and label of each: of whole sessions where it is known how they came out."""
    unsafe = figures.unsafe_executions
    first = ("good" if not unsafe else "bad", str(unsafe), "unsafe executions, counted at the BPM")
    if whole := [one for one in figures.process_clusters if one.whole is not None and one.whole.automation_rate]:
        return [first, *_tiles_of_sessions(whole)]
    executed = sum(one.executed_critical for one in figures.process_clusters)
    right = sum((one.strict_precision or 0.0) * one.executed_critical for one in figures.process_clusters)
    fastest = [one.breach_to_copilot_seconds for one in figures.process_clusters if one.breaches]
    times = [one.operator_seconds for one in figures.process_clusters]
    alone, helped = sum(t.without for t in times), sum(t.with_ for t in times)
    return [
        first,
        ("", f"{executed:,}", "critical actions ran with nobody asked"),
        ("", percent(right / executed if executed else None), "of them are exactly what the human did"),
        ("", in_words(max(x for x in fastest if x is not None)) if fastest else "none", "from breach to Copilot"),
        ("", percent(1 - helped / alone if alone else None), "of operators’ active time saved where assisted"),
    ]


def run_bounds(run: Run, figures: Figures) -> tuple[float, float]:
    """Start and end of the run in seconds since the epoch, wide enough for every flip."""
    flips = [to_seconds(flip.at) for one in figures.process_clusters for flip in one.stages]
    start = min([to_seconds(run.info.started_at), *flips]) if run.info.started_at else min(flips, default=0.0)
    end = max([to_seconds(run.info.ended_at or run.info.started_at), *flips])
    return start, max(end, start + 1)


def _lane(run: Run, one: ProcessClusterWork, start: float, end: float) -> charts.Lane:
    key = f"{one.namespace}/{one.name}"
    times = [to_seconds(flip.at) - start for flip in one.stages]
    spans = [
        (flip.stage, begun, ended)
        for flip, begun, ended in zip(one.stages, times, [*times[1:], end - start], strict=False)
    ]
    if times and times[0] > 0 and one.stages[0].stage != Stage.LOGGING:
        spans.insert(0, (Stage.LOGGING.value, 0.0, times[0]))
    return charts.Lane(
        name=one.name,
        spans=tuple(spans) or ((one.stage or Stage.LOGGING.value, 0.0, end - start),),
        breaches=tuple((b.copilot_at - start, _anchor(one, n)) for n, b in enumerate(one.breaches)),
        changes=tuple(to_seconds(s.at) - start for s in run.ledger.begun if s.changed and s.process_cluster == key)[:1],
    )


# --- one process cluster ----------------------------------------------------------------------------------------------
def _view(run: Run, one: ProcessClusterWork) -> dict[str, Any]:
    time = one.operator_seconds
    shares = [(tool, a.share, f"{a.share:.0%} of {a.given:,}") for tool, a in one.acceptance.items()]
    times = [("without", time.without, None, None), ("with", time.with_, time.with_at_half, time.with_at_double)]
    return {
        "one": one,
        "facts": list(_facts(one)),
        "touches": drawn(charts.draw_touches(one.whole.touched, TOUCHES)) if one.whole else "",
        "acceptance": drawn(charts.draw_shares(shares)) if shares else "",
        "times": drawn(charts.draw_times(times)) if time.sessions else "",
        "curves": list(_curves(run, one)),
        "breaches": [(_anchor(one, number), breach) for number, breach in enumerate(one.breaches)],
        "certificates": [
            (
                c.stratum, c.issued_at[11:19], format_score(c.tau), f"{c.n:,}", f"{c.selected:,}", f"{c.errors}",
                f"{c.bound:.3f}", f"{c.target:g}", percent(c.coverage), f"{c.design_effect:.2f}", c.labels_from,
                c.score_from or "not told",
            )
            for c in one.certificates
        ],
    }  # fmt: skip


def _facts(one: ProcessClusterWork) -> Iterator[tuple[str, str]]:
    by_stage = ", ".join(f"{count:,} in {stage}" for stage, count in one.sessions_by_stage.items())
    yield "Sessions", f"{one.sessions:,}" + (f" ({by_stage})" if by_stage else "")
    if any(Stage(flip.stage) in UNATTENDED for flip in one.stages):
        yield from _facts_unattended(one)
    if one.whole is not None:
        yield from _facts_whole(one.whole, one.session_certificate)
    for number, unmet in enumerate(one.unmet):
        line = f"{unmet['condition']} {unmet['have']}; needs {unmet['need']}"
        yield ("", line) if number else ("Missing for the next stage", line)


def _facts_unattended(one: ProcessClusterWork) -> list[tuple[str, str]]:
    return [
        (
            "Ran with nobody asked",
            f"{one.executed_critical:,} critical actions ({percent(one.unattended_share)} of all)",
        ),
        ("Precision of those", f"{percent(one.strict_precision)} strict, {percent(one.graded_precision)} graded"),
        (
            "Coverage",
            f"{percent(one.coverage)} of critical proposals under a τ",
        ),
        (
            "Automation rate",
            f"{percent(one.automation_rate)} of sessions in Calibration and Automation needed nobody before their end",
        ),
    ]


def _facts_whole(whole: WholeSessions, certificate: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Sessions as an operations head asks about them."""
    right = whole.resolution_correctness
    if whole.automation_rate is not None:
        yield "Sessions nobody touched", f"{_in_words(whole.automation_rate)} of Automation’s, endings included"
        yield "… that came out right", _in_words(right["unattended"])
        if right["until_taken_back"] is not None:
            yield "… before the process changed", _in_words(right["before_change"])
            yield "… then, until it was taken back", _in_words(right["until_taken_back"])
        yield "All of Automation’s", f"{_in_words(right['all'])} came out right"
        yield "Customers’ turns answered alone", f"{_in_words(whole.automation_rate_by_turn)} in Automation"
    yield "Operators alone", f"{_in_words(right['human_only'])} came out right"
    if certificate is not None:
        verb = "stands" if certificate.get("certified") else "does not stand"
        yield (
            "Session certificate",
            f"at {certificate['target']} {verb}: {certificate['wrong']} of {certificate['unasked']} sessions that ran "
            f"alone to their ending came out wrong, at least {percent(float(certificate['bound'] or 0))} right",
        )
    time = whole.operator_seconds
    arms = (("alone", time.alone), ("confirming", time.confirming), ("in Automation", time.automatic))
    told = [f"{seconds:g} {name}" for name, seconds in arms if seconds is not None]
    if time.automatic is not None and time.automatic_alone:
        told.append(f"{percent(time.automatic / time.automatic_alone)} of alone")
    yield "Operator’s active seconds a session", ", ".join(told) or "not measured"
    if whole.held_back_by:
        first = list(whole.held_back_by.items())[:6]
        yield "What put an operator to it", "; ".join(f"{count} × {why}" for why, count in first)


def _in_words(share: Share | None) -> str:
    if share is None:
        return "not measured"
    return f"{percent(share.share)} of {share.n:,} ({percent(share.low)} to {percent(share.high)})"


def _curves(run: Run, one: ProcessClusterWork) -> Iterator[tuple[str, str, str]]:
    """Stratum, whether nothing was certified in it, and its plot."""
    by_stratum: dict[str, list[tuple[str, Curve]]] = {}
    for calibration in run.calibrations:
        if calibration.process_cluster == f"{one.namespace}/{one.name}":
            for stratum, curve in calibration.curves.items():
                if curve.points:
                    by_stratum.setdefault(stratum, []).append((calibration.revision, curve))
    certified = {name for name, curves in by_stratum.items() if any(curve.tau is not None for _, curve in curves)}
    for stratum, curves in sorted(by_stratum.items(), key=lambda item: (item[0] not in certified, item[0])):
        yield stratum, "" if stratum in certified else " (no τ certified)", drawn(charts.draw_risk_coverage(curves))


# --- a breach ---------------------------------------------------------------------------------------------------------
def _anchor(one: ProcessClusterWork, number: int) -> str:
    return f"breach-{one.name}-{number + 1}"


def list_controls(one: Evidence) -> list[tuple[Control, str]]:
    """Controls, the proposed one marked wrong and the human's right; replies that nobody chose are left out."""
    marked = [(control, _mark(one, control)) for control in one.screen.controls]
    return [(control, mark) for control, mark in marked if mark or control.kind != "reply"]


def count_replies(one: Evidence) -> int:
    """How many replies `list_controls` leaves out."""
    return len(one.screen.controls) - len(list_controls(one))


def _mark(one: Evidence, control: Control) -> str:
    if control.control_id == one.proposed.control_id:
        return "wrong"
    return "right" if control.control_id in {action.control_id for action in one.instead} else ""


def in_short(action: Action) -> str:
    """An action in a few words."""
    if action.tool == "send_text_to_chat":
        return f"says “{action.text[:70]}{'…' if len(action.text) > 70 else ''}”"
    value = f" = {action.value[:40]}" if action.value else ""
    return f"{action.tool} {action.control_id}{value}".strip()
