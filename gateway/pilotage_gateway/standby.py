"""A gateway that stands by: what it is asked it passes on to the one that holds the records, and gives its answer.

So all replicas are Ready, a new one takes over when an old one ends, and a Service needs to know none of it.
"""

from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import yarl
from sqlalchemy import Connection, select
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pilotage_core.errors import PilotageError, UnavailableError
from pilotage_gateway import tables as t
from pilotage_gateway.console.entering import HOME, find_authorization
from pilotage_gateway.console.showing import tell
from pilotage_gateway.intake import MAX_BODY_BYTES, read_stream
from pilotage_gateway.problems import UnknownError, answer_error
from pilotage_gateway.store import Store

OWN_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/v1/suspend"})
"""Answered here: of this process, and what stops all of them (routes.post_suspend)."""
OPEN_PAGES = (f"{HOME}/sign", f"{HOME}/static/")
"""What strangers see of the console."""
PASSED_ON = "x-pilotage-passed-on"
TIMEOUT = aiohttp.ClientTimeout(total=None, connect=2.0, sock_read=60.0)
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade".split()
)
"""RFC 9110, 7.6.1."""


_PASSED_ON: set[aiohttp.ClientResponse] = set()


def end_passed_on() -> None:
    """Let go what others answer through this one, which ends: streams would go on for ever."""
    for answer in list(_PASSED_ON):
        answer.close()


def read_holder(connection: Connection) -> str:
    """Where the gateway that holds the records is reached; empty where none has ever said."""
    return connection.execute(select(t.holders.c.address)).scalar() or ""


class PassOn:
    """ASGI middleware: answers by another gateway while this one stands by."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is not answered here."""
        own = scope["type"] != "http" or scope["app"].state.turns is not None or scope["path"] in OWN_PATHS
        if own:
            return await self._app(scope, receive, send)
        request = Request(scope, receive)
        answer: Response
        try:
            answer = await _ask_holder(request, scope["app"].state.store)
        except PilotageError as error:
            answer = tell(request, error) if scope["path"].startswith(HOME) else await answer_error(request, error)
        return await answer(scope, receive, send)


async def _ask_holder(request: Request, store: Store) -> Response:
    if PASSED_ON in request.headers:  # the other one has just let go: whoever asks tries again
        raise UnavailableError("this gateway stands by", where="database", remedy="send it again")
    if not request.url.path.startswith(OPEN_PAGES):
        await request.app.state.callers.identify(find_authorization(request))  # nothing is kept of strangers
    address = await store.read(read_holder)
    if not address:
        raise UnavailableError("no gateway holds the records", where="database", remedy="send it again later")
    body = await read_stream(request, MAX_BODY_BYTES)
    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in request.scope["headers"] if k not in HOP_BY_HOP]
    holder = yarl.URL(address)
    url = holder.with_path(request.scope["raw_path"].decode("ascii"), encoded=True)
    if query := request.scope["query_string"].decode("latin-1"):
        url = yarl.URL(f"{url}?{query}", encoded=True)
    if url.origin() != holder.origin():
        raise UnknownError("this is no path", where="path")
    client = aiohttp.ClientSession(timeout=TIMEOUT, auto_decompress=False)
    try:
        answer = await client.request(
            request.method, url, data=body or None,
            headers=[*headers, (PASSED_ON, "1")], allow_redirects=False,
        )  # fmt: skip
    except (aiohttp.ClientError, TimeoutError) as error:
        await client.close()
        raise UnavailableError(
            "the gateway that holds the records does not answer", where="database", remedy="send it again"
        ) from error
    told = {k: v for k, v in answer.headers.items() if k.lower().encode() not in HOP_BY_HOP | {b"content-length"}}

    async def stream() -> AsyncIterator[bytes]:
        _PASSED_ON.add(answer)
        try:
            with suppress(aiohttp.ClientError):  # it was ended here, or there: either way nothing more comes
                async for chunk in answer.content.iter_any():
                    yield chunk
        finally:
            _PASSED_ON.discard(answer)
            answer.close()
            await client.close()

    return StreamingResponse(stream(), answer.status, told)
