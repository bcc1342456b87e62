"""The controller's HTTP face on port 8081: permits for gateways, process clusters for pace, metrics, probes.

Not here: what a permit rests on (permits.py), what the numbers mean (sweep.py fills them in).
"""

import logging
from collections.abc import Callable, Iterable

import msgspec
from aiohttp import web
from prometheus_client import generate_latest

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.problem import describe_problem
from pilotage_core.wire import Pace, PermitRequest
from pilotage_operator.callers import Callers
from pilotage_operator.metrics import Metrics
from pilotage_operator.permits import Authority

log = logging.getLogger(__name__)
LARGEST_BODY = 16_384
DECODE_REQUEST = msgspec.json.Decoder(PermitRequest).decode


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
        names = request.query.getall("name[]", [])
        registry = metrics.registry.restricted_registry(names) if names else metrics.registry
        return web.Response(body=generate_latest(registry), content_type="text/plain", charset="utf-8")

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
    problem = describe_problem(error, status, what, where, remedy, retry_after_seconds)
    headers = {"Retry-After": f"{retry_after_seconds:.0f}"} if retry_after_seconds else None
    return web.Response(
        status=status, body=msgspec.json.encode(problem), content_type="application/problem+json", headers=headers
    )
