"""Session records in Parquet: one file, or an archive of files by process cluster and day.

Columns: session_id, process_cluster, opened_at, closed_at to choose by, and record, the line of an export (JSON).
Archive: DIR/process_cluster=star%2Finformation/day=2026-01-31/part-0.parquet. Not here: other sources (sources.py).
"""

import os
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow
import pyarrow.parquet

from pilotage_core.errors import EvidenceError, UnavailableError
from pilotage_core.record import ArchiveRow, SessionRecord, build_archive_row
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.results import tell

SCHEMA = pyarrow.schema(
    [(name, pyarrow.binary() if name == "record" else pyarrow.string()) for name in ArchiveRow.__struct_fields__]
)
ROWS_AT_ONCE = 512
ROWS_HELD = 16 * ROWS_AT_ONCE
"""An archive's rows in memory at most, of all its process clusters and days together."""
CLUSTER_KEY = "process_cluster="


def write_file(path: Path, records: Iterable[SessionRecord]) -> int:
    """Write `records` to the Parquet file `path`, all or nothing; how many there were. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    number, left = 0, iter(records)
    try:
        with pyarrow.parquet.ParquetWriter(unfinished, SCHEMA, compression="zstd") as file:
            while rows := [build_archive_row(record) for record in islice(left, ROWS_AT_ONCE)]:
                file.write_table(_build_table(rows))
                number += len(rows)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return number


def write_archive(folder: Path, records: Iterable[SessionRecord]) -> int:
    """Add closed `records` to the archive at `folder`; how many there were. Raises OSError.

    A file is either there whole or not at all; what is there already stays.
    """
    held: dict[Path, list[SessionRecord]] = {}
    number = waiting = 0
    for record in records:
        if not record.closed_at:
            continue
        cluster, day = urllib.parse.quote(record.process_cluster, safe=""), record.closed_at[:10]
        held.setdefault(folder / f"{CLUSTER_KEY}{cluster}" / f"day={day}", []).append(record)
        number, waiting = number + 1, waiting + 1
        if waiting >= ROWS_HELD:
            fullest = max(held, key=lambda place: len(held[place]))
            waiting -= _write_part(fullest, held.pop(fullest))
    for place, rest in held.items():
        _write_part(place, rest)
    return number


def read_parquet(path: Path, process_cluster: str = "") -> Iterator[bytes]:
    """The records in `path` (a file or a folder of files, by name) as lines of an export, a row group at a time.

    With `process_cluster` only its own. A damaged file in a folder with sound ones is skipped and counted; alone it
    raises DamagedArtefactError. UnavailableError where nothing is there, EvidenceError for a file of other columns.
    """
    if not path.is_dir():
        yield from _read_file(path, process_cluster)
        return
    files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith("."))
    if not files:
        raise UnavailableError("holds no Parquet file", where=str(path))
    damaged = []
    for file in files:
        if not _may_hold(file.relative_to(path), process_cluster):
            continue
        try:
            yield from _read_file(file, process_cluster)
        except DamagedArtefactError as error:
            damaged.append(error)
            if len(damaged) == len(files):
                raise
    if damaged:
        tell(f"{len(damaged)} of {len(files)} files were damaged and skipped, the first: {damaged[0]}")


def _read_file(path: Path, process_cluster: str) -> Iterator[bytes]:
    with _damage_named(path), pyarrow.parquet.ParquetFile(path, memory_map=True) as file:
        missing = {"process_cluster", "record"} - set(file.schema_arrow.names)
        if missing:
            raise EvidenceError(
                f"has no column {', '.join(sorted(missing))}",
                where=str(path),
                remedy=f"columns are {', '.join(SCHEMA.names)}",
            )
        for number in range(file.num_row_groups):
            table = file.read_row_group(number, columns=["process_cluster", "record"])
            for cluster, line in zip(table["process_cluster"], table["record"], strict=True):
                if process_cluster in ("", cluster.as_py()):
                    value = line.as_py()
                    yield value.encode() if isinstance(value, str) else value


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except pyarrow.ArrowInvalid as error:
        raise DamagedArtefactError(
            f"is no whole Parquet file: {str(error).splitlines()[0]}", where=str(path), remedy="write it again"
        ) from error
    except OSError as error:
        if error.errno is None:  # pyarrow's word for pages that do not decode
            raise DamagedArtefactError(f"is damaged: {error}", where=str(path), remedy="write it again") from error
        raise UnavailableError(f"cannot be read: {os.strerror(error.errno)}", where=str(path)) from error


def _may_hold(file: Path, process_cluster: str) -> bool:
    named = [part for part in file.parts if part.startswith(CLUSTER_KEY)]
    return not (named and process_cluster) or urllib.parse.unquote(named[0][len(CLUSTER_KEY) :]) == process_cluster


def _write_part(folder: Path, records: list[SessionRecord]) -> int:
    taken = {file.name for file in folder.glob("part-*.parquet")}
    number = next(n for n in range(len(taken) + 1) if f"part-{n}.parquet" not in taken)
    return write_file(folder / f"part-{number}.parquet", records)


def _build_table(rows: list[ArchiveRow]) -> pyarrow.Table:
    return pyarrow.Table.from_pylist([msgspec.structs.asdict(row) for row in rows], SCHEMA)
