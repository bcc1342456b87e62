"""What a history of sessions promises before any cluster exists: learn from its older part, replay the newer one.

Here: the figures. Not here: the page (forecast_page.py). A forecast is no certificate: see CAVEATS.
"""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from pilotage.forecast_targets import Need, Outlook, Replayed, StratumForecast, forecast_stratum
from pilotage_core.actions import Action, ActionRules, classify_action
from pilotage_core.errors import EvidenceError, InvalidInputError, PilotageError
from pilotage_core.events import SessionOpened
from pilotage_core.lines import read_lines
from pilotage_core.record import SessionRecord
from pilotage_core.score import format_score
from pilotage_core.screen import Screen
from pilotage_core.state import is_identifier
from pilotage_trainer.config import PolicySettings
from pilotage_trainer.dataset import (
    COUNTS_FORM,
    build_examples,
    human_points,
    read_export,
    read_points,
    split_by_time,
)
from pilotage_trainer.evaluation_slices import SliceShare, estimate_shares, keep_largest
from pilotage_trainer.features import step_action
from pilotage_trainer.labels import is_same_step
from pilotage_trainer.policy import Policy
from pilotage_trainer.policy_training import fit_policy
from pilotage_trainer.schema import allowed_on

TARGETS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97)
NEWER_SHARE = 0.3
MOST_LEARNED_FROM = 3000
ITERATIONS = 12
LEAST_SESSIONS = 50
SLICES_SHOWN = 12
CAVEATS = (
    "This is a forecast, not a certificate: nothing may run on it. A certificate rests on labels of the very policy "
    "and critic that are served.",
    "Replayed labels are conservative: anything but what the operator did counts as rejected, though another action "
    "may have been as good. Live verdicts are usually kinder.",
    "The model is the count model, its own confidence the score. A transformer may do better.",
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
    records = read_export(name_source(logs), process_cluster)
    if len(records) < LEAST_SESSIONS:
        raise EvidenceError(
            f"{len(records)} closed sessions are too few for a forecast",
            where=logs,
            remedy=f"at least {LEAST_SESSIONS} are needed",
        )
    older, newer = split_by_time(records, NEWER_SHARE)
    older = older[-MOST_LEARNED_FROM:]
    policy = fit_policy(build_examples(older), PolicySettings(iterations=ITERATIONS))
    points, replayed = replay_sessions(newer, policy, rules)
    if not replayed:
        raise EvidenceError("the model would not have proposed anything", where=logs, remedy="give more sessions")
    names = sorted({one.stratum for one in replayed})
    return Forecast(
        source=logs,
        process_clusters=tuple(sorted({record.process_cluster for record in records})),
        sessions=len(records),
        learned_from=len(older),
        replayed=len(newer),
        points=points,
        proposed=len(replayed),
        accepted=statistics.fmean(one.accepted for one in replayed),
        operators=len({one.operator for one in replayed}),
        delta=delta,
        strata=tuple(
            forecast_stratum(name, [one for one in replayed if one.stratum == name], targets, delta / len(names))
            for name in names
        ),
        slices=slice_replayed(replayed),
        seconds=round(time.monotonic() - begun, 1),
    )


def name_source(logs: str) -> str:
    """`logs` as sources.py names it: dialogues of STAR with their format in front. Raises InvalidInputError."""
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


# --- replay -----------------------------------------------------------------------------------------------------------
def replay_sessions(records: Sequence[SessionRecord], policy: Policy, rules: ActionRules) -> tuple[int, list[Replayed]]:
    """How often a person acted in `records`, and each proposal that `policy` would have made there."""
    points = 0
    found = []
    for record, issue in zip(records, name_issues(records), strict=True):
        for point, situation in read_points(human_points(record, COUNTS_FORM)):
            points += 1
            screen = point.state.screen
            prediction = policy.predict(situation)
            step = prediction.proposed(allowed_on(rules, screen))
            if not step:
                continue
            action = step_action(step)
            found.append(
                Replayed(
                    session_id=record.session_id,
                    operator=point.operator,
                    stratum=_find_stratum(rules, action, screen),
                    tool=action.tool,
                    screen=screen.name,
                    issue=issue,
                    month=point.at[:7],
                    score=prediction.mixed[step],
                    accepted=is_same_step(action, point.taken),
                )
            )
    return points, found


def name_issues(records: Sequence[SessionRecord]) -> list[str]:
    """Each session's metadata in one line: ids are left out, and what is the same in all of them."""
    opened = [next((e.data for e in record.events if isinstance(e.data, SessionOpened)), None) for record in records]
    metadata = [{k: v for k, v in one.metadata.items() if not is_identifier(k)} if one else {} for one in opened]
    values: dict[str, set[str]] = {}
    for one in metadata:
        for key, value in one.items():
            values.setdefault(key, set()).add(value)
    keys = sorted(key for key, found in values.items() if len(found) > 1)
    return [" ".join(f"{key}={one[key]}" for key in keys if key in one) or "all" for one in metadata]


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


def _find_stratum(rules: ActionRules, action: Action, screen: Screen) -> str:
    """The stratum of `action` as if its screen were one that a schema knows: a history comes without schemas.

    What no rule names stands together as "procedure", since people have not said yet which of it is critical.
    """
    known = msgspec.structs.replace(screen, recognised=True, fault="")
    return classify_action(rules, action, known).stratum or "procedure"
