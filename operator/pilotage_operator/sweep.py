"""The sweep: observe, decide what something happened to, apply. Once a second; it is all the controller does.

Decisions are decide/'s, and the same for Kubernetes and local processes. A process cluster is decided when its
manifests, Jobs, servers, figures or labels changed, when time alone may change something (decide/waking.py), and until
a decision changes nothing any more. What follows from a decision is enact.py's.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import msgspec

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.errors import InvalidInputError, PilotageError, UnavailableError
from pilotage_core.stage import UNATTENDED
from pilotage_core.wire import Pace, Revocation
from pilotage_operator.api.pipeline import Phase
from pilotage_operator.api.reading import Object
from pilotage_operator.api.status import ProcessClusterStatus, read_status
from pilotage_operator.decide.leave import build_watching_leave
from pilotage_operator.decide.lifecycle import decide_faulty, decide_lifecycle
from pilotage_operator.decide.pipeline import JOB_WANTED
from pilotage_operator.decide.stages import LARGEST_CLOCK_SKEW_SECONDS
from pilotage_operator.decide.telling import list_happenings
from pilotage_operator.decide.waking import find_wake
from pilotage_operator.enact import Decided, Enactor
from pilotage_operator.facts import Bundle, Facts
from pilotage_operator.held import Cluster, Document, Holdings
from pilotage_operator.metrics import Metrics
from pilotage_operator.observe.bundle import build_bundle
from pilotage_operator.observe.figures import Figures, FigureSource, merge_limits, select_readings
from pilotage_operator.observe.labels import FIRST_SECONDS, LISTEN_SECONDS, LabelFollower
from pilotage_operator.observe.world import Sighting, TermOverError, Workloads, World
from pilotage_operator.permits import Authority
from pilotage_operator.quarantine import Part, Quarantine
from pilotage_operator.referred import Referred

log = logging.getLogger(__name__)
SLICE = 64
"""Process clusters that are decided before gateways that ask are answered again."""
MOST_A_SWEEP = 2000
"""What is about all is spread over sweeps from here on: a sweep that outlasts a permit costs the fleet its leave."""
BUNDLES_KEPT = 128
"""From when manifests are read until they are decided; more are read once more, which costs less than holding them."""
BETWEEN_SECONDS, WRITE_SECONDS = 0.02, 1.0
"""How long a sweep waits for what it decided to be written down: between two slices, and at its end."""
PHASES_FED_BY_SESSIONS = frozenset({Phase.DEMONSTRATIONS, Phase.FEEDBACK, Phase.FRESH, Phase.CERTIFIED})


class Sweeper:
    """Holds the parts a sweep needs, and what it has to remember from one to the next."""

    def __init__(
        self, world: World, figures: FigureSource, labels: LabelFollower, authority: Authority, metrics: Metrics
    ) -> None:
        self._world = world
        self._figures = figures
        self._labels = labels
        self._authority = authority
        self._metrics = metrics
        self._quarantine = Quarantine(metrics)
        self._holdings = Holdings(labels)
        self._referred = Referred(self._holdings, world, authority)
        self._enactor = Enactor(self._holdings, world, authority, metrics, self._quarantine)
        self._bundles: dict[str, Bundle] = {}
        self._later: set[str] = set()
        self._revoked: dict[str, Revocation] = {}
        self._flags: tuple[object, ...] = ()
        self._sighting: Sighting | None = None

    async def sweep(self) -> None:
        """Observe, decide, publish what takes leave away, apply, publish the rest."""
        began, clock = boot_seconds(), time.perf_counter()
        whole = await self._look()
        if self._sighting is None:
            return
        is_first = not self._authority.digest
        sighting = self._sighting
        await self._find_due(sighting)
        windows = merge_limits(cluster.limits for cluster in self._holdings.clusters.values())
        patience = FIRST_SECONDS if is_first else LISTEN_SECONDS
        figures, heard = await asyncio.gather(self._figures.observe_figures(windows), self._labels.listen(patience))
        answered = time.perf_counter()
        self._mark(figures, heard, sighting)
        reported = self._hear_gateways()
        asked = frozenset(windows)
        for part in self._take_due():
            await self._enactor.settle(BETWEEN_SECONDS)  # gateways that ask are answered in between, too
            found = dict(zip(part, await asyncio.gather(*(self._observe(key, sighting) for key in part)), strict=True))
            for key, seen in found.items():
                if seen is not None:
                    with self._quarantine.boundary(key, Part.DECIDE):
                        self._decide_and_enact(key, seen, sighting, figures, asked, whole, answered)
            if not is_first:  # a part of a fleet is nothing to publish
                self._enactor.publish()
        self._enactor.publish()
        self._authority.note_heard(reported | self._revoked)
        self._revoked.clear()
        await self._enactor.settle(WRITE_SECONDS)
        self._enactor.publish()
        if whole:
            self._enactor.tell_quarantines(sighting)
            await self._enactor.settle_quarantines(BETWEEN_SECONDS)
            self._referred.tell(sighting)
            await self._referred.settle(BETWEEN_SECONDS)
            self._authority.confirm(began)
            self._metrics.last_sweep.set(time.time())
        self._metrics.sweep_seconds.observe(time.perf_counter() - clock)

    async def close(self) -> None:
        """Write nothing more: the term is over."""
        await self._enactor.close()
        await self._referred.close()
        await self._labels.close()

    def list_paces(self) -> list[Pace]:
        """Process clusters as they are now, for whoever paces sessions."""
        return [build_pace(key, cluster.status) for key, cluster in sorted(self._holdings.clusters.items())]

    def count_failure(self) -> None:
        """A whole sweep was cut short."""
        self._metrics.failures.labels("sweep").inc()

    # --- which -------------------------------------------------------------------------------------------------------
    async def _look(self) -> bool:
        """See the world; without it, go on with what was seen last: leave can still be taken away."""
        try:
            sighting = await self._world.observe_world()
        except TermOverError:
            raise
        except PilotageError as error:
            self._enactor.warn("", f"the world cannot be seen: {error}")
            self._metrics.failures.labels("observe").inc()
            return False
        self._sighting = sighting
        self._referred.mark(sighting)
        self._authority.note_sight()
        self._enactor.warn("", "")
        known = self._holdings.clusters.keys() | self._holdings.strays
        changed = known | sighting.clusters.keys() if sighting.changed is None else sighting.changed
        gone = {key for key in changed if key not in sighting.clusters}
        self._holdings.dirty |= changed - gone
        for key in gone & known:
            self._forget(key)
        return True

    def _forget(self, key: str) -> None:
        self._holdings.forget(key)
        self._enactor.forget(key)
        self._referred.forget(key)

    async def _find_due(self, sighting: Sighting) -> None:
        """Add what time may have changed, and what failed. Manifests are read, to know which figures to ask for."""
        now, holdings = time.time(), self._holdings
        holdings.dirty |= {key for key, cluster in holdings.clusters.items() if cluster.wake <= now}
        holdings.dirty |= {key for key in self._quarantine.faults if key in sighting.clusters}
        self._bundles.clear()
        for n, key in enumerate(list(holdings.dirty)):
            if n % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            bundle = None if self._is_paused(key) else self._quarantine.attempt(partial(self._read, key, sighting))
            if bundle is not None and len(self._bundles) < BUNDLES_KEPT:
                self._bundles[key] = bundle

    def _hear_gateways(self) -> dict[str, Revocation]:
        """Mark what gateways say was taken back."""
        reported = self._authority.reported()
        for key, revocation in reported.items():
            if key in self._holdings.clusters:
                self._holdings.clusters[key].reported = revocation
                self._holdings.dirty.add(key)
        return reported

    def _is_paused(self, key: str) -> bool:
        """A mistake may take long to fail: it is not to take it every second."""
        fault = self._quarantine.faults.get(key)
        return fault is not None and fault.part is Part.OBSERVE and self._quarantine.is_paused(key)

    def _mark(self, figures: Figures, heard: set[str], sighting: Sighting) -> None:
        """Mark what figures and labels say something new of; all, where something changed that is about all."""
        skewed = abs(figures.clock_skew_seconds) > LARGEST_CLOCK_SKEW_SECONDS
        flags = (sighting.admission, self._authority.has_waited(), skewed, bool(figures.fault), bool(figures.faults))
        clusters = self._holdings.clusters.keys()
        is_about_all = figures.changed is None or flags != self._flags
        marked = set(clusters) if is_about_all else ((figures.changed or set()) | heard) & clusters
        lowers = any(now and not was for now, was in zip(_find_caps(flags), _find_caps(self._flags), strict=True))
        self._flags = flags
        if lowers or len(marked) <= MOST_A_SWEEP:
            self._holdings.dirty |= marked
        else:
            self._later |= marked
        free = MOST_A_SWEEP - sum(not self._is_paused(key) for key in self._holdings.dirty)
        for _ in range(min(max(free, SLICE), len(self._later))):
            self._holdings.dirty.add(self._later.pop())

    def _take_due(self) -> Iterator[list[str]]:
        """What is dirty, what may lose most first, a slice at a time; dirty no more, until it is found to be again."""
        self._enactor.call_waiting()
        due = [key for key in self._holdings.dirty if not self._is_paused(key)]
        clusters = self._holdings.clusters
        due.sort(key=lambda key: (key not in clusters or clusters[key].earned not in UNATTENDED, key))
        self._metrics.decisions.inc(len(due))
        for start in range(0, len(due), SLICE):
            part = due[start : start + SLICE]
            self._holdings.dirty.difference_update(part)  # not before: a sweep may be cut short
            yield part

    # --- observe -----------------------------------------------------------------------------------------------------
    async def _observe(self, key: str, sighting: Sighting) -> tuple[Bundle | None, Workloads] | None:
        """What there is of one process cluster; None where it cannot be told, which is its own fault, or it is gone."""
        if key not in sighting.clusters:
            return None
        with self._quarantine.boundary(key, Part.OBSERVE):
            if key in sighting.faults:
                raise UnavailableError(sighting.faults[key], where=key)
            bundle = self._bundles.pop(key, None) or self._read(key, sighting)
            namespace, name = key.split("/", 1)
            return bundle, await self._world.observe_workloads(namespace, name, self._holdings.clusters[key].job)
        if key not in self._holdings.clusters:  # it never could be read: its sessions are its own all the same
            stray = self._quarantine.attempt(lambda: build_watching_leave(sighting.clusters[key]))
            if stray is not None:
                self._holdings.put_stray(key, stray)
        return None

    def _read(self, key: str, sighting: Sighting) -> Bundle | None:
        """The bundle of `key`, the last one that was whole where there is none now; None where there never was one."""
        cluster = sighting.clusters[key]
        given = cluster.get("status") or {}
        held = self._holdings.clusters.get(key)
        uid = cluster["metadata"].get("uid", "")
        if held is not None and held.uid != uid:
            self._forget(key)  # another one of that name: nothing of the first is its own
            held = None
        if held is None or (not held.decided and key in self._quarantine.faults):
            held = self._holdings.begin(key, uid, read_status(given), given)
            self._enactor.recall_quarantine(key, given)
            self._holdings.dirty.add(key)
        self._adopt_rollback(key, held, given)
        try:
            bundle = build_bundle(cluster, sighting.objects, self._world.serving_image)
            held.note_whole(bundle, cluster, sighting.objects)
            held.fault = ""
            return bundle
        except InvalidInputError as error:
            self._enactor.warn(key, str(error))
            held.fault = str(error)
        if held.whole:
            return held.rebuild(self._world.serving_image, cluster.get("spec"))
        self._holdings.put(key, build_watching_leave(cluster))
        return None

    def _adopt_rollback(self, key: str, held: Cluster, given: Object) -> None:
        """A rollback that an earlier leader wrote down last, after this one had read: it counts all the same."""
        told = given.get("rollback") or {}
        if not told.get("latched"):
            return
        known = held.status.rollback
        if known is None or known.id != told.get("id"):
            found = read_status(given)
            if found.rollback is not None and (known is None or known.at < found.rollback.at):
                self._holdings.hold(key, found)
                held.moves += 1

    # --- decide ------------------------------------------------------------------------------------------------------
    def _decide_and_enact(
        self,
        key: str,
        seen: tuple[Bundle | None, Workloads],
        sighting: Sighting,
        figures: Figures,
        asked: frozenset[object],
        whole: bool,
        answered: float,
    ) -> None:
        cluster = self._holdings.clusters[key]
        if not asked.issuperset(window for window, _ in cluster.limits):
            self._holdings.dirty.add(key)  # its gate changed since figures were asked for
            return
        bundle, workloads = seen
        decided = self._decide(key, cluster, bundle, workloads, sighting, figures)
        cluster.decided = True
        self._enactor.enact(key, decided, sighting, whole=whole, answered=answered)

    def _decide(
        self,
        key: str,
        cluster: Cluster,
        bundle: Bundle | None,
        workloads: Workloads,
        sighting: Sighting,
        figures: Figures,
    ) -> Decided:
        now, before = time.time(), cluster.status
        generation = sighting.clusters[key]["metadata"].get("generation", 1)
        if bundle is None:
            status, cluster.wake = decide_faulty(before, cluster.fault, generation, now)
            return Decided(cluster, status, Document.of(status.to_json()), cluster.moves)
        self._referred.note(bundle)
        monitor = self._labels.read(key)
        facts = Facts(
            counts=(figures.counts or {}).get(key),
            readings=select_readings(bundle, cluster.pair, figures, monitor),
            monitor=monitor,
            jobs=workloads.jobs,
            endpoints=workloads.endpoints,
            authority=self._authority.has_waited(),
            admission=sighting.admission,
            clock_skew_seconds=figures.clock_skew_seconds,
            permit_epoch=self._authority.epoch,
            reported=cluster.reported,
        )
        decision = decide_lifecycle(bundle, before, facts, now)
        status, faulty_until = decision.status, float("inf")
        if cluster.fault:
            # What it names is not there any more: the last whole bundle goes on counting, and people are told.
            status = status.model_copy(update={"conditions": before.conditions})
            status, faulty_until = decide_faulty(status, cluster.fault, generation, now)
            decision = replace(decision, status=status)
        if monitor is not None and status.pair is not None:
            self._metrics.show_monitor(key, status.pair.revision, monitor.r, monitor.k)
        cluster.wake = min(find_wake(bundle, status, workloads.endpoints, now), faulty_until)
        longest = int(float(bundle.gate.permit.ttl_seconds) * 1000)
        leave = msgspec.structs.replace(decision.leave, longest_ms=longest)
        if leave.revoked is not None:
            self._revoked[key] = leave.revoked
        happenings = list_happenings(before, status)
        document = Document.of(status.to_json())
        return Decided(cluster, status, document, cluster.moves, bundle, decision, leave, happenings)


def _find_caps(flags: tuple[object, ...]) -> tuple[bool, bool, bool]:
    """What holds all of the fleet at Copilot, of what a sweep marks all for: nothing of it is spread over sweeps."""
    admission, has_waited, skewed = flags[:3] or (True, True, False)
    return not admission, not has_waited, bool(skewed)


def build_pace(key: str, status: ProcessClusterStatus) -> Pace:
    """The process cluster `key` for whoever paces sessions."""
    namespace, name = key.split("/", 1)
    pipeline = status.pipeline
    phase = pipeline.phase if pipeline else Phase.DEMONSTRATIONS
    wants = phase in PHASES_FED_BY_SESSIONS and not (pipeline and pipeline.state in JOB_WANTED)
    return Pace(name, namespace, status.stage, status.held_by, phase.value, wants)


async def sweep_for_ever(sweeper: Sweeper, seconds: float) -> None:
    """One sweep after the other, each beginning `seconds` after the last began (or at once, where it took longer)."""
    try:
        while True:
            began = time.monotonic()
            try:
                await sweeper.sweep()
            except (MemoryError, TermOverError):
                raise
            except Exception:
                log.exception("a sweep was cut short: no permit is renewed by it")
                sweeper.count_failure()
            await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
    finally:
        await sweeper.close()
