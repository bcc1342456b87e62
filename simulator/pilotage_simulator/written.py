"""Session records in a file: NDJSON (plain or gzip) or Parquet, in the formats that trainers read.

Written beside its place and moved there whole. Not here: making the records (recording.py, records.py).
"""

import gzip
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_core.record import SessionRecord, build_archive_row

ROWS_AT_ONCE = 512


def write_records(path: Path, records: Iterable[SessionRecord]) -> int:
    """Write `records` to `path`, whose ending says how; how many there were."""
    writers = {".ndjson": _write_lines, ".jsonl": _write_lines, ".gz": _write_packed, ".parquet": _write_parquet}
    writer = writers.get(path.suffix)
    if writer is None:
        raise InvalidInputError(
            f"{path.suffix or 'no ending'} says no format", where=str(path), remedy=f"end it with {', '.join(writers)}"
        )
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = writer(unfinished, records)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return number


def _write_lines(path: Path, records: Iterable[SessionRecord]) -> int:
    with path.open("wb") as file:
        return sum(file.write(line) > 0 for line in _encode_lines(records))


def _write_packed(path: Path, records: Iterable[SessionRecord]) -> int:
    with gzip.GzipFile(path, "wb", compresslevel=5, mtime=0) as file:
        return sum(file.write(line) > 0 for line in _encode_lines(records))


def _encode_lines(records: Iterable[SessionRecord]) -> Iterator[bytes]:
    return (msgspec.json.encode(record) + b"\n" for record in records)


def _write_parquet(path: Path, records: Iterable[SessionRecord]) -> int:
    import pyarrow  # only here: a BPM that plays needs no Parquet
    import pyarrow.parquet

    names = ("session_id", "process_cluster", "opened_at", "closed_at", "record")
    schema = pyarrow.schema([(name, pyarrow.binary() if name == "record" else pyarrow.string()) for name in names])
    number = 0
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as file:
        left = iter(records)
        while rows := [msgspec.structs.asdict(build_archive_row(record)) for record in islice(left, ROWS_AT_ONCE)]:
            file.write_table(pyarrow.Table.from_pylist(rows, schema))
            number += len(rows)
    return number
