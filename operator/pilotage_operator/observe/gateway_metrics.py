"""Figures straight from one gateway's /metrics, with a short history of its counters for increases over windows.

For local processes, where no Prometheus runs. Without a history of a whole window the increase is that since the first
look: fewer samples, never more.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from pilotage_core.guardrail import Reading
from pilotage_operator.observe.figures import (
    COUNTED,
    NAN,
    RATED,
    RATIOS,
    STALE_AFTER_SECONDS,
    Bounds,
    Figures,
    Sample,
    Series,
    Window,
    read_counts,
    read_ratio,
)

Values = dict[tuple[str, str, str], float]
"""(counter, process cluster, pair) → value, over all stages."""
LOOKS_KEPT = 600
TIMEOUT = aiohttp.ClientTimeout(total=2.0)


class GatewayMetrics:
    """Figures from the gateway at `url`."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        names = urlencode([("name[]", f"pilotage_{name}_total") for name in sorted({*COUNTED, *RATED})])
        self._url = f"{url.rstrip('/')}/metrics?{names}"
        self._client = client
        self._history: deque[tuple[float, Values]] = deque()
        self._seen: Values = {}
        self._rises: Values = {}
        self._went_back: set[tuple[str, str, str]] = set()
        self._last: Figures | None = None
        self._last_at = 0.0

    async def observe_figures(self, windows: Mapping[Window, Bounds]) -> Figures:
        """Counts now, and increases over `windows`."""
        now = time.monotonic()
        try:
            async with self._client.get(self._url, timeout=TIMEOUT) as response:
                response.raise_for_status()
                text = await response.text()
            samples = list(parse_samples(text))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return self._on_fault(f"the gateway's metrics cannot be read: {type(error).__name__} {error}", now)
        self._take(_add_up(samples), now, max((seconds for _, seconds in windows), default=0))
        readings = {window: self._read_window(window, now) for window in windows}
        self._last, self._last_at = Figures(read_counts(samples), readings), now
        return self._last

    def _on_fault(self, fault: str, now: float) -> Figures:
        """One scrape may fail: what was read a moment ago still holds. After that nothing is known."""
        if self._last is not None and now - self._last_at < STALE_AFTER_SECONDS:
            return self._last
        return Figures(fault=fault)

    def _read_window(self, window: Window, now: float) -> dict[Series, Reading]:
        builtin, seconds = window
        ratio = RATIOS[builtin]
        values = self._history[-1][1]
        before = next((old for at, old in reversed(self._history) if at <= now - seconds), self._history[0][1])
        readings = {}
        for name, key, pair in values:
            if name == ratio.denominator and pair:
                if self._went_back & {(ratio.numerator, key, pair), (ratio.denominator, key, pair)}:
                    readings[(key, pair)] = Reading(NAN, 0.0, "a counter went back: its records are gone")
                    continue
                counted = (
                    _increase(values, before, (counter, key, pair)) for counter in (ratio.numerator, ratio.denominator)
                )
                readings[(key, pair)] = read_ratio(*counted)
        return readings

    def _take(self, values: Values, now: float, longest: float) -> None:
        """Add a look to the history: as sums of rises, so that a counter that went back costs this look alone."""
        rises, self._went_back = {}, set()
        for at, value in values.items():
            step = value - self._seen.get(at, value if self._seen else 0.0)
            if step < 0:
                self._went_back.add(at)
            rises[at] = self._rises.get(at, 0.0) + max(step, 0.0)
        self._seen, self._rises = values, rises
        if len(self._history) > 2 and self._history[-1][0] - self._history[-2][0] < longest / LOOKS_KEPT:
            self._history.pop()  # a long window needs no look of every second
        self._history.append((now, rises))
        while len(self._history) > 2 and self._history[1][0] <= now - longest:
            self._history.popleft()


def parse_samples(text: str) -> Iterator[Sample]:
    """The counters that are counted, from the text format. Raises ValueError where it is not that format."""
    for family in text_string_to_metric_families(text):
        name = family.name.removeprefix("pilotage_")
        for sample in family.samples if name in RATED or name in COUNTED else ():
            if sample.name.endswith("_total"):
                of = sample.labels
                at = (of.get("process_cluster", ""), of.get("pair", ""), of.get("stage", ""))
                yield Sample(name, *at, sample.value)


def _add_up(samples: list[Sample]) -> Values:
    values: Values = {}
    for sample in samples:
        at = (sample.name, sample.process_cluster, sample.pair)
        values[at] = values.get(at, 0.0) + sample.value
    return values


def _increase(values: Values, before: Values, at: tuple[str, str, str]) -> float:
    return values.get(at, 0.0) - before.get(at, 0.0)
