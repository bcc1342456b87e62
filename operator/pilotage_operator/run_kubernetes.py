"""The controller's life on Kubernetes: kopf watches what people write, our own tasks watch, lead, sweep and answer.

Every replica watches and answers; the one that holds the Lease decides, writes and signs.
"""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import aiohttp
import kopf

from pilotage_core.errors import InvalidInputError, PilotageError
from pilotage_core.wire import Pace
from pilotage_operator.api.status import read_status
from pilotage_operator.apply.kubernetes import RELIST_SECONDS, KubernetesWorld
from pilotage_operator.apply.lease import KubernetesLease
from pilotage_operator.callers import ServiceAccounts
from pilotage_operator.kubernetes_api import KubernetesApi, find_credentials
from pilotage_operator.leading import end_tasks, lead_for_ever
from pilotage_operator.lease import LOOK_SECONDS, Lease
from pilotage_operator.observe.custom_resources import configure, register_handlers
from pilotage_operator.observe.labels import LabelFollower
from pilotage_operator.observe.prometheus import Prometheus
from pilotage_operator.permits import Authority
from pilotage_operator.server import Metrics, build_app, start_server
from pilotage_operator.sweep import Sweeper, build_pace, sweep_for_ever

log = logging.getLogger(__name__)
NAMESPACE = "pilotage-system"
GATEWAY = "http://pilotage-gateway.pilotage-system.svc.cluster.local:8080"
START = secrets.token_hex(4)
KOPF_STOPS_SECONDS = 2.0
PROMETHEUS = "http://prometheus.monitoring.svc.cluster.local:9090"


def run_kubernetes(options: argparse.Namespace) -> None:
    """Run until SIGTERM. Raises PilotageError for what cannot be started."""
    asyncio.run(_run(options, os.environ.get("POD_NAMESPACE", NAMESPACE)))


async def find_image(api: KubernetesApi, namespace: str) -> str:
    """What Jobs and model servers run: PILOTAGE_IMAGE, else this pod's own image. Raises InvalidInputError."""
    pod = os.environ.get("POD_NAME", "")
    if image := os.environ.get("PILOTAGE_IMAGE", ""):
        return image
    found = await api.get(f"/api/v1/namespaces/{namespace}/pods/{pod}") if pod else None
    if found is None:
        raise InvalidInputError("which image do Jobs and model servers run?", where="PILOTAGE_IMAGE", remedy="set it")
    return str(found["spec"]["containers"][0]["image"])


async def _run(options: argparse.Namespace, namespace: str) -> None:
    gateway = options.gateway or GATEWAY
    # A connection for each watch stays open all the time; requests must not wait for them.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        api = KubernetesApi(find_credentials(), client)
        world = KubernetesWorld(api, namespace, await find_image(api, namespace), gateway)
        lease = Lease(name_replica(), KubernetesLease(api, namespace))
        authority = Authority(
            await world.load_domain(), 0, await world.load_key(), world.remember_epoch,
            ttl_seconds=options.permit_ttl_seconds, lease_left=lease.left_seconds,
        )  # fmt: skip
        callers = ServiceAccounts(api, namespace)
        metrics = Metrics()
        figures = Prometheus(options.prometheus or PROMETHEUS, client, options.scrape_seconds)
        labels = partial(LabelFollower, gateway, client)
        leader = Leader(world, figures, labels, authority, metrics, options.sweep_seconds)
        host, port = options.listen.rsplit(":", 1)
        app = build_app(authority, metrics, leader.list_paces, callers, world.is_synced)
        runner = await start_server(app, host, int(port))
        log.info("%s, key of domain %s", name_replica(), authority.domain)
        try:
            leading = lead_for_ever(lease, leader.lead, world.is_synced, authority.is_at_work)
            await _run_all(world, leading, leader.stand_by())
        finally:
            await runner.cleanup()


def name_replica() -> str:
    """Who this is among several: a pod's name is one start's, a host name may be another's too."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{START}"


class Leader:
    """What this process does in each of its terms, and what it tells whoever asks it in between."""

    def __init__(
        self,
        world: KubernetesWorld,
        figures: Prometheus,
        labels: Callable[[], LabelFollower],
        authority: Authority,
        metrics: Metrics,
        sweep_seconds: float,
    ) -> None:
        self._world = world
        self._figures = figures
        self._labels = labels
        self._authority = authority
        self._metrics = metrics
        self._sweep_seconds = sweep_seconds
        self._sweeper: Sweeper | None = None

    async def lead(self, is_first: bool) -> None:
        """One term, begun with an epoch of its own and nothing remembered of an earlier one. Raises PilotageError."""
        self._world.begin_term()
        self._authority.begin_term(await self._world.raise_epoch(), waits=is_first)
        log.info("epoch %d", self._authority.epoch)
        self._sweeper = Sweeper(self._world, self._figures, self._labels(), self._authority, self._metrics)
        self._metrics.leading.set(1)
        try:
            await sweep_for_ever(self._sweeper, self._sweep_seconds)
        finally:
            self._authority.end_term()
            self._metrics.end_term()
            self._sweeper = None

    async def stand_by(self) -> None:
        """While another one leads, have everything that a leader has to know. For ever."""
        while True:
            if self._sweeper is None:
                try:
                    await self._world.relist()
                except PilotageError as error:
                    log.warning("a standby cannot list everything yet: %s", error)
            await asyncio.sleep(RELIST_SECONDS if self._world.is_synced() else LOOK_SECONDS)

    def list_paces(self) -> list[Pace]:
        """Process clusters: as decided last, or, of a standby, as written down."""
        if self._sweeper is not None:
            return self._sweeper.list_paces()
        found = sorted(self._world.stores["ProcessCluster"].items.items())
        return [build_pace("/".join(key), read_status(item.get("status") or {})) for key, item in found]


async def _run_all(world: KubernetesWorld, *own: Coroutine[Any, Any, None]) -> None:
    """Until SIGTERM, or until the first of them ends by an error that is no one's to handle.

    Our own work ends first: kopf, told to stop, cancels whatever else runs in its loop, and takes its time over it.
    """
    registry = kopf.OperatorRegistry()
    register_handlers(registry, world.stores)
    settings = kopf.OperatorSettings()
    configure(settings)
    kopf_ready, kopf_stop = asyncio.Event(), asyncio.Event()
    # An identity of its own: kopf would ask for the name of the user, and a container's may have none.
    follow = kopf.operator(
        registry=registry, settings=settings, clusterwide=True, standalone=True, identity="pilotage-controller",
        ready_flag=kopf_ready, stop_flag=kopf_stop,
    )  # fmt: skip
    work = [*(watch.run() for watch in world.watches), *own, _end_at_a_signal(kopf_ready)]
    tasks = [asyncio.ensure_future(each) for each in work]
    following = asyncio.ensure_future(follow)
    try:
        done, _ = await asyncio.wait([*tasks, following], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end_tasks(tasks)
        kopf_stop.set()
        await asyncio.wait([following], timeout=KOPF_STOPS_SECONDS)
        await end_tasks([following])


async def _end_at_a_signal(kopf_ready: asyncio.Event) -> None:
    """Wait for SIGTERM or SIGINT. kopf has taken the signals for itself by the time it is ready."""
    stopped = asyncio.Event()
    await kopf_ready.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
