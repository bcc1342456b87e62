"""A gateway for programs: `Client` where nothing else waits, `AsyncClient` in an event loop. Both speak types.

A post is answered by a Turn, or raises: UnavailableError says that the same may be sent again, ConflictError that the
state has moved on, InvalidInputError that it never will be taken. Nothing is sent again by itself.
"""

import http.client
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from pilotage_core.errors import ConflictError, InvalidInputError, PilotageError, UnavailableError
from pilotage_core.events import Event
from pilotage_core.lists import CardPage, SessionPage, SessionSummary, WaitingCard
from pilotage_core.problem import AGAIN, read_problem
from pilotage_core.record import DecisionRecord, SessionRecord
from pilotage_core.wire import GatewayStatus, LabelPage, PostEvents, Suspend, Suspended, Turn

TIMEOUT_SECONDS = 5.0
EXPORT_SECONDS = 60.0
PAGE = 1000
T = TypeVar("T")


class Call(NamedTuple, Generic[T]):
    """One request, and what its answer is."""

    method: str
    path: str
    gives: type[T]
    body: bytes = b""


def _query(path: str, **values: object) -> str:
    given = {name: str(value) for name, value in values.items() if value not in ("", None)}
    return f"{path}?{urlencode(given)}" if given else path


class Calls:
    """Every call that both clients have, as values."""

    @staticmethod
    def post(session_id: str, events: tuple[Event, ...], nonce: str, wants_decision: bool) -> Call[Turn]:
        """Hand over what happened."""
        body = msgspec.json.encode(PostEvents(events, nonce, wants_decision))
        return Call("POST", f"/v1/sessions/{quote(session_id, safe='')}/events", Turn, body)

    @staticmethod
    def session(session_id: str, html: bool) -> Call[SessionRecord]:
        """One session as it is stored."""
        path = f"/v1/sessions/{quote(session_id, safe='')}"
        return Call("GET", _query(path, html="true" if html else ""), SessionRecord)

    @staticmethod
    def sessions(process_cluster: str, state: str, after: str, limit: int) -> Call[SessionPage]:
        """A page of sessions."""
        path = _query("/v1/sessions", process_cluster=process_cluster, state=state, after=after, limit=limit)
        return Call("GET", path, SessionPage)

    @staticmethod
    def cards(process_cluster: str, after: str, limit: int) -> Call[CardPage]:
        """A page of cards."""
        return Call("GET", _query("/v1/cards", process_cluster=process_cluster, after=after, limit=limit), CardPage)

    @staticmethod
    def decision(proposal_id: str) -> Call[DecisionRecord]:
        """What the gate saw."""
        return Call("GET", f"/v1/decisions/{quote(proposal_id, safe='')}", DecisionRecord)

    @staticmethod
    def labels(process_cluster: str, pair: str, after: int, limit: int) -> Call[LabelPage]:
        """A page of labels."""
        path = _query("/v1/labels", process_cluster=process_cluster, pair=pair, after=after, limit=limit)
        return Call("GET", path, LabelPage)

    @staticmethod
    def status() -> Call[GatewayStatus]:
        """What the gateway knows of permits and stages."""
        return Call("GET", "/v1/status", GatewayStatus)

    @staticmethod
    def suspend(process_cluster: str, suspended: bool, who: str, why: str) -> Call[Suspended]:
        """Stop, or let go on."""
        body = msgspec.json.encode(Suspend(process_cluster, suspended, who, why))
        return Call("POST", "/v1/suspend", Suspended, body)


def _read_error(status: int, body: bytes, where: str) -> PilotageError:
    """The error that an answer stands for."""
    problem = read_problem(status, body, where)
    kind: type[PilotageError] = UnavailableError
    if status == 409:
        kind = ConflictError
    elif 400 <= status < 500 and status not in AGAIN:
        kind = InvalidInputError
    return kind(f"{status}: {problem.detail}", where=problem.where or where, remedy=problem.remedy)


def _decode(call: Call[T], body: bytes, url: str) -> T:
    try:
        return msgspec.json.decode(body, type=call.gives)
    except msgspec.DecodeError as error:
        raise UnavailableError(f"the answer is no {call.gives.__name__}: {error}", where=url) from error


def _read_what_came(answer: urllib.error.HTTPError) -> bytes:
    try:
        return answer.read()
    except (OSError, http.client.HTTPException):
        return b""


def _headers(token: str, body: bytes) -> dict[str, str]:
    sent = {"authorization": f"Bearer {token}"} if token else {}
    return sent | ({"content-type": "application/json"} if body else {})


class Client:
    """A gateway at `url`. `token` says who asks: a text, or what gives one, asked for each request."""

    def __init__(self, url: str, token: str | Callable[[], str] = "", timeout: float = TIMEOUT_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._token = token if callable(token) else lambda: str(token)
        self._timeout = timeout

    def post(self, session_id: str, events: tuple[Event, ...], nonce: str = "", *, wants_decision: bool = True) -> Turn:
        """Hand over `events`, in order; an order answers `nonce`, fresh for each post."""
        return self._call(Calls.post(session_id, events, nonce, wants_decision))

    def session(self, session_id: str, *, html: bool = False) -> SessionRecord:
        """One session as it is stored; its pages only where they are asked for."""
        return self._call(Calls.session(session_id, html))

    def sessions(self, process_cluster: str = "", state: str = "open") -> Iterator[SessionSummary]:
        """Sessions, oldest first: open or closed."""
        after = ""
        while True:
            page = self._call(Calls.sessions(process_cluster, state, after, PAGE))
            yield from page.sessions
            if not (after := page.next):
                return

    def cards(self, process_cluster: str = "") -> Iterator[WaitingCard]:
        """Proposals that wait for an operator, oldest first."""
        after = ""
        while True:
            page = self._call(Calls.cards(process_cluster, after, PAGE))
            yield from page.cards
            if not (after := page.next):
                return

    def decision(self, proposal_id: str) -> DecisionRecord:
        """Everything that the gate saw of one proposal."""
        return self._call(Calls.decision(proposal_id))

    def labels(self, process_cluster: str = "", pair: str = "", after: int = 0, limit: int = 1000) -> LabelPage:
        """Labels with a number above `after`, in label order."""
        return self._call(Calls.labels(process_cluster, pair, after, limit))

    def export(self, process_cluster: str, *, closed: bool = True) -> Iterator[SessionRecord]:
        """Whole sessions: the closed ones, or those still open."""
        path = _query("/v1/export", process_cluster=process_cluster, closed=str(closed).lower())
        for line in self._send("GET", path, b"", EXPORT_SECONDS).splitlines():
            yield _decode(Call("GET", path, SessionRecord), line, self.url + path)

    def status(self) -> GatewayStatus:
        """What it knows of permits, stages and live sessions."""
        return self._call(Calls.status())

    def suspend(self, process_cluster: str, suspended: bool, who: str, why: str) -> Suspended:
        """Stop (or let go on) one process cluster, or all of them with "*"."""
        return self._call(Calls.suspend(process_cluster, suspended, who, why))

    def _call(self, call: Call[T]) -> T:
        return _decode(call, self._send(call.method, call.path, call.body, self._timeout), self.url + call.path)

    def _send(self, method: str, path: str, body: bytes, timeout: float) -> bytes:
        url = self.url + path
        request = urllib.request.Request(url, data=body or None, headers=_headers(self._token(), body), method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                told: bytes = answer.read()
                return told
        except urllib.error.HTTPError as error:
            raise _read_error(error.code, _read_what_came(error), url) from error
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"no answer: {error!r}", where=url, remedy="is it running?") from error


class AsyncClient:
    """The same in an event loop, over connections that are kept. Use it with `async with`."""

    def __init__(self, url: str, token: str | Callable[[], str] = "", timeout: float = TIMEOUT_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._token = token if callable(token) else lambda: str(token)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout))

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.close()

    async def post(
        self, session_id: str, events: tuple[Event, ...], nonce: str = "", *, wants_decision: bool = True
    ) -> Turn:
        """Hand over `events`, in order; an order answers `nonce`, fresh for each post."""
        return await self._call(Calls.post(session_id, events, nonce, wants_decision))

    async def session(self, session_id: str, *, html: bool = False) -> SessionRecord:
        """One session as it is stored; its pages only where they are asked for."""
        return await self._call(Calls.session(session_id, html))

    async def sessions(self, process_cluster: str = "", state: str = "open") -> AsyncIterator[SessionSummary]:
        """Sessions, oldest first: open or closed."""
        after = ""
        while True:
            page = await self._call(Calls.sessions(process_cluster, state, after, PAGE))
            for each in page.sessions:
                yield each
            if not (after := page.next):
                return

    async def cards(self, process_cluster: str = "") -> AsyncIterator[WaitingCard]:
        """Proposals that wait for an operator, oldest first."""
        after = ""
        while True:
            page = await self._call(Calls.cards(process_cluster, after, PAGE))
            for each in page.cards:
                yield each
            if not (after := page.next):
                return

    async def decision(self, proposal_id: str) -> DecisionRecord:
        """Everything that the gate saw of one proposal."""
        return await self._call(Calls.decision(proposal_id))

    async def labels(self, process_cluster: str = "", pair: str = "", after: int = 0, limit: int = 1000) -> LabelPage:
        """Labels with a number above `after`, in label order."""
        return await self._call(Calls.labels(process_cluster, pair, after, limit))

    async def status(self) -> GatewayStatus:
        """What it knows of permits, stages and live sessions."""
        return await self._call(Calls.status())

    async def suspend(self, process_cluster: str, suspended: bool, who: str, why: str) -> Suspended:
        """Stop (or let go on) one process cluster, or all of them with "*"."""
        return await self._call(Calls.suspend(process_cluster, suspended, who, why))

    async def _call(self, call: Call[T]) -> T:
        url = self.url + call.path
        headers: dict[str, Any] = _headers(self._token(), call.body)
        try:
            async with self._http.request(call.method, url, data=call.body or None, headers=headers) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"no answer: {error!r}", where=url, remedy="is it running?") from error
        if answer.status != 200:
            raise _read_error(answer.status, body, url)
        return _decode(call, body, url)
