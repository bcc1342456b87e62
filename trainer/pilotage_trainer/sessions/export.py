"""An export read: the sessions of a window by closing time, each once, split by time; at which points a person acted.

Not here: what an export can be (sources.py), labels (labels.py), what a model learns from (backends/).
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from pilotage_core.collector import nothing_collected
from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.record import SessionRecord
from pilotage_core.walk import Point, walk_session
from pilotage_trainer.sessions.sources import read_records

log = logging.getLogger("pilotage.export")


def read_export(source: str, process_cluster: str, since: str = "", until: str = "") -> list[SessionRecord]:
    """Closed sessions of `process_cluster` that closed in [since, until), by closing time, each once, as it was last.

    `source` is what sources.py reads: a gateway's address, NDJSON, Parquet, or a format that a package brings. Raises
    UnavailableError where it cannot be read, EvidenceError for a damaged line (naming it).
    """
    with nothing_collected():
        wanted = list(
            select_records(read_records(source, process_cluster, since, until), process_cluster, since, until)
        )
    return drop_repeated(sorted(wanted, key=lambda r: (read_time(r.closed_at), r.session_id)))


def drop_repeated(records: Sequence[SessionRecord]) -> list[SessionRecord]:
    """`records` (by closing time) with each session once: exported twice, it would be on two sides, and weigh twice.

    How many were there again is logged. One that has gone on since an earlier export is taken as it was last; raises
    InvalidInputError for two sessions of one id.
    """
    latest: dict[tuple[str, str], SessionRecord] = {}
    for record in records:
        key = (record.process_cluster, record.session_id)
        earlier = latest.get(key)
        if earlier is not None and earlier.events != record.events[: len(earlier.events)]:
            what = f"{record.session_id} of {record.process_cluster} is the id of two sessions that differ"
            raise InvalidInputError(what, where="session_id", remedy="give each session an id of its own")
        latest[key] = record
    if len(latest) < len(records):
        log.warning("%d sessions were there again: each is read once", len(records) - len(latest))
    return [r for r in records if latest[r.process_cluster, r.session_id] is r]


def select_records(
    records: Iterable[SessionRecord], process_cluster: str, since: str = "", until: str = ""
) -> Iterator[SessionRecord]:
    """Those of `records` that are of `process_cluster` (empty: of any) and closed in [since, until).

    Raises EvidenceError for one that closed at no time, naming it.
    """
    for record in records:
        if process_cluster in ("", record.process_cluster) and record.closed_at and _within(record, since, until):
            yield record


def read_time(text: str) -> datetime:
    """An RFC 3339 time. Raises EvidenceError where it is none, or has no offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise EvidenceError(f"{text!r} is no RFC 3339 time") from error
    if time.tzinfo is None:
        raise EvidenceError(f"{text!r} has no offset", remedy="write 2026-01-31T12:00:00Z, or +01:00 at its end")
    return time


def require_times(**options: str) -> None:
    """Raises InvalidInputError where an option that was given is no RFC 3339 time."""
    for option, given in options.items():
        if given:
            try:
                read_time(given)
            except EvidenceError as error:
                raise InvalidInputError(
                    error.what, where=f"--{option.replace('_', '-')}", remedy=error.remedy
                ) from error


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


def human_points(record: SessionRecord, form: DialogFormat) -> list[Point]:
    """Points at which a person acted or accepted. What ran unattended shows nobody's judgement and teaches nothing."""
    return [point for point in walk_session(record, form) if point.operator]


def _within(record: SessionRecord, since: str, until: str) -> bool:
    try:
        closed = read_time(record.closed_at)
    except EvidenceError as error:
        raise EvidenceError(error.what, where=f"closed_at of session {record.session_id}") from error
    return (not since or closed >= read_time(since)) and (not until or closed < read_time(until))
