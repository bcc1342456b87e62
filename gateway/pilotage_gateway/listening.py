"""Connections with limits: how large a request's head may be, how long a request may take to come, and how many wait.

uvicorn bounds none of these. Limits of bodies are in intake.py: they answer with a problem, these just end it.
"""

import asyncio
import fcntl
import resource
import sys
import termios
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from itertools import islice
from typing import Any, ClassVar, NoReturn

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from pilotage_gateway.intake import MAX_BODY_BYTES

MAX_HEAD_BYTES = 32 << 10
"""Of request line and headers together, and of trailers. A token may have 16 KiB (tokens.py)."""
MAX_MESSAGE_BYTES = 2 * MAX_BODY_BYTES + MAX_HEAD_BYTES
"""As it comes, chunks and all: what a parser may have to keep of one."""
HEAD_SECONDS, BODY_SECONDS, SEND_SECONDS = 10.0, 30.0, 30.0
MOST_PIPELINED = 8
LOOKED_AT = 64
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
    first of them goes. Where all are busy a new one is answered 503.
    """

    room = MOST_CONNECTIONS
    head_seconds, body_seconds, send_seconds = HEAD_SECONDS, BODY_SECONDS, SEND_SECONDS
    on_shutdown: ClassVar[Callable[[], None]] = lambda: None
    """Called as the server begins to end: answers that would go on for ever are told."""
    _waiting: ClassVar["OrderedDict[Bounded, None]"] = OrderedDict()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head = self._fields = self._raw = 0
        self._is_head_whole = self._has_begun = False
        self._refused: HTTPStatus | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room, and wait for a request."""
        super().connection_made(transport)
        self._waiting[self] = None
        self._expect(self.head_seconds)
        if len(self.connections) > self.room:
            oldest = next((each for each in islice(self._waiting, LOOKED_AT) if each.is_idle()), self)
            if oldest is self:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                oldest.drop()

    def is_idle(self) -> bool:
        """Whether nothing is still to be sent on it."""
        return self.transport.get_write_buffer_size() == 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._expect(None)
        if self._sending is not None:
            self._sending.cancel()
        self._waiting.pop(self, None)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server ends: what is being answered may finish."""
        Bounded.on_shutdown()
        super().shutdown()

    # --- what comes ---
    def data_received(self, data: bytes) -> None:
        """Count what comes; what is kept of a message is at most its limit and one read of the socket."""
        self._raw += len(data)
        self._has_begun = False
        super().data_received(data)
        if not self._is_head_whole and not self._has_begun:  # what it began with came behind another's end
            self._head += len(data)
        if self._head > MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif self._raw > MAX_MESSAGE_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_head_whole, self._has_begun = False, True
        self._head = self._fields = self._raw = 0
        self._expect(self.head_seconds)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, of head or trailer."""
        self._fields += len(name) + len(value)
        if self._fields > MAX_HEAD_BYTES:
            self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Its head is there; its body may take a while."""
        self._is_head_whole, self._head = True, 0
        if len(self.url) > MAX_HEAD_BYTES:
            self._end(HTTPStatus.REQUEST_URI_TOO_LONG)
        if not self.url.startswith(b"/"):  # we are no proxy
            self._end(HTTPStatus.BAD_REQUEST)
        if len(self.pipeline) >= MOST_PIPELINED:
            self._end(HTTPStatus.SERVICE_UNAVAILABLE)
        self._waiting.pop(self, None)
        self._expect(self.body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it is there: from here on it is our time."""
        self._expect(None)
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser could not read, or what was refused while it read."""
        self._refuse(self._refused or HTTPStatus.BAD_REQUEST)

    # --- what goes ---
    def on_response_complete(self) -> None:
        """Answered: where no other request waits on this connection, it is one that may go."""
        if not self.pipeline and not self.transport.is_closing():
            self._waiting[self] = None
        self._watch_sending()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Whoever asked reads slower than we send."""
        self._watch_sending()
        super().pause_writing()

    def _watch_sending(self) -> None:
        """Whoever takes nothing of what is to be sent for as long as `send_seconds` goes, also while it is closed."""
        self._unsent = self._count_unsent()
        if self._sending is None and self._unsent:
            self._sending = self.loop.call_later(self.send_seconds, self._look_at_sending)

    def _count_unsent(self) -> int:
        """Bytes that nobody has taken: ours, and the kernel's, which makes room for more in large steps."""
        ours = self.transport.get_write_buffer_size()
        found = self.transport.get_extra_info("socket")
        if not ours or found is None or found.fileno() < 0:
            return ours
        return ours + int.from_bytes(fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def _look_at_sending(self) -> None:
        self._sending = None
        if 0 < self._unsent <= self._count_unsent():
            self.drop()
        else:
            self._watch_sending()

    # --- the end ---
    def drop(self) -> None:
        """End it, whatever is still to be sent."""
        self._waiting.pop(self, None)
        self.transport.abort()

    def _end(self, status: HTTPStatus) -> NoReturn:
        """Stop the parser, which then asks for an answer."""
        self._refused = status
        raise ValueError(status.phrase)

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(seconds, self._give_up) if seconds is not None else None

    def _give_up(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        """Say why, in as few bytes as that takes, and close; where an answer is on its way already, only close."""
        self._expect(None)
        self._waiting.pop(self, None)
        if self.transport.is_closing():
            return
        cycle = self.cycle
        is_answering = cycle is not None and cycle.response_started
        is_old = cycle is not None and cycle.response_complete and not self._is_head_whole
        if self.pipeline or (is_answering and not is_old):
            return self.drop()
        self.transport.write(STATUS_LINE[status.value] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self._watch_sending()
        self.transport.close()
        return None
