"""Labels in order, from the gateway's records into monitors (R, K): one process does this, never each replica.

A monitor starts where Calibration began (`status.baseline.labelCursor`) and is replayed from there after a restart.
"""

import logging
from dataclasses import dataclass, field

import aiohttp
import msgspec

from pilotage_core.certificate import Certificate, tighten
from pilotage_core.monitoring import Alarm, Monitor, MonitoredLabel, step
from pilotage_core.record import Label
from pilotage_core.stage import UNATTENDED
from pilotage_core.wire import LabelPage
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.decide.facts import MonitorFact
from pilotage_operator.decide.pipeline import decode_certificates

log = logging.getLogger(__name__)
TIMEOUT = aiohttp.ClientTimeout(total=3.0)
PAGE = 2000
PAGES_A_SWEEP = 10


DECODE_PAGE = msgspec.json.Decoder(LabelPage).decode


@dataclass(slots=True)
class Track:
    """The labels of one pair followed from `start` on; `monitors` by stratum where a threshold is in force.

    `audit_shares` are those that the last labels at or above it were drawn with.
    """

    pair: str
    start: int
    certificates: dict[str, Certificate]
    cursor: int
    monitors: dict[str, Monitor] = field(default_factory=dict)
    audit_shares: dict[str, float] = field(default_factory=dict)

    def take(self, label: Label) -> None:
        """Add one label to the monitor of its stratum, if it speaks of a threshold in force."""
        certificate = self._in_force(label.stratum)
        if certificate is None or not label.critical or label.score is None or not 0.0 < label.propensity <= 1.0:
            return
        below = label.score < certificate.tau
        if below and (certificate.tau_looser is None or label.score < certificate.tau_looser):
            return
        # What would be executed stands for its own moment's audit share: nothing is less likely to be looked at then.
        # What is below τ is proposed, looked at for sure beside it, and counts by that share.
        if not below:
            self.audit_shares[label.stratum] = label.propensity
        least = min(self.audit_shares.get(label.stratum, 1.0), label.propensity)
        monitored = MonitoredLabel(label.accepted, label.propensity, least, below)
        before = self.monitors.get(label.stratum) or Monitor(target=certificate.target)
        self.monitors[label.stratum] = step(before, monitored)

    def _in_force(self, stratum: str) -> Certificate | None:
        """Where a tightened τ has no stricter one nothing runs, but what scored so high goes on speaking of it."""
        certificate = self.certificates.get(stratum)
        if certificate is None or stratum not in self._tightened():
            return certificate
        return tighten(certificate) or certificate

    def _tightened(self) -> tuple[str, ...]:
        return tuple(sorted(stratum for stratum, monitor in self.monitors.items() if monitor.tightenings))

    def read(self) -> MonitorFact:
        """The worst of the strata: the highest R speaks for all. An alarm that was raised stays."""
        monitors = list(self.monitors.values())
        return MonitorFact(
            r=max((m.r_peak if m.alarm is Alarm.ROLL_BACK else m.r for m in monitors), default=0.0),
            r_peak=max((m.r_peak for m in monitors), default=0.0),
            labels=sum(m.labels for m in monitors),
            k=min((m.k for m in monitors), default=1.0),
            audits_all=any(m.audits_all for m in monitors),
            tightened=self._tightened(),
            cursor=self.cursor,
        )


class LabelFollower:
    """Follows the labels of every pair in force at the gateway at `url`."""

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
