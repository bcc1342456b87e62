"""`pilotage-controller`: starts the parts and sweeps once a second, on Kubernetes or as local processes."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from pilotage_core.errors import PilotageError
from pilotage_operator.permits import DEFAULT_TTL_SECONDS

log = logging.getLogger("pilotage_operator")


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
    parser.add_argument("--gateway-token", type=Path, metavar="FILE", help="what says who reads there")
    parser.add_argument("--prometheus", default="", help="Prometheus' address; locally the gateway's metrics do")
    parser.add_argument("--listen", default="127.0.0.1:8081", help="address and port for permits and metrics")
    parser.add_argument("--sweep-seconds", type=float, default=1.0, help="time from one sweep to the next")
    parser.add_argument(
        "--permit-ttl-seconds", type=float, default=DEFAULT_TTL_SECONDS, help="a gate can only shorten it for its own"
    )
    parser.add_argument(
        "--scrape-seconds", type=float, default=0.0, help="how often Prometheus scrapes gateways (0: find it out)"
    )
    parser.add_argument(
        "--namespaces",
        type=lambda text: tuple(name for name in text.split(",") if name),
        default=(),
        help="with --kubernetes: process clusters of these alone (a,b); none: of all namespaces",
    )
    parser.add_argument("--keep-processes", action="store_true", help="with --local: leave what was started running")
    options = parser.parse_args(arguments)
    if options.local and options.manifests is None:
        parser.error("--local needs --manifests FOLDER")
    return options


def main() -> None:
    """Entry point of `pilotage-controller`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    options = parse_arguments(sys.argv[1:])
    try:
        if options.local:
            from pilotage_operator.run_local import run_local

            asyncio.run(run_local(options))
        else:
            from pilotage_operator.run_kubernetes import run_kubernetes

            run_kubernetes(options)
    except PilotageError as error:
        sys.exit(f"pilotage-controller: {error}")


if __name__ == "__main__":
    main()
