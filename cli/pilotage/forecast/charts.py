"""Plots of a forecast as inline SVG: shares with their intervals, and coverage against labels. See report/charts.py."""

import math
from collections.abc import Sequence

from pilotage.report.charts import BLUE, FAINT, RED, build_svg, text


def draw_intervals(title: str, rows: Sequence[tuple[str, float, float, float, str]]) -> str:
    """A dot with a whisker for each row: label, share, low, high (all in [0, 1]), and what to write behind it."""
    left, width, height = 250.0, 640.0, 24
    full = width - left - 110
    parts = []
    for step in range(6):
        x = left + full * step / 5
        parts.append(f'<line x1="{x:.1f}" y1="2" x2="{x:.1f}" y2="{6 + len(rows) * height}" class="grid"/>')
        parts.append(text(f"{step / 5:.0%}", x, 20 + len(rows) * height, anchor="middle", size=11, colour=FAINT))
    for row, (label, share, low, high, note) in enumerate(rows):
        y = 16 + row * height
        x1, x2 = left + full * low, left + full * high
        parts.append(text(label if len(label) < 32 else label[:30] + "…", left - 8, y + 4, anchor="end", size=12))
        parts.append(f'<path d="M {x1:.1f} {y - 4} v 8 m 0 -4 H {x2:.1f} m 0 -4 v 8" class="whisker"/>')
        parts.append(f'<circle cx="{left + full * share:.1f}" cy="{y}" r="4" fill="{BLUE}"/>')
        parts.append(text(note, left + full + 10, y + 4, size=12))
    return build_svg(width, 28 + len(rows) * height, title, parts)


def draw_growth(points: Sequence[tuple[int, float]], here: int, target: float) -> str:
    """Coverage certified against labels on a logarithmic axis; `here` is how many labels there are now."""
    left, top, width, height = 54.0, 14.0, 400.0, 210.0
    low, high = math.log(max(points[0][0], 1)), math.log(max(points[-1][0], 2))

    most = next((share for share in (0.1, 0.2, 0.5) if share >= max(coverage for _, coverage in points)), 1.0)

    def place(labels: float, coverage: float) -> tuple[float, float]:
        share = (math.log(max(labels, 1)) - low) / max(high - low, 1e-9)
        return left + share * width, top + (1 - coverage / most) * height

    parts = []
    for step in range(6):
        y = top + (1 - step / 5) * height
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" class="grid"/>')
        parts.append(text(f"{most * step / 5:.0%}", left - 6, y + 4, anchor="end", size=11, colour=FAINT))
    for number, (labels, _) in enumerate(points):
        if number % 2 == 0:
            x = place(labels, 0)[0]
            parts.append(text(f"{labels:,}", x, top + height + 16, anchor="middle", size=11, colour=FAINT))
    line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="2"/>')
    for point in points:
        x, y = place(*point)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{BLUE}"/>')
    x = place(here, 0)[0]
    parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" class="target"/>')
    parts.append(text("labels now", x + 5, top + 12, size=11, colour=RED))
    parts.append(text("labels", left + width / 2, top + height + 32, anchor="middle", size=11))
    return build_svg(left + width + 30, top + height + 38, f"Coverage certified at {target:g} against labels", parts)
