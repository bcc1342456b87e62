"""A table of labels, read in batches of bounded memory into arrays; what is wrong is named by its row.

In: batches of a file (file.py), one row a label. Out: `Batch`es of codes and numbers. Not here: gathering the
labels of one gate (gates.py), what they certify (calibration.py). Nor hashing (ids.py), nor how times are written
(times.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_trainer.certify.table.file import LABEL, LEAST_PROPENSITY, is_text, read_record_batches
from pilotage_trainer.certify.table.ids import (
    MISSING,
    MISSING_IDS,
    ZERO_WIDTH,
    Ids,
    find_control,
    fold_case,
    hash_ids,
    holds_control,
)
from pilotage_trainer.certify.table.times import NO_UNIX_TIME, Floats, parse_microseconds, read_unix_times

VERDICTS: Mapping[object, bool] = {
    **dict.fromkeys((True, "true", "1", "1.0", "accept", "accepted", "yes", 1), True),
    **dict.fromkeys((False, "false", "0", "0.0", "reject", "rejected", "no", 0), False),
}

HOLDS_CONTROL = "holds a line's end or another control character: has a quote swallowed rows?"
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows in file order. `gates` are positions in `LabelTable.gates`; `at` is in microseconds.

    `operators`, `sessions` and `labels` are 64-bit hashes of ids; 0 is a missing id, in `labels` everywhere in a table
    without that column. `least_propensities` are NaN in a table without theirs. `rows` are counted from 1.
    """

    gates: npt.NDArray[np.uint32]
    scores: Floats
    accepted: npt.NDArray[np.bool_]
    propensities: Floats
    least_propensities: Floats
    operators: Ids
    sessions: Ids
    labels: Ids
    at: Times
    rows: npt.NDArray[np.uint64]


@dataclass
class LabelTable:
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
        for batch in read_record_batches(self.path):
            if batch.num_rows:
                yield self._convert(batch)
                self.rows += batch.num_rows
        if not self.rows:
            raise EvidenceError("has no labels", where=str(self.path), remedy="one row a label")

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
            labels=self._read_ids(batch, LABEL) if LABEL in batch.schema.names else np.zeros(batch.num_rows, np.uint64),
            at=self._read_times(batch),
            rows=np.arange(self.rows + 1, self.rows + batch.num_rows + 1, dtype=np.uint64),
        )

    def _refuse(self, column: str, row: int, what: str) -> InvalidInputError:
        return InvalidInputError(what, where=f"{self.path}, column {column}, row {self.rows + row + 1}")

    @contextmanager
    def _named_kind(self, batch: pa.RecordBatch, column: str) -> Iterator[None]:
        try:
            yield
        except pa.ArrowException as error:
            what = f"cannot be read as {batch.column(column).type}: {error}"
            raise InvalidInputError(what, where=f"{self.path}, column {column}") from error

    def _refuse_kind(self, batch: pa.RecordBatch, column: str, problem: str) -> InvalidInputError:
        return InvalidInputError(f"{batch.column(column).type} {problem}", where=f"{self.path}, column {column}")

    def _read_gates(self, batch: pa.RecordBatch) -> npt.NDArray[np.uint32]:
        names, codes = [], []
        for column in ("process_cluster", "stratum"):
            values = batch.column(column)
            is_encoded = pa.types.is_dictionary(values.type)
            if not _is_name(values.type.value_type if is_encoded else values.type):
                raise self._refuse_kind(batch, column, "is no kind of name")
            encoded = values if is_encoded else values.dictionary_encode()
            with self._named_kind(batch, column):
                words = [(word or "").strip() for word in encoded.dictionary.cast(pa.string()).to_pylist()]
            words.append("")
            code = encoded.indices.cast(pa.int64()).fill_null(len(words) - 1).to_numpy(zero_copy_only=False)
            why = [_refuse_name(column, word) for word in words]
            wrong = np.array([bool(said) for said in why])[code]
            if wrong.any():
                row = int(np.argmax(wrong))
                raise self._refuse(column, row, why[code[row]])
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
        values = batch.column(column)
        try:
            hashed = hash_ids(values if column == LABEL else fold_case(values))
        except pa.ArrowException as error:
            raise self._refuse_kind(batch, column, "is no kind of id") from error
        texts = values.dictionary if pa.types.is_dictionary(values.type) else values
        if is_text(texts.type) and holds_control(texts):
            _raise_first(find_control(values), lambda row: self._refuse(column, row, HOLDS_CONTROL))
        return np.where(np.isin(hashed, MISSING_IDS), np.uint64(0), hashed)

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
        if not (is_text(values.type) or _is_number(values.type)):
            raise self._refuse_kind(batch, "accepted", "is no kind of verdict (write true or false)")
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
        if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
            with self._named_kind(batch, "at"):
                to_microseconds = pa.timestamp("us", getattr(values.type, "tz", None))
                stamps = pc.cast(values, options=pc.CastOptions(to_microseconds, allow_time_truncate=True))
                return np.asarray(stamps.cast(pa.int64()).to_numpy(), dtype=np.int64)
        if _is_number(values.type):
            numbers = values.cast(pa.float64(), safe=False)  # whole nanoseconds are no floats
        elif is_text(values.type):
            values = _trimmed(values)
            for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us")):
                try:
                    return np.asarray(values.cast(kind).cast(pa.int64()).to_numpy(), dtype=np.int64)
                except pa.ArrowInvalid:
                    continue
            try:
                numbers = values.cast(pa.float64())
            except pa.ArrowInvalid:
                times = [self._read_time(text, row) for row, text in enumerate(values.to_pylist())]
                return np.array(times, dtype=np.int64)
        else:
            raise self._refuse_kind(batch, "at", "is no kind of time")
        unix = read_unix_times(numbers.to_numpy())
        _raise_first(np.isnan(unix), lambda row: self._refuse("at", row, f"{values[row].as_py()!r} {NO_UNIX_TIME}"))
        return unix.astype(np.int64)

    def _read_time(self, text: str, row: int) -> int:
        if not text:
            raise self._refuse("at", row, "is empty")
        try:
            return parse_microseconds(text)
        except ValueError as error:
            raise self._refuse("at", row, f"{text!r} {error}") from error

    def _filled(self, batch: pa.RecordBatch, column: str) -> pa.Array:
        """The column without its dictionary, bytes as text. Raises InvalidInputError for an empty cell."""
        values = batch.column(column)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if _is_bytes(values.type):
            with self._named_kind(batch, column):
                values = values.cast(pa.string())
        if values.null_count:
            raise self._refuse(
                column, int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]), "is empty"
            )
        return values

    def _cast(self, batch: pa.RecordBatch, column: str, kind: pa.DataType, problem: str) -> pa.Array:
        values = self._filled(batch, column)
        try:
            return _trimmed(values).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as refusal:
            for row in range(len(values)):
                try:
                    _trimmed(values.slice(row, 1)).cast(kind)
                except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                    said = values[row].as_py()
                    raise self._refuse(column, row, f"{said!r} {problem}" if said != "" else "is empty") from error
            raise self._refuse_kind(batch, column, problem) from refusal


def _refuse_name(column: str, word: str) -> str:
    """Why `word` names no process cluster or stratum; empty where it does."""
    if not word or word in ZERO_WIDTH:
        return "is empty"
    if word.casefold() in MISSING:
        return f"{word!r} is what exporters write for a missing value"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in word):
        return HOLDS_CONTROL
    if column == "process_cluster" and (word.count("/") != 1 or word.startswith("/") or word.endswith("/")):
        return f"{word!r} is no namespace/name"
    return ""


def _trimmed(values: pa.Array) -> pa.Array:
    return pc.utf8_trim_whitespace(values) if is_text(values.type) else values


def _is_bytes(kind: pa.DataType) -> bool:
    """Bytes that may be text, as Parquet's BINARY without annotation is, and views of text."""
    is_view = pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    is_variable = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return bool(is_view or is_variable or pa.types.is_fixed_size_binary(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_name(kind: pa.DataType) -> bool:
    return bool(is_text(kind) or _is_bytes(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind))


def _raise_first(wrong: npt.NDArray[np.bool_], build: Callable[[int], InvalidInputError]) -> None:
    if wrong.any():
        raise build(int(np.argmax(wrong)))
