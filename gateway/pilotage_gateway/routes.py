"""The HTTP surface: each endpoint reads its request, asks the part that knows, and encodes the answer."""

from functools import partial
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Connection, text
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from pilotage_core.errors import InvalidInputError
from pilotage_core.wire import CREDENTIAL_HEADER, GatewayStatus, ProcessClusterWork, Suspend
from pilotage_gateway import writes
from pilotage_gateway.asking import effective_stage
from pilotage_gateway.export import compress, read_time, stream_closed, stream_open
from pilotage_gateway.intake import check_session_id, decode, decode_post, read_body
from pilotage_gateway.problems import UnknownError
from pilotage_gateway.queries import blind_untold, read_decision, read_labels_after, read_record
from pilotage_gateway.turns import Turns
from pilotage_gateway.writes import utc_now

ENCODE = msgspec.json.Encoder().encode
LABELS_AT_ONCE = 1000
MAX_LABELS = 10_000
_SUSPEND: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Suspend)


def _json(value: object) -> Response:
    return Response(ENCODE(value), media_type="application/json")


def _turns(request: Request) -> Turns:
    turns: Turns = request.app.state.turns
    return turns


async def post_events(request: Request) -> Response:
    """`POST /v1/sessions/{session_id}/events`: PostEvents → Turn."""
    session_id = check_session_id(request.path_params["session_id"])
    source = await request.app.state.callers.identify(request.headers.get("authorization", ""))
    post = decode_post(await read_body(request))
    return _json(await _turns(request).answer(session_id, post, source))


async def get_session(request: Request) -> Response:
    """`GET /v1/sessions/{session_id}?html=true`: SessionRecord."""
    session_id = check_session_id(request.path_params["session_id"])
    with_html = request.query_params.get("html") == "true"
    record = await _turns(request).store.read(partial(read_record, session_id=session_id, with_html=with_html))
    if record is None:
        raise UnknownError(f"session {session_id} is unknown", where="session_id")
    return _json(blind_untold(record))


async def get_decision(request: Request) -> Response:
    """`GET /v1/decisions/{proposal_id}`: DecisionRecord, with `former` and `digest`: its place in the hash chain."""
    proposal_id = check_session_id(request.path_params["proposal_id"])
    found = await _turns(request).store.read(partial(read_decision, proposal_id=proposal_id))
    if found is None:
        raise UnknownError(f"proposal {proposal_id} is unknown", where="proposal_id")
    record, former, digest = found
    return _json({**msgspec.to_builtins(record), "former": former, "digest": digest})


async def get_export(request: Request) -> Response:
    """`GET /v1/export?process_cluster=&since=&until=&closed=`: NDJSON of SessionRecord (false: the open ones)."""
    query = request.query_params
    since, until = read_time(query.get("since", ""), "since"), read_time(query.get("until", ""), "until")
    closed = query.get("closed", "true")
    if closed not in ("true", "false"):
        raise InvalidInputError(f"{closed[:64]!r} is neither true nor false", where="closed")
    store, process_cluster = _turns(request).store, _process_cluster(request)
    if closed == "true":
        chunks = stream_closed(store, process_cluster, since, until)
    else:
        chunks = stream_open(store, process_cluster)
    headers = {}
    if "gzip" in request.headers.get("accept-encoding", ""):
        chunks, headers["Content-Encoding"] = compress(chunks), "gzip"
    return StreamingResponse(chunks, media_type="application/x-ndjson", headers=headers)


async def get_labels(request: Request) -> Response:
    """`GET /v1/labels?process_cluster=&pair=&after=&limit=`: LabelPage, of all process clusters where none is named."""
    after = _number(request, "after", 0, 1 << 62)
    limit = max(1, _number(request, "limit", LABELS_AT_ONCE, MAX_LABELS))
    job = partial(
        read_labels_after,
        process_cluster=request.query_params.get("process_cluster", ""),
        pair=request.query_params.get("pair", ""),
        after=after,
        limit=limit,
    )
    return _json(await _turns(request).store.read(job))


def _process_cluster(request: Request) -> str:
    key = request.query_params.get("process_cluster", "")
    if not key:
        raise InvalidInputError("which process cluster?", where="process_cluster", remedy="add process_cluster=ns/name")
    return key


def _number(request: Request, name: str, default: int, highest: int) -> int:
    given = request.query_params.get(name, str(default))
    if not given.isascii() or not given.isdecimal() or len(given) > 19 or int(given) > highest:
        raise InvalidInputError(f"{given[:64]!r} is no number from 0 to {highest}", where=name)
    return int(given)


async def post_suspend(request: Request) -> Response:
    """`POST /v1/suspend`: durable before it is answered; from then on no intent of it is written."""
    turns = _turns(request)
    suspend: Suspend = decode(await read_body(request), _SUSPEND)
    if request.app.state.stops is not None:
        name = request.app.state.stops.identify(request.headers.get(CREDENTIAL_HEADER, ""), stops=suspend.suspended)
        suspend = msgspec.structs.replace(suspend, who=f"{name} ({suspend.who})") if name else suspend
    for name in ("process_cluster", "who", "why"):
        if not getattr(suspend, name).strip():
            raise InvalidInputError(f"{name} is empty", where=name, remedy="say which, who and why")
    known = suspend.process_cluster == writes.ALL or turns.permits.leave_of(suspend.process_cluster) is not None
    if not known and not suspend.suspended and suspend.process_cluster not in turns.suspended:
        raise UnknownError(f"{suspend.process_cluster} is neither known nor suspended", where="process_cluster")
    if suspend.suspended:
        turns.suspended.add(suspend.process_cluster)  # stopping counts at once, letting go only once it is stored
    at = utc_now()

    def job(connection: Connection) -> None:
        who, why = suspend.who, suspend.why
        writes.write_suspension(connection, suspend.process_cluster, suspend.suspended, who, why, at)

    await turns.store.write(job)
    if not suspend.suspended:
        turns.suspended.discard(suspend.process_cluster)
    return _json({"process_cluster": suspend.process_cluster, "suspended": suspend.suspended, "at": at})


async def get_status(request: Request) -> Response:
    """`GET /v1/status`: GatewayStatus."""
    turns = _turns(request)
    permits = turns.permits
    remaining = permits.remaining_ms()
    stopped = turns.suspended
    leaves = permits.snapshot.leaves if permits.snapshot is not None else ()
    clusters = {
        leave.key: ProcessClusterWork(
            effective_stage(leave, permits.remaining_of(leave) > 0),
            leave.pair.revision if leave.pair else "",
            leave.suspended or leave.key in stopped or writes.ALL in stopped,
        )
        for leave in leaves
    }
    return _json(
        GatewayStatus(
            permits.highest_epoch, remaining, permits.snapshot_digest, len(turns.live), tuple(sorted(stopped)), clusters
        )
    )


async def get_metrics(request: Request) -> Response:
    """`GET /metrics?name[]=`, for Prometheus; with names, these samples only (as the official clients have it)."""
    turns = _turns(request)
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
    """`GET /readyz`: the database answers. A controller is not needed: without one the gateway proposes at most."""
    await _turns(request).store.read(lambda connection: connection.execute(text("SELECT 1")).scalar())
    return Response("ok\n", media_type="text/plain")


ROUTES = [
    Route("/v1/sessions/{session_id}/events", post_events, methods=["POST"]),
    Route("/v1/sessions/{session_id}", get_session),
    Route("/v1/decisions/{proposal_id}", get_decision),
    Route("/v1/export", get_export),
    Route("/v1/labels", get_labels),
    Route("/v1/suspend", post_suspend, methods=["POST"]),
    Route("/v1/status", get_status),
    Route("/metrics", get_metrics),
    Route("/healthz", get_health),
    Route("/readyz", get_ready),
]
