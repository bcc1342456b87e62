"""Figures from Prometheus: one vector query for all counts, and one for each built-in guardrail and window.

Each guardrail query answers its parts for every process cluster and pair at once: the value, its samples, and when its
counter was last scraped. What is stale, doubled or not a number is a fault, which makes a guardrail Missing. Where a
look at everything takes long, it is taken less often, and in between only what is out of bounds is asked for.
"""

import logging
import math
import re
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import aiohttp
import msgspec

from pilotage_core.guardrail import Reading
from pilotage_operator.api.automation_gate import BuiltIn
from pilotage_operator.observe.figures import (
    COUNTED,
    NAN,
    RATIOS,
    UNKNOWN_SCRAPE_SECONDS,
    Bounds,
    Figures,
    Sample,
    Series,
    Window,
    find_changed,
    find_faulty,
    is_out,
    is_same,
    read_counts,
    stale_after,
)

log = logging.getLogger(__name__)
TIMEOUT = aiohttp.ClientTimeout(total=5.0)
BY = "by (process_cluster, pair)"
SKEW_SECONDS = 5.0
INTERVAL_SECONDS = 60.0
SCRAPES_KEPT = 6
REST = 20.0
"""A look at everything is taken so much less often than it takes: it costs a twentieth of a core at most."""
SUSPECTS, MOST_SUSPECTS = 200, 1000
"""Process clusters asked for by name in one query, and in all; beyond that everything is looked at."""
INTERVAL_QUERY = "pilotage_permit_epoch[10m]"
"""A gauge that every gateway has: the times of its scrapes are those of all its series."""


class PrometheusFault(Exception):
    """Prometheus did not answer, or answered something that cannot be trusted."""


class Labels(msgspec.Struct, frozen=True, gc=False):
    """The labels that are read of a series."""

    process_cluster: str = ""
    pair: str = ""
    stage: str = ""
    part: str = ""
    name: str = msgspec.field(default="", name="__name__")


class Point(msgspec.Struct, frozen=True, gc=False):
    """One series of an instant vector; its value as (when it was evaluated, text)."""

    metric: Labels
    value: tuple[float, str]

    @property
    def number(self) -> float:
        """The value. Raises ValueError where it is none."""
        return float(self.value[1])


class Scrapes(msgspec.Struct, frozen=True, gc=False):
    """One series of a matrix."""

    values: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Vector:
    """An instant vector, evaluated at `at` by Prometheus' clock (0: empty vector)."""

    samples: tuple[Point, ...]
    at: float


def build_counts_query() -> str:
    """All counters at once. Several gateways restore the same records, so the highest is the count."""
    names = "|".join(COUNTED)
    return f'max by (__name__, process_cluster, pair, stage) ({{__name__=~"pilotage_({names})_total"}})'


def build_guardrail_query(builtin: BuiltIn, window_seconds: int, keys: Iterable[str] = ()) -> str:
    """The figure for the whole fleet, or for process clusters `keys`, told apart by the label `part`.

    `value` and `samples`, `at` (its last scrape), `resets` (how often its counter went back), and `up`: 0 where a
    gateway that had it lately is scraped no more. A part that is not there says nothing.
    """
    over, under = _find_counters(builtin, keys)
    increase = f"sum {BY} (increase({under}[{window_seconds}s]))"
    parts = {
        "value": f"sum {BY} (increase({over}[{window_seconds}s])) / {increase}",
        "samples": increase,
        "at": f"min {BY} (timestamp({under}))",
        "resets": f"sum {BY} (resets({under}[{window_seconds}s]))",
        "up": f"min {BY} (up * on (job, instance) group_right () (last_over_time({under}[5m]) * 0 + 1))",
    }
    return " or ".join(f'label_replace({text}, "part", "{part}", "", "")' for part, text in parts.items())


def build_bounds_query(builtin: BuiltIn, window_seconds: int, bounds: Bounds) -> str:
    """Where the figure is out of `bounds`: nearly nowhere, so that it may be asked each second."""
    over, under = _find_counters(builtin)
    value, of = (f"sum {BY} (increase({counter}[{window_seconds}s]))" for counter in (over, under))
    sides = ((">=", bounds.upper), ("<=", bounds.lower))
    return " or ".join(f"{value} / {of} {sign} {limit!r}" for sign, limit in sides if math.isfinite(limit))


def _find_counters(builtin: BuiltIn, keys: Iterable[str] = ()) -> tuple[str, str]:
    wanted = "|".join(re.escape(key).replace("\\", "\\\\") for key in sorted(keys))
    of = f'{{process_cluster=~"{wanted}"}}' if wanted else ""
    ratio = RATIOS[builtin]
    return f"pilotage_{ratio.numerator}_total{of}", f"pilotage_{ratio.denominator}_total{of}"


DECODE_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
DECODE_POINTS = msgspec.json.Decoder(tuple[Point, ...]).decode
DECODE_SCRAPES = msgspec.json.Decoder(tuple[Scrapes, ...]).decode
PARTIAL = ("isPartial", "partial", "partialResponse", "errors", "error")
"""How backends that speak Prometheus' API say that something is missing from an answer."""


def read_vector(body: bytes) -> Vector:
    """An answer of /api/v1/query. Raises PrometheusFault unless it is a complete instant vector."""
    try:
        points = DECODE_POINTS(_read_result(body, "vector"))
    except msgspec.MsgspecError as error:
        raise PrometheusFault(f"the answer is no instant vector: {error}") from error
    times = {point.value[0] for point in points}
    if len(times) > 1:
        raise PrometheusFault(f"evaluated at {len(times)} different times")
    try:
        for point in points:
            point.number  # noqa: B018  what is none is no answer
    except ValueError as error:
        raise PrometheusFault(f"the answer is no instant vector: {error}") from error
    return Vector(points, times.pop() if times else 0.0)


def read_scrape_seconds(body: bytes) -> float | None:
    """The time between two scrapes, from an answer to `INTERVAL_QUERY`: the largest of all gateways.

    Of each the median: a scrape that was missed doubles one time and not the others. None where it cannot be told.
    """
    try:
        found = DECODE_SCRAPES(_read_result(body, "matrix"))
    except msgspec.MsgspecError as error:
        raise PrometheusFault(f"the answer is no matrix: {error}") from error
    steps = ([later - earlier for (earlier, _), (later, _) in pairwise(series.values)] for series in found)
    return max((statistics.median(each) for each in steps if each), default=None)


def _read_result(body: bytes, kind: str) -> msgspec.Raw:
    """What an answer holds, still as JSON. Raises PrometheusFault unless it is of `kind` and complete."""
    try:
        answer = DECODE_FIELDS(body)
        status = msgspec.json.decode(answer.get("status", b"null"))
        if status != "success":
            raise PrometheusFault(f"query failed: {bytes(answer.get('error', body[:200]))[:200]!r}")
        data = DECODE_FIELDS(answer.get("data", b"null"))
        for told in (answer, data):
            for name in PARTIAL:
                value = msgspec.json.decode(told.get(name, b"null"))
                if value not in (None, False, "", "false", [], {}):
                    raise PrometheusFault(f"incomplete: {name} is {str(value)[:100]}")
        is_kind = msgspec.json.decode(data.get("resultType", b"null")) in (None, kind)
        warnings = msgspec.json.decode(answer.get("warnings", b"null")) or []
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PrometheusFault(f"the answer is not what Prometheus says: {error}") from error
    if not is_kind or "result" not in data:
        raise PrometheusFault(f"the answer is no {kind}")
    # Before they had a field of their own, remarks on a query came among its warnings.
    real = [each for each in warnings if not str(each).startswith("PromQL info")] if isinstance(warnings, list) else [1]
    if real:
        raise PrometheusFault(f"incomplete: {real[0]}")
    return data["result"]


def read_samples(vector: Vector) -> Iterator[Sample]:
    """The counters in an answer to `build_counts_query`."""
    for point in vector.samples:
        if math.isfinite(point.number):
            of = point.metric
            name = of.name.removeprefix("pilotage_").removesuffix("_total")
            yield Sample(name, of.process_cluster, of.pair, of.stage, point.number)


def read_guardrail(vector: Vector, *, scrape_seconds: float, window_seconds: float) -> dict[Series, Reading]:
    """One reading for each process cluster and pair from an answer to `build_guardrail_query`."""
    parts: dict[Series, dict[str, list[float]]] = {}
    for point in vector.samples:
        of = point.metric
        parts.setdefault((of.process_cluster, of.pair), {}).setdefault(of.part, []).append(point.number)
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


def batched(keys: list[str], size: int) -> Iterator[list[str]]:
    """`keys` in their order, `size` at a time."""
    return (keys[start : start + size] for start in range(0, len(keys), size))


class Prometheus:
    """Figures from the Prometheus at `url`. `scrape_seconds` 0: how often gateways are scraped is found out."""

    def __init__(self, url: str, client: aiohttp.ClientSession, scrape_seconds: float = 0.0) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._client = client
        self._scrape_seconds = scrape_seconds
        self._told = scrape_seconds > 0.0
        self._asked_at = float("-inf")
        self._scrapes: set[float] = set()
        self._last = Figures(fault="not asked yet")
        self._looked_at = float("-inf")
        self._cost_seconds = self._spent = 0.0

    async def observe_figures(self, windows: Mapping[Window, Bounds]) -> Figures:
        """Counts, and each of `windows`, for all process clusters; between two looks what is out of bounds alone."""
        is_rested = time.monotonic() - self._looked_at >= REST * self._cost_seconds
        if self._last.fault or is_rested or windows.keys() != self._last.readings.keys() | self._last.faults.keys():
            figures = await self._look_at_all(windows)
        else:
            figures = await self._look_out(windows)
        if not figures.fault:
            self._last = figures
        return figures

    async def _look_at_all(self, windows: Mapping[Window, Bounds]) -> Figures:
        began, before = time.monotonic(), self._last
        self._spent = 0.0
        try:
            counts = await self._query(build_counts_query())
            scrape_seconds = await self._find_scrape_seconds()
        except PrometheusFault as fault:
            return Figures(fault=f"Prometheus: {fault}", changed=frozenset())
        skew = time.time() - counts.at if counts.at else 0.0
        used = time.thread_time()
        found = read_counts(read_samples(counts)) if counts.samples else None
        self._spent += time.thread_time() - used
        readings: dict[Window, dict[Series, Reading]] = {}
        faults: dict[Window, str] = {}
        for window in sorted(windows):
            try:
                vector = await self._ask_for(window)
                used = time.thread_time()
                readings[window] = read_guardrail(
                    vector, scrape_seconds=scrape_seconds, window_seconds=float(window[1])
                )
                self._spent += time.thread_time() - used
            except PrometheusFault as fault:
                faults[window] = f"Prometheus: {fault}"
        used = time.thread_time()
        changed = None if before.fault else find_changed(before, found, readings) | find_faulty(before, faults)
        self._cost_seconds, self._looked_at = self._spent + time.thread_time() - used, began
        return Figures(found, readings, "", skew, faults, changed)

    async def _look_out(self, windows: Mapping[Window, Bounds]) -> Figures:
        """What was known last, with what is out of bounds as it is now."""
        before, changed = self._last, set()
        readings, faults = dict(before.readings), dict(before.faults)
        for window, bounds in sorted(windows.items()):
            if window in faults:
                continue  # until everything is looked at again
            try:
                vector = await self._query(build_bounds_query(*window, bounds))
                known = before.readings.get(window, {})
                keys = {point.metric.process_cluster for point in vector.samples}
                keys |= {series[0] for series, reading in known.items() if is_out(reading, bounds)}
                if len(keys) > MOST_SUSPECTS:
                    return await self._look_at_all(windows)
                scrape_seconds = await self._find_scrape_seconds()
                for some in batched(sorted(keys), SUSPECTS):
                    found = read_guardrail(
                        await self._ask_for(window, some),
                        scrape_seconds=scrape_seconds,
                        window_seconds=float(window[1]),
                    )
                    readings[window] = readings[window] | found
                    changed |= {s[0] for s, reading in found.items() if not is_same(known.get(s), reading)}
            except PrometheusFault as fault:
                faults[window] = f"Prometheus: {fault}"
                self._looked_at = float("-inf")  # everything is looked at next: this one may have been a moment's
                readings.pop(window, None)
                changed |= {series[0] for series in before.readings.get(window, {})}
        if len(faults) == len(windows) > 0:
            return Figures(fault=next(iter(faults.values())), changed=frozenset())
        return replace(before, readings=readings, faults=faults, changed=frozenset(changed))

    async def _ask_for(self, window: Window, keys: Iterable[str] = ()) -> Vector:
        vector = await self._query(build_guardrail_query(*window, keys))
        if vector.samples and abs(time.time() - vector.at) > SKEW_SECONDS:
            raise PrometheusFault(f"an answer of {time.time() - vector.at:.0f} s ago")
        self._note_scrapes(vector)
        return vector

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
        at = (point.number for point in vector.samples if point.metric.part == "at")
        found = {value for value in at if math.isfinite(value)}
        self._scrapes = set(sorted(self._scrapes | found)[-SCRAPES_KEPT:])

    async def _query(self, query: str) -> Vector:
        body, used = await self._ask(query), time.thread_time()
        vector = read_vector(body)
        self._spent += time.thread_time() - used
        return vector

    async def _ask(self, query: str) -> bytes:
        try:
            async with self._client.post(self._url, data={"query": query}, timeout=TIMEOUT) as response:
                return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PrometheusFault(f"{type(error).__name__} {error}") from error
