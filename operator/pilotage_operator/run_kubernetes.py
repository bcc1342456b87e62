"""The controller's life on Kubernetes: it watches, leads, sweeps and answers.

Every replica watches and answers; the one that holds the Lease decides, writes and signs.
"""

import argparse
import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable
from functools import partial

import aiohttp

from pilotage_core.errors import InvalidInputError
from pilotage_core.wire import Pace
from pilotage_operator.api.status import read_status
from pilotage_operator.apply.kubernetes import KubernetesWorld
from pilotage_operator.apply.lease import KubernetesLease
from pilotage_operator.callers import ServiceAccounts
from pilotage_operator.kubernetes_api import KubernetesApi, find_credentials
from pilotage_operator.leading import lead_for_ever, run_until_stopped
from pilotage_operator.lease import Lease
from pilotage_operator.metrics import Metrics
from pilotage_operator.observe.labels import LabelFollower
from pilotage_operator.observe.prometheus import Prometheus
from pilotage_operator.permits import Authority
from pilotage_operator.server import build_app, start_server
from pilotage_operator.sweep import Sweeper, build_pace, sweep_for_ever

log = logging.getLogger(__name__)
NAMESPACE = "pilotage-system"
GATEWAY = "http://pilotage-gateway.pilotage-system.svc.cluster.local:8080"
STAND_BY_SECONDS = 15.0
START = secrets.token_hex(4)
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
        world = KubernetesWorld(api, namespace, await find_image(api, namespace), gateway, options.namespaces)
        lease = Lease(name_replica(), KubernetesLease(api, namespace))
        authority = Authority(
            await world.load_domain(), 0, await world.load_key(), world.remember_epoch,
            ttl_seconds=options.permit_ttl_seconds, lease_left=lease.left_seconds,
        )  # fmt: skip
        callers = ServiceAccounts(api, namespace)

        def is_synced() -> bool:
            return world.fleet.is_synced

        metrics = Metrics()
        figures = Prometheus(options.prometheus or PROMETHEUS, client, options.scrape_seconds)
        labels = partial(LabelFollower, gateway, client, token=options.gateway_token)
        leader = Leader(world, figures, labels, authority, metrics, options.sweep_seconds)
        host, port = options.listen.rsplit(":", 1)
        app = build_app(authority, metrics, leader.list_paces, callers, is_synced)
        runner = await start_server(app, host, int(port))
        log.info("%s, key of domain %s", name_replica(), authority.domain)
        try:
            leading = lead_for_ever(lease, leader.lead, is_synced, authority.is_at_work)
            await run_until_stopped(*(watch.run() for watch in world.fleet.watches), leading, leader.stand_by())
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
        """While another one leads, let nothing pile up of what watches tell. For ever."""
        while True:
            await asyncio.sleep(STAND_BY_SECONDS)
            if self._sweeper is None:
                self._world.fleet.spread()

    def list_paces(self) -> list[Pace]:
        """Process clusters: as decided last, or, of a standby, as written down."""
        if self._sweeper is not None:
            return self._sweeper.list_paces()
        found = sorted(self._world.fleet.clusters.items())
        return [build_pace(key, read_status(item.get("status") or {})) for key, item in found]
