"""How fast sessions arrive: fast while a process cluster wants them, a trickle while it works on something else.

Dialogues are scarce: those that arrive while a Job runs or an endpoint comes up teach little. What is wanted comes from
the controller's list of process clusters; where that cannot be had, sessions trickle.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Protocol

import aiohttp
import msgspec

from pilotage_core.errors import UnavailableError
from pilotage_core.stage import Stage
from pilotage_core.wire import Pace
from pilotage_simulator.plan import Lane

POLL_SECONDS = 0.5
POLL_TIMEOUT_SECONDS = 2.0


class Wishes(Protocol):
    """Where to ask what is wanted."""

    async def fetch(self) -> Mapping[str, Pace]:
        """Process clusters by key. Raises UnavailableError."""
        ...


class ControllerWishes:
    """Asks the controller at `url`."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = f"{url.rstrip('/')}/v1/process-clusters"
        self._http = http
        self._decoder = msgspec.json.Decoder(list[Pace])

    async def fetch(self) -> Mapping[str, Pace]:
        """Process clusters by key."""
        try:
            async with self._http.get(self._url, timeout=aiohttp.ClientTimeout(total=POLL_TIMEOUT_SECONDS)) as answer:
                answer.raise_for_status()
                return {view.key: view for view in self._decoder.decode(await answer.read())}
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise UnavailableError(f"no list of process clusters: {error!r}", where=self._url) from error


class Pacer:
    """Gives each lane its turn. Without `wishes` everything is always wanted."""

    def __init__(self, wishes: Wishes | None) -> None:
        self._wishes = wishes
        self._known: Mapping[str, Pace] = {}
        self._due: dict[str, float] = {}
        self._stage_seen: dict[tuple[str, Stage], int] = {}
        self.fault = ""

    async def watch(self) -> None:
        """Keep asking what is wanted, until cancelled."""
        while self._wishes is not None:
            try:
                self._known, self.fault = await self._wishes.fetch(), ""
            except UnavailableError as error:
                self._known, self.fault = {}, str(error)
            await asyncio.sleep(POLL_SECONDS)

    def stage(self, process_cluster: str) -> Stage | None:
        """The stage last heard of."""
        view = self._known.get(process_cluster)
        return view.stage if view else None

    def is_wanted(self, process_cluster: str) -> bool:
        """Whether sessions of `process_cluster` are wanted now; not known is no."""
        if self._wishes is None:
            return True
        view = self._known.get(process_cluster)
        return view is not None and view.wants_sessions

    def seconds_until_due(self, lane: Lane, now: float) -> float:
        """How long from `now` until the next session of `lane` may begin, by the rate that holds now."""
        wanted = self.is_wanted(lane.process_cluster)
        rate = lane.fast_per_second if wanted else lane.trickle_per_second
        if rate is None:
            return 0.0
        return max(0.0, self._due.get(lane.process_cluster, 0.0) + 1.0 / rate - now)

    async def turn(self, lane: Lane) -> None:
        """Wait until the next session of `lane` may begin. The rate may change meanwhile."""
        while (wait := self.seconds_until_due(lane, time.monotonic())) > 0.0:  # noqa: ASYNC110 (a moving date)
            await asyncio.sleep(min(wait, 0.1))
        self._due[lane.process_cluster] = time.monotonic()

    def is_changed(self, lane: Lane, number: int) -> bool:
        """Whether the `number`-th session of `lane` (from 1) is one of the changed process."""
        change = lane.change
        if change is None:
            return False
        if change.at is not None:
            return number >= change.at
        if change.after_stage is None:
            return False
        seen = (lane.process_cluster, change.after_stage)
        if seen not in self._stage_seen and self.stage(lane.process_cluster) is change.after_stage:
            self._stage_seen[seen] = number
        return seen in self._stage_seen and number >= self._stage_seen[seen] + change.sessions
