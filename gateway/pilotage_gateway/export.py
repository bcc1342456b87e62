"""The export: NDJSON of session records, streamed in small steps so that a large one takes little memory."""

import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_gateway.queries import ExportCursor, ExportedRecord, read_export, read_open
from pilotage_gateway.store import Store

SESSIONS_AT_ONCE = 50
_GZIP = 31  # zlib's way to say: with a gzip header


def read_time(text: str, where: str) -> str:
    """A time in RFC 3339 as the records write it; the empty string stays empty (no bound)."""
    if not text:
        return ""
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a '+' that nobody escaped arrives as a blank
    except ValueError as error:
        raise InvalidInputError(
            f"{text[:64]!r} is no time", where=where, remedy="send RFC 3339 with an offset"
        ) from error
    if at.tzinfo is None:
        raise InvalidInputError(f"{text!r} has no offset", where=where, remedy="send RFC 3339 with an offset")
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


async def stream_closed(store: Store, process_cluster: str, since: str, until: str) -> AsyncIterator[bytes]:
    """Lines of closed sessions with `closed_at` in [since, until), in its order."""
    cursor: ExportCursor | None = None
    while True:
        records = await store.read(
            partial(
                read_export,
                process_cluster=process_cluster,
                since=since,
                until=until,
                after=cursor,
                limit=SESSIONS_AT_ONCE,
            )
        )
        yield _lines(records)
        if len(records) < SESSIONS_AT_ONCE:
            break
        cursor = ExportCursor(records[-1].closed_at, records[-1].session_id)


async def stream_open(store: Store, process_cluster: str) -> AsyncIterator[bytes]:
    """Lines of sessions that are not closed, by id."""
    after = ""
    while True:
        records = await store.read(
            partial(read_open, process_cluster=process_cluster, after=after, limit=SESSIONS_AT_ONCE)
        )
        yield _lines(records)
        if len(records) < SESSIONS_AT_ONCE:
            break
        after = records[-1].session_id


def _lines(records: list[ExportedRecord]) -> bytes:
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


async def compress(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`chunks` as gzip."""
    packer = zlib.compressobj(wbits=_GZIP)
    async for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()
