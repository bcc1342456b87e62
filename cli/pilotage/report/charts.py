"""Plots as inline SVG: stage lanes, acceptance bars, risk against coverage, operators' time. Values in, markup out.

Everything that is text comes escaped by `text()`; widths are in user units, and pages scale the whole drawing.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape

import msgspec

from pilotage.report.times import clock
from pilotage.run import Curve
from pilotage_core.score import format_score

STAGE_COLOURS = {"Logging": "#d5d9e0", "Copilot": "#9cc0f5", "Calibration": "#f3c869", "Automation": "#53b38a"}
TOUCH_COLOURS = ("#2f8f63", "#8fd1b0", "#9cc0f5", "#d5d9e0")
INK, FAINT, RED, BLUE = "#22304a", "#8a94a6", "#c8372d", "#2f6fd0"

Place = Callable[[float, float], tuple[float, float]]
"""Coverage and precision to x and y."""


class Lane(msgspec.Struct, frozen=True):
    """One process cluster in time: stage intervals (stage, from, to), breaches, changes, in seconds from the start."""

    name: str
    spans: tuple[tuple[str, float, float], ...]
    breaches: tuple[tuple[float, str], ...] = ()
    changes: tuple[float, ...] = ()


def draw_lanes(lanes: Sequence[Lane], length: float) -> str:
    """Stages by process cluster over `length` seconds. A breach is a link to its anchor."""
    left, width, height = 120.0, 960.0, 46
    scale = (width - left - 10) / max(length, 1.0)
    parts = [_axis(left, scale, length, 18 + len(lanes) * height)]
    for row, lane in enumerate(lanes):
        top = 14 + row * height
        parts.append(text(lane.name, left - 10, top + 20, anchor="end", weight=600))
        parts += [_span(stage, left + start * scale, left + end * scale, top) for stage, start, end in lane.spans]
        for at in lane.changes:
            x = left + at * scale
            parts.append(f'<line x1="{x:.1f}" y1="{top - 5}" x2="{x:.1f}" y2="{top + 33}" class="change"/>')
            parts.append(text("process changes", x - 4, top + 42, size=10, anchor="end", colour=FAINT))
        for at, anchor in lane.breaches:
            parts.append(_flag(left + at * scale, top, anchor))
    return build_svg(width, 44 + len(lanes) * height, "Stage of each process cluster over time", parts)


def _span(stage: str, start: float, end: float, top: float) -> str:
    width = max(end - start, 0.8)
    colour = STAGE_COLOURS.get(stage, "#eee")
    box = f'<rect x="{start:.1f}" y="{top}" width="{width:.1f}" height="30" rx="3" fill="{colour}"/>'
    label = text(stage, start + width / 2, top + 19, anchor="middle", size=12) if width > 7.2 * len(stage) else ""
    return f"<g><title>{escape(stage)}</title>{box}{label}</g>"


def _flag(x: float, top: float, anchor: str) -> str:
    return (
        f'<a href="#{escape(anchor)}"><title>breach: what led to it</title>'
        f'<line x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{top + 36}" stroke="{RED}" stroke-width="2"/>'
        f'<path d="M {x:.1f} {top - 10} l 9 4.5 l -9 4.5 z" fill="{RED}"/></a>'
    )


def _axis(left: float, scale: float, length: float, bottom: float) -> str:
    step = next(
        (s for s in (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400) if length / s <= 10), max(length / 8, 1)
    )
    ticks = []
    at = 0.0
    while at <= length:
        x = left + at * scale
        ticks.append(f'<line x1="{x:.1f}" y1="10" x2="{x:.1f}" y2="{bottom}" class="grid"/>')
        ticks.append(text(clock(at), x, bottom + 15, anchor="middle", size=11, colour=FAINT))
        at += step
    return "".join(ticks)


def draw_touches(spans: Sequence[tuple[float, tuple[int, ...]]], names: Sequence[str]) -> str:
    """Sessions over time, stacked by who touched them (`names`, the least first): spans as (begin in seconds, counts).

    Time is counted from the first span.
    """
    left, top, width, height = 54.0, 26.0, 900.0, 150.0
    most = max((sum(counts) for _, counts in spans), default=1) or 1
    step = width / max(len(spans), 1)
    parts = []
    for number, name in enumerate(names):
        x = left + number * 170
        parts.append(f'<rect x="{x}" y="4" width="11" height="11" rx="2" fill="{TOUCH_COLOURS[number]}"/>')
        parts.append(text(name, x + 16, 14, size=12))
    for place, (begin, counts) in enumerate(spans):
        x, base = left + place * step, top + height
        for number, count in enumerate(counts):
            tall = height * count / most
            base -= tall
            box = f'<rect x="{x:.1f}" y="{base:.1f}" width="{max(step - 1, 1):.1f}" height="{tall:.1f}"'
            if count:
                title = f"<title>{escape(names[number])}: {count} of {sum(counts)}</title>"
                parts.append(f'{box} fill="{TOUCH_COLOURS[number]}">{title}</rect>')
        if place % max(len(spans) // 8, 1) == 0:
            at = text(clock(begin - spans[0][0]), x, top + height + 15, size=11, colour=FAINT)
            parts.append(at)
    parts.append(text(f"{most}", left - 6, top + 8, anchor="end", size=11, colour=FAINT))
    parts.append(text("0", left - 6, top + height, anchor="end", size=11, colour=FAINT))
    return build_svg(left + width + 10, top + height + 24, "Sessions over time, by who touched them", parts)


def draw_shares(rows: Iterable[tuple[str, float, str]]) -> str:
    """Horizontal bars: label, share in [0, 1], and what to write behind it."""
    rows = list(rows)
    left, width, height = 190.0, 520.0, 26
    parts = []
    for row, (label, share, note) in enumerate(rows):
        top = 4 + row * height
        full = width - left - 130
        parts.append(text(label, left - 8, top + 14, anchor="end", size=12))
        parts.append(f'<rect x="{left}" y="{top + 2}" width="{full}" height="16" rx="3" fill="#eef1f6"/>')
        parts.append(f'<rect x="{left}" y="{top + 2}" width="{full * share:.1f}" height="16" rx="3" fill="{BLUE}"/>')
        parts.append(text(note, left + full + 8, top + 14, size=12))
    return build_svg(width, 8 + len(rows) * height, "Acceptance by tool", parts)


def draw_risk_coverage(curves: Sequence[tuple[str, Curve]]) -> str:
    """Precision against coverage, one line a curve (the last drawn strongest), its τ as a dot, the target dashed."""
    left, top, width, height = 54.0, 14.0, 400.0, 210.0
    values = [point.precision for _, curve in curves for point in curve.points]
    low = min([0.8, *(int(value * 10) / 10 for value in values)])

    def place(coverage: float, precision: float) -> tuple[float, float]:
        return left + coverage * width, top + (1 - (precision - low) / (1 - low)) * height

    parts = [_frame(left, top, width, height, low)]
    for number, (name, curve) in enumerate(curves):
        strong = number == len(curves) - 1
        points = sorted(curve.points, key=lambda point: point.coverage)
        path = " ".join("{:.1f},{:.1f}".format(*place(p.coverage, p.precision)) for p in points)
        colour = BLUE if strong else "#a9bcd8"
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{2 if strong else 1.4}"/>')
        parts += _threshold(name, curve, place, colour)
    target = curves[-1][1].target if curves else 0.9
    y = place(0, target)[1]
    parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" class="target"/>')
    parts.append(text(f"target {target:g}", left + width - 4, y - 4, anchor="end", size=11, colour=RED))
    return build_svg(left + width + 14, top + height + 38, "Precision against coverage", parts)


def _threshold(name: str, curve: Curve, place: Place, colour: str) -> list[str]:
    tau = curve.tau
    if tau is None or not curve.points:
        return []
    at = min(curve.points, key=lambda point: abs(point.tau - tau))
    x, y = place(at.coverage, at.precision)
    anchor, offset = ("end", -7) if at.coverage > 0.6 else ("start", 7)
    return [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" stroke="#fff" stroke-width="1.5"/>',
        text(
            f"{name}: τ = {format_score(tau)}",
            x + offset,
            y - 8 if y > 40 else y + 18,
            anchor=anchor,
            size=11,
            weight=600,
        ),
    ]


def _frame(left: float, top: float, width: float, height: float, low: float) -> str:
    parts = []
    for step in range(6):
        share = step / 5
        x, y = left + share * width, top + (1 - share) * height
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" class="grid"/>')
        parts.append(text(f"{low + share * (1 - low):.2f}", left - 6, y + 4, anchor="end", size=11, colour=FAINT))
        parts.append(text(f"{share:.0%}", x, top + height + 16, anchor="middle", size=11, colour=FAINT))
    parts.append(text("coverage", left + width / 2, top + height + 32, anchor="middle", size=11))
    middle = top + height / 2
    parts.append(
        f'<text x="10" y="{middle}" transform="rotate(-90 10 {middle})" text-anchor="middle" font-size="11" '
        f'fill="{INK}">precision</text>'
    )
    return "".join(parts)


def draw_times(rows: Sequence[tuple[str, float, float | None, float | None]]) -> str:
    """Bars of seconds: label, value, and the ends of a whisker where the value rests on an assumption."""
    left, width, height = 90.0, 520.0, 32
    longest = max((max(value, high or 0.0) for _, value, _, high in rows), default=1.0) or 1.0
    scale = (width - left - 90) / longest
    parts = []
    for row, (label, value, low, high) in enumerate(rows):
        top = 6 + row * height
        parts.append(text(label, left - 8, top + 15, anchor="end", size=12))
        colour = "#a9b3c4" if row == 0 else STAGE_COLOURS["Automation"]
        parts.append(f'<rect x="{left}" y="{top}" width="{value * scale:.1f}" height="22" rx="3" fill="{colour}"/>')
        if low is not None and high is not None:
            x1, x2, y = left + low * scale, left + high * scale, top + 11
            parts.append(f'<path d="M {x1:.1f} {y - 5} v 10 m 0 -5 H {x2:.1f} m 0 -5 v 10" class="whisker"/>')
        end = left + max(value, high or 0.0) * scale
        amount = f"{value / 3600:,.1f} h" if value >= 7200 else f"{value / 60:,.1f} min"
        parts.append(text(amount, end + 8, top + 15, size=12, weight=600))
    return build_svg(width, 10 + len(rows) * height, "Operators' active time", parts)


def text(
    words: str,
    x: float,
    y: float,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: int = 400,
    colour: str = INK,
) -> str:
    """One line of text, escaped."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(words)}</text>'
    )


def build_svg(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    """A drawing of `parts`, named `title` for those who do not see it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
