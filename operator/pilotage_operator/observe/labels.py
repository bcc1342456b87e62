"""Labels in order, from the gateway's records into monitors (R, K): one process does this, never each replica.

A monitor starts where Calibration began (`status.baseline.labelCursor`) and is replayed from there after a restart.
"""

import logging

import aiohttp
import msgspec

from pilotage_core.stage import UNATTENDED
from pilotage_core.wire import LabelPage
from pilotage_operator.api.certificates import decode_certificates
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.facts import MonitorFact
from pilotage_operator.observe.track import Track

log = logging.getLogger(__name__)
TIMEOUT = aiohttp.ClientTimeout(total=3.0)
PAGE = 2000
PAGES_A_SWEEP = 10

DECODE_PAGE = msgspec.json.Decoder(LabelPage).decode


class LabelFollower:
    """Follows the labels of every current pair at the gateway at `url`."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/") + "/v1/labels"
        self._client = client
        self._tracks: dict[str, Track] = {}

    async def observe_labels(self, key: str, status: ProcessClusterStatus) -> MonitorFact | None:
        """What the labels of `key`'s pair say by now; None where the gateway cannot be asked."""
        if status.pair is None:
            return MonitorFact()
        track = self._track_of(key, status)
        try:
            for _ in range(PAGES_A_SWEEP):
                page = await self._read_page(key, track)
                for label in page.labels:
                    track.take(label)
                track.cursor = max(track.cursor, page.next)
                if len(page.labels) < PAGE:
                    break
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            log.warning("labels of %s cannot be read: %s %s", key, type(error).__name__, error)
            return None
        return track.read()

    def _track_of(self, key: str, status: ProcessClusterStatus) -> Track:
        pair = status.pair.revision if status.pair else ""
        start = status.baseline.label_cursor
        standing = decode_certificates(status.certificates) if status.earned in UNATTENDED else ()
        certificates = {certificate.stratum: certificate for certificate in standing}
        track = self._tracks.get(key)
        if track is None or (track.pair, track.start, track.certificates) != (pair, start, certificates):
            track = self._tracks[key] = Track(pair, start, certificates, cursor=start)
        return track

    async def _read_page(self, key: str, track: Track) -> LabelPage:
        query = {"process_cluster": key, "pair": track.pair, "after": str(track.cursor), "limit": str(PAGE)}
        async with self._client.get(self._url, params=query, timeout=TIMEOUT) as response:
            response.raise_for_status()
            return DECODE_PAGE(await response.read())
