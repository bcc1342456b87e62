"""From bytes to a PostEvents: limits before parsing, and errors that name the field. No session is known here."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from pilotage_core.errors import InvalidInputError
from pilotage_core.events import Event, ScreenShown
from pilotage_core.reading import admit_screen, read_screen
from pilotage_core.screen import Screen, ScreenSchema
from pilotage_core.wire import PostEvents
from pilotage_gateway.problems import MalformedError, MediaTypeError, TooLargeError, UnknownError

MAX_BODY_BYTES = 1 << 20
MAX_EVENTS = 200
SCREENS_KEPT = 128
"""Pages read lately: a third are the same to the letter (a search page, a fresh form), and reading one takes 1.3 ms."""
SESSION_ID = re.compile(r"[A-Za-z0-9._:@-]{1,128}")
T = TypeVar("T")
_AT_PATH = re.compile(r"^(.*?)(?: - at `\$?\.?(.*)`)?$", re.DOTALL)


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """The body, refused before it is read where it says it is too large, and while it is read where it did not say."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise MediaTypeError(f"content type {kind!r}", where="Content-Type", remedy="send application/json")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > limit:
        raise _too_large(length, limit)
    return await read_stream(request, limit)


async def read_stream(request: Request, limit: int) -> bytes:
    """The body, whatever it is. Raises TooLargeError as soon as it is over `limit` bytes."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(f"more than {limit}", limit)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(size: str, limit: int) -> TooLargeError:
    return TooLargeError(f"{size} bytes, the limit is {limit}", where="body", remedy="post fewer events at once")


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """`body` as what `decoder` reads. Raises MalformedError for no JSON, InvalidInputError naming the field."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        what, where = _split(str(error))
        raise InvalidInputError(what, where=where or "body", remedy="its shape is in /v1/openapi.json") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedError(f"no JSON: {error}", where="body", remedy="send UTF-8 JSON") from error
    except RecursionError as error:
        raise MalformedError("nested too deep", where="body") from error


def _split(message: str) -> tuple[str, str]:
    found = _AT_PATH.match(message)
    return (found.group(1), found.group(2) or "") if found else (message, "")


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(PostEvents)


def decode_post(body: bytes) -> PostEvents:
    """The post in `body`, within the limits of count and size."""
    post: PostEvents = decode(body, _DECODER)
    if len(post.events) > MAX_EVENTS:
        raise TooLargeError(
            f"{len(post.events)} events, the limit is {MAX_EVENTS}", where="events", remedy="post in parts"
        )
    return post


def check_session_id(session_id: str) -> str:
    """`session_id`, if it is one. Raises UnknownError: nothing can have such an id."""
    if not SESSION_ID.fullmatch(session_id):
        raise UnknownError(
            f"{session_id[:64]!r} is no session id", where="session_id", remedy=f"use {SESSION_ID.pattern}"
        )
    return session_id


def read_screens(events: Sequence[Event], schemas: Sequence[ScreenSchema], received_at: str) -> list[Event]:
    """`events` with `received_at` and with every screen read; what is wrong with one is part of it (`Screen.fault`).

    A typed screen is held against the schema that it names: only a schema of the process cluster recognises a screen.
    """
    read = []
    for event in events:
        data = event.data
        if isinstance(data, ScreenShown):
            if data.html:
                data = ScreenShown(html=data.html, screen=_read_screen(data.html, tuple(schemas)))
            elif data.screen is not None:
                data = ScreenShown(screen=admit_screen(data.screen, schemas))
        read.append(msgspec.structs.replace(event, data=data, received_at=received_at))
    return read


@lru_cache(maxsize=SCREENS_KEPT)
def _read_screen(html: str, schemas: tuple[ScreenSchema, ...]) -> Screen:
    return read_screen(html, schemas)
