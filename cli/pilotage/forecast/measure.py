"""What a history of sessions promises before any cluster exists: learn from its older part, replay the newer one.

Here: the figures. Not here: the page (page.py). A forecast is no certificate: see CAVEATS.
"""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pilotage.forecast.targets import Need, Outlook, StratumForecast, forecast_stratum
from pilotage_core.actions import ActionRules
from pilotage_core.certificate import find_attempt_share
from pilotage_core.errors import InvalidInputError, PilotageError
from pilotage_core.lines import read_lines
from pilotage_core.score import format_score
from pilotage_trainer.public import Replayed, SliceShare, estimate_shares, keep_largest, replay_history

TARGETS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97)
SLICES_SHOWN = 12
CAVEATS = (
    "This is a forecast, not a certificate: nothing may run on it. A certificate rests on labels of the very policy "
    "and critic that are served.",
    "Replayed labels are conservative: anything but what the operator did counts as rejected, though another action "
    "may have been as good. Live verdicts are usually kinder.",
    "The model is the count model, its own confidence the score. A transformer may do better.",
    "Taus are those of a first attempt to certify, which has half of delta; later ones have less. How days differ is "
    "not in them: a certificate on labels of five days and more needs more of them where days do.",
    "How many labels are needed assumes that precision, and how far operators differ, stay as they are here. If the "
    "process changes, they do not.",
)


class Forecast(msgspec.Struct, frozen=True):
    """All of it. `slices` maps operator, issue, screen, tool and month to shares accepted, with intervals at once."""

    source: str
    process_clusters: tuple[str, ...]
    sessions: int
    learned_from: int
    replayed: int
    points: int
    proposed: int
    accepted: float
    operators: int
    delta: float
    strata: tuple[StratumForecast, ...]
    slices: dict[str, tuple[SliceShare, ...]]
    seconds: float
    caveats: tuple[str, ...] = CAVEATS


def build_forecast(
    logs: str,
    process_cluster: str = "",
    targets: Sequence[float] = TARGETS,
    delta: float = 0.05,
    rules: ActionRules | None = None,
) -> Forecast:
    """The forecast for the sessions of `logs`: an export (NDJSON, Parquet) or dialogues in STAR's format.

    Raises InvalidInputError for a target or `delta` outside (0, 1), EvidenceError for too few sessions, and what
    reading raises.
    """
    begun = time.monotonic()
    for option, value in (*(("--target", target) for target in targets), ("--delta", delta)):
        if not 0.0 < value < 1.0:
            raise InvalidInputError(f"{value:g} is not between 0 and 1", where=option)
    targets = tuple(dict.fromkeys(targets))
    rules = rules or ActionRules()
    history = replay_history(name_source(logs), process_cluster, rules)
    replayed = history.replayed
    names = sorted({one.stratum for one in replayed})
    share = delta * find_attempt_share(1) / max(len(names), 1)
    return Forecast(
        source=logs,
        process_clusters=history.process_clusters,
        sessions=history.sessions,
        learned_from=history.learned_from,
        replayed=history.replayed_sessions,
        points=history.points,
        proposed=len(replayed),
        accepted=statistics.fmean(one.accepted for one in replayed),
        operators=len({one.operator for one in replayed}),
        delta=delta,
        strata=tuple(
            forecast_stratum(name, [one for one in replayed if one.stratum == name], targets, share) for name in names
        ),
        slices=slice_replayed(replayed),
        seconds=round(time.monotonic() - begun, 1),
    )


def name_source(logs: str) -> str:
    """`logs` as the trainer's sessions/sources.py names it: dialogues of STAR with their format in front. Raises
    InvalidInputError.
    """
    path = Path(logs)
    if not path.exists():
        if ":" in logs:  # a format or an address: whoever reads it says what is wrong with it
            return logs
        raise InvalidInputError("there is no such file or folder", where=logs)
    if path.is_dir():
        return f"star:{logs}" if any(path.glob("dialogues.jsonl*")) else logs
    return f"star:{logs}" if "DialogueID" in _first_line(path) else logs


def _first_line(path: Path) -> dict[str, object]:
    if path.suffix == ".parquet":
        return {}
    try:
        with path.open("rb") as file:
            found = json.loads(next(read_lines(file, str(path)), (1, b"{}"))[1])
    except (OSError, ValueError, RecursionError, PilotageError):
        return {}  # whoever reads all of it says what is wrong, and where
    return found if isinstance(found, dict) else {}


def slice_replayed(replayed: Sequence[Replayed]) -> dict[str, tuple[SliceShare, ...]]:
    """Shares accepted by tool, issue, screen, month and operator; the intervals of one kind hold at once."""
    right, sessions = [one.accepted for one in replayed], [one.session_id for one in replayed]
    kinds = {
        "tool": [one.tool for one in replayed],
        "issue": [one.issue for one in replayed],
        "screen": [one.screen for one in replayed],
        "month": [one.month for one in replayed],
        "operator": [one.operator for one in replayed],
    }
    return {
        kind: tuple(estimate_shares(right, keep_largest(names, SLICES_SHOWN), sessions))
        for kind, names in kinds.items()
    }


# --- in the terminal --------------------------------------------------------------------------------------------------
def describe(forecast: Forecast) -> Iterator[str]:
    """The forecast in lines."""
    yield (
        f"{forecast.sessions:,} sessions: learned from {forecast.learned_from:,} older ones, replayed "
        f"{forecast.replayed:,} newer ones by {forecast.operators} operators in {forecast.seconds:g} s"
    )
    yield (
        f"the model would have proposed something {forecast.proposed:,} times of {forecast.points:,}; "
        f"{forecast.accepted:.1%} of it is what the operator did"
    )
    yield ""
    columns = f"{'target':>8}{'certified':>11}{'τ':>8}{'bound':>8}{'labels':>9}{'needed':>10}"
    yield f"{'stratum':<12}{columns}  more supervision"
    for stratum in forecast.strata:
        for need in stratum.needs:
            yield describe_need(stratum, need)
    yield ""
    yield from (f"- {caveat}" for caveat in forecast.caveats)


def describe_need(stratum: StratumForecast, need: Need) -> str:
    """One line of the table."""
    certified = f"{need.coverage:.0%}" if need.tau is not None else "–"
    tau = format_score(need.tau) if need.tau is not None else "–"
    needed = f"{need.labels_needed:,}" if need.labels_needed is not None else "–"
    return (
        f"{stratum.name:<12}{need.target:>8g}{certified:>11}{tau:>8}{need.bound:>8.3f}{stratum.labels:>9,}{needed:>10}"
        f"  {in_words(need)}"
    )


def in_words(need: Need) -> str:
    """How much more supervision it takes."""
    match need.outlook:
        case Outlook.CERTIFIED:
            return "none: certified as it is"
        case Outlook.MORE_LABELS:
            lower = "more than can be told" if need.labels_if_lower is None else f"{need.labels_if_lower:,} in all"
            return (
                f"{need.more_labels:,} labels or more, about {need.more_sessions:,} sessions "
                f"({lower}, were precision a standard error lower)"
            )
        case Outlook.MORE_OPERATORS:
            return "more operators: these differ too much for any number of their labels"
        case Outlook.BETTER_MODEL:
            return "a better model: more labels of this one do not help"
        case Outlook.UNCLEAR:
            return "unclear: these labels cannot tell its precision from the target; a longer history can"
