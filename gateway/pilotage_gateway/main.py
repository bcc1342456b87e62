"""`pilotage-gateway`: the command line, and the server around the application. SIGTERM: posts in hand are finished."""

import argparse
import gc
import logging
import os
import signal
import sys
from functools import partial
from pathlib import Path

import uvicorn

from pilotage_core.errors import InvalidInputError
from pilotage_core.wire import EXPORT_AUDIENCE, GATEWAY_AUDIENCE, GATEWAY_SECRET
from pilotage_gateway.app import build_app, end_streams
from pilotage_gateway.callers import AccessFile, Callers, ServiceAccounts
from pilotage_gateway.credentials import SecretFile, StopFile
from pilotage_gateway.ledger import find_head
from pilotage_gateway.listening import Bounded, find_room
from pilotage_gateway.tokens import Tokens, build_kubernetes_issuer

GRACE_SECONDS = 10
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
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
    database = "sqlite:////path/gateway.db, or postgresql://user@host/name"
    parser.add_argument("--database", required=True, metavar="URL", help=database)
    parser.add_argument("--controller", default="http://127.0.0.1:8081", metavar="URL")
    parser.add_argument("--keys", type=Path, required=True, metavar="DIR", help="controllers' public keys, <kid>.pub")
    parser.add_argument("--sources", type=Path, metavar="FILE", help='JSON: [{"source", "namespaces", "secret"}]')
    parser.add_argument("--service-accounts", action="store_true", help="take tokens of Kubernetes service accounts")
    access = "JSON: issuers of tokens, who has which role, programs with a secret (docs/security.md)"
    parser.add_argument("--access", type=Path, metavar="FILE", help=access)
    stops = 'JSON: [{"name", "sha256", "resumes"}]; without it, whoever reaches this gateway stops and lets go on'
    parser.add_argument("--stops", type=Path, metavar="FILE", help=stops)
    parser.add_argument(
        "--controller-token", type=Path, metavar="FILE",
        help="this gateway's credential (default: gateway.secret in --keys, once there is one)",
    )  # fmt: skip
    advertise = "where other gateways over the same PostgreSQL reach this one (default: http:// and --listen)"
    parser.add_argument("--advertise", default="", metavar="URL", help=advertise)
    chain_head = "where the head of the chain of decisions is kept (default: beside SQLite's file)"
    parser.add_argument("--chain-head", type=Path, metavar="FILE", help=chain_head)
    waiting = (
        "sessions of one process cluster that may wait for people; beyond, nothing is proposed in those that begin"
    )
    parser.add_argument("--most-waiting", type=int, default=0, metavar="N", help=f"{waiting} (default: any number)")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def build_callers(sources: Path | None, service_accounts: bool, access: Path | None = None) -> Callers | None:
    """Who may do what; None where nothing says so. Raises InvalidInputError for a file that cannot be read.

    Beside service accounts both files may come later, as Secrets do: until then they let nobody in.
    """
    ways: list[SecretFile | ServiceAccounts | AccessFile] = []
    missing = next((path for path in (sources, access) if path is not None and not path.exists()), None)
    if missing is not None and not service_accounts:
        raise InvalidInputError("is not there", where=str(missing))
    if sources is not None:
        ways.append(SecretFile(sources))
    if service_accounts:
        server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        issuer = build_kubernetes_issuer(server, ACCOUNT, (GATEWAY_AUDIENCE, EXPORT_AUDIENCE))
        ways.append(ServiceAccounts(Tokens((issuer,)), (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()))
    if access is not None:
        ways.append(AccessFile(access))
    return Callers(*ways) if ways else None


def build_stops(path: Path | None) -> StopFile | None:
    """Who may stop; None where nothing says so. Raises InvalidInputError for a file that cannot be read."""
    return StopFile(path) if path is not None else None


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[str, int]:
    """Host and port to listen at. Ends the process, with what is wrong, where an option cannot be meant."""
    host, _, port = options.listen.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        parser.error(f"--listen {options.listen!r}: give HOST:PORT, such as 127.0.0.1:8080")
    if options.most_waiting < 0:
        parser.error(f"--most-waiting {options.most_waiting}: give a number of sessions, 0 for any")
    if "://" not in options.database:
        parser.error(f"--database {options.database!r}: give a URL, such as sqlite:////var/lib/pilotage/gateway.db")
    return host, int(port)


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    host, port = check_options(parser, options)
    callers = build_callers(options.sources, options.service_accounts, options.access)
    if callers is None and host.strip("[]") not in LOOPBACK:
        parser.error(
            f"--listen {options.listen!r}: beyond loopback, say who may what: --sources, --service-accounts, --access"
        )
    token = options.controller_token or options.keys / GATEWAY_SECRET
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # uvicorn finishes the posts in hand and then raises the signal again: by then there is nothing left to do.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.setswitchinterval(SWITCH_SECONDS)
    Bounded.room = find_room()
    gc.freeze()  # what was imported lives as long as the process: the collector need not look at it again
    gc.set_threshold(*GC_THRESHOLD)
    stops, address = build_stops(options.stops), options.advertise or f"http://{options.listen}"
    head = options.chain_head or find_head(options.database)
    app = build_app(
        options.database, options.controller, options.keys, callers, token, stops, address, head, options.most_waiting
    )
    Bounded.on_shutdown = partial(end_streams, app)
    uvicorn.run(
        app,
        host=host.strip("[]"),
        port=port,
        loop="uvloop",
        http=Bounded,
        ws="none",
        access_log=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


if __name__ == "__main__":
    main()
