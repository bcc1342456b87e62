"""The report as one HTML page: no script, no request, prints well. Figures and curves in, markup out.

Not here: counting (figures.py) and drawing (charts.py).
"""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from pilotage.report import charts
from pilotage.report.breach import Breach, Evidence
from pilotage.report.figures import Figures, ProcessClusterWork
from pilotage.report.times import in_words, to_seconds
from pilotage.run import Curve, Run
from pilotage_core.actions import Action
from pilotage_core.score import format_score
from pilotage_core.stage import UNATTENDED, Stage

CHAT_SHOWN = 8


def build_page(run: Run, figures: Figures) -> str:
    """The whole page."""
    style = files("pilotage.report").joinpath("page.css").read_text(encoding="utf-8")
    body = [
        _header(figures),
        _tiles(figures),
        _timeline(run, figures),
        *(_process_cluster(run, one) for one in in_order_of_interest(figures)),
        _faults(figures),
        _method(figures),
        _footer(figures),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pilotage: report of a run</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


# --- the top --------------------------------------------------------------------------------------------------------
def _header(figures: Figures) -> str:
    said = " ".join(filter(None, (in_a_sentence(one) for one in in_order_of_interest(figures))))
    mode = {"local": "as plain local processes", "kubernetes": "on Kubernetes"}.get(str(figures.run.get("mode")), "")
    return (
        "<header><h1>How far the model was trusted, and when it was stopped</h1>"
        f"<p>{figures.sessions:,} customer-support sessions, replayed from real dialogues {mode}. {escape(said)}</p>"
        "</header>"
    )


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


def _tiles(figures: Figures) -> str:
    executed = sum(one.executed_critical for one in figures.process_clusters)
    right = sum((one.strict_precision or 0.0) * one.executed_critical for one in figures.process_clusters)
    fastest = [one.breach_to_copilot_seconds for one in figures.process_clusters if one.breaches]
    times = [one.operator_seconds for one in figures.process_clusters]
    alone, helped = sum(t.without for t in times), sum(t.with_ for t in times)
    tiles = [
        (
            "good" if not figures.unsafe_executions else "bad",
            str(figures.unsafe_executions),
            "unsafe executions, counted at the BPM",
        ),
        ("", f"{executed:,}", "critical actions ran with nobody asked"),
        ("", _percent(right / executed if executed else None), "of them are exactly what the human did"),
        ("", in_words(max(x for x in fastest if x is not None)) if fastest else "none", "from breach to Copilot"),
        ("", _percent(1 - helped / alone if alone else None), "of operators’ active time saved where assisted"),
    ]
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
            for kind, value, label in tiles
        )
        + "</div>"
    )


def _timeline(run: Run, figures: Figures) -> str:
    start, end = run_bounds(run, figures)
    lanes = [_lane(run, one, start, end) for one in in_order_of_interest(figures)]
    legend = "".join(f'<span><i style="background:{c}"></i>{s}</span>' for s, c in charts.STAGE_COLOURS.items())
    flag = f'<span><i style="background:{charts.RED}"></i>breach (click)</span>'
    return (
        "<section><h2>Stages</h2>"
        f'<div class="legend">{legend}{flag}</div>{charts.draw_lanes(lanes, end - start)}</section>'
    )


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


# --- one process cluster --------------------------------------------------------------------------------------------
def _process_cluster(run: Run, one: ProcessClusterWork) -> str:
    colour = charts.STAGE_COLOURS.get(one.stage, "#eee")
    parts = [
        f'<section id="{escape(one.name)}"><h2>{escape(one.name)}'
        f'<span class="chip" style="background:{colour}">{escape(one.stage)}</span></h2>',
        _facts(one),
        '<div class="two">',
        _acceptance(one),
        _operator_time(one),
        *_curves(run, one),
        "</div>",
        *(_breach(one, number, breach) for number, breach in enumerate(one.breaches)),
        _certificates(one),
        _stages(one),
        "</section>",
    ]
    return "".join(parts)


def _facts(one: ProcessClusterWork) -> str:
    by_stage = ", ".join(f"{count:,} in {stage}" for stage, count in one.sessions_by_stage.items())
    rows = [("Sessions", f"{one.sessions:,}" + (f" ({by_stage})" if by_stage else ""))]
    if any(Stage(flip.stage) in UNATTENDED for flip in one.stages):
        rows += _facts_unattended(one)
    missing = [f"{u['condition']} {u['have']}; needs {u['need']}" for u in one.unmet]
    rows += [("Missing for the next stage", line) if n == 0 else ("", line) for n, line in enumerate(missing)]
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="dl">{items}</dl>'


def _facts_unattended(one: ProcessClusterWork) -> list[tuple[str, str]]:
    return [
        (
            "Ran with nobody asked",
            f"{one.executed_critical:,} critical actions ({_percent(one.unattended_share)} of all)",
        ),
        ("Precision of those", f"{_percent(one.strict_precision)} strict, {_percent(one.graded_precision)} graded"),
        (
            "Coverage",
            f"{_percent(one.coverage)} of critical proposals under a τ",
        ),
        (
            "Automation rate",
            f"{_percent(one.automation_rate)} of sessions in Calibration and Automation needed nobody before their end",
        ),
    ]


def _acceptance(one: ProcessClusterWork) -> str:
    if not one.acceptance:
        return ""
    rows = ((tool, a.share, f"{a.share:.0%} of {a.given:,}") for tool, a in one.acceptance.items())
    return f"<div><h3>Proposals accepted unedited, by tool</h3>{charts.draw_shares(rows)}</div>"


def _operator_time(one: ProcessClusterWork) -> str:
    time = one.operator_seconds
    if not time.sessions:
        return ""
    rows = [("without", time.without, None, None), ("with", time.with_, time.with_at_half, time.with_at_double)]
    note = (
        f"The same {time.sessions:,} sessions after Logging. The whisker: if an accept, look or review costs half or "
        "twice what is assumed."
    )
    return f"<div><h3>Operators’ active time</h3>{charts.draw_times(rows)}<p class='note'>{note}</p></div>"


def _curves(run: Run, one: ProcessClusterWork) -> Iterable[str]:
    by_stratum: dict[str, list[tuple[str, Curve]]] = {}
    for calibration in run.calibrations:
        if calibration.process_cluster == f"{one.namespace}/{one.name}":
            for stratum, curve in calibration.curves.items():
                if curve.points:
                    by_stratum.setdefault(stratum, []).append((calibration.revision, curve))
    certified = {name for name, curves in by_stratum.items() if any(curve.tau is not None for _, curve in curves)}
    for stratum, curves in sorted(by_stratum.items(), key=lambda item: (item[0] not in certified, item[0])):
        none = "" if stratum in certified else " (no τ certified)"
        yield (
            f"<div><h3>Held-out precision against coverage: {escape(stratum)}{none}</h3>"
            f"{charts.draw_risk_coverage(curves)}</div>"
        )


def _certificates(one: ProcessClusterWork) -> str:
    if not one.certificates:
        return ""
    head = _row(
        (
            "stratum", "issued", "τ", "labels", "≥ τ", "wrong", "bound", "target", "coverage", "design effect",
            "labels from", "score",
        ),
        "th",
    )  # fmt: skip
    rows = "".join(
        _row(
            (
                c.stratum, c.issued_at[11:19], format_score(c.tau), f"{c.n:,}", f"{c.selected:,}", f"{c.errors}",
                f"{c.bound:.3f}", f"{c.target:g}", _percent(c.coverage), f"{c.design_effect:.2f}", c.labels_from,
                c.score_from or "not told",
            )
        )
        for c in one.certificates
    )  # fmt: skip
    return f"<h3>Certificates</h3><table>{head}{rows}</table>"


def _stages(one: ProcessClusterWork) -> str:
    rows = "".join(_row((flip.at[11:19], flip.stage, flip.reason), numbers=False) for flip in one.stages)
    title = "Every flip, with its reason"
    return f"<details><summary>{title}</summary><div class='inside'><table>{rows}</table></div></details>"


# --- a breach -------------------------------------------------------------------------------------------------------
def _anchor(one: ProcessClusterWork, number: int) -> str:
    return f"breach-{one.name}-{number + 1}"


def _breach(one: ProcessClusterWork, number: int, breach: Breach) -> str:
    after = (
        f"{breach.executed_after} actions still ran after the flip"
        if breach.executed_after
        else "nothing ran after the flip"
    )
    changed = (
        f" The process had changed {in_words(breach.copilot_at - breach.changed_at)} before."
        if breach.changed_at
        else ""
    )
    wrong = len([e for e in breach.evidence if e.ran])
    looked = len(breach.evidence) - wrong
    return (
        f'<div class="breach" id="{_anchor(one, number)}"><h3>Breach: {escape(breach.guardrail)}</h3>'
        f"<p>{escape(breach.reason)}. Back in Copilot, latched, {in_words(breach.seconds)} after the label that tipped "
        f"it; {after}.{changed}</p>"
        f"<p class='note'>The last wrong proposals before it: {wrong} had run, an audit look caught {looked}:</p>"
        f"{''.join(_evidence(one) for one in breach.evidence)}</div>"
    )


def _evidence(one: Evidence) -> str:
    against = (
        f"score {format_score(one.score)} ≥ τ {format_score(one.tau)}"
        if one.score is not None and one.tau is not None
        else ""
    )
    instead = " then ".join(in_short(action) for action in one.instead) or "something else"
    facts = "".join(f"<li><b>{escape(k)}</b> {escape(v)}</li>" for k, v in one.screen.facts)
    chat = "".join(f"<li><b>{escape(m.author)}</b> {escape(m.text)}</li>" for m in one.messages[-CHAT_SHOWN:])
    return (
        f"<details><summary><code>{escape(one.at[11:19])}</code> session <code>{escape(one.session_id)}</code>: "
        f'<span class="wrong">{escape(in_short(one.proposed))}</span> where the human did '
        f'<span class="right">{escape(instead)}</span></summary><div class="inside">'
        f"<p class='note'>{escape(one.word)}. {against}. "
        f"Screen <b>{escape(one.screen.name)}</b> {escape(one.screen.title)}</p>"
        f"<div class='two'><div><h3>Chat</h3><ul class='chat'>{chat}</ul>"
        f"{'<h3>Shown on screen</h3><ul class=chat>' + facts + '</ul>' if facts else ''}</div>"
        f"<div><h3>Controls</h3><div class='controls'><table>{_controls(one)}</table></div></div></div></div></details>"
    )


def _controls(one: Evidence) -> str:
    """Every control, the proposed one and the human's marked; replies nobody chose are counted, not listed."""
    instead = {action.control_id for action in one.instead}
    rows, left_out = [], 0
    for control in one.screen.controls:
        marks = ("wrong" if control.control_id == one.proposed.control_id else "") or (
            "right" if control.control_id in instead else ""
        )
        if control.kind == "reply" and not marks:
            left_out += 1
            continue
        name = f'<code class="{marks}">{escape(control.control_id)}</code>'
        rows.append(f"<tr><td>{name}</td><td>{escape(control.kind)}</td><td>{escape(control.value[:60])}</td></tr>")
    if left_out:
        rows.append(f"<tr><td colspan='3' class='note'>and {left_out} template replies</td></tr>")
    return "".join(rows)


def in_short(action: Action) -> str:
    """An action in a few words."""
    if action.tool == "send_text_to_chat":
        return f"says “{action.text[:70]}{'…' if len(action.text) > 70 else ''}”"
    value = f" = {action.value[:40]}" if action.value else ""
    return f"{action.tool} {action.control_id}{value}".strip()


# --- the bottom -----------------------------------------------------------------------------------------------------
def _faults(figures: Figures) -> str:
    if not figures.faults:
        return ""
    rows = "".join(
        _row(
            (
                str(fault["part"]),
                str(fault["killed_at"])[11:19],
                in_words(fault["recovered_seconds"])
                if fault["recovered_seconds"] is not None
                else "not before the end",
                str(fault.get("detail", "")),
            ),
            numbers=False,
        )
        for fault in figures.faults
    )
    head = _row(("killed", "at", "answers again after", ""), "th", numbers=False)
    return (
        f"<section><h2>What was killed</h2><table>{head}{rows}</table>"
        f"<p class='note'>Unsafe executions at the BPM over all of it: {figures.unsafe_executions}.</p></section>"
    )


def _method(figures: Figures) -> str:
    a = figures.assumptions
    refused = ", ".join(f"{count} × {fault}" for fault, count in figures.orders_refused.items()) or "none"
    lines = [
        f"The BPM received {figures.orders:,} orders and executed {figures.orders_executed:,}; refused: {refused}. "
        "An execution is unsafe where the gateway stored neither a decision to execute nor an operator’s accept, where "
        "the BPM’s fence had refused it, or where it happened twice.",
        "Strict precision compares with what the dialogue’s human did at that point (a submit is right only if every "
        "filled value is); graded also counts what that human did later before the next submit.",
        f"Assumed, since no dialogue says it: a look costs an operator {a.get('look_seconds', 0):g} s and an "
        f"accept {a.get('accept_seconds', 0):g} s more; gaps are capped at {a.get('gap_cap_seconds', 60):g} s; "
        f"an operator accepts what the human did later with probability {a.get('accept_later_probability', 0.7):g}.",
        "Seconds from breach to Copilot run from when the label that tipped the guardrail was stored to the latest of "
        "the controller’s flip, the gateway’s first proposal in Copilot and the last action that ran unattended.",
    ]
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section><h2>How this was counted</h2><ul class='note'>{items}</ul></section>"


def _footer(figures: Figures) -> str:
    said = [str(figures.run.get(name) or "") for name in ("reached", "dialogues", "machine", "started_at")]
    return f"<footer>{escape(' · '.join(filter(None, said)))}</footer>"


def _row(cells: Sequence[str], tag: str = "td", *, numbers: bool = True) -> str:
    inner = "".join(
        f"<{tag}{' class=n' if numbers and place else ''}>{escape(cell)}</{tag}>" for place, cell in enumerate(cells)
    )
    return f"<tr>{inner}</tr>"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
