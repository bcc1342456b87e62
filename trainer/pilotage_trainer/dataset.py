"""From an export to examples: reading sessions, choosing those of a window, splitting them by time.

In: the gateway's export API or a file in its format (NDJSON, plain or gzip). Not here: fitting, labels.
"""

import gzip
import http.client
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from pilotage_core.collector import nothing_collected
from pilotage_core.errors import EvidenceError, UnavailableError
from pilotage_core.record import SessionRecord
from pilotage_core.walk import Point, walk_session
from pilotage_trainer.counts import Example, build_contexts
from pilotage_trainer.features import Situation, build_traits, name_step

EXPORT_TIMEOUT_SECONDS = 120.0


def read_export(source: str, process_cluster: str, since: str = "", until: str = "") -> list[SessionRecord]:
    """Closed sessions of `process_cluster` that closed in [since, until), by closing time.

    `source` is a gateway's address or a file. Raises UnavailableError where it cannot be read, EvidenceError for a
    damaged line (naming it).
    """
    if source.startswith(("http://", "https://")):
        lines = _fetch_lines(source, process_cluster, since, until)
    else:
        lines = _read_lines(Path(source))
    wanted = []
    with nothing_collected():
        for number, line in enumerate(lines, 1):
            record = _decode_line(line, number, source)
            if record.process_cluster == process_cluster and record.closed_at and _within(record, since, until):
                wanted.append(record)
    return sorted(wanted, key=lambda r: (read_time(r.closed_at), r.session_id))


def read_time(text: str) -> datetime:
    """An RFC 3339 time. Raises EvidenceError where it is none, or has no offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise EvidenceError(f"{text!r} is no RFC 3339 time") from error
    if time.tzinfo is None:
        raise EvidenceError(f"{text!r} has no offset", remedy="write 2026-01-31T12:00:00Z, or +01:00 at its end")
    return time


def split_by_time(
    records: Sequence[SessionRecord], last_share: float
) -> tuple[list[SessionRecord], list[SessionRecord]]:
    """Sessions in two parts, the second the newest `last_share` of them. `records` are sorted by closing time."""
    cut = len(records) - round(len(records) * last_share)
    return list(records[:cut]), list(records[cut:])


def closed_after(records: Iterable[SessionRecord], time: str) -> list[SessionRecord]:
    """Those of `records` that closed after `time`."""
    moment = read_time(time)
    return [r for r in records if read_time(r.closed_at) > moment]


def closed_by(records: Iterable[SessionRecord], time: str) -> list[SessionRecord]:
    """Those of `records` that closed at `time` or before."""
    moment = read_time(time)
    return [r for r in records if read_time(r.closed_at) <= moment]


def human_points(record: SessionRecord) -> list[Point]:
    """Points at which a person acted or accepted. What ran unattended shows nobody's judgement and teaches nothing."""
    return [point for point in walk_session(record) if point.operator]


def build_examples(records: Iterable[SessionRecord]) -> list[Example]:
    """One example for each human point of `records`, session by session."""
    return [
        Example(number, build_contexts(situation), build_traits(situation), name_step(point.taken))
        for number, record in enumerate(records)
        for point, situation in read_points(human_points(record))
    ]


class Prompted(Protocol):
    """Anything with a prompt: a point, a moment."""

    @property
    def prompt(self) -> str:
        """The dialog, with the mark that asks for an action."""
        ...


Asked = TypeVar("Asked", bound=Prompted)


def read_points(points: Iterable[Asked]) -> Iterator[tuple[Asked, Situation]]:
    """Each point with the situation its prompt tells of.

    One situation is read on from point to point while the dialog only grows: use it before asking for the next.
    """
    situation, read = Situation(), ""
    for point in points:
        body = point.prompt[:-1]
        if not read or not body.startswith(read):
            situation, read = Situation(), ""
        for line in body[len(read) :].split("\n"):
            situation.read_line(line)
        read = body
        yield point, situation


def _within(record: SessionRecord, since: str, until: str) -> bool:
    closed = read_time(record.closed_at)
    return (not since or closed >= read_time(since)) and (not until or closed < read_time(until))


def _decode_line(line: bytes, number: int, source: str) -> SessionRecord:
    try:
        return msgspec.json.decode(line, type=SessionRecord)
    except msgspec.DecodeError as error:
        raise EvidenceError(f"is no session record: {error}", where=f"{source}, line {number}") from error


def _read_lines(path: Path) -> list[bytes]:
    try:
        data = path.read_bytes()
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UnavailableError(f"cannot be read: {error}", where=str(path)) from error
    return [line for line in text.splitlines() if line]


def _fetch_lines(address: str, process_cluster: str, since: str, until: str) -> list[bytes]:
    base = address if urllib.parse.urlsplit(address).path.rstrip("/") else address.rstrip("/") + "/v1/export"
    query = {"process_cluster": process_cluster, "since": since, "until": until, "closed": "true"}
    url = f"{base}?{urllib.parse.urlencode({k: v for k, v in query.items() if v})}"
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
    try:
        with urllib.request.urlopen(request, timeout=EXPORT_TIMEOUT_SECONDS) as reply:
            data = reply.read()
        text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error, http.client.HTTPException, urllib.error.URLError) as error:
        raise UnavailableError(f"the export does not answer: {error}", where=url) from error
    return [line for line in text.splitlines() if line]
