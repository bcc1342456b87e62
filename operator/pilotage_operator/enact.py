"""Decisions carried out: leave is taken away at once, statuses, Jobs and servers are written, leave is given then.

What one process cluster may do follows from what is written down of it; what it may do no more follows from what was
decided, be it written or not.
"""

import logging
import time
from dataclasses import dataclass, replace

import msgspec

from pilotage_core.errors import PilotageError
from pilotage_core.wire import Leave
from pilotage_operator.api.reading import Object
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.decide.leave import build_quarantined_leave
from pilotage_operator.decide.telling import Happening
from pilotage_operator.facts import Bundle, LifecycleDecision
from pilotage_operator.held import Cluster, Document, Holdings
from pilotage_operator.metrics import Metrics
from pilotage_operator.observe.world import Sighting, World
from pilotage_operator.permits import Authority
from pilotage_operator.quarantine import Part, Quarantine
from pilotage_operator.writing import Writer

log = logging.getLogger(__name__)
COUNTERS_SECONDS, COUNTERS_A_SECOND = 5.0, 50
"""Counts in status change all the time: they are written as often as the fleet's size lets them be."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided of one process cluster. Without a `bundle`, which it never had, it only watches.

    `moves` is the cluster's count of what was adopted by then.
    """

    cluster: Cluster
    status: ProcessClusterStatus
    document: Document
    moves: int
    bundle: Bundle | None = None
    decision: LifecycleDecision | None = None
    leave: Leave | None = None
    happenings: tuple[Happening, ...] = ()

    @property
    def revokes(self) -> bool:
        """Whether leave is taken back, earned is lost or a τ tightened: it counts whether or not it can be written."""
        is_lost = self.status.earned.rank < self.cluster.earned.rank
        is_lost |= bool(set(self.status.tightened) - set(self.cluster.tightened))
        return is_lost or (self.decision is not None and self.decision.revoked)


class Enactor:
    """Carries out what is decided of `holdings`. What cannot be written is decided, and tried, again."""

    def __init__(
        self, holdings: Holdings, world: World, authority: Authority, metrics: Metrics, quarantine: Quarantine
    ) -> None:
        self._holdings = holdings
        self._world = world
        self._authority = authority
        self._metrics = metrics
        self._quarantine = quarantine
        self._writer: Writer[tuple[Sighting, Decided]] = Writer(self._write)
        self._teller: Writer[tuple[Sighting, str]] = Writer(self._tell)
        self._events: Writer[tuple[Sighting, str, Happening]] = Writer(self._tell_happening)
        self._told: dict[str, str] = {}
        self._said: dict[str, str] = {}

    def enact(self, key: str, decided: Decided, sighting: Sighting, *, whole: bool, answered: float) -> None:
        """Publish what takes leave away, adopt it, and have the rest written down; not where the world is not `whole`.

        `answered` is when the figures that it rests on came (perf_counter seconds).
        """
        cluster = self._holdings.clusters[key]
        if decided.leave is not None:
            self._put_cautious(key, cluster, decided.leave)
        if (self._writer.is_busy(key) or self._writer.is_full) and not decided.revokes:
            cluster.superseded |= cluster.pending is not None and decided.leave != cluster.pending
            # What is being written comes first; what only waits for room is decided again when there is some.
            (self._holdings.dirty if self._writer.is_busy(key) else self._holdings.waiting).add(key)
            return
        self._count(key, cluster, decided, answered)
        if decided.revokes:
            self._holdings.hold(key, decided.status)
            cluster.moves += 1
            self._tell_happenings(key, decided, sighting)
            decided = replace(decided, moves=cluster.moves, happenings=())
        if not whole:
            self._holdings.dirty.add(key)
            return
        if self._is_for_later(cluster, decided):
            cluster.wake = min(cluster.wake, time.time() + cluster.at + self._find_pace() - time.monotonic())
        cluster.pending, cluster.superseded = decided.leave, False
        self._writer.put(key, (sighting, decided))

    def call_waiting(self) -> None:
        """Have as many decided again as there is room to write, of those that wait for nothing else."""
        for _ in range(self._writer.room):
            if self._holdings.waiting:
                self._holdings.dirty.add(self._holdings.waiting.pop())

    def publish(self) -> None:
        """Let gateways know what changed; what is in quarantine has at most Copilot's leave."""
        for key in self._quarantine.faults.keys() & self._holdings.clusters.keys():
            held = self._holdings.parts.read(key)
            if held is not None:
                self._holdings.put(key, build_quarantined_leave(held))
        self._authority.publish(self._holdings.parts)

    async def settle(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than that; the rest goes on beside what comes next."""
        await self._writer.settle(seconds)

    async def settle_quarantines(self, seconds: float) -> None:
        """The same of what is said of quarantines."""
        await self._teller.settle(seconds)

    async def close(self) -> None:
        """Write nothing more."""
        await self._writer.close()
        await self._teller.close()
        await self._events.close()

    def _put_cautious(self, key: str, cluster: Cluster, leave: Leave) -> None:
        """Publish `leave` where it allows no more than what is published now; else that goes on."""
        written = cluster.published if cluster.published is not None else cluster.stage
        if leave.stage.rank <= written.rank:
            self._holdings.put(key, leave)
        elif cluster.published is None:  # the first sweep of a term: what is written down, and no more
            self._holdings.put(key, msgspec.structs.replace(leave, stage=written))

    def _is_for_later(self, cluster: Cluster, decided: Decided) -> bool:
        """Whether merely counts differ from what is written down, and were written a moment ago."""
        is_same = decided.document.major == cluster.written.major and decided.document != cluster.written
        return is_same and time.monotonic() - cluster.at < self._find_pace()

    def _find_pace(self) -> float:
        return max(COUNTERS_SECONDS, len(self._holdings.clusters) / COUNTERS_A_SECOND)

    async def _write(self, key: str, given: tuple[Sighting, Decided]) -> None:
        """Write a status where it differs, then Jobs and model servers."""
        sighting, decided = given
        cluster, item = decided.cluster, sighting.clusters.get(key)
        is_there = item is not None and item["metadata"].get("uid", "") == cluster.uid
        if item is None or not is_there or not self._is_held(key, cluster):
            return  # gone, or another of that name
        if cluster.moves != decided.moves or not self._authority.may_act():
            self._holdings.dirty.add(key)  # leave was taken back since, or it is another controller's to do
            return
        is_done = False
        with self._quarantine.boundary(key, Part.APPLY):
            try:
                if decided.document != cluster.written and not self._is_for_later(cluster, decided):
                    await self._world.apply_status(item, decided.status)
                    cluster.written, cluster.at = decided.document, time.monotonic()
                self._said.pop(key, None)
                self._take_effect(key, cluster, decided)
                self._tell_happenings(key, decided, sighting)
                if decided.bundle is not None and decided.decision is not None:
                    await self._world.apply_workloads(decided.bundle, decided.decision)
                is_done = True
            except PilotageError as error:
                self.warn(key, f"{key} is not as decided yet: {error}")
                self._metrics.failures.labels("apply").inc()
        if not is_done:
            self._holdings.dirty.add(key)

    def _take_effect(self, key: str, cluster: Cluster, decided: Decided) -> None:
        """What is written down counts from now on, unless leave was taken back since it was decided."""
        if not self._is_held(key, cluster):
            return
        if cluster.moves != decided.moves:
            self._holdings.dirty.add(key)
            return
        if cluster.document.major != decided.document.major:
            self._holdings.dirty.add(key)  # one step follows the other
        self._holdings.hold(key, decided.status)
        if cluster.superseded:
            self._holdings.dirty.add(key)  # what was published since stands until it is decided again
        elif decided.leave is not None:
            self._holdings.put(key, decided.leave)
        cluster.pending, cluster.superseded = None, False

    def _is_held(self, key: str, cluster: Cluster) -> bool:
        return self._holdings.clusters.get(key) is cluster

    def _count(self, key: str, cluster: Cluster, decided: Decided, answered: float) -> None:
        """Show what was decided, beside what was before."""
        status = decided.status
        self._metrics.epoch.set(self._authority.epoch)
        self._metrics.set_stage(key, status.stage)
        self._metrics.show_troubles(key, status)
        if status.rollback is not None and status.rollback.latched and cluster.earned is not status.earned:
            self._metrics.breaches.labels(key, status.rollback.guardrail).inc()
            self._metrics.rollback_seconds.observe(time.perf_counter() - answered)
        if status.stage is not cluster.stage:
            log.info("%s: %s → %s (%s)", key, cluster.stage, status.stage, _why(status))

    def recall_quarantine(self, key: str, written: Object) -> None:
        """What an earlier leader said of `key`: it is lifted where nothing fails any more."""
        told = [c for c in written.get("conditions", ()) if (c.get("type"), c.get("status")) == ("Quarantined", "True")]
        if told and key not in self._told:
            self._told[key] = str(told[0].get("message") or "it failed")

    def tell_quarantines(self, sighting: Sighting) -> None:
        """Have it said on the objects themselves what is set apart, and what no more; a sweep does not wait for it."""
        told = {key: fault.what for key, fault in self._quarantine.faults.items() if key in sighting.clusters}
        for key in told.keys() | self._told.keys():
            if self._told.get(key, "") != told.get(key, "") and not self._teller.is_busy(key):
                self._teller.put(key, (sighting, told.get(key, "")))

    async def _tell(self, key: str, given: tuple[Sighting, str]) -> None:
        """Where that fails, it is tried again by the next sweep."""
        sighting, what = given
        item = sighting.clusters.get(key)
        if item is None or not self._authority.may_act():
            self._told.pop(key, None)
            return
        try:
            await self._world.tell_quarantine(item, what)
            self._told[key] = what
            if not what:
                del self._told[key]
        except PilotageError as error:
            self.warn(f"{key} told", f"{key}: that it is quarantined is not written down yet: {error}")

    def _tell_happenings(self, key: str, decided: Decided, sighting: Sighting) -> None:
        """Each once; where too many wait, what is left out stands in the status all the same."""
        for happening in decided.happenings:
            if not self._events.is_full:
                self._events.put(f"{key} {happening.reason} {happening.message}", (sighting, key, happening))

    async def _tell_happening(self, name: str, given: tuple[Sighting, str, Happening]) -> None:
        sighting, key, happening = given
        item = sighting.clusters.get(key)
        if item is None or not self._authority.may_act():
            return
        try:
            await self._world.tell_happening(item, happening)
        except PilotageError as error:
            log.warning("%s: an event is lost: %s (%s)", key, happening.reason, error)

    def warn(self, key: str, text: str) -> None:
        """Say it once, not once a second; nothing more of what is empty."""
        if text and self._said.get(key) != text:
            log.warning("%s", text)
        self._said[key] = text

    def forget(self, key: str) -> None:
        """`key` is gone."""
        self._said.pop(key, None)
        self._quarantine.forget(key)


def _why(status: ProcessClusterStatus) -> str:
    return status.transitions[-1].reason if status.transitions else ""
