"""Figures from Prometheus: one vector query for all counts, and one for each built-in guardrail and window.

Each guardrail query answers three parts for every process cluster and pair at once: the value, its samples, and when
its counter was last scraped. What is stale, doubled or not a number is a fault, which makes a guardrail Missing.
"""

import math
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from pilotage_core.guardrail import Reading
from pilotage_operator.api.automation_gate import BuiltIn
from pilotage_operator.observe.figures import (
    COUNTED,
    NAN,
    RATIOS,
    STALE_AFTER_SECONDS,
    Figures,
    Sample,
    Series,
    Window,
    read_counts,
)

TIMEOUT = aiohttp.ClientTimeout(total=5.0)
BY = "by (process_cluster, pair)"


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
    """The figure's value, samples and last scrape for the whole fleet, told apart by the label `part`."""
    ratio = RATIOS[builtin]
    over, under = (f"pilotage_{name}_total" for name in (ratio.numerator, ratio.denominator))
    increase = f"sum {BY} (increase({under}[{window_seconds}s]))"
    parts = {
        "value": f"sum {BY} (increase({over}[{window_seconds}s])) / {increase}",
        "samples": increase,
        "at": f"min {BY} (timestamp({under}))",
    }
    return " or ".join(f'label_replace({text}, "part", "{part}", "", "")' for part, text in parts.items())


def read_vector(body: bytes) -> Vector:
    """An answer of /api/v1/query. Raises PrometheusFault unless it is a complete instant vector."""
    try:
        answer: Any = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise PrometheusFault(f"the answer is no JSON: {error}") from error
    if not isinstance(answer, dict) or answer.get("status") != "success":
        raise PrometheusFault(
            f"query failed: {answer.get('error', body[:200]) if isinstance(answer, dict) else body[:200]!r}"
        )
    if answer.get("warnings"):
        raise PrometheusFault(f"incomplete: {answer['warnings'][0]}")
    try:
        result = answer["data"]["result"]
        samples = tuple((dict(item["metric"]), float(item["value"][1])) for item in result)
        return Vector(samples, float(result[0]["value"][0]) if result else 0.0)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise PrometheusFault(f"the answer is no instant vector: {error!r}") from error


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


def read_guardrail(vector: Vector) -> dict[Series, Reading]:
    """One reading for each process cluster and pair from an answer to `build_guardrail_query`."""
    parts: dict[Series, dict[str, list[float]]] = {}
    for labels, value in vector.samples:
        series = (labels.get("process_cluster", ""), labels.get("pair", ""))
        parts.setdefault(series, {}).setdefault(labels.get("part", ""), []).append(value)
    return {series: _read_parts(found, vector.at) for series, found in parts.items() if series[1]}


def _read_parts(parts: dict[str, list[float]], evaluated_at: float) -> Reading:
    if any(len(values) > 1 for values in parts.values()):
        return Reading(NAN, 0.0, "several series for one process cluster and pair")
    if "at" not in parts:
        return Reading(NAN, 0.0, "stale: its counter is scraped no more")
    age = evaluated_at - parts["at"][0]
    if not age <= STALE_AFTER_SECONDS:
        return Reading(NAN, 0.0, f"stale: last scraped {age:.0f} s ago")
    if "samples" not in parts:
        return Reading(NAN, 0.0)  # one scrape gives no increase: nothing counted yet
    samples = parts["samples"][0]
    return Reading(parts.get("value", [NAN])[0], round(samples) if math.isfinite(samples) else samples)


class Prometheus:
    """Figures from the Prometheus at `url`."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._client = client

    async def observe_figures(self, windows: frozenset[Window]) -> Figures:
        """Counts now, and each of `windows`, for all process clusters."""
        try:
            counts = await self._query(build_counts_query())
            readings = {
                (builtin, seconds): read_guardrail(await self._query(build_guardrail_query(builtin, seconds)))
                for builtin, seconds in sorted(windows)
            }
        except PrometheusFault as fault:
            return Figures(fault=f"Prometheus: {fault}")
        skew = time.time() - counts.at if counts.at else 0.0
        return Figures(read_counts(read_samples(counts)) if counts.samples else None, readings, "", skew)

    async def _query(self, query: str) -> Vector:
        try:
            async with self._client.post(self._url, data={"query": query}, timeout=TIMEOUT) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise PrometheusFault(f"{type(error).__name__} {error}") from error
        return read_vector(body)
