"""Endpoints that read the records: sessions, decisions, exports, labels. Each tells only what its caller may know."""

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.record import SessionRecord
from pilotage_gateway.access import Act, Caller, namespace_of
from pilotage_gateway.callers import Callers
from pilotage_gateway.export import compress, read_time, stream_closed, stream_open
from pilotage_gateway.intake import SESSION_ID, check_session_id
from pilotage_gateway.problems import UnknownError
from pilotage_gateway.queries import blind_untold, read_decision, read_labels_after, read_record
from pilotage_gateway.turns import Turns

ENCODE = msgspec.json.Encoder().encode
LABELS_AT_ONCE = 1000
MOST_AT_ONCE = 10_000


def answer_json(value: object) -> Response:
    """`value` as the body."""
    return Response(ENCODE(value), media_type="application/json")


def find_turns(request: Request) -> Turns:
    """The gateway's work, and through it its records. Raises UnavailableError where it stands by."""
    turns: Turns | None = request.app.state.turns
    if turns is None:
        raise UnavailableError("this gateway stands by", where="database", remedy="another one answers, or will soon")
    return turns


async def find_caller(request: Request) -> Caller:
    """Who asks. Raises UnauthorizedError, UnavailableError."""
    callers: Callers = request.app.state.callers
    return await callers.identify(request.headers.get("authorization", ""))


async def get_session(request: Request) -> Response:
    """`GET /v1/sessions/{session_id}?html=true`: SessionRecord. A source names its own as it posts them."""
    caller = await find_caller(request)
    named = request.path_params["session_id"]
    source, _, session_id = named.rpartition("~")
    check_session_id(session_id)
    if source and not SESSION_ID.fullmatch(source):
        raise UnknownError(f"{source[:64]!r} is no source", where="session_id")
    record = await _find_own(request, caller, named) if not source else None
    if record is None and caller.may_somewhere(Act.READ_SESSIONS):
        record = await _read_session(request, named)
        if record is not None and not caller.may(Act.READ_SESSIONS, namespace_of(record.process_cluster)):
            record = None  # as if it were not there
    elif record is None and caller.source is None:
        caller.require(Act.READ_SESSIONS)
        if record is not None:
            await find_turns(request).reads.note(caller.name, "session", named)
    if record is None:
        raise UnknownError(f"session {named} is unknown", where="session_id")
    return answer_json(blind_untold(record))


async def _find_own(request: Request, caller: Caller, session_id: str) -> SessionRecord | None:
    if caller.source is None:
        return None
    record = await _read_session(request, caller.source.key(session_id))
    if (
        record is not None
        and record.process_cluster
        and caller.source.rank(namespace_of(record.process_cluster)) is None
    ):
        return None
    return record


async def _read_session(request: Request, key: str) -> SessionRecord | None:
    with_html = request.query_params.get("html") == "true"
    return await find_turns(request).store.read(partial(read_record, session_id=key, with_html=with_html))


async def get_decision(request: Request) -> Response:
    """`GET /v1/decisions/{proposal_id}`: DecisionRecord, with `former` and `digest`: its place in the hash chain."""
    caller = await find_caller(request)
    if not caller.may_somewhere(Act.READ_DECISIONS):
        caller.require(Act.READ_DECISIONS)
    proposal_id = check_session_id(request.path_params["proposal_id"])
    where = caller.where(Act.READ_DECISIONS)
    found = await find_turns(request).store.read(partial(read_decision, proposal_id=proposal_id, namespaces=where))
    if found is None:
        raise UnknownError(f"proposal {proposal_id} is unknown", where="proposal_id")
    record, former, digest = found
    await find_turns(request).reads.note(caller.name, "decision", proposal_id)
    return answer_json({**msgspec.to_builtins(record), "former": former, "digest": digest})


async def get_export(request: Request) -> Response:
    """`GET /v1/export?process_cluster=&since=&until=&closed=`: NDJSON of SessionRecord (false: the open ones)."""
    caller, process_cluster = await find_caller(request), _process_cluster(request)
    caller.require(Act.EXPORT, namespace_of(process_cluster))
    query = request.query_params
    since, until = read_time(query.get("since", ""), "since"), read_time(query.get("until", ""), "until")
    closed = query.get("closed", "true")
    if closed not in ("true", "false"):
        raise InvalidInputError(f"{closed[:64]!r} is neither true nor false", where="closed")
    store = find_turns(request).store
    await find_turns(request).reads.note(caller.name, "export", process_cluster)
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
    caller = await find_caller(request)
    process_cluster = request.query_params.get("process_cluster", "")
    caller.require(Act.EXPORT, namespace_of(process_cluster))
    after = read_number(request, "after", 0, 1 << 62)
    limit = max(1, read_number(request, "limit", LABELS_AT_ONCE, MOST_AT_ONCE))
    job = partial(
        read_labels_after,
        process_cluster=process_cluster,
        pair=request.query_params.get("pair", ""),
        after=after,
        limit=limit,
    )
    return answer_json(await find_turns(request).store.read(job))


def _process_cluster(request: Request) -> str:
    key = request.query_params.get("process_cluster", "")
    if not key:
        raise InvalidInputError("which process cluster?", where="process_cluster", remedy="add process_cluster=ns/name")
    return key


def read_number(request: Request, name: str, default: int, highest: int) -> int:
    """A whole number of the query. Raises InvalidInputError for anything else."""
    given = request.query_params.get(name, str(default))
    if not given.isascii() or not given.isdecimal() or len(given) > 19 or int(given) > highest:
        raise InvalidInputError(f"{given[:64]!r} is no number from 0 to {highest}", where=name)
    return int(given)
