"""`pilotage-controller`: starts the parts and sweeps once a second, on Kubernetes or as local processes."""

import argparse
import asyncio
import logging
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import aiohttp

from pilotage_core.errors import InvalidInputError, PilotageError
from pilotage_operator.apply.local import LocalWorld, write_file
from pilotage_operator.build.bundle import build_bundle
from pilotage_operator.callers import SharedSecret
from pilotage_operator.keys import load_local_key, read_local_epoch
from pilotage_operator.observe.figures import FigureSource
from pilotage_operator.observe.gateway_metrics import GatewayMetrics
from pilotage_operator.observe.labels import LabelFollower
from pilotage_operator.observe.manifests import read_manifests
from pilotage_operator.observe.prometheus import Prometheus
from pilotage_operator.permits import DEFAULT_TTL_SECONDS, Authority
from pilotage_operator.server import Metrics, build_app, start_server
from pilotage_operator.sweep import Sweeper

log = logging.getLogger("pilotage_operator")
GATEWAY = "http://pilotage-gateway.pilotage-system.svc.cluster.local:8080"
PROMETHEUS = "http://prometheus.monitoring.svc.cluster.local:9090"


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="pilotage-controller", description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--kubernetes", action="store_true", help="watch and change the cluster of KUBECONFIG or this pod"
    )
    where.add_argument(
        "--local", type=Path, metavar="DIR", help="run Jobs and model servers as processes, state in DIR"
    )
    parser.add_argument(
        "--manifests", type=Path, metavar="FOLDER", help="with --local: a kustomize folder of plain YAML"
    )
    parser.add_argument("--gateway", default="", help="the gateway's address")
    parser.add_argument("--prometheus", default="", help="Prometheus' address; locally the gateway's metrics do")
    parser.add_argument("--listen", default="127.0.0.1:8081", help="address and port for permits and metrics")
    parser.add_argument("--sweep-seconds", type=float, default=1.0, help="time from one sweep to the next")
    parser.add_argument(
        "--permit-ttl-seconds", type=float, default=DEFAULT_TTL_SECONDS, help="a gate can only shorten it for its own"
    )
    parser.add_argument(
        "--scrape-seconds", type=float, default=0.0, help="how often Prometheus scrapes gateways (0: find it out)"
    )
    parser.add_argument("--keep-processes", action="store_true", help="with --local: leave what was started running")
    options = parser.parse_args(arguments)
    if options.local and options.manifests is None:
        parser.error("--local needs --manifests FOLDER")
    return options


async def sweep_for_ever(sweeper: Sweeper, seconds: float) -> None:
    """One sweep after the other, each beginning `seconds` after the last began (or at once, where it took longer)."""
    while True:
        began = time.monotonic()
        try:
            await sweeper.sweep()
        except MemoryError:
            raise
        except Exception:
            log.exception("a sweep was cut short: no permit is renewed by it")
            sweeper.count_failure()
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))


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
        sweeper = Sweeper(world, figures, LabelFollower(gateway, client), authority, metrics)
        host, port = options.listen.rsplit(":", 1)
        runner = await start_server(build_app(authority, metrics, sweeper.list_paces, callers), host, int(port))
        try:
            await _until_stopped(sweep_for_ever(sweeper, options.sweep_seconds))
        finally:
            await runner.cleanup()
            if not options.keep_processes:
                world.stop()


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until SIGTERM or SIGINT; what it raises before is raised here."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        waiter.cancel()
        task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def main() -> None:
    """Entry point of `pilotage-controller`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = parse_arguments(sys.argv[1:])
    try:
        if options.local:
            asyncio.run(run_local(options))
        else:
            from pilotage_operator.handlers.run import run_kubernetes

            run_kubernetes(options)
    except PilotageError as error:
        sys.exit(f"pilotage-controller: {error}")


if __name__ == "__main__":
    main()
