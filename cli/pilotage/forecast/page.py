"""A forecast as one HTML page (no script, no request), in the terminal, and as JSON. Not here: the figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer

from pilotage.forecast import charts as forecast_charts
from pilotage.forecast.measure import TARGETS, Forecast, build_forecast, describe, in_words
from pilotage.forecast.targets import MAIN_TARGET, Need, StratumForecast
from pilotage.report import charts
from pilotage.templates import build_environment, drawn
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
    """The whole page; its markup is templates/forecast.html."""
    target = choose_target(forecast)
    tiles = [
        (f"{forecast.sessions:,}", "sessions in the history"),
        (f"{forecast.proposed:,}", f"proposals replayed on the newest {forecast.replayed:,} sessions"),
        (f"{forecast.accepted:.0%}", "of them are exactly what the operator did"),
        (f"{certified_share(forecast, target):.0%}", f"of them could run unattended, certified at {target:g}"),
    ]
    return (
        build_environment()
        .get_template("forecast.html")
        .render(
            forecast=forecast,
            tiles=tiles,
            strata=[_view(stratum) for stratum in forecast.strata],
            main_target=MAIN_TARGET,
            slices=[
                (SLICE_TITLES[kind], _intervals(SLICE_TITLES[kind], shares))
                for kind, shares in forecast.slices.items()
                if len(shares) > 1
            ],
        )
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


def _view(stratum: StratumForecast) -> dict[str, Any]:
    curve, growth = "", ""
    if stratum.growth:
        points = [(point.labels, point.coverage) for point in stratum.growth]
        curve = drawn(charts.draw_risk_coverage([("now", stratum.curve)]))
        growth = drawn(forecast_charts.draw_growth(points, stratum.labels, MAIN_TARGET))
    needs = [(_cells(need), in_words(need)) for need in stratum.needs]
    return {"stratum": stratum, "curve": curve, "growth": growth, "needs": needs}


def _cells(need: Need) -> tuple[str, ...]:
    return (
        f"{need.target:g}",
        f"{need.coverage:.0%}" if need.tau is not None else "nothing yet",
        format_score(need.tau) if need.tau is not None else "–",
        f"{need.bound:.3f}",
        f"{need.design_effect:.2f}",
        f"{need.labels_needed:,}" if need.labels_needed is not None else "–",
    )


def _intervals(title: str, shares: Sequence[SliceShare]) -> str:
    rows = [(one.name, one.share, one.low, one.high, f"{one.share:.0%} of {one.n:,}") for one in shares]
    return drawn(forecast_charts.draw_intervals(title, rows))
