"""The controller's life as a local process: manifests from files, Jobs and model servers as processes."""

import argparse
from pathlib import Path

import aiohttp

from pilotage_core.errors import InvalidInputError
from pilotage_operator.apply.local import LocalWorld
from pilotage_operator.callers import SharedSecret
from pilotage_operator.files import write_file
from pilotage_operator.keys import load_local_key, read_local_epoch
from pilotage_operator.leading import run_until_stopped
from pilotage_operator.metrics import Metrics
from pilotage_operator.observe.bundle import build_bundle
from pilotage_operator.observe.figures import FigureSource
from pilotage_operator.observe.gateway_metrics import GatewayMetrics
from pilotage_operator.observe.labels import LabelFollower
from pilotage_operator.observe.manifests import read_manifests
from pilotage_operator.observe.prometheus import Prometheus
from pilotage_operator.permits import Authority
from pilotage_operator.server import build_app, start_server
from pilotage_operator.sweep import Sweeper, sweep_for_ever


def check_manifests(folder: Path) -> None:
    """Raises InvalidInputError for what the API server would have refused, with file or field."""
    objects = read_manifests(folder)
    clusters = [item for (kind, _, _), item in objects.items() if kind == "ProcessCluster"]
    if not clusters:
        raise InvalidInputError(
            "holds no ProcessCluster", where=str(folder), remedy="give a folder such as examples/star"
        )
    for cluster in clusters:
        bundle = build_bundle(cluster, objects, LocalWorld.serving_image)
        if bundle.newer_fields:
            raise InvalidInputError("is no field of any resource here", where=f"{bundle.key}: {bundle.newer_fields[0]}")


async def run_local(options: argparse.Namespace) -> None:
    """Everything as local processes, until SIGTERM or SIGINT."""
    folder: Path = options.local
    check_manifests(options.manifests)
    gateway = options.gateway or "http://127.0.0.1:8080"
    key = load_local_key(folder / "keys")

    async def remember_epoch(epoch: int) -> None:
        write_file(folder / "epoch", str(epoch).encode())

    epoch = read_local_epoch(folder / "epoch") + 1
    await remember_epoch(epoch)
    async with aiohttp.ClientSession() as client:
        world = LocalWorld(folder, options.manifests, gateway, client)
        figures: FigureSource = (
            Prometheus(options.prometheus, client, options.scrape_seconds)
            if options.prometheus
            else GatewayMetrics(gateway, client)
        )
        authority = Authority(f"local/{key.kid}", epoch, key, remember_epoch, ttl_seconds=options.permit_ttl_seconds)
        callers = SharedSecret.load(folder / "keys")
        metrics = Metrics()
        sweeper = Sweeper(
            world, figures, LabelFollower(gateway, client, token=options.gateway_token), authority, metrics
        )
        host, port = options.listen.rsplit(":", 1)
        runner = await start_server(build_app(authority, metrics, sweeper.list_paces, callers), host, int(port))
        try:
            await run_until_stopped(sweep_for_ever(sweeper, options.sweep_seconds))
        finally:
            await runner.cleanup()
            if not options.keep_processes:
                world.stop()
