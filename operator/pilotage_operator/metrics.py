"""What the controller says of itself and of each process cluster. The numbers are filled in by who has them."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pilotage_core.stage import Stage
from pilotage_operator.api.pipeline import PhaseState
from pilotage_operator.api.status import ProcessClusterStatus


class Table(Collector):
    """A gauge with at most one series for each process cluster: (value of the second label, if there is one; value).

    Ten thousand process clusters in as many objects of the client library are 60 MB.
    """

    def __init__(self, registry: CollectorRegistry, name: str, text: str, label: str = "") -> None:
        self._name, self._text = name, text
        self._labels = ("process_cluster", label) if label else ("process_cluster",)
        self._rows: dict[str, tuple[str, float]] = {}
        registry.register(self)

    def show(self, process_cluster: str, of: str, value: float = 1.0) -> None:
        """`value` from now on, with `of` for the second label."""
        self._rows[process_cluster] = (of, value)

    def hide(self, process_cluster: str) -> None:
        """Nothing of it any more."""
        self._rows.pop(process_cluster, None)

    def clear(self) -> None:
        """Nothing of any."""
        self._rows.clear()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """What it is called."""
        yield GaugeMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What a scrape is given."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for key, (of, value) in self._rows.items():
            family.add_metric((key, of) if len(self._labels) > 1 else (key,), value)
        yield family


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.stage = Table(registry, "pilotage_stage", "1 for the current stage", "stage")
        self.monitor_r = Table(registry, "pilotage_monitor_r", "Shiryaev-Roberts R of the current pair", "pair")
        self.monitor_k = Table(registry, "pilotage_monitor_k", "Capital for a looser threshold", "pair")
        self.latched = Table(registry, "pilotage_latched", "1 while a rollback is latched", "guardrail")
        self.held = Table(registry, "pilotage_held", "1 while held below what it has earned", "cap")
        self.stalled = Table(registry, "pilotage_stalled", "1 while no Job goes on by itself", "phase")
        self.quarantined = Table(registry, "pilotage_quarantined", "1 while something of it fails")
        self._tables = (
            self.stage, self.monitor_r, self.monitor_k, self.latched, self.held, self.stalled, self.quarantined
        )  # fmt: skip
        self.leading = Gauge("pilotage_controller_leading", "1 while this replica leads", registry=registry)
        self.epoch = Gauge("pilotage_controller_epoch", "Epoch permits are signed in", registry=registry)
        self.breaches = Counter("pilotage_breaches", "Rollbacks", ("process_cluster", "guardrail"), registry=registry)
        self.sweep_seconds = self._histogram("pilotage_sweep_seconds", "One sweep: observe, decide, apply")
        self.rollback_seconds = self._histogram(
            "pilotage_rollback_seconds", "From the answer that showed a breach to the revoked snapshot"
        )
        self.last_sweep = Gauge(
            "pilotage_last_sweep_timestamp_seconds", "When the last whole sweep ended", registry=registry
        )
        self.decisions = Counter("pilotage_decisions", "Process clusters decided", registry=registry)
        self.quarantines = Counter("pilotage_quarantines", "Process clusters set apart", ("part",), registry=registry)
        self.refusals = Counter("pilotage_permit_refusals", "Requests of no gateway's", registry=registry)
        self.failures = Counter("pilotage_sweep_failures", "Sweeps cut short", ("part",), registry=registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(
            name, text, buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5), registry=self.registry
        )

    def end_term(self) -> None:
        """Say nothing more of process clusters: another replica does."""
        self.leading.set(0)
        for table in self._tables:
            table.clear()

    def forget(self, process_cluster: str) -> None:
        """Show nothing more of a process cluster that is gone."""
        for table in self._tables:
            table.hide(process_cluster)

    def set_stage(self, process_cluster: str, stage: Stage) -> None:
        """Show `stage` as the current one."""
        self.stage.show(process_cluster, stage.value)

    def show_monitor(self, process_cluster: str, pair: str, r: float, k: float) -> None:
        """What labels say of the current pair."""
        self.monitor_r.show(process_cluster, pair, r)
        self.monitor_k.show(process_cluster, pair, k)

    def show_troubles(self, process_cluster: str, status: ProcessClusterStatus) -> None:
        """What is the matter with it: a latched rollback, a cap, a Job that nobody but a person can mend."""
        rollback, pipeline = status.rollback, status.pipeline
        stalled = pipeline is not None and pipeline.state is PhaseState.STALLED
        told = (
            (self.latched, rollback.guardrail if rollback is not None and rollback.latched else ""),
            (self.held, status.held_by),
            (self.stalled, pipeline.phase.value if stalled and pipeline is not None else ""),
        )
        for table, what in told:
            if what:
                table.show(process_cluster, what)
            else:
                table.hide(process_cluster)
