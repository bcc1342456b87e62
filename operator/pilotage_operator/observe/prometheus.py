"""Figures from Prometheus: one vector query for all counts, and one for each built-in guardrail and window.

Each guardrail query answers three parts for every process cluster and pair at once: the value, its samples, and when
its counter was last scraped. What is stale, doubled or not a number is a fault, which makes a guardrail Missing.
"""

import logging
import math
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import aiohttp
import msgspec

from pilotage_core.guardrail import Reading
from pilotage_operator.api.automation_gate import BuiltIn
from pilotage_operator.observe.figures import (
    COUNTED,
    NAN,
    RATIOS,
    UNKNOWN_SCRAPE_SECONDS,
    Figures,
    Sample,
    Series,
    Window,
    read_counts,
    stale_after,
)

log = logging.getLogger(__name__)
TIMEOUT = aiohttp.ClientTimeout(total=5.0)
BY = "by (process_cluster, pair)"
SKEW_SECONDS = 5.0
INTERVAL_SECONDS = 60.0
SCRAPES_KEPT = 6
INTERVAL_QUERY = "pilotage_permit_epoch[10m]"
"""A gauge that every gateway has: the times of its scrapes are those of all its series."""


class PrometheusFault(Exception):
    """Prometheus did not answer, or answered something that cannot be trusted."""


@dataclass(frozen=True, slots=True)
class Vector:
    """An instant vector: `samples` of (labels, value), evaluated at `at` by Prometheus' clock (0: empty vector)."""

    samples: tuple[tuple[dict[str, str], float], ...]
    at: float


def build_counts_query() -> str:
    """All counters at once. Several gateways restore the same records, so the highest is the count."""
    names = "|".join(COUNTED)
    return f'max by (__name__, process_cluster, pair, stage) ({{__name__=~"pilotage_({names})_total"}})'


def build_guardrail_query(builtin: BuiltIn, window_seconds: int) -> str:
    """The figure for the whole fleet, told apart by the label `part`.

    `value` and `samples`, `at` (its last scrape), `resets` (how often its counter went back), and `up`: 0 where a
    gateway that had it lately is scraped no more. A part that is not there says nothing.
    """
    ratio = RATIOS[builtin]
    over, under = (f"pilotage_{name}_total" for name in (ratio.numerator, ratio.denominator))
    increase = f"sum {BY} (increase({under}[{window_seconds}s]))"
    parts = {
        "value": f"sum {BY} (increase({over}[{window_seconds}s])) / {increase}",
        "samples": increase,
        "at": f"min {BY} (timestamp({under}))",
        "resets": f"sum {BY} (resets({under}[{window_seconds}s]))",
        "up": f"min {BY} (up * on (job, instance) group_right () (last_over_time({under}[5m]) * 0 + 1))",
    }
    return " or ".join(f'label_replace({text}, "part", "{part}", "", "")' for part, text in parts.items())


PARTIAL = ("isPartial", "partial", "partialResponse", "errors", "error")
"""How backends that speak Prometheus' API say that something is missing from an answer."""


def read_vector(body: bytes) -> Vector:
    """An answer of /api/v1/query. Raises PrometheusFault unless it is a complete instant vector."""
    data = _read_data(body, "vector")
    try:
        samples = tuple((dict(item["metric"]), float(item["value"][1])) for item in data["result"])
        times = {float(item["value"][0]) for item in data["result"]}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PrometheusFault(f"the answer is no instant vector: {error!r}") from error
    if len(times) > 1:
        raise PrometheusFault(f"evaluated at {len(times)} different times")
    return Vector(samples, times.pop() if times else 0.0)


def read_scrape_seconds(body: bytes) -> float | None:
    """The time between two scrapes, from an answer to `INTERVAL_QUERY`: the largest of all gateways.

    Of each the median: a scrape that was missed doubles one time and not the others. None where it cannot be told.
    """
    data = _read_data(body, "matrix")
    found = []
    try:
        for series in data["result"]:
            at = [float(value[0]) for value in series["values"]]
            steps = [later - earlier for earlier, later in pairwise(at)]
            found += [statistics.median(steps)] if steps else []
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PrometheusFault(f"the answer is no matrix: {error!r}") from error
    return max(found, default=None)


def _read_data(body: bytes, kind: str) -> Any:
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PrometheusFault(f"the answer is no JSON: {error}") from error
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise PrometheusFault(
            f"query failed: {answer.get('error', body[:200]) if isinstance(answer, dict) else body[:200]!r}"
        )
    data = answer.get("data")
    if not isinstance(data, dict) or data.get("resultType", kind) != kind or not isinstance(data.get("result"), list):
        raise PrometheusFault(f"the answer is no {kind}")
    for told in (answer, data):
        for name in PARTIAL:
            if told.get(name) not in (None, False, "", "false", [], {}):
                raise PrometheusFault(f"incomplete: {name} is {str(told[name])[:100]}")
    warnings = answer.get("warnings") or []
    # Before they had a field of their own, remarks on a query came among its warnings.
    real = [each for each in warnings if not str(each).startswith("PromQL info")] if isinstance(warnings, list) else [1]
    if real:
        raise PrometheusFault(f"incomplete: {real[0]}")
    return data


def read_samples(vector: Vector) -> list[Sample]:
    """The counters in an answer to `build_counts_query`."""
    return [
        Sample(
            labels.get("__name__", "").removeprefix("pilotage_").removesuffix("_total"),
            labels.get("process_cluster", ""),
            labels.get("pair", ""),
            labels.get("stage", ""),
            value,
        )
        for labels, value in vector.samples
        if math.isfinite(value)
    ]


def read_guardrail(vector: Vector, *, scrape_seconds: float, window_seconds: float) -> dict[Series, Reading]:
    """One reading for each process cluster and pair from an answer to `build_guardrail_query`."""
    parts: dict[Series, dict[str, list[float]]] = {}
    for labels, value in vector.samples:
        series = (labels.get("process_cluster", ""), labels.get("pair", ""))
        parts.setdefault(series, {}).setdefault(labels.get("part", ""), []).append(value)
    return {
        series: _read_parts(found, vector.at, scrape_seconds, window_seconds)
        for series, found in parts.items()
        if series[1]
    }


def _read_parts(
    parts: dict[str, list[float]], evaluated_at: float, scrape_seconds: float, window_seconds: float
) -> Reading:
    if any(len(values) > 1 for values in parts.values()):
        return _fault("several series for one process cluster and pair")
    if "at" not in parts:
        return _fault("stale: its counter is scraped no more")
    age = evaluated_at - parts["at"][0]
    if not -SKEW_SECONDS <= age <= stale_after(scrape_seconds):
        return _fault(f"stale: last scraped {age:.0f} s ago, every {scrape_seconds:.0f} s is usual")
    if window_seconds < 2 * scrape_seconds:
        least = f"{2 * scrape_seconds:.0f}"
        return _fault(f"a window of {window_seconds:.0f} s holds no two scrapes: give it {least} s or more")
    if parts.get("up", [1.0])[0] < 1.0:
        return _fault("a gateway that counts it is scraped no more")
    if parts.get("resets", [0.0])[0] > 0.0:
        return _fault("a counter went back within the window: its records are gone")
    if "samples" not in parts:
        if "value" in parts:
            return _fault("incomplete: a value without its samples")
        return Reading(NAN, 0.0)  # one scrape gives no increase: nothing counted yet
    samples, value = parts["samples"][0], parts.get("value", [NAN])[0]
    if value < 0.0 or samples < 0.0:
        return _fault("a rate below 0")
    return Reading(value, round(samples) if math.isfinite(samples) else samples)


def _fault(what: str) -> Reading:
    return Reading(NAN, 0.0, what)


class Prometheus:
    """Figures from the Prometheus at `url`. `scrape_seconds` 0: how often gateways are scraped is found out."""

    def __init__(self, url: str, client: aiohttp.ClientSession, scrape_seconds: float = 0.0) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._client = client
        self._scrape_seconds = scrape_seconds
        self._told = scrape_seconds > 0.0
        self._asked_at = float("-inf")
        self._scrapes: set[float] = set()

    async def observe_figures(self, windows: frozenset[Window]) -> Figures:
        """Counts now, and each of `windows`, for all process clusters."""
        try:
            counts = await self._query(build_counts_query())
            scrape_seconds = await self._find_scrape_seconds()
        except PrometheusFault as fault:
            return Figures(fault=f"Prometheus: {fault}")
        readings: dict[Window, dict[Series, Reading]] = {}
        faults: dict[Window, str] = {}
        for window in sorted(windows):
            try:
                vector = await self._query(build_guardrail_query(*window))
                if vector.samples and abs(time.time() - vector.at) > SKEW_SECONDS:
                    raise PrometheusFault(f"an answer of {time.time() - vector.at:.0f} s ago")
                self._note_scrapes(vector)
                readings[window] = read_guardrail(
                    vector, scrape_seconds=scrape_seconds, window_seconds=float(window[1])
                )
            except PrometheusFault as fault:
                faults[window] = f"Prometheus: {fault}"
        skew = time.time() - counts.at if counts.at else 0.0
        found = read_counts(read_samples(counts)) if counts.samples else None
        return Figures(found, readings, "", skew, faults)

    async def _find_scrape_seconds(self) -> float:
        """How often gateways are scraped: as told, as Prometheus has it (once a minute), as it is seen, seldom."""
        if not self._told and time.monotonic() - self._asked_at > INTERVAL_SECONDS:
            try:
                found = read_scrape_seconds(await self._ask(INTERVAL_QUERY))
            except PrometheusFault as fault:  # a backend without range selectors: what is seen has to do
                log.info("how often gateways are scraped cannot be asked: %s", fault)
                found = None
            self._scrape_seconds = found or 0.0
            self._asked_at = time.monotonic()
        steps = [later - earlier for earlier, later in pairwise(sorted(self._scrapes))]
        return self._scrape_seconds or min(steps, default=UNKNOWN_SCRAPE_SECONDS)

    def _note_scrapes(self, vector: Vector) -> None:
        """Remember when something was last scraped: the time between two such times is seen."""
        found = {value for labels, value in vector.samples if labels.get("part") == "at" and math.isfinite(value)}
        self._scrapes = set(sorted(self._scrapes | found)[-SCRAPES_KEPT:])

    async def _query(self, query: str) -> Vector:
        return read_vector(await self._ask(query))

    async def _ask(self, query: str) -> bytes:
        try:
            async with self._client.post(self._url, data={"query": query}, timeout=TIMEOUT) as response:
                return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PrometheusFault(f"{type(error).__name__} {error}") from error
