"""The file of a table, CSV (.gz too) or Parquet, as batches of Arrow columns in bounded memory.

Here: which kind of file it is, which columns it must have, damage. Not here: what their values mean (labels.py).
"""

import io
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from pilotage_core.errors import EvidenceError, InvalidInputError, UnavailableError
from pilotage_core.lines import GZIP
from pilotage_trainer.certify.table.shapes import find_shape, find_swallowed
from pilotage_trainer.failures import DamagedArtefactError

COLUMNS = ("process_cluster", "stratum", "score", "accepted", "propensity", "operator", "session_id", "at")
LEAST_PROPENSITY = "least_propensity"
"""An optional column: the smallest propensity in force at the time of the label (monitors)."""
LABEL_IDS = ("proposal_id", "label_id", "annotation_id", "feedback_id", "event_id")
"""Optional columns that name a label, the best first: one that is there twice counts once. Read as LABEL. A bare id or
uuid is not among them: it may number the rows of an export, and be new in the next one.
"""
LABEL = "label_id"
BATCH_ROWS = 1 << 16
PARQUET = b"PAR1"


def read_record_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of the file at `path` in its order, with the columns above. Those of a CSV are text.

    Names of columns are read whatever their case, and the white space around them. Raises UnavailableError where it
    cannot be opened, DamagedArtefactError for broken Parquet, EvidenceError for an empty file, and InvalidInputError
    for what is no CSV, for a missing column, for one that is there twice, and where a quote has swallowed rows.
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
        raise DamagedArtefactError("is no Parquet file", where=str(path), remedy="write it again, or call it .csv")
    return _read_parquet(path) if start == PARQUET else _read_csv(path, is_packed=start.startswith(GZIP))


def is_text(kind: pa.DataType) -> bool:
    """Whether values of `kind` are text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _read_parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with _named_damage(path, 0):
        schema = pa.parquet.read_schema(path)
    columns = _find_columns(path, schema.names)
    repeated = [
        columns[name]
        for name in ("process_cluster", "stratum", "operator")
        if is_text(schema.field(columns[name]).type)
    ]
    with _named_damage(path, 0):
        file = pa.parquet.ParquetFile(
            path,
            read_dictionary=repeated,
            buffer_size=1 << 20,  # pages are streamed: a row group may hold the whole file
            pre_buffer=False,
            page_checksum_verification=True,
        )
    batches, rows = file.iter_batches(BATCH_ROWS, columns=list(columns.values()), use_threads=False), 0
    while True:
        with _named_damage(path, rows):
            batch = next(batches, None)
        if batch is None:
            return
        for column in columns.values():
            try:
                batch.column(column).validate(full=True)
            except pa.ArrowInvalid as error:  # text that is not UTF-8
                raise InvalidInputError(_first_line(error), where=f"{path}, column {column}") from error
        yield batch.select(list(columns.values())).rename_columns(list(columns))
        rows += batch.num_rows


def _read_csv(path: Path, *, is_packed: bool) -> Iterator[pa.RecordBatch]:
    reading = pa.csv.ReadOptions(use_threads=False, block_size=1 << 22)
    parsing = pa.csv.ParseOptions(newlines_in_values=True)

    def open_file() -> pa.NativeFile:
        return pa.input_stream(str(path), compression="gzip" if is_packed else "detect")

    try:
        shape = find_shape(path, is_packed=is_packed, columns=COLUMNS)
        if shape:
            what, _, remedy = shape.partition(": ")
            raise InvalidInputError(what, where=str(path), remedy=remedy)
        try:
            names = pa.csv.open_csv(open_file(), reading, parsing).schema.names
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):  # what it says of a header without a line's end
                raise
            header = pa.BufferReader(open_file().read(reading.block_size) + b"\n")
            _find_columns(path, pa.csv.open_csv(header, reading, parsing).schema.names)
            return
        columns = _find_columns(path, names)
        include = list(columns.values())
        converting = pa.csv.ConvertOptions(
            include_columns=include, column_types=dict.fromkeys(include, pa.string()), strings_can_be_null=False
        )
        lines = _Lines(open_file())
        rows = 1
        for batch in pa.csv.open_csv(pa.PythonFile(lines, mode="r"), reading, parsing, converting):
            rows += batch.num_rows
            if any(_holds_line_end(column) for column in batch.columns):  # ids and names have one line
                _refuse_swallowed(path, is_packed, names, include)
            yield batch.rename_columns(list(columns))
        if rows != lines.count:  # some cell holds a line's end
            _refuse_swallowed(path, is_packed, names, include)
    except (pa.ArrowException, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        with suppress(OSError, EOFError, zlib.error):
            _refuse_swallowed(path, is_packed, list(COLUMNS), ())
        raise InvalidInputError(f"is no CSV: {_first_line(error)}", where=str(path)) from error


def _holds_line_end(texts: pa.Array) -> bool:
    letters = texts.buffers()[2]
    return letters is not None and bool((np.frombuffer(letters, dtype=np.uint8) == ord("\n")).any())


def _refuse_swallowed(path: Path, is_packed: bool, names: list[str], columns: Collection[str]) -> None:
    swallowed = find_swallowed(path, is_packed=is_packed, names=names, columns=columns)
    if swallowed:
        raise InvalidInputError(swallowed, where=str(path), remedy="write a quote within text twice")


class _Lines(io.RawIOBase):
    """A stream that counts the lines read through it, the last one too where nothing ends it."""

    def __init__(self, stream: pa.NativeFile) -> None:
        super().__init__()
        self._stream = stream
        self._ends = 0
        self._last = b"\n"

    @property
    def count(self) -> int:
        """Lines so far."""
        return self._ends + (self._last != b"\n")

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes."""
        data: bytes = self._stream.read(size) if size >= 0 else self._stream.read()
        self._ends += data.count(b"\n")
        self._last = data[-1:] or self._last
        return data


def _find_columns(path: Path, names: list[str]) -> dict[str, str]:
    """What each column to read is called in the file. Raises InvalidInputError where one is missing or there twice."""
    called = [name.strip().casefold() for name in names]
    label = next((name for name in LABEL_IDS if name in called), None)
    wanted = [*COLUMNS, *([LEAST_PROPENSITY] if LEAST_PROPENSITY in called else []), *([label] if label else [])]
    found = {}
    for column in wanted:
        if called.count(column) != 1:
            what = "is there more than once" if column in called else f"is missing among {_shown(', '.join(names))}"
            raise InvalidInputError(what, where=f"{path}, column {column}")
        found[LABEL if column == label else column] = names[called.index(column)]
    return found


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
