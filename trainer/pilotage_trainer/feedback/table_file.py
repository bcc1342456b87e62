"""The file of a table, CSV (.gz too) or Parquet, as batches of Arrow columns in bounded memory.

Here: which kind of file it is, which columns it must have, damage. Not here: what their values mean (table.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pilotage_core.errors import EvidenceError, InvalidInputError, UnavailableError
from pilotage_trainer.failures import DamagedArtefactError

COLUMNS = ("process_cluster", "stratum", "score", "accepted", "propensity", "operator", "session_id", "at")
LEAST_PROPENSITY = "least_propensity"
"""An optional column: the smallest propensity in force at the time of the label (monitors)."""
BATCH_ROWS = 1 << 16
PARQUET, GZIP = b"PAR1", b"\x1f\x8b"


def read_record_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of the file at `path` in its order, with the columns above. Those of a CSV are text.

    Raises UnavailableError where it cannot be opened, DamagedArtefactError for broken Parquet, EvidenceError for an
    empty file, and InvalidInputError for what is no CSV, for a missing column, and for one that is there twice.
    """
    try:
        if path.is_fifo():
            raise InvalidInputError("is a pipe", where=str(path), remedy="give a file: it is read twice")
        with path.open("rb") as file:
            start = file.read(len(PARQUET))
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if not start:
        raise EvidenceError("is empty", where=str(path), remedy="one row a label")
    if start != PARQUET and path.suffix in (".parquet", ".pq"):
        raise DamagedArtefactError("is no Parquet file", where=str(path), remedy="write it again")
    return _read_parquet(path) if start == PARQUET else _read_csv(path, is_packed=start.startswith(GZIP))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of `kind` are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with _named_damage(path, 0):
        schema = pa.parquet.read_schema(path)
    columns = _require_columns(path, schema.names)
    repeated = [name for name in ("process_cluster", "stratum", "operator") if is_text(schema.field(name).type)]
    with _named_damage(path, 0):
        file = pa.parquet.ParquetFile(
            path,
            read_dictionary=repeated,
            buffer_size=1 << 20,  # pages are streamed: a row group may hold the whole file
            pre_buffer=False,
            page_checksum_verification=True,
        )
    batches, rows = file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False), 0
    while True:
        with _named_damage(path, rows):
            batch = next(batches, None)
        if batch is None:
            return
        for column in columns:
            try:
                batch.column(column).validate(full=True)
            except pa.ArrowInvalid as error:  # text that is not UTF-8
                raise InvalidInputError(_first_line(error), where=f"{path}, column {column}") from error
        yield batch
        rows += batch.num_rows


def _read_csv(path: Path, *, is_packed: bool) -> Iterator[pa.RecordBatch]:
    reading = pa.csv.ReadOptions(use_threads=False, block_size=1 << 22)
    parsing = pa.csv.ParseOptions(newlines_in_values=True)

    def open_file() -> pa.NativeFile:
        return pa.input_stream(str(path), compression="gzip" if is_packed else "detect")

    try:
        try:
            names = pa.csv.open_csv(open_file(), reading, parsing).schema.names
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):  # what it says of a header without a line's end
                raise
            header = pa.BufferReader(open_file().read(reading.block_size) + b"\n")
            _require_columns(path, pa.csv.open_csv(header, reading, parsing).schema.names)
            return
        columns = _require_columns(path, names)
        converting = pa.csv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
        )
        yield from pa.csv.open_csv(open_file(), reading, parsing, converting)
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InvalidInputError(f"is no CSV: {_first_line(error)}", where=str(path)) from error


def _require_columns(path: Path, names: list[str]) -> list[str]:
    """The columns to read. Raises InvalidInputError where one is missing or there twice."""
    wanted = [*COLUMNS, LEAST_PROPENSITY] if LEAST_PROPENSITY in names else list(COLUMNS)
    for column in wanted:
        if names.count(column) != 1:
            what = "is there more than once" if column in names else f"is missing among {_shown(', '.join(names))}"
            raise InvalidInputError(what, where=f"{path}, column {column}")
    return wanted


@contextmanager
def _named_damage(path: Path, rows: int) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        what = f"is damaged after row {rows}: {_first_line(error)}"
        raise DamagedArtefactError(what, where=str(path), remedy="write it again") from error


def _first_line(error: BaseException) -> str:
    return _shown(str(error).strip().split("\n")[0])


def _shown(text: str) -> str:
    """What was read, for a terminal: some file that is no table may hold anything."""
    return text if text.isprintable() else ascii(text[:200])
