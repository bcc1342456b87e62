"""Connections with limits: how large a request's head may be, how long a request may take to come, and how many wait.

uvicorn bounds none of these. Limits of bodies are in intake.py: they answer with a problem, these just end it.
"""

import asyncio
import resource
from collections import OrderedDict
from http import HTTPStatus
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 32 << 10
"""Of request line and headers together. A token may have 16 KiB (tokens.py)."""
HEAD_SECONDS, BODY_SECONDS = 10.0, 30.0
MOST_CONNECTIONS = 4096
FILES_KEPT = 256
"""Of the files that a process may open: for the database, for models and for the controller."""


def find_room() -> int:
    """How many connections this process may hold, once it may open as many files as it is ever allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = min(hard, MOST_CONNECTIONS + FILES_KEPT) if hard != resource.RLIM_INFINITY else MOST_CONNECTIONS * 2
    if soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    return max(1, min(MOST_CONNECTIONS, soft - FILES_KEPT))


class Bounded(HttpToolsProtocol):
    """uvicorn's protocol, where nobody holds what others need.

    `_waiting` are the connections on which no request is being answered, longest first: where there is no room the
    first of them goes. One of which all are busy is answered 503.
    """

    room = MOST_CONNECTIONS
    head_seconds, body_seconds = HEAD_SECONDS, BODY_SECONDS
    _waiting: ClassVar["OrderedDict[Bounded, None]"] = OrderedDict()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = 0
        self._is_head_whole = False
        self._refused: HTTPStatus | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room, and wait for a request."""
        super().connection_made(transport)
        self._waiting[self] = None
        self._expect(self.head_seconds)
        if len(self.connections) > self.room:
            oldest = next(iter(self._waiting))
            if oldest is self:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                oldest.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._expect(None)
        self._waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count a head while it comes; what is buffered of one is at most the limit and a read of the socket."""
        if self._deadline is None and not self._is_head_whole:
            self._expect(self.head_seconds)
        self._head += 0 if self._is_head_whole else len(data)
        super().data_received(data)
        if not self._is_head_whole and self._head > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_head_whole = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is there; its body may take a while."""
        self._is_head_whole, self._head = True, 0
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:
            self._refused = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise ValueError("the head is too large")  # ends the parser, which asks for an answer
        self._waiting.pop(self, None)
        self._expect(self.body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there: from here on it is our time."""
        self._expect(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answered: where no other request waits on this connection, it is one that may go."""
        self._is_head_whole = bool(self.pipeline)
        if not self.pipeline and not self.transport.is_closing():
            self._waiting[self] = None
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser could not read, or what was refused while it read."""
        if self._refused is None:
            super().send_400_response(msg)
        else:
            self._refuse(self._refused)

    def drop(self) -> None:
        """End it, whatever is still to be sent."""
        self._waiting.pop(self, None)
        self.transport.abort()

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._give_up) if seconds is not None else None

    def _give_up(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete and self.cycle.response_started:
            self.transport.abort()
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, in as few bytes as that takes, and close."""
        self._expect(None)
        self._waiting.pop(self, None)
        if self.transport.is_closing():
            return
        head = b"content-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status.value] + head)
        self.transport.close()
