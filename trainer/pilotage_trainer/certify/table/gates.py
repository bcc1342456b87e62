"""Labels of many gates, in any order, gathered gate by gate in bounded memory.

Rows are dealt to PARTS by gate as they are read. What does not fit in memory goes to temporary files (TMPDIR; some 69
bytes a label), and one part at a time comes back. Not here: the table (labels.py), what labels say.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pilotage_core.errors import InvalidInputError
from pilotage_trainer.certify.table.ids import mix
from pilotage_trainer.certify.table.labels import Batch

PARTS = 256
RETRY_SECONDS = 60
MEMORY_BYTES = 32 << 20
"""Rows held before they go to files."""
ROW = np.dtype(
    [
        ("gate", "u4"),
        ("accepted", "?"),
        ("score", "f8"),
        ("propensity", "f8"),
        ("least_propensity", "f8"),
        ("operator", "u8"),
        ("session", "u8"),
        ("label", "u8"),
        ("at", "i8"),
        ("row", "u8"),
    ]
)
Rows = npt.NDArray[np.void]


def gather_gates(batches: Iterable[Batch], memory_bytes: int = MEMORY_BYTES) -> Iterator[tuple[int, Rows]]:
    """The rows of each gate, in file order. Nothing comes before all of `batches` are read.

    Raises OSError where temporary files find no room.
    """
    with tempfile.TemporaryDirectory(prefix="pilotage-train-") as folder:
        parts = _Parts(Path(folder))
        for batch in batches:
            parts.add(_build_rows(batch))
            if parts.held_bytes > memory_bytes:
                parts.spill()
        for part in range(PARTS):
            rows = parts.take(part)
            rows = rows[np.argsort(rows["gate"], kind="stable")]
            bounds = np.flatnonzero(np.diff(rows["gate"])) + 1
            for of_gate in np.split(rows, bounds) if len(rows) else []:
                yield int(of_gate["gate"][0]), of_gate


def keep_first(rows: Rows) -> Rows:
    """`rows`, all of one gate, without those that tell a label again.

    By its id where it has one. Else a row that equals an earlier one (exports pasted together), and one that accepts
    and equals an earlier one but for a time at most RETRY_SECONDS later, of it or of one that repeats it (an answer
    sent again). Two rejections that look like one may be two: each counts. Raises InvalidInputError where a label's id
    comes with two contents.
    """
    content = rows["accepted"].astype(np.uint64)
    for name in ("score", "propensity", "least_propensity", "operator", "session"):
        content = mix(content, rows[name].view(np.uint64))
    named = rows["label"] != 0
    key = np.where(named, rows["label"], content)
    order = np.lexsort((rows["row"], rows["at"], key, named))
    before, after = order[:-1], order[1:]
    same = (key[before] == key[after]) & (named[before] == named[after])
    differs = same & named[after] & (content[before] != content[after])
    if differs.any():
        at = int(np.argmax(differs))
        first, second = sorted((int(rows["row"][before[at]]), int(rows["row"][after[at]])))
        what = f"is one label's in rows {first} and {second}, which differ"
        raise InvalidInputError(what, where="the label's id", remedy="keep the row that stands")
    later = rows["at"][after] - rows["at"][before]
    again = same & (named[after] | (later == 0) | (rows["accepted"][after] & (later <= RETRY_SECONDS * 1_000_000)))
    kept = np.ones(len(rows), dtype=np.bool_)
    kept[after[again]] = False
    return rows if kept.all() else rows[kept]


class _Parts:
    """Rows by part: those held, and those in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[list[Rows]] = [[] for _ in range(PARTS)]
        self.held_bytes = 0

    def add(self, rows: Rows) -> None:
        """Deal `rows` to their parts, keeping their order."""
        part = (rows["gate"] % PARTS).astype(np.uint8)  # small integers are sorted by radix
        rows = rows[np.argsort(part, kind="stable")]
        bounds = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=PARTS))])
        for number in np.unique(part).tolist():
            self._held[number].append(rows[bounds[number] : bounds[number + 1]])
        self.held_bytes += rows.nbytes

    def spill(self) -> None:
        """Append what is held to the files."""
        for number, held in enumerate(self._held):
            if held:
                with self._path(number).open("ab") as file:
                    for rows in held:
                        file.write(rows.view(np.uint8).data)
        self._held = [[] for _ in range(PARTS)]
        self.held_bytes = 0

    def take(self, number: int) -> Rows:
        """All rows of a part, which are let go of."""
        path, held = self._path(number), self._held[number]
        self._held[number] = []
        if path.exists():
            held.insert(0, np.fromfile(path, dtype=ROW))
            path.unlink()
        return np.concatenate(held) if held else np.zeros(0, dtype=ROW)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.rows"


def _build_rows(batch: Batch) -> Rows:
    rows = np.empty(len(batch.gates), dtype=ROW)
    columns = (
        batch.gates,
        batch.accepted,
        batch.scores,
        batch.propensities,
        batch.least_propensities,
        batch.operators,
        batch.sessions,
        batch.labels,
        batch.at,
        batch.rows,
    )
    for name, values in zip(ROW.names or (), columns, strict=True):
        rows[name] = values
    return rows
