"""`pilotage-gateway`: the command line, and the server around the application. SIGTERM: posts in hand are finished."""

import argparse
import gc
import logging
import os
import signal
import sys
from pathlib import Path

import uvicorn

from pilotage_core.errors import InvalidInputError
from pilotage_core.wire import GATEWAY_SECRET
from pilotage_gateway.app import build_app
from pilotage_gateway.credentials import Callers, Credentials, SecretFile, StopFile, TokenReviews

GRACE_SECONDS = 10
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Written by a local controller beside its keys."""
SWITCH_SECONDS = 0.0005
"""How long the store's writer may hold the interpreter while posts wait; Python's own 5 ms would show in every p99."""

GC_THRESHOLD = (20_000, 20, 50)
"""Records and events hold no cycles: fewer looks through all live sessions, whose pauses would show in p99."""


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(prog="pilotage-gateway", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="HOST:PORT")
    database = "sqlite:////path/gateway.db (postgresql+…: bring a driver; untested)"
    parser.add_argument("--database", required=True, metavar="URL", help=database)
    parser.add_argument("--controller", default="http://127.0.0.1:8081", metavar="URL")
    parser.add_argument("--keys", type=Path, required=True, metavar="DIR", help="controllers' public keys, <kid>.pub")
    parser.add_argument("--sources", type=Path, metavar="FILE", help='JSON: [{"source", "namespaces", "secret"}]')
    parser.add_argument("--token-reviews", action="store_true", help="take Kubernetes service accounts as sources")
    stops = 'JSON: [{"name", "sha256", "resumes"}]; without it, whoever reaches this gateway stops and lets go on'
    parser.add_argument("--stops", type=Path, metavar="FILE", help=stops)
    parser.add_argument(
        "--controller-token", type=Path, metavar="FILE",
        help="this gateway's credential (default: gateway.secret in --keys, once there is one)",
    )  # fmt: skip
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def build_callers(sources: Path | None, token_reviews: bool) -> Callers | None:
    """Who may post; None where nothing says so. Raises InvalidInputError for a file that cannot be read."""
    ways: list[Credentials] = []
    if sources is not None and sources.exists():
        ways.append(SecretFile(sources))
    if token_reviews:
        account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
        server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        ways.append(TokenReviews(server, account / "token", account / "ca.crt"))
    if sources is not None and not ways:
        raise InvalidInputError("is not there", where=f"--sources {sources}")
    return Callers(*ways) if ways else None


def build_stops(path: Path | None) -> StopFile | None:
    """Who may stop; None where nothing says so. Raises InvalidInputError for a file that cannot be read."""
    return StopFile(path) if path is not None else None


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        parser.error(f"--listen {options.listen!r}: give HOST:PORT, such as 127.0.0.1:8080")
    if "://" not in options.database:
        parser.error(f"--database {options.database!r}: give a URL, such as sqlite:////var/lib/pilotage/gateway.db")
    callers = build_callers(options.sources, options.token_reviews)
    if callers is None and host.strip("[]") not in LOOPBACK:
        parser.error(
            f"--listen {options.listen!r}: beyond loopback, say who may post with --sources or --token-reviews"
        )
    token = options.controller_token or options.keys / GATEWAY_SECRET
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # uvicorn finishes the posts in hand and then raises the signal again: by then there is nothing left to do.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # what was imported lives as long as the process: the collector need not look at it again
    gc.set_threshold(*GC_THRESHOLD)
    uvicorn.run(
        build_app(options.database, options.controller, options.keys, callers, token, build_stops(options.stops)),
        host=host.strip("[]"),
        port=int(port),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
