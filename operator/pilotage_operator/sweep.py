"""The sweep: observe everything, decide for each process cluster, apply. Once a second; it is all the controller does.

What takes leave away is published before anything else is done; what gives leave is published only once it is written
down. Decisions are decide/'s, and the same for Kubernetes and local processes.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, replace

import msgspec

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.errors import InvalidInputError, PilotageError, UnavailableError
from pilotage_core.snapshot import Parts
from pilotage_core.wire import Leave, Pace
from pilotage_operator.api.pipeline import Phase
from pilotage_operator.api.reading import Object
from pilotage_operator.api.status import ProcessClusterStatus, read_status
from pilotage_operator.decide.leave import build_quarantined_leave, build_watching_leave
from pilotage_operator.decide.lifecycle import decide_faulty, decide_lifecycle
from pilotage_operator.decide.pipeline import JOB_WANTED
from pilotage_operator.facts import Bundle, Facts, LifecycleDecision, MonitorFact
from pilotage_operator.observe.bundle import build_bundle
from pilotage_operator.observe.figures import Figures, FigureSource, find_windows, select_readings
from pilotage_operator.observe.labels import LabelFollower
from pilotage_operator.observe.world import Sighting, TermOverError, World
from pilotage_operator.permits import Authority
from pilotage_operator.quarantine import Part, Quarantine
from pilotage_operator.server import Metrics

log = logging.getLogger(__name__)
LABELS_AT_ONCE = 16
LABELS_SECONDS = 2.0
"""What all labels together may take of a sweep: revocations wait for them."""
PHASES_FED_BY_SESSIONS = frozenset({Phase.DEMONSTRATIONS, Phase.FEEDBACK, Phase.FRESH, Phase.CERTIFIED})


@dataclass(slots=True)
class Cluster:
    """What the controller holds of one process cluster between sweeps. `bundle` is the last one that was whole.

    `decided`: its status went through a decision once, so that what is held may know more than what is written down.
    """

    status: ProcessClusterStatus
    bundle: Bundle | None = None
    fault: str = ""
    leave: Leave | None = None
    decided: bool = False


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
        self._told: dict[str, str] = {}
        self._strays: dict[str, Leave] = {}
        self._clusters: dict[str, Cluster] = {}
        self._sighting: Sighting | None = None
        self._said: dict[str, str] = {}

    async def sweep(self) -> None:
        """Observe, decide, publish what takes leave away, apply, publish the rest."""
        began, clock = boot_seconds(), time.perf_counter()
        whole = await self._look()
        if self._sighting is None:
            return
        sighting = self._sighting
        bundles = [cluster.bundle for cluster in self._clusters.values() if cluster.bundle is not None]
        figures = await self._figures.observe_figures(find_windows(bundles))
        answered = time.perf_counter()
        monitors = await self._follow_labels()
        decisions = {}
        for bundle in bundles:
            if bundle.key in self._quarantine.faults and self._quarantine.faults[bundle.key].part is Part.OBSERVE:
                continue  # what is known of it is not what is there
            with self._quarantine.boundary(bundle.key, Part.DECIDE):
                decisions[bundle.key] = self._decide(bundle, sighting, figures, monitors.get(bundle.key))
                self._clusters[bundle.key].decided = True
        self._publish(self._cautious(decisions))
        self._count(decisions, monitors, time.perf_counter() - answered)
        self._adopt(decisions)
        written = await self._apply(sighting, decisions) if whole else set()
        self._publish(self._final(decisions, written))
        if whole:
            await self._tell_quarantines(sighting)
            self._authority.confirm(began)
            self._metrics.last_sweep.set(time.time())
        self._metrics.sweep_seconds.observe(time.perf_counter() - clock)

    def list_paces(self) -> list[Pace]:
        """Process clusters as they are now, for whoever paces sessions."""
        return [build_pace(key, cluster.status) for key, cluster in sorted(self._clusters.items())]

    # --- observe -----------------------------------------------------------------------------------------------------
    async def _look(self) -> bool:
        """See the world; without it, go on with what was seen last: leave can still be taken away."""
        try:
            sighting = await self._world.observe_world()
        except TermOverError:
            raise
        except PilotageError as error:
            self._warn("", f"the world cannot be seen: {error}")
            self._metrics.failures.labels("observe").inc()
            return False
        self._sighting = sighting
        self._said.pop("", None)
        for key in (self._clusters.keys() | self._strays.keys()) - sighting.clusters.keys():
            self._clusters.pop(key, None)
            self._strays.pop(key, None)
            self._said.pop(key, None)
            self._quarantine.forget(key)
        for key, cluster in sighting.clusters.items():
            fault = self._quarantine.faults.get(key)
            if fault is not None and fault.part is Part.OBSERVE and self._quarantine.is_paused(key):
                continue  # a mistake may take long to fail
            with self._quarantine.boundary(key, Part.OBSERVE):
                if key in sighting.faults:
                    raise UnavailableError(sighting.faults[key], where=key)
                self._take(key, cluster, sighting)
            self._watch_strays(key, cluster)
        return True

    def _watch_strays(self, key: str, cluster: Object) -> None:
        """Nothing is known of a process cluster that never could be read, but its sessions are still its own."""
        self._strays.pop(key, None)
        if key not in self._clusters:
            stray = self._quarantine.attempt(lambda: build_watching_leave(cluster))
            if stray is not None:
                self._strays[key] = stray

    def _take(self, key: str, cluster: Object, sighting: Sighting) -> None:
        held = self._clusters.get(key)
        if held is None or (not held.decided and key in self._quarantine.faults):
            status = read_status(cluster.get("status") or {})
            held = self._clusters[key] = Cluster(status)
        self._adopt_rollback(held, cluster)
        try:
            held.bundle, held.fault = build_bundle(cluster, sighting.objects, self._world.serving_image), ""
        except InvalidInputError as error:
            self._warn(key, str(error))
            held.fault = str(error)
            if held.bundle is None:
                held.leave = build_watching_leave(cluster)

    def _adopt_rollback(self, held: Cluster, cluster: Object) -> None:
        """A rollback that an earlier leader wrote down last, after this one had read: it counts all the same."""
        told = (cluster.get("status") or {}).get("rollback") or {}
        known = held.status.rollback
        if told.get("latched") and (known is None or known.id != told.get("id")):
            found = read_status(cluster["status"])
            if found.rollback is not None and (known is None or known.at < found.rollback.at):
                held.status = found

    async def _follow_labels(self) -> dict[str, MonitorFact | None]:
        """What the labels of every pair say, a few asked at once: one gateway that hangs is waited for once."""
        slots = asyncio.Semaphore(LABELS_AT_ONCE)
        monitors: dict[str, MonitorFact | None] = {}

        async def follow(key: str, cluster: Cluster) -> None:
            async with slots:
                with self._quarantine.boundary(key, Part.DECIDE):
                    monitors[key] = await self._labels.observe_labels(key, cluster.status)

        asking = [asyncio.create_task(follow(key, cluster)) for key, cluster in self._clusters.items()]
        try:
            if asking:
                await asyncio.wait(asking, timeout=LABELS_SECONDS)
        finally:  # late, or the term is over: none reads on
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        return monitors

    async def _tell_quarantines(self, sighting: Sighting) -> None:
        """What is set apart, and what no more, on the objects themselves: where that fails, it is tried again."""
        told = {key: fault.what for key, fault in self._quarantine.faults.items() if key in sighting.clusters}
        for key in told.keys() | self._told.keys():
            what = told.get(key, "")
            if self._told.get(key, "") == what or key not in sighting.clusters:
                continue
            try:
                await self._world.tell_quarantine(sighting.clusters[key], what)
                self._told[key] = what
            except PilotageError as error:
                self._warn(f"{key} told", f"{key}: that it is quarantined is not written down yet: {error}")
        self._told = {key: what for key, what in self._told.items() if what and key in sighting.clusters}

    def count_failure(self) -> None:
        """A whole sweep was cut short."""
        self._metrics.failures.labels("sweep").inc()

    def _warn(self, key: str, text: str) -> None:
        """Say it once, not once a second."""
        if self._said.get(key) != text:
            log.warning("%s", text)
        self._said[key] = text

    # --- decide ------------------------------------------------------------------------------------------------------
    def _decide(
        self, bundle: Bundle, sighting: Sighting, figures: Figures, monitor: MonitorFact | None
    ) -> LifecycleDecision:
        status = self._clusters[bundle.key].status
        pair = status.pair.revision if status.pair else ""
        facts = Facts(
            counts=(figures.counts or {}).get(bundle.key),
            readings=select_readings(bundle, pair, figures, monitor),
            monitor=monitor,
            jobs=sighting.jobs.get(bundle.namespace, {}),
            endpoints=sighting.endpoints.get(bundle.namespace, {}),
            authority=self._authority.has_waited(),
            admission=sighting.admission,
            clock_skew_seconds=figures.clock_skew_seconds,
            permit_epoch=self._authority.epoch,
        )
        now = time.time()
        decision = decide_lifecycle(bundle, status, facts, now)
        fault = self._clusters[bundle.key].fault
        if not fault:
            return decision
        # What it names is not there any more: the last whole bundle goes on counting, and people are told.
        told = decision.status.model_copy(update={"conditions": status.conditions})
        return replace(decision, status=decide_faulty(told, fault, now))

    def _find_faulty(self, sighting: Sighting) -> dict[str, ProcessClusterStatus]:
        """Statuses of process clusters that name something that is not there: they only watch."""
        now = time.time()
        return {
            key: decide_faulty(cluster.status, cluster.fault, now)
            for key, cluster in self._clusters.items()
            if cluster.fault and cluster.bundle is None and key in sighting.clusters
        }

    # --- apply -------------------------------------------------------------------------------------------------------
    async def _apply(self, sighting: Sighting, decisions: dict[str, LifecycleDecision]) -> set[str]:
        """Write statuses, then Jobs and model servers. Gives the keys whose status is written down."""
        written = set()
        for key, decision in sorted(decisions.items(), key=lambda item: not item[1].revoked):
            if not self._authority.may_act():
                break  # what was decided is another's to do
            cluster = self._clusters[key]
            with self._quarantine.boundary(key, Part.APPLY):
                try:
                    await self._world.apply_status(sighting.clusters[key], decision.status)
                    cluster.status = decision.status
                    written.add(key)
                    self._said.pop(key, None)
                    if cluster.bundle is not None:
                        await self._world.apply_workloads(cluster.bundle, decision)
                except PilotageError as error:
                    self._warn(key, f"{key} is not as decided yet: {error}")
                    self._metrics.failures.labels("apply").inc()
        for key, status in self._find_faulty(sighting).items():
            try:
                await self._world.apply_status(sighting.clusters[key], status)
                self._clusters[key].status = status
            except PilotageError as error:
                self._warn(key, f"{key}: its fault is not written down yet: {error}")
        return written

    def _adopt(self, decisions: dict[str, LifecycleDecision]) -> None:
        """What takes leave away counts whether or not it can be written down now."""
        for key, decision in decisions.items():
            cluster = self._clusters[key]
            if decision.revoked or decision.status.earned.rank < cluster.status.earned.rank:
                cluster.status = decision.status

    def _cautious(self, decisions: dict[str, LifecycleDecision]) -> dict[str, Leave]:
        """Leaves of which none allows more than what is published now."""
        cautious = {}
        for key, decision in decisions.items():
            held = self._clusters[key].leave
            written = held.stage if held is not None else self._clusters[key].status.stage
            if decision.leave.stage.rank <= written.rank:
                cautious[key] = decision.leave
            elif held is not None:
                cautious[key] = held
            else:  # the first sweep of a term: what is written down, and no more
                cautious[key] = msgspec.structs.replace(decision.leave, stage=written)
        return cautious

    def _final(self, decisions: dict[str, LifecycleDecision], written: set[str]) -> dict[str, Leave]:
        cautious = self._cautious(decisions)
        return {key: decisions[key].leave if key in written else leave for key, leave in cautious.items()}

    def _publish(self, leaves: dict[str, Leave]) -> None:
        for key, leave in leaves.items():
            self._clusters[key].leave = self._shorten(self._clusters[key].bundle, leave)
        for key in self._quarantine.faults.keys() & self._clusters.keys():
            held = self._clusters[key].leave
            self._clusters[key].leave = build_quarantined_leave(held) if held is not None else None
        clusters = self._clusters.values()
        leaves_held = [c.leave for c in clusters if c.leave is not None]
        self._authority.publish(Parts([*leaves_held, *self._strays.values()]))

    def _shorten(self, bundle: Bundle | None, leave: Leave) -> Leave:
        """`leave` that ends as its own gate says, where that is sooner than the fleet's permits do."""
        if bundle is None:
            return leave
        return msgspec.structs.replace(leave, longest_ms=int(float(bundle.gate.permit.ttl_seconds) * 1000))

    def _count(
        self, decisions: dict[str, LifecycleDecision], monitors: dict[str, MonitorFact | None], seconds: float
    ) -> None:
        self._metrics.epoch.set(self._authority.epoch)
        for key, decision in decisions.items():
            before = self._clusters[key].status
            self._metrics.set_stage(key, decision.status.stage)
            self._metrics.show_troubles(key, decision.status)
            monitor = monitors.get(key)
            if monitor is not None and decision.status.pair is not None:
                self._metrics.monitor_r.labels(key, decision.status.pair.revision).set(monitor.r)
                self._metrics.monitor_k.labels(key, decision.status.pair.revision).set(monitor.k)
            if (
                decision.status.rollback is not None
                and decision.status.rollback.latched
                and before.earned is not (decision.status.earned)
            ):
                self._metrics.breaches.labels(key, decision.status.rollback.guardrail).inc()
                self._metrics.rollback_seconds.observe(seconds)
            if decision.status.stage is not before.stage:
                log.info("%s: %s → %s (%s)", key, before.stage, decision.status.stage, _why(decision.status))


def build_pace(key: str, status: ProcessClusterStatus) -> Pace:
    """The process cluster `key` for whoever paces sessions."""
    namespace, name = key.split("/", 1)
    pipeline = status.pipeline
    phase = pipeline.phase if pipeline else Phase.DEMONSTRATIONS
    wants = phase in PHASES_FED_BY_SESSIONS and not (pipeline and pipeline.state in JOB_WANTED)
    return Pace(name, namespace, status.stage, status.held_by, phase.value, wants)


def _why(status: ProcessClusterStatus) -> str:
    return status.transitions[-1].reason if status.transitions else ""


async def sweep_for_ever(sweeper: Sweeper, seconds: float) -> None:
    """One sweep after the other, each beginning `seconds` after the last began (or at once, where it took longer)."""
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
