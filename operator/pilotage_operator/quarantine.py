"""The boundary around one process cluster's part of a sweep: whatever fails in it stays in it.

The one place of the controller that catches everything: a supervisor's boundary, without which one team's ConfigMap
takes every team's leave (docs/decisions/010). What is caught here holds its process cluster at Copilot until a
whole part goes through again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pilotage_operator.metrics import Metrics

log = logging.getLogger(__name__)
T = TypeVar("T")
LONGEST_PAUSE_SECONDS = 10.0
"""Between two tries of what failed. A mistake may take seconds to fail; it is not to take them every second."""


class Part(StrEnum):
    """Where something failed."""

    OBSERVE = "observe"
    DECIDE = "decide"
    APPLY = "apply"


@dataclass(frozen=True, slots=True)
class Fault:
    """What failed, how often in a row, and when it is tried again (monotonic seconds)."""

    part: Part
    what: str
    tries: int
    retry_at: float


class Quarantine:
    """The faults of all process clusters, by key."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self.faults: dict[str, Fault] = {}
        self._metrics = metrics
        self._clock = clock

    @contextmanager
    def boundary(self, key: str, part: Part) -> Iterator[None]:
        """Run one process cluster's `part`. An exception is noted, and goes no further."""
        try:
            yield
        except MemoryError:
            raise  # nobody's mistake in particular
        except Exception as error:  # noqa: BLE001  see the module
            self.add(key, part, f"{type(error).__name__}: {error}"[:300])
        else:
            known = self.faults.get(key)
            if known is not None and known.part is part:
                self.lift(key)

    @staticmethod
    def attempt(make: Callable[[], T]) -> T | None:
        """What `make` gives; None where it fails, of which the boundary has told already."""
        try:
            return make()
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  see the module
            return None

    def add(self, key: str, part: Part, what: str) -> None:
        """Note that `part` of `key` failed."""
        known = self.faults.get(key)
        tries = known.tries + 1 if known is not None and known.part is part else 1
        pause = min(LONGEST_PAUSE_SECONDS, 2.0 ** (tries - 1) - 1.0)
        if known is None or known.what != what:
            log.error("%s is quarantined, %s failed: %s", key, part, what)
            self._metrics.quarantines.labels(part.value).inc()
        self.faults[key] = Fault(part, what, tries, self._clock() + pause)
        self._metrics.quarantined.show(key, "")

    def lift(self, key: str) -> None:
        """`key` went through again."""
        if self.faults.pop(key, None) is not None:
            log.info("%s is quarantined no more", key)
            self._metrics.quarantined.hide(key)

    def forget(self, key: str) -> None:
        """`key` is gone."""
        self.faults.pop(key, None)
        self._metrics.forget(key)

    def is_paused(self, key: str) -> bool:
        """Whether what failed last for `key` is not to be tried again yet."""
        fault = self.faults.get(key)
        return fault is not None and self._clock() < fault.retry_at
