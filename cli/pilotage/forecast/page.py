"""A forecast as one HTML page (no script, no request), in the terminal, and as JSON. Not here: the figures."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import msgspec
import typer

from pilotage.forecast import charts as forecast_charts
from pilotage.forecast.measure import TARGETS, Forecast, build_forecast, describe, in_words
from pilotage.forecast.targets import MAIN_TARGET, Need, StratumForecast
from pilotage.report import charts
from pilotage_core.errors import InvalidInputError
from pilotage_core.score import format_score
from pilotage_trainer.public import SliceShare, read_config, require_writable

SLICE_TITLES = {
    "tool": "By tool",
    "issue": "By issue type (what the metadata tells apart)",
    "screen": "By screen",
    "month": "By month",
    "operator": "By operator",
}


def run_forecast(
    logs: str, process_cluster: str, targets: Sequence[float], delta: float, config: str, out: Path, as_json: bool
) -> None:
    """Make the forecast, write its page to `out`, and tell of it.

    Raises what build_forecast raises, and InvalidInputError where nothing can be written to `out`.
    """
    try:
        require_writable(out)
    except OSError as error:
        raise InvalidInputError(f"cannot be written: {error.strerror}", where=f"--out {out}") from error
    forecast = build_forecast(logs, process_cluster, tuple(targets) or TARGETS, delta, read_config(config).rules)
    out.write_text(build_page(forecast), encoding="utf-8")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(forecast)).decode())
    else:
        typer.echo("\n".join(describe(forecast)))
        typer.echo(f"\n{out}")


def build_page(forecast: Forecast) -> str:
    """The whole page."""
    style = files("pilotage.report").joinpath("page.css").read_text(encoding="utf-8")
    body = [_header(forecast), *(_stratum(one) for one in forecast.strata), _slices(forecast), _method(forecast)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pilotage: forecast</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(forecast: Forecast) -> str:
    target = choose_target(forecast)
    tiles = [
        (f"{forecast.sessions:,}", "sessions in the history"),
        (f"{forecast.proposed:,}", f"proposals replayed on the newest {forecast.replayed:,} sessions"),
        (f"{forecast.accepted:.0%}", "of them are exactly what the operator did"),
        (f"{certified_share(forecast, target):.0%}", f"of them could run unattended, certified at {target:g}"),
    ]
    shown = "".join(f'<div class="tile"><b>{value}</b><span>{escape(label)}</span></div>' for value, label in tiles)
    return (
        "<header><h1>What this history promises</h1>"
        f"<p>A small model learned from the {forecast.learned_from:,} sessions before the newest "
        f"{forecast.replayed:,}, and was asked what it would have done in those. This is a forecast, not a "
        "certificate: nothing may run on it.</p></header>"
        f'<div class="tiles">{shown}</div>'
    )


def choose_target(forecast: Forecast) -> float:
    """The target that the page tells first: MAIN_TARGET where it was asked for, else the first that was."""
    targets = [need.target for need in forecast.strata[0].needs]
    return MAIN_TARGET if MAIN_TARGET in targets else targets[0]


def certified_share(forecast: Forecast, target: float) -> float:
    """The share of all proposals that τ at `target` would let through."""
    let_through = sum(
        need.coverage * stratum.labels for stratum in forecast.strata for need in stratum.needs if need.target == target
    )
    return let_through / max(forecast.proposed, 1)


def _stratum(stratum: StratumForecast) -> str:
    rows = "".join(_row(need) for need in stratum.needs)
    return (
        f"<section><h2>{escape(stratum.name)}</h2>"
        f'<p class="note">{stratum.labels:,} proposals, {stratum.accepted:.1%} of them what the operator did.</p>'
        f"{_plots(stratum)}"
        '<table><tr><th class="n">target</th><th class="n">could run unattended</th><th class="n">τ</th>'
        '<th class="n">lower bound</th><th class="n">design effect</th><th class="n">labels needed</th>'
        f"<th>more supervision</th></tr>{rows}</table></section>"
    )


def _plots(stratum: StratumForecast) -> str:
    if not stratum.growth:
        return '<p class="note">They are fewer than the test begins with: too few to draw anything from.</p>'
    curve = charts.draw_risk_coverage([("now", stratum.curve)])
    growth = forecast_charts.draw_growth(
        [(point.labels, point.coverage) for point in stratum.growth], stratum.labels, MAIN_TARGET
    )
    return (
        f'<div class="two"><div><h3>How precise the most confident ones are</h3>{curve}</div>'
        f"<div><h3>What more labels would certify at {MAIN_TARGET:g}, at the precision seen</h3>{growth}</div></div>"
    )


def _row(need: Need) -> str:
    cells = (
        f"{need.target:g}",
        f"{need.coverage:.0%}" if need.tau is not None else "nothing yet",
        format_score(need.tau) if need.tau is not None else "–",
        f"{need.bound:.3f}",
        f"{need.design_effect:.2f}",
        f"{need.labels_needed:,}" if need.labels_needed is not None else "–",
    )
    numbers = "".join(f'<td class="n">{cell}</td>' for cell in cells)
    return f"<tr>{numbers}<td>{escape(in_words(need))}</td></tr>"


def _slices(forecast: Forecast) -> str:
    drawn = "".join(
        f"<div><h3>{SLICE_TITLES[kind]}</h3>{_intervals(SLICE_TITLES[kind], shares)}</div>"
        for kind, shares in forecast.slices.items()
        if len(shares) > 1
    )
    return (
        "<section><h2>Where it is right and where it is not</h2>"
        '<p class="note">The share of proposals that are what the operator did. Whiskers: 95 % intervals that hold for '
        "all rows of a plot at once; sessions are drawn whole.</p>"
        f'<div class="two">{drawn}</div></section>'
    )


def _intervals(title: str, shares: Sequence[SliceShare]) -> str:
    return forecast_charts.draw_intervals(
        title, [(one.name, one.share, one.low, one.high, f"{one.share:.0%} of {one.n:,}") for one in shares]
    )


def _method(forecast: Forecast) -> str:
    said = "".join(f"<li>{escape(caveat)}</li>" for caveat in forecast.caveats)
    return (
        f"<section><h2>How far to trust it</h2><ul>{said}</ul>"
        f'<p class="note">δ = {forecast.delta:g}, shared by {len(forecast.strata)} strata. Labels needed: the fixed '
        "sequence that certifies a τ, at the precision seen and a design effect that grows with the labels of each "
        f"operator, until its exact test passes. Sessions: {escape(forecast.source)}, of "
        f"{escape(', '.join(forecast.process_clusters))}. Made in {forecast.seconds:g} s.</p></section>"
    )
