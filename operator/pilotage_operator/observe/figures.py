"""Counters and guardrail figures, whoever they come from: names, and how samples become counts and readings.

The gateway's counters are restored from its records, so a count here is a count of records. Guardrails look at
increases over a window. No network here: prometheus.py and gateway_metrics.py ask.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pilotage_core.guardrail import Reading
from pilotage_core.stage import UNATTENDED
from pilotage_operator.api.automation_gate import AutomationGateSpec, BuiltIn
from pilotage_operator.facts import Bundle, CounterFacts, MonitorFact, PairCounts

NAN = math.nan
STALE_AFTER_SECONDS = 10.0
"""Of what is scraped every second: by ourselves, where no Prometheus is."""
UNKNOWN_SCRAPE_SECONDS = 60.0


def stale_after(scrape_seconds: float) -> float:
    """How old a scrape may be: one of them may be missed."""
    return max(STALE_AFTER_SECONDS, 2.0 * scrape_seconds + 5.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """One counter's value. `name` is without the `pilotage_` and `_total` around it."""

    name: str
    process_cluster: str
    pair: str
    stage: str
    value: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """A built-in figure: the increase of one counter over that of another, which also counts its samples.

    Both are by process cluster and pair alone, and there from 0 on: a guardrail misses no first event.
    """

    numerator: str
    denominator: str


RATIOS: dict[BuiltIn, Ratio] = {
    BuiltIn.CORRECTIVE_INTERVENTION_RATE: Ratio("corrections", "executed_critical"),
    BuiltIn.FINALIZATION_REJECTION_RATE: Ratio("finalizations_rejected", "finalizations_reviewed"),
    BuiltIn.UNASKED_WRONG_RATE: Ratio("sessions_unasked_wrong", "sessions_unasked"),
    BuiltIn.REJECTION_RATE: Ratio("verdicts_against", "verdicts"),
    BuiltIn.DEFERRAL_RATE: Ratio("deferred", "decided"),
    BuiltIn.HAND_OFF_RATE: Ratio("handed_off", "decided"),
    BuiltIn.INVALID_STATE_RATE: Ratio("states_invalid", "decided"),
    BuiltIn.LOOP_RATE: Ratio("loops", "decided"),
}
RATED = frozenset(name for ratio in RATIOS.values() for name in (ratio.numerator, ratio.denominator))
COUNTED = (
    "sessions_closed",
    "demonstration_sessions",
    "feedback_sessions",
    "finalizations_reviewed",
    "finalizations_rejected",
    "executed_critical",
    "corrections",
    "sessions_unasked",
    "sessions_unasked_wrong",
)

Window = tuple[BuiltIn, int]
"""A built-in figure over a number of seconds."""
Series = tuple[str, str]
"""(process cluster, pair)."""


@dataclass(frozen=True, slots=True, order=True)
class Bounds:
    """Within which a figure breaches nothing: from `lower` to `upper`."""

    upper: float = math.inf
    lower: float = -math.inf

    def tighter(self, other: "Bounds") -> "Bounds":
        """What is within both."""
        return Bounds(min(self.upper, other.upper), max(self.lower, other.lower))


Limits = tuple[tuple[Window, Bounds], ...]
"""The figures that one gate asks for."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One look at the fleet. `fault` says why nothing could be read; then `counts` is None and `readings` empty.

    `faults` are those of single windows: what one gate asks for costs no other gate its readings. `changed` are the
    process clusters of which something else is known than at the last look (None: nobody can tell).
    """

    counts: dict[str, CounterFacts] | None = None
    readings: dict[Window, dict[Series, Reading]] = field(default_factory=dict)
    fault: str = ""
    clock_skew_seconds: float = 0.0
    faults: dict[Window, str] = field(default_factory=dict)
    changed: frozenset[str] | None = None


class FigureSource(Protocol):
    """Where figures come from."""

    async def observe_figures(self, windows: Mapping[Window, Bounds]) -> Figures:
        """Counts of all process clusters, and each of `windows` for all of them; soonest what is out of its bounds."""
        ...


def find_limits(gate: AutomationGateSpec) -> Limits:
    """The figures that `gate` asks for, each with the limits that its guardrails set to it."""
    found: dict[Window, Bounds] = {}
    for guardrail in gate.guardrails:
        if guardrail.builtin in RATIOS:
            window, threshold = (guardrail.builtin, guardrail.window_seconds), float(guardrail.threshold)
            bounds = Bounds(upper=threshold) if guardrail.comparator.value.startswith(">") else Bounds(lower=threshold)
            found[window] = found.get(window, Bounds()).tighter(bounds)
    return tuple(sorted(found.items()))


def merge_limits(of: Iterable[Limits]) -> dict[Window, Bounds]:
    """The narrowest bounds of each window: what is within them breaches no gate's."""
    merged: dict[Window, Bounds] = {}
    for limits in {id(each): each for each in of}.values():
        for window, bounds in limits:
            merged[window] = merged.get(window, Bounds()).tighter(bounds)
    return merged


def read_counts(samples: Iterable[Sample]) -> dict[str, CounterFacts]:
    """Counts by process cluster. Stages and pairs are added up where a count is over all of them."""
    totals: dict[tuple[str, str, str], float] = {}
    calibrating: dict[Series, float] = {}
    seen: dict[str, set[str]] = {}
    for sample in samples:
        at = (sample.name, sample.process_cluster, sample.pair)
        totals[at] = totals.get(at, 0.0) + sample.value
        seen.setdefault(sample.process_cluster, set()).add(sample.pair)
        if sample.name == "sessions_closed" and sample.stage in UNATTENDED:
            series = (sample.process_cluster, sample.pair)
            calibrating[series] = calibrating.get(series, 0.0) + sample.value

    def total(name: str, key: str, pair: str | None = None) -> int:
        pairs = seen[key] if pair is None else {pair}
        return int(sum(totals.get((name, key, each), 0.0) for each in pairs))

    return {
        key: CounterFacts(
            sessions=total("sessions_closed", key),
            demonstrations=total("demonstration_sessions", key),
            feedback_sessions=total("feedback_sessions", key),
            pairs={
                pair: PairCounts(
                    calibration_sessions=int(calibrating.get((key, pair), 0.0)),
                    reviewed=total("finalizations_reviewed", key, pair),
                    rejected=total("finalizations_rejected", key, pair),
                    executed=total("executed_critical", key, pair),
                    corrections=total("corrections", key, pair),
                    unasked=total("sessions_unasked", key, pair),
                    unasked_wrong=total("sessions_unasked_wrong", key, pair),
                )
                for pair in pairs
                if pair
            },
        )
        for key, pairs in seen.items()
    }


def find_changed(
    before: Figures, counts: Mapping[str, CounterFacts] | None, readings: Mapping[Window, Mapping[Series, Reading]]
) -> frozenset[str]:
    """The process clusters of which something else is known now."""
    old, new = before.counts or {}, counts or {}
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    for window, found in readings.items():
        known = before.readings.get(window, {})
        changed |= {
            series[0] for series in known.keys() | found.keys() if not is_same(known.get(series), found.get(series))
        }
    return frozenset(changed)


def is_same(one: Reading | None, other: Reading | None) -> bool:
    """Whether two readings say the same: that there is no value yet is as good as that there still is none."""
    if one is None or other is None:
        return one is other
    values = one.value == other.value or (math.isnan(one.value) and math.isnan(other.value))
    return values and one.samples == other.samples and one.fault == other.fault


def is_out(reading: Reading, bounds: Bounds) -> bool:
    """Whether a reading that can be trusted is out of `bounds`."""
    return not reading.fault and (reading.value >= bounds.upper or reading.value <= bounds.lower)


def find_faulty(before: Figures, faults: Mapping[Window, str]) -> frozenset[str]:
    """The process clusters that had a reading of a window that cannot be read any more."""
    lost = (before.readings.get(window, {}) for window in faults)
    return frozenset(series[0] for known in lost for series in known)


def read_ratio(increase: float, of: float) -> Reading:
    """The reading of a rate: NaN where nothing was counted (its samples then say so)."""
    return Reading(value=increase / of if of > 0 else NAN, samples=round(of))


def select_readings(bundle: Bundle, pair: str, figures: Figures, monitor: MonitorFact | None) -> dict[str, Reading]:
    """The readings of `bundle`'s guardrails by name; without the ones that have no series (yet)."""
    readings: dict[str, Reading] = {}
    for guardrail in bundle.gate.guardrails if pair else ():
        if guardrail.builtin is BuiltIn.PRECISION_ALARM:
            readings[guardrail.name] = _read_alarm(monitor)
        elif fault := figures.fault or figures.faults.get((guardrail.builtin, guardrail.window_seconds), ""):
            readings[guardrail.name] = Reading(NAN, 0.0, fault)
        else:
            found = figures.readings.get((guardrail.builtin, guardrail.window_seconds), {}).get((bundle.key, pair))
            if found is not None:
                readings[guardrail.name] = found
    return readings


def _read_alarm(monitor: MonitorFact | None) -> Reading:
    if monitor is None:
        return Reading(NAN, 0.0, "labels cannot be read from the gateway")
    return Reading(monitor.r, monitor.labels)
