"""The HTTP surface, whole: each path, who answers it, and what that takes. What reads records is in reading.py.

An endpoint finds out who asks before it reads a body, and what they may before it tells anything.
"""

from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Connection, text
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilotage_core.errors import InvalidInputError
from pilotage_core.lists import AnswerPage, CardPage, SessionPage
from pilotage_core.record import DecisionRecord, SessionRecord
from pilotage_core.wire import (
    CREDENTIAL_HEADER,
    GatewayStatus,
    LabelPage,
    PostEvents,
    ProcessClusterWork,
    Suspend,
    Suspended,
    Turn,
)
from pilotage_gateway import lists, reading, writes
from pilotage_gateway.access import NOBODY_ASKS, Act, ForbiddenError, namespace_of
from pilotage_gateway.asking import effective_stage
from pilotage_gateway.intake import check_session_id, decode, decode_post, read_body
from pilotage_gateway.openapi import Endpoint, describe_api
from pilotage_gateway.problems import UnknownError
from pilotage_gateway.reading import answer_json, find_caller, find_turns
from pilotage_gateway.turns import Turns
from pilotage_gateway.writes import utc_now

SUSPEND_BYTES = 8 << 10
"""It is read before anybody is known, for anybody may stop."""
NDJSON = "application/x-ndjson"
_SUSPEND: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Suspend)


async def post_events(request: Request) -> Response:
    """`POST /v1/sessions/{session_id}/events`: PostEvents → Turn."""
    session_id = check_session_id(request.path_params["session_id"])
    caller = await find_caller(request)
    if caller.source is None:
        raise ForbiddenError(
            f"{caller.name} is no source of sessions", where="Authorization", remedy="send a source's credential"
        )
    post = decode_post(await read_body(request))
    return answer_json(await find_turns(request).answer(session_id, post, caller.source))


async def post_suspend(request: Request) -> Response:
    """`POST /v1/suspend`: durable before it is answered; from then on no intent of it is written."""
    turns: Turns | None = request.app.state.turns  # one that stands by stops too
    suspend: Suspend = decode(await read_body(request, SUSPEND_BYTES), _SUSPEND)
    name = await _find_stopper(request, suspend)
    if name:
        suspend = msgspec.structs.replace(suspend, who=f"{name} ({suspend.who})")
    for field in ("process_cluster", "who", "why"):
        if not getattr(suspend, field).strip():
            raise InvalidInputError(f"{field} is empty", where=field, remedy="say which, who and why")
    if turns is not None and not suspend.suspended and not _is_known(turns, suspend.process_cluster):
        raise UnknownError(f"{suspend.process_cluster} is neither known nor suspended", where="process_cluster")
    if turns is not None and suspend.suspended:
        turns.suspended.note(suspend.process_cluster, True)
    at = utc_now()

    def job(connection: Connection) -> None:
        who, why = suspend.who, suspend.why
        writes.write_suspension(connection, suspend.process_cluster, suspend.suspended, who, why, at)

    await request.app.state.store.write_beside(job)
    if turns is not None:  # of a stop once more: what was read of the records meanwhile had not seen it
        turns.suspended.note(suspend.process_cluster, suspend.suspended)
    return answer_json(Suspended(suspend.process_cluster, suspend.suspended, at))


def _is_known(turns: Turns, process_cluster: str) -> bool:
    """Whether there is such a process cluster, or one of that name is stopped ("*" is every one)."""
    known = process_cluster == writes.ALL or turns.permits.leave_of(process_cluster) is not None
    return known or process_cluster in turns.suspended


async def _find_stopper(request: Request, suspend: Suspend) -> str:
    """Who stops, or lets go on; empty where nobody has to say.

    A person by token, where one is shown; else by the credential that needs nobody else. Where neither is set up
    whoever is here may stop, which is safe. To let go on takes somebody, as soon as this gateway knows anybody.
    """
    authorization, credential = request.headers.get("authorization", ""), request.headers.get(CREDENTIAL_HEADER, "")
    callers, stops = request.app.state.callers, request.app.state.stops
    if authorization and not credential and callers.knows_anybody:
        caller = await callers.identify(authorization)
        everywhere = suspend.process_cluster == writes.ALL
        caller.require(Act.STOP, "" if everywhere else namespace_of(suspend.process_cluster))
        return str(caller.name)
    if stops is not None and stops.is_kept:
        return str(stops.identify(credential, stops=suspend.suspended))
    if not suspend.suspended and callers.knows_anybody:
        raise ForbiddenError(
            "anybody may stop, letting go on takes a credential",
            where=CREDENTIAL_HEADER,
            remedy="say who may with --stops (Secret pilotage-stops), or sign in as a supervisor",
        )
    return ""


async def get_status(request: Request) -> Response:
    """`GET /v1/status`: GatewayStatus. Whoever may stop may see what is stopped."""
    stops, credential = request.app.state.stops, request.headers.get(CREDENTIAL_HEADER, "")
    if credential and stops is not None and stops.is_kept:
        stops.identify(credential, stops=True)
        sees = NOBODY_ASKS
    else:
        sees = await find_caller(request)
        if sees.source is None and not sees.may_somewhere(Act.READ_STATUS):
            sees.require(Act.READ_STATUS)
    turns = find_turns(request)
    permits = turns.permits
    remaining = permits.remaining_ms()
    stopped = turns.suspended
    leaves = permits.snapshot.leaves if permits.snapshot is not None else ()
    clusters = {
        leave.key: ProcessClusterWork(
            effective_stage(leave, permits.remaining_of(leave) > 0),
            leave.pair.revision if leave.pair else "",
            leave.suspended or stopped.holds(leave.key),
        )
        for leave in leaves
        if sees.sees(leave.namespace)
    }
    told = (key for key in stopped if key == writes.ALL or sees.sees(namespace_of(key)))
    status = GatewayStatus(
        epoch=permits.highest_epoch,
        permit_remaining_ms=remaining,
        snapshot_digest=permits.snapshot_digest,
        live_sessions=len(turns.live),
        suspended=tuple(told),
        process_clusters=clusters,
        withheld=permits.withheld,
    )
    return answer_json(status)


async def get_metrics(request: Request) -> Response:
    """`GET /metrics?name[]=`, for Prometheus; with names, these samples only (as the official clients have it)."""
    if not request.app.state.callers.open_metrics:
        (await find_caller(request)).require(Act.SCRAPE)
    turns: Turns | None = request.app.state.turns
    if turns is None:  # counts are the records', and so another gateway's
        return Response(b"", media_type=CONTENT_TYPE_LATEST)
    metrics = turns.metrics
    metrics.permit_epoch.set(turns.permits.highest_epoch)
    metrics.permit_remaining_seconds.set(turns.permits.remaining_ms() / 1000)
    metrics.live_sessions.set(len(turns.live))
    names = request.query_params.getlist("name[]")
    wanted = metrics.registry.restricted_registry(names) if names else metrics.registry
    return Response(generate_latest(wanted), media_type=CONTENT_TYPE_LATEST)


async def get_health(_request: Request) -> Response:
    """`GET /healthz`: the process answers."""
    return Response("ok\n", media_type="text/plain")


async def get_ready(request: Request) -> Response:
    """`GET /readyz`: the database answers. A controller is not needed: without one the gateway proposes at most.

    One that stands by is ready too: it passes on what it is asked.
    """
    await request.app.state.store.read(lambda connection: connection.execute(text("SELECT 1")).scalar())
    return Response("ok\n", media_type="text/plain")


async def get_openapi(request: Request) -> Response:
    """`GET /v1/openapi.json`: this surface as OpenAPI 3.1, for everybody who is somebody."""
    await find_caller(request)
    return answer_json(describe_api(ENDPOINTS))


SINCE = ("since", "until")
PAGE = ("process_cluster", "after", "limit")
ENDPOINTS = [
    Endpoint("POST", "/v1/sessions/{session_id}/events", post_events, Turn, PostEvents),
    Endpoint("GET", "/v1/sessions/{session_id}", reading.get_session, SessionRecord, query=("html",)),
    Endpoint("GET", "/v1/sessions", lists.get_sessions, SessionPage, query=(*PAGE, "state")),
    Endpoint("GET", "/v1/cards", lists.get_cards, CardPage, query=PAGE),
    Endpoint("GET", "/v1/answers", lists.get_answers, AnswerPage, query=("session_id", "after", "wait")),
    Endpoint("GET", "/v1/decisions/{proposal_id}", reading.get_decision, DecisionRecord),
    Endpoint("GET", "/v1/export", reading.get_export, NDJSON, query=("process_cluster!", *SINCE, "closed")),
    Endpoint("GET", "/v1/labels", reading.get_labels, LabelPage, query=(*PAGE, "pair")),
    Endpoint("POST", "/v1/suspend", post_suspend, Suspended, Suspend),
    Endpoint("GET", "/v1/status", get_status, GatewayStatus),
    Endpoint("GET", "/v1/openapi.json", get_openapi, "application/json"),
    Endpoint("GET", "/metrics", get_metrics, "text/plain", query=("name[]",)),
    Endpoint("GET", "/healthz", get_health, "text/plain"),
    Endpoint("GET", "/readyz", get_ready, "text/plain"),
]
ROUTES = [Route(each.path, each.answer, methods=[each.method]) for each in ENDPOINTS]
