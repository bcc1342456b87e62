"""Where sessions come from: a gateway's export API, NDJSON (plain or gzip), Parquet, or a format some package brings.

A source is read as a stream, whole or every n-th session of it. Formats that packages bring are entry points of the
group `pilotage.records`: `NAME:PATH`, as in star:/data/star. Not here: which sessions are wanted (export.py).
"""

import http.client
import os
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.lines import decode_lines
from pilotage_core.record import SessionRecord
from pilotage_core.wire import TOKEN_FILE_VARIABLE

EXPORT_TIMEOUT_SECONDS = 120.0
GROUP = "pilotage.records"


class RecordReader(Protocol):
    """What an entry point of GROUP leads to."""

    def __call__(
        self, path: str, *, process_cluster: str = ..., part: tuple[int, int], since: str, until: str
    ) -> Iterator[SessionRecord]:
        """Closed sessions of `path` for `process_cluster`; of `part` (i, n) every n-th from the i-th on.

        Those that closed before `since`, or at `until` or later (RFC 3339; empty: any time), need not be made.
        """
        ...


def read_records(
    source: str, process_cluster: str, since: str = "", until: str = "", part: tuple[int, int] = (0, 1)
) -> Iterator[SessionRecord]:
    """Sessions of `source`, in its order; of `part` (i, n) every n-th from the i-th on.

    An empty `process_cluster` stands for all. A gateway chooses by process cluster and time itself, others may give
    more than was asked for. Raises UnavailableError where a source cannot be read, DamagedArtefactError for a Parquet
    file that is not whole, InvalidInputError for a line that is no record (naming it).
    """
    if is_gateway(source):
        with tempfile.TemporaryFile() as spool:
            where = _fetch(source, process_cluster, since, until, spool)
            yield from _decode_lines(spool, where, part)
        return
    reader = _find_reader(source)
    path = source.partition(":")[2]
    if reader is not None:
        named = {"process_cluster": process_cluster} if process_cluster else {}
        yield from reader(path, part=part, since=since, until=until, **named)
    elif Path(source).is_dir() or source.endswith(".parquet"):
        from pilotage_trainer.sessions.parquet import read_parquet  # pyarrow's import takes longer than most exports

        yield from _decode_rows(read_parquet(Path(source), process_cluster), source, part)
    else:
        with _open_file(source) as file:
            yield from _decode_lines(file, source, part)


def _find_reader(source: str) -> RecordReader | None:
    name, colon, _ = source.partition(":")
    if not colon or Path(source).exists():
        return None
    found: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise InvalidInputError(
            f"{name!r} is no format that is installed",
            where=source,
            remedy=f"formats: {', '.join(sorted(found)) or 'none'}; else a file, a folder of Parquet, or an address",
        )
    loaded: RecordReader = found[name].load()
    return loaded


def _decode_lines(file: BinaryIO, source: str, part: tuple[int, int]) -> Iterator[SessionRecord]:
    lines = decode_lines(file, msgspec.json.Decoder(SessionRecord), source, "session record")
    yield from (record for number, (_, record) in enumerate(lines) if number % part[1] == part[0])


def _decode_rows(rows: Iterator[bytes], source: str, part: tuple[int, int]) -> Iterator[SessionRecord]:
    decoder = msgspec.json.Decoder(SessionRecord)
    for number, row in enumerate(rows):
        if number % part[1] == part[0]:
            try:
                yield decoder.decode(row)
            except (msgspec.DecodeError, RecursionError) as error:
                raise InvalidInputError(
                    f"is no session record: {error}", where=f"{source}, row {number + 1}"
                ) from error


def _open_file(source: str) -> BinaryIO:
    with _reading(source):
        return Path(source).open("rb")


def is_gateway(source: str) -> bool:
    """Whether `source` is an address."""
    return source.startswith(("http://", "https://"))


def fetch_export(address: str, process_cluster: str, since: str, until: str, path: Path) -> None:
    """Write the export of a gateway to `path`, as it comes. Raises UnavailableError, OSError."""
    with path.open("w+b") as file:
        _fetch(address, process_cluster, since, until, file)


def _fetch(address: str, process_cluster: str, since: str, until: str, spool: BinaryIO) -> str:
    """The export of a gateway, as it came, in `spool`; the URL that was asked."""
    base = address if urllib.parse.urlsplit(address).path.rstrip("/") else address.rstrip("/") + "/v1/export"
    query = {"process_cluster": process_cluster, "since": since, "until": until, "closed": "true"}
    url = f"{base}?{urllib.parse.urlencode({k: v for k, v in query.items() if v})}"
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip", **_show_token()})
    try:
        with urllib.request.urlopen(request, timeout=EXPORT_TIMEOUT_SECONDS) as reply:
            shutil.copyfileobj(reply, spool)
    except (OSError, http.client.HTTPException, urllib.error.URLError) as error:
        raise UnavailableError(f"the export does not answer: {error}", where=url) from error
    spool.seek(0)
    return url


def _show_token() -> dict[str, str]:
    """Who asks, where the environment names a file with a token."""
    path = os.environ.get(TOKEN_FILE_VARIABLE, "")
    if not path:
        return {}
    with _reading(path):
        return {"Authorization": f"Bearer {Path(path).read_text(encoding='utf-8').strip()}"}


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error}", where=where) from error
