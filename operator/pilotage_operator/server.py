"""The controller's HTTP face on port 8081: permits for gateways, process clusters for pace, metrics, probes.

Not here: what a permit rests on (permits.py), what the numbers mean (sweep.py fills them in).
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.stage import Stage
from pilotage_core.wire import Pace, PermitRequest, Problem
from pilotage_operator.api.pipeline import PhaseState
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.callers import Callers
from pilotage_operator.permits import Authority

log = logging.getLogger(__name__)
LARGEST_BODY = 16_384
DECODE_REQUEST = msgspec.json.Decoder(PermitRequest).decode


class OneOf:
    """A gauge with at most one series for each process cluster: what is the matter with it now."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown: dict[str, str] = {}

    def show(self, process_cluster: str, value: str) -> None:
        """`value` from now on; empty: nothing."""
        before = self._shown.pop(process_cluster, "")
        if before and before != value:
            self._gauge.remove(process_cluster, before)
        if value:
            self._gauge.labels(process_cluster, value).set(1)
            self._shown[process_cluster] = value

    def clear(self) -> None:
        """Nothing of any."""
        self._gauge.clear()
        self._shown.clear()


class Metrics:
    """What the controller says of itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        labels = ("process_cluster",)
        self.stage = self._gauge("pilotage_stage", "1 for the current stage", (*labels, "stage"))
        self.monitor_r = self._gauge("pilotage_monitor_r", "Shiryaev-Roberts R of the current pair", (*labels, "pair"))
        self.monitor_k = self._gauge("pilotage_monitor_k", "Capital for a looser threshold", (*labels, "pair"))
        self.leading = Gauge("pilotage_controller_leading", "1 while this replica leads", registry=self.registry)
        self.epoch = Gauge("pilotage_controller_epoch", "Epoch permits are signed in", registry=self.registry)
        self.breaches = Counter("pilotage_breaches", "Rollbacks", (*labels, "guardrail"), registry=self.registry)
        self.sweep_seconds = self._histogram("pilotage_sweep_seconds", "One sweep: observe, decide, apply")
        self.rollback_seconds = self._histogram(
            "pilotage_rollback_seconds", "From the answer that showed a breach to the revoked snapshot"
        )
        self.latched = OneOf(self._gauge("pilotage_latched", "1 while a rollback is latched", (*labels, "guardrail")))
        self.held = OneOf(self._gauge("pilotage_held", "1 while held below what it has earned", (*labels, "cap")))
        self.stalled = OneOf(self._gauge("pilotage_stalled", "1 while no Job goes on by itself", (*labels, "phase")))
        self.last_sweep = Gauge(
            "pilotage_last_sweep_timestamp_seconds", "When the last whole sweep ended", registry=self.registry
        )
        self.quarantined = self._gauge("pilotage_quarantined", "1 while something of it fails", labels)
        self.quarantines = Counter(
            "pilotage_quarantines", "Process clusters set apart", ("part",), registry=self.registry
        )
        self.refusals = Counter("pilotage_permit_refusals", "Requests of no gateway's", registry=self.registry)
        self.failures = Counter("pilotage_sweep_failures", "Sweeps cut short", ("part",), registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(
            name, text, buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5), registry=self.registry
        )

    def end_term(self) -> None:
        """Say nothing more of process clusters: another replica does."""
        self.leading.set(0)
        for gauge in (self.stage, self.monitor_r, self.monitor_k, self.quarantined):
            gauge.clear()
        for one in (self.latched, self.held, self.stalled):
            one.clear()

    def forget(self, process_cluster: str) -> None:
        """Show nothing more of a process cluster that is gone."""
        with suppress(KeyError):
            self.quarantined.remove(process_cluster)
        for stage in Stage:
            with suppress(KeyError):
                self.stage.remove(process_cluster, stage.value)
        for one in (self.latched, self.held, self.stalled):
            one.show(process_cluster, "")

    def show_troubles(self, process_cluster: str, status: ProcessClusterStatus) -> None:
        """What is the matter with it: a latched rollback, a cap, a Job that nobody but a person can mend."""
        rollback, pipeline = status.rollback, status.pipeline
        self.latched.show(process_cluster, rollback.guardrail if rollback is not None and rollback.latched else "")
        self.held.show(process_cluster, status.held_by)
        stalled = pipeline is not None and pipeline.state is PhaseState.STALLED
        self.stalled.show(process_cluster, pipeline.phase.value if stalled and pipeline is not None else "")

    def set_stage(self, process_cluster: str, stage: Stage) -> None:
        """Show `stage` as the current one."""
        for each in Stage:
            self.stage.labels(process_cluster, each.value).set(each is stage)


def build_app(
    authority: Authority,
    metrics: Metrics,
    list_paces: Callable[[], Iterable[Pace]],
    callers: Callers,
    is_synced: Callable[[], bool] = lambda: False,
) -> web.Application:
    """The application; `list_paces` gives the process clusters as they are now, `callers` tell who is a gateway.

    Ready is who signs permits, and a standby that `is_synced`: one that has seen all a leader has to know.
    """

    async def permits(request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer" or not await callers.is_gateway(token.strip()):
                metrics.refusals.inc()
                return _problem(401, "unauthorized", "permits are for gateways", where="Authorization")
            body = await request.read()
            asked = DECODE_REQUEST(body)
            return _json(await authority.answer(asked))
        except (msgspec.MsgspecError, RecursionError) as error:
            return _problem(400, "malformed", str(error), where="body")
        except InvalidInputError as error:
            return _problem(422, "invalid", error.what, where=error.where)
        except UnavailableError as error:
            return _problem(503, "unavailable", error.what, remedy=error.remedy, retry_after_seconds=1.0)

    async def process_clusters(request: web.Request) -> web.Response:
        return _json(list(list_paces()))

    async def show_metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), content_type="text/plain", charset="utf-8")

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(request: web.Request) -> web.Response:
        status, text = find_readiness(authority, is_synced())
        return web.Response(status=status, text=text)

    app = web.Application(client_max_size=LARGEST_BODY)
    app.router.add_post("/v1/permits", permits)
    app.router.add_get("/v1/process-clusters", process_clusters)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def find_readiness(authority: Authority, is_synced: bool) -> tuple[int, str]:
    """What a probe is told: of a leader whether it signs, of a standby whether it could lead."""
    if authority.validity_ms() > 0:
        return 200, "ok, leading"
    if authority.leads:
        return 503, "leads, and sees nothing"
    return (200, "ok, standby") if is_synced else (503, "no full sweep yet")


async def start_server(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listen on `host:port` until the runner is cleaned up."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    log.info("listening on http://%s:%d", host, port)
    return runner


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _problem(
    status: int, error: str, what: str, where: str = "", remedy: str = "", retry_after_seconds: float | None = None
) -> web.Response:
    problem = Problem(error, what, where, remedy, retry_after_seconds)
    headers = {"Retry-After": f"{retry_after_seconds:.0f}"} if retry_after_seconds else None
    return web.Response(
        status=status, body=msgspec.json.encode(problem), content_type="application/problem+json", headers=headers
    )
