"""A table of labels (CSV or Parquet), read in batches of bounded memory into arrays; what is wrong is named by its row.

In: one row a label, columns as in COLUMNS. Out: `Batch`es of codes and numbers. Not here: gathering the labels of one
gate (gates.py), what they certify (calibration.py). Nor hashing (ids.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from pilotage_core.errors import EvidenceError, InvalidInputError, UnavailableError
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.feedback.ids import Ids, hash_ids

COLUMNS = ("process_cluster", "stratum", "score", "accepted", "propensity", "operator", "session_id", "at")
LEAST_PROPENSITY = "least_propensity"
"""An optional column: the smallest propensity in force at the time of the label (monitors)."""
BATCH_ROWS = 1 << 16
VERDICTS: Mapping[object, bool] = {
    **dict.fromkeys((True, "true", "1", "1.0", "accept", "accepted", "yes", 1), True),
    **dict.fromkeys((False, "false", "0", "0.0", "reject", "rejected", "no", 0), False),
}
MILLISECONDS_FROM = 1e11
"""Numbers in `at` are Unix seconds; from here on (the year 5138) they must be milliseconds."""
LATEST_MILLISECONDS = 9e15  # times are 64-bit microseconds

Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows in file order. `gates` are positions in `FeedbackTable.gates`; `at` is in microseconds.

    `operators` and `sessions` are 64-bit hashes of ids; 0 is an empty id. `least_propensities` are NaN in a table
    without that column.
    """

    gates: npt.NDArray[np.uint32]
    scores: Floats
    accepted: npt.NDArray[np.bool_]
    propensities: Floats
    least_propensities: Floats
    operators: Ids
    sessions: Ids
    at: Times


@dataclass
class FeedbackTable:
    """The labels in the file at `path`; `gates` are the (process cluster, stratum) met so far, `rows` their count."""

    path: Path
    gates: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: int = 0

    def read_batches(self) -> Iterator[Batch]:
        """Every label of the file.

        Raises UnavailableError where the file cannot be opened, DamagedArtefactError for broken Parquet, EvidenceError
        for a table without rows, and InvalidInputError for a missing column or a wrong value, naming file, column and
        row (the first row of data is row 1).
        """
        batches = self._open_parquet() if self._is_parquet() else self._open_csv()
        for batch in batches:
            if batch.num_rows:
                yield self._convert(batch)
                self.rows += batch.num_rows
        if not self.rows:
            raise EvidenceError("has no labels", where=str(self.path), remedy="one row a label")

    def _is_parquet(self) -> bool:
        try:
            with self.path.open("rb") as file:
                start = file.read(4)
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}", where=str(self.path)) from error
        if not start:
            raise EvidenceError("is empty", where=str(self.path), remedy="one row a label")
        if start != b"PAR1" and self.path.suffix in (".parquet", ".pq"):
            raise DamagedArtefactError("is no Parquet file", where=str(self.path), remedy="write it again")
        return start == b"PAR1"

    def _open_parquet(self) -> Iterator[pa.RecordBatch]:
        with self._named_damage():
            schema = pa.parquet.read_schema(self.path)
        columns = self._require_columns(schema.names)
        repeated = [name for name in ("process_cluster", "stratum", "operator") if _is_text(schema.field(name).type)]
        with self._named_damage():
            file = pa.parquet.ParquetFile(
                self.path,
                read_dictionary=repeated,
                buffer_size=1 << 20,  # pages are streamed: a row group may hold the whole file
                pre_buffer=False,
                page_checksum_verification=True,
            )
        batches = file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)
        while True:
            with self._named_damage():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _open_csv(self) -> Iterator[pa.RecordBatch]:
        reading = pa.csv.ReadOptions(use_threads=False, block_size=1 << 22)
        parsing = pa.csv.ParseOptions(newlines_in_values=True)
        try:
            with pa.csv.open_csv(self.path, reading, parsing) as head:
                columns = self._require_columns(head.schema.names)
            converting = pa.csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            )
            yield from pa.csv.open_csv(self.path, reading, parsing, converting)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise InvalidInputError(f"is no CSV: {_first_line(error)}", where=str(self.path)) from error

    @contextmanager
    def _named_damage(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            what = f"is damaged after row {self.rows}: {_first_line(error)}"
            raise DamagedArtefactError(what, where=str(self.path), remedy="write it again") from error

    def _require_columns(self, names: list[str]) -> list[str]:
        """The columns to read. Raises InvalidInputError where one is missing or there twice."""
        for column in COLUMNS:
            if names.count(column) != 1:
                what = "is there more than once" if column in names else f"is missing among {', '.join(names)}"
                raise InvalidInputError(what, where=f"{self.path}, column {column}")
        return [*COLUMNS, LEAST_PROPENSITY] if LEAST_PROPENSITY in names else list(COLUMNS)

    def _convert(self, batch: pa.RecordBatch) -> Batch:
        propensities = self._read_share(batch, "propensity")
        _raise_first(propensities <= 0.0, lambda row: self._refuse("propensity", row, "0 is not in (0, 1]"))
        least = np.full(batch.num_rows, np.nan)
        if LEAST_PROPENSITY in batch.schema.names:
            least = self._read_share(batch, LEAST_PROPENSITY)
            wrong = (least <= 0.0) | (least > propensities)
            _raise_first(wrong, lambda row: self._refuse(LEAST_PROPENSITY, row, f"{least[row]} > propensity, or 0"))
        return Batch(
            gates=self._read_gates(batch),
            scores=self._read_share(batch, "score"),
            accepted=self._read_verdicts(batch),
            propensities=propensities,
            least_propensities=least,
            operators=self._read_ids(batch, "operator"),
            sessions=self._read_ids(batch, "session_id"),
            at=self._read_times(batch),
        )

    def _refuse(self, column: str, row: int, what: str) -> InvalidInputError:
        return InvalidInputError(what, where=f"{self.path}, column {column}, row {self.rows + row + 1}")

    def _read_gates(self, batch: pa.RecordBatch) -> npt.NDArray[np.uint32]:
        names, codes = [], []
        for column in ("process_cluster", "stratum"):
            values = batch.column(column)
            encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
            words = ["" if word is None else str(word) for word in encoded.dictionary.to_pylist()]
            code = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False).astype(np.int64)
            words.append("")
            empty = np.array([not word.strip() for word in words])
            if empty[code].any():
                raise self._refuse(column, int(np.argmax(empty[code])), "is empty")
            names.append(words)
            codes.append(code)
        pairs = codes[0] * len(names[1]) + codes[1]
        numbers = np.zeros(len(names[0]) * len(names[1]), dtype=np.uint32)
        numbers[pairs] = 1
        for pair in np.flatnonzero(numbers).tolist():
            gate = (names[0][pair // len(names[1])], names[1][pair % len(names[1])])
            numbers[pair] = self.gates.setdefault(gate, len(self.gates))
        return np.asarray(numbers[pairs], dtype=np.uint32)

    def _read_ids(self, batch: pa.RecordBatch, column: str) -> Ids:
        try:
            return hash_ids(batch.column(column))
        except pa.ArrowException as error:
            what = f"{batch.column(column).type} is no kind of id"
            raise InvalidInputError(what, where=f"{self.path}, column {column}") from error

    def _read_share(self, batch: pa.RecordBatch, column: str) -> Floats:
        """A column of numbers in [0, 1]."""
        numbers = self._cast(batch, column, pa.float64(), "is no number").to_numpy(zero_copy_only=False)
        outside = ~((numbers >= 0.0) & (numbers <= 1.0))
        _raise_first(outside, lambda row: self._refuse(column, row, f"{numbers[row]} is not in [0, 1]"))
        return np.asarray(numbers, dtype=np.float64)

    def _read_verdicts(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        values = self._filled(batch, "accepted")
        if pa.types.is_boolean(values.type):
            return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.bool_)
        encoded = values.dictionary_encode()
        codes = encoded.indices.to_numpy()
        meant = []
        for code, value in enumerate(encoded.dictionary.to_pylist()):
            verdict = VERDICTS.get(value.strip().lower() if isinstance(value, str) else value)
            if verdict is None:
                what = f"{value!r} is neither accepted nor rejected (write true or false)"
                raise self._refuse("accepted", int(np.flatnonzero(codes == code)[0]), what)
            meant.append(verdict)
        return np.asarray(np.array(meant)[codes], dtype=np.bool_)

    def _read_times(self, batch: pa.RecordBatch) -> Times:
        """Microseconds since 1970. Times without an offset are UTC."""
        values = self._filled(batch, "at")
        if _is_text(values.type):
            for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
                try:
                    return np.asarray(values.cast(kind).cast(pa.int64()).to_numpy(), dtype=np.int64)
                except pa.ArrowInvalid:
                    continue
            return np.array([self._read_time(text, row) for row, text in enumerate(values.to_pylist())], dtype=np.int64)
        if pa.types.is_temporal(values.type) and not pa.types.is_time(values.type):
            stamps = values.cast(pa.timestamp("us", getattr(values.type, "tz", None)), safe=False)
            return np.asarray(stamps.cast(pa.int64()).to_numpy(), dtype=np.int64)
        numbers = self._cast(batch, "at", pa.float64(), "is no time").to_numpy()
        _raise_first(
            ~(np.abs(numbers) < LATEST_MILLISECONDS), lambda row: self._refuse("at", row, f"{numbers[row]} is no time")
        )
        return np.asarray(numbers * np.where(np.abs(numbers) >= MILLISECONDS_FROM, 1e3, 1e6), dtype=np.int64)

    def _read_time(self, text: str, row: int) -> int:
        try:
            return parse_microseconds(text)
        except ValueError as error:
            raise self._refuse("at", row, f"{text!r} is no RFC 3339 time") from error

    def _filled(self, batch: pa.RecordBatch, column: str) -> pa.Array:
        values = batch.column(column)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if values.null_count:
            raise self._refuse(
                column, int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]), "is empty"
            )
        return values

    def _cast(self, batch: pa.RecordBatch, column: str, kind: pa.DataType, problem: str) -> pa.Array:
        values = self._filled(batch, column)
        try:
            return _trimmed(values).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            for row in range(len(values)):
                try:
                    _trimmed(values.slice(row, 1)).cast(kind)
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    said = values[row].as_py()
                    raise self._refuse(column, row, f"{said!r} {problem}" if said != "" else "is empty") from error
            raise


def parse_microseconds(text: str) -> int:
    """An RFC 3339 time (without offset: UTC), or Unix seconds, as microseconds since 1970. Raises ValueError."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        number = float(text)
        if not abs(number) < LATEST_MILLISECONDS:
            raise
        return int(number * (1e3 if abs(number) >= MILLISECONDS_FROM else 1e6))
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1e6)


def _trimmed(values: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(values) if _is_text(values.type) else values


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _raise_first(wrong: npt.NDArray[np.bool_], build: Callable[[int], InvalidInputError]) -> None:
    if wrong.any():
        raise build(int(np.argmax(wrong)))


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
