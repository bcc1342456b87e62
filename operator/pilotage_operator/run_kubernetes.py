"""The controller's life on Kubernetes: kopf watches what people write, our own tasks watch, sweep and answer."""

import argparse
import asyncio
import logging
import os
from typing import Any

import aiohttp
import kopf

from pilotage_core.errors import InvalidInputError
from pilotage_operator.apply.kubernetes import KubernetesWorld
from pilotage_operator.callers import ServiceAccounts
from pilotage_operator.kubernetes_api import KubernetesApi, find_credentials
from pilotage_operator.observe.custom_resources import configure, register_handlers
from pilotage_operator.observe.labels import LabelFollower
from pilotage_operator.observe.prometheus import Prometheus
from pilotage_operator.permits import Authority
from pilotage_operator.server import Metrics, build_app, start_server
from pilotage_operator.sweep import Sweeper, sweep_for_ever

log = logging.getLogger(__name__)
NAMESPACE = "pilotage-system"
GATEWAY = "http://pilotage-gateway.pilotage-system.svc.cluster.local:8080"
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
        authority = Authority(
            await world.load_domain(), await world.raise_epoch(), await world.load_key(), world.remember_epoch,
            ttl_seconds=options.permit_ttl_seconds,
        )  # fmt: skip
        callers = ServiceAccounts(api, namespace)
        metrics = Metrics()
        figures = Prometheus(options.prometheus or PROMETHEUS, client, options.scrape_seconds)
        sweeper = Sweeper(world, figures, LabelFollower(gateway, client), authority, metrics)
        host, port = options.listen.rsplit(":", 1)
        runner = await start_server(build_app(authority, metrics, sweeper.list_paces, callers), host, int(port))
        log.info("epoch %d, key of domain %s", authority.epoch, authority.domain)
        try:
            await _run_all(world, sweeper, options.sweep_seconds)
        finally:
            await runner.cleanup()


async def _run_all(world: KubernetesWorld, sweeper: Sweeper, seconds: float) -> None:
    """Until the first of them ends: kopf at SIGTERM, any of the others by an error that is no one's to handle."""
    registry = kopf.OperatorRegistry()
    register_handlers(registry, world.stores)
    settings = kopf.OperatorSettings()
    configure(settings)
    work: list[Any] = [watch.run() for watch in world.watches]
    work += [sweep_for_ever(sweeper, seconds)]
    # An identity of its own: kopf would ask for the name of the user, and a container's may have none.
    follow = kopf.operator(
        registry=registry, settings=settings, clusterwide=True, standalone=True, identity="pilotage-controller"
    )
    work += [follow]
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
