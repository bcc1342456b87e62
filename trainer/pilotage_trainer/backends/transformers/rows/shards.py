"""Rows on disk: Arrow files that are mapped, not read, so a data set may be larger than memory.

FOLDER/<split>/data-00000-of-00002.arrow, with the columns of packing.Row, in the streaming format of `datasets`
(`Dataset.from_file` opens one). Not here: which rows there are (packing.py), the rest of the folder (job.py).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow

from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends.transformers.rows.packing import Row
from pilotage_trainer.failures import DamagedArtefactError

COLUMNS = ("input_ids", "labels", "position_ids")
SCHEMA = pyarrow.schema([(name, pyarrow.list_(pyarrow.int32())) for name in COLUMNS])
TOKENS_A_BATCH = 1 << 18
TOKENS_A_SHARD = 1 << 25
"""A shard of 400 MB; a record batch of 3 MB is what a reader touches."""


def write_shards(folder: Path, split: str, rows: Iterable[Row], tokens: int = 0) -> int:
    """Write `rows` to `folder`/`split`; how many there were. `tokens` is about how many tokens they hold in all.

    Raises OSError; whoever calls puts the folder in place when all is written.
    """
    shards = max(1, -(-tokens // TOKENS_A_SHARD))
    (folder / split).mkdir(parents=True, exist_ok=True)
    batches, number = _batch(rows), 0
    for shard in range(shards):
        path = folder / split / f"data-{shard:05}-of-{shards:05}.arrow"
        with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, SCHEMA) as stream:
            written = 0
            for batch in batches:
                stream.write_batch(batch)
                number += len(batch)
                written += len(batch.column(0).values)
                if written >= TOKENS_A_SHARD and shard + 1 < shards:
                    break
    return number


class Rows(Sequence[Row]):
    """The rows of a split, mapped into memory: arrays that are read when they are touched."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._batches = [batch for path in files for batch in _map_file(path)]
        self._ends = list(accumulate(len(batch) for batch in self._batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        which = bisect_right(self._ends, place)
        batch = self._batches[which]
        offset = place - (self._ends[which] - len(batch))
        ids, labels, positions = (batch.column(name)[offset].values.to_numpy() for name in COLUMNS)
        return Row(input_ids=ids, labels=labels, position_ids=positions)

    def __reduce__(self) -> tuple[type["Rows"], tuple[tuple[Path, ...]]]:
        return Rows, (self._files,)

    @property
    def tokens(self) -> int:
        """How many tokens all rows hold."""
        return sum(len(batch.column(0).flatten()) for batch in self._batches)


def read_rows(folder: Path, split: str) -> Rows:
    """The rows of `split` in the data set at `folder`.

    Raises EvidenceError where there is no such split, DamagedArtefactError where shards are missing or damaged.
    """
    files = sorted((folder / split).glob("data-*.arrow"))
    if not files:
        found = ", ".join(sorted(path.name for path in folder.glob("*") if any(path.glob("data-*.arrow"))))
        raise EvidenceError(
            f"has no rows of {split!r}", where=str(folder), remedy=f"splits: {found}" if found else "make it anew"
        )
    expected = int(files[0].stem.rpartition("-of-")[2])
    if len(files) != expected:
        raise DamagedArtefactError(f"{len(files)} of {expected} shards are here", where=str(folder / split))
    return Rows(files)


def _map_file(path: Path) -> list[Any]:
    try:
        return list(pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))))
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DamagedArtefactError(f"is no whole shard: {error}", where=str(path), remedy="make it anew") from error


def _batch(rows: Iterable[Row]) -> Iterator[Any]:
    held: list[Row] = []
    tokens = 0
    for row in rows:
        held.append(row)
        tokens += len(row["input_ids"])
        if tokens >= TOKENS_A_BATCH:
            yield _build_batch(held)
            held, tokens = [], 0
    if held:
        yield _build_batch(held)


def _build_batch(rows: Sequence[Row]) -> Any:
    offsets = pyarrow.array([0, *accumulate(len(row["input_ids"]) for row in rows)], pyarrow.int32())
    columns = [[row["input_ids"] for row in rows], [row["labels"] for row in rows], [r["position_ids"] for r in rows]]
    values = [np.concatenate([np.asarray(part, np.int32) for part in column]) for column in columns]
    arrays = [pyarrow.ListArray.from_arrays(offsets, pyarrow.array(value)) for value in values]
    return pyarrow.RecordBatch.from_arrays(arrays, schema=SCHEMA)
