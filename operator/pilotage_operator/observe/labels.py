"""Labels in order, from the gateway's records into monitors (R, K, F): one process does this, never each replica.

All labels of the fleet come as one stream, from where it stood when this one began to listen. A monitor starts where
Calibration began (`status.baseline.labelCursor`): what it is behind the stream is caught up with by itself, so that a
restart comes to the same numbers. What has no certificate in force has nothing to monitor.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
import msgspec

from pilotage_core.record import Label
from pilotage_core.stage import UNATTENDED
from pilotage_core.wire import LabelPage
from pilotage_operator.api.certificates import decode_certificates
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.facts import MonitorFact
from pilotage_operator.observe.track import Track

log = logging.getLogger(__name__)
TIMEOUT = aiohttp.ClientTimeout(total=3.0)
PAGE = 2000
PAGES_A_LOOK = 10
AT_ONCE = 16
LISTEN_SECONDS, CATCH_UP_SECONDS = 0.5, 2.0
"""What listening may take of a sweep, for which revocations wait; and what catching up may take of a look."""
DEAF_SECONDS = 10.0
"""One look may fail; after so long nothing is known of the labels that came in between."""
FAULTS = (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError)
DECODE_PAGE = msgspec.json.Decoder(LabelPage).decode


class LabelFollower:
    """Follows the labels of every current pair at the gateway at `url`."""

    def __init__(self, url: str, client: aiohttp.ClientSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url.rstrip("/") + "/v1/labels"
        self._client = client
        self._clock = clock
        self._tracks: dict[str, Track] = {}
        self._behind: set[str] = set()
        self._position: int | None = None
        self._heard_at = float("-inf")
        self._fault, self._is_deaf = "", True
        self._listening: asyncio.Task[set[str]] | None = None

    def follow(self, key: str, status: ProcessClusterStatus) -> None:
        """Follow the pair of `status` from where its Calibration began, by the certificates that it has in force."""
        pair, start = status.pair.revision if status.pair else "", status.baseline.label_cursor
        standing = decode_certificates(status.certificates) if pair and status.earned in UNATTENDED else ()
        certificates = {certificate.stratum: certificate for certificate in standing}
        track = self._tracks.get(key)
        if track is None or (track.pair, track.start, track.certificates) != (pair, start, certificates):
            self._tracks[key] = Track(pair, start, certificates, cursor=start)
            self._behind.discard(key)
            if certificates and start != self._position:
                self._behind.add(key)

    def forget(self, key: str) -> None:
        """Follow `key` no more."""
        self._tracks.pop(key, None)
        self._behind.discard(key)

    def read(self, key: str) -> MonitorFact | None:
        """What the labels of `key`'s pair say by now; None where that is not known."""
        track = self._tracks[key]
        if not track.pair:
            return MonitorFact()
        if key in self._behind or self._is_deaf:
            return None
        if self._position is not None:
            track.cursor = max(track.cursor, self._position)
        return track.read()

    async def listen(self) -> set[str]:
        """Take in what came since the last look. Gives the keys of which something else is known now.

        A gateway that takes long is not waited for: what it says then is told by the next call.
        """
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        await asyncio.wait([self._listening], timeout=LISTEN_SECONDS)
        if not self._listening.done():
            return self._find_turned()
        listened, self._listening = self._listening, None
        return listened.result() | self._find_turned()

    async def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    def _find_turned(self) -> set[str]:
        """All keys, where from now on nothing is known of any, or something is again."""
        was_deaf, self._is_deaf = self._is_deaf, self._clock() - self._heard_at > DEAF_SECONDS
        return set(self._tracks) if was_deaf != self._is_deaf else set()

    async def _listen(self) -> set[str]:
        try:
            changed = await self._listen_to_all()
            self._heard_at, self._fault = self._clock(), ""
        except FAULTS as error:
            self._warn(error)
            return set()
        return changed | await self._catch_up()

    async def _listen_to_all(self) -> set[str]:
        changed: set[str] = set()
        if self._position is None:
            self._position = (await self._read_page(after=0, limit=1)).newest
        for _ in range(PAGES_A_LOOK):
            page = await self._read_page(after=self._position)
            for number, label in zip(page.numbers, page.labels, strict=True):
                key = label.process_cluster
                track = self._tracks.get(key)
                if track is not None and track.pair == label.pair and key not in self._behind:
                    _take(track, number, label)
                    changed.add(key)
            self._position = max(self._position, page.next)
            if len(page.labels) < PAGE:
                break
        return changed

    async def _catch_up(self) -> set[str]:
        """Read what monitors are behind the stream, a few at once: one gateway that hangs is waited for once."""
        slots, done = asyncio.Semaphore(AT_ONCE), set()

        async def catch_up(key: str, track: Track) -> None:
            async with slots:
                try:
                    for _ in range(PAGES_A_LOOK):
                        page = await self._read_page(
                            process_cluster=key, pair=track.pair, after=track.cursor, limit=PAGE
                        )
                        for number, label in zip(page.numbers, page.labels, strict=True):
                            _take(track, number, label)
                        if len(page.labels) < PAGE:
                            done.add(key)
                            break
                except FAULTS as error:
                    self._warn(error)

        asking = [asyncio.create_task(catch_up(key, self._tracks[key])) for key in self._behind]
        try:
            if asking:
                await asyncio.wait(asking, timeout=CATCH_UP_SECONDS)
        finally:  # late, or the term is over: none reads on
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        self._behind -= done
        return done

    def _warn(self, error: Exception) -> None:
        fault = f"{type(error).__name__} {error}"
        if fault != self._fault:
            log.warning("labels cannot be read: %s", fault)
        self._fault = fault

    async def _read_page(self, after: int, limit: int = PAGE, **of: str) -> LabelPage:
        query = of | {"after": str(after), "limit": str(limit)}
        async with self._client.get(self._url, params=query, timeout=TIMEOUT) as response:
            response.raise_for_status()
            return DECODE_PAGE(await response.read())


def _take(track: Track, number: int, label: Label) -> None:
    """One label, unless `track` has it: what was caught up with may come again in the stream."""
    if number > track.cursor:
        track.take(label)
        track.cursor = number
