"""Labels in order, from the gateway's records into monitors (R, K, F): one process does this, never each replica.

All labels of the fleet come as one stream, from where it stood when this one began to listen. A monitor starts where
Calibration began (`status.baseline.labelCursor`): what it is behind the stream is caught up with by itself, so that a
restart comes to the same numbers. What has no certificate in force has nothing to monitor.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

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
LISTEN_SECONDS, FIRST_SECONDS = 0.5, 3.0
"""What listening may take of a sweep, for revocations wait for it; and of the first one of a term, which knows nothing
yet.
"""
DEAF_SECONDS = 10.0
"""One look may fail; after so long without an answer nothing is known of the labels that came in between."""
FAULTS = (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError)
DECODE_PAGE = msgspec.json.Decoder(LabelPage).decode


class LabelFollower:
    """Follows the labels of every current pair at the gateway at `url`, to which the token in a file is shown."""

    def __init__(
        self,
        url: str,
        client: aiohttp.ClientSession,
        clock: Callable[[], float] = time.monotonic,
        token: Path | None = None,
    ) -> None:
        self._url = url.rstrip("/") + "/v1/labels"
        self._token = token
        self._client = client
        self._clock = clock
        self._tracks: dict[str, Track] = {}
        self._behind: set[str] = set()
        self._position: int | None = None
        self._silent_since: float | None = float("-inf")
        self._fault, self._is_deaf = "", True
        self._changed: set[str] = set()
        self._listening: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None

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
        if self._position is not None and track.start > self._position:
            return None  # the records that it began in are gone
        if self._position is not None:
            track.cursor = max(track.cursor, self._position)
        return track.read()

    async def listen(self, seconds: float = LISTEN_SECONDS) -> set[str]:
        """Take in what came since the last look. Gives the keys of which something else is known now.

        A gateway that takes longer than `seconds` is not waited for: what it says then is told by a later call.
        """
        if self._listening is None or self._listening.done():
            if self._silent_since is None:
                self._silent_since = self._clock()
            self._listening = asyncio.create_task(self._listen())
            if self._position is None:  # who is behind what is known only then
                await asyncio.wait([self._listening], timeout=seconds)
        is_placed = self._position is not None
        if is_placed and self._behind and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.create_task(self._catch_up())
        await asyncio.wait(self._tasks(), timeout=seconds)
        changed, self._changed = self._changed, set()
        return changed | self._find_turned()

    async def close(self) -> None:
        """Listen no more."""
        for task in self._tasks():
            task.cancel()
        await asyncio.gather(*self._tasks(), return_exceptions=True)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._listening, self._catching_up) if task is not None]

    def _find_turned(self) -> set[str]:
        """All keys, where from now on nothing is known of any, or something is again."""
        since = self._silent_since
        was_deaf, self._is_deaf = self._is_deaf, since is not None and self._clock() - since > DEAF_SECONDS
        return set(self._tracks) if was_deaf != self._is_deaf else set()

    async def _listen(self) -> None:
        try:
            await self._read_stream()
            self._silent_since, self._fault = None, ""
        except FAULTS as error:
            self._warn(error)

    async def _read_stream(self) -> None:
        """Fold page by page into the tracks."""
        if self._position is None:
            self._position = (await self._read_page(after=0, limit=1)).newest
            self._behind = {key for key in self._behind if self._tracks[key].start != self._position}
        for _ in range(PAGES_A_LOOK):
            page = await self._read_page(after=self._position)
            for number, label in zip(page.numbers, page.labels, strict=True):
                key = label.process_cluster
                track = self._tracks.get(key)
                if track is not None and track.pair == label.pair and key not in self._behind:
                    _take(track, number, label)
                    self._changed.add(key)
            self._position = max(self._position, page.next)
            if page.newest < self._position:
                log.error("labels end at %d, %d were read: other records are there", page.newest, self._position)
                self._position = page.newest
                self._begin_again()
            if len(page.labels) < PAGE:
                break

    def _begin_again(self) -> None:
        """Forget what was read of records that are not there any more."""
        for key, track in self._tracks.items():
            self._tracks[key] = Track(track.pair, track.start, track.certificates, cursor=track.start)
            if track.certificates:
                self._behind.add(key)
        self._changed.update(self._tracks)

    async def _catch_up(self) -> None:
        """Read what monitors are behind the stream, a few at once: one that takes long holds up no other."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def catch_up(key: str, track: Track) -> None:
            async with slots:
                try:
                    while self._tracks.get(key) is track:
                        at = self._position
                        page = await self._read_page(
                            process_cluster=key, pair=track.pair, after=track.cursor, limit=PAGE
                        )
                        for number, label in zip(page.numbers, page.labels, strict=True):
                            _take(track, number, label)
                        # What the stream has passed over meanwhile is read here once more.
                        is_level = len(page.labels) < PAGE and self._position == at
                        if is_level and self._tracks.get(key) is track:
                            self._behind.discard(key)
                            self._changed.add(key)
                            return
                except FAULTS as error:
                    self._warn(error)

        asked = (catch_up(key, self._tracks[key]) for key in list(self._behind))
        for told in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(told, Exception):
                self._warn(told)

    def _warn(self, error: Exception) -> None:
        fault = f"{type(error).__name__} {error}"
        if fault != self._fault:
            log.warning("labels cannot be read: %s", fault)
        self._fault = fault

    def _show(self) -> dict[str, str]:
        """Who asks. The file is read each time: the token in it is replaced long before it ends."""
        try:
            return {"Authorization": f"Bearer {self._token.read_text().strip()}"} if self._token else {}
        except OSError as error:
            log.warning("no token for the gateway: %s", error)
            return {}

    async def _read_page(self, after: int, limit: int = PAGE, **of: str) -> LabelPage:
        query = of | {"after": str(after), "limit": str(limit)}
        async with self._client.get(self._url, params=query, headers=self._show(), timeout=TIMEOUT) as response:
            response.raise_for_status()
            return DECODE_PAGE(await response.read())


def _take(track: Track, number: int, label: Label) -> None:
    """One label, unless `track` has it: what was caught up with may come again in the stream."""
    if number > track.cursor:
        track.take(label)
        track.cursor = number
