"""Several sequences in one row, so that almost nothing of a batch is padding. Pure.

A row holds whole sequences one behind the other; positions begin anew with each, from which variable-length attention
knows where one ends. Not here: tokens (sequences.py), files (shards.py), batches (batches.py).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypedDict

import numpy as np

Tokens = Sequence[int] | np.ndarray[Any, np.dtype[np.int32]]


class Packable(Protocol):
    """A sequence: tokens, and what is to be predicted in place of each."""

    @property
    def input_ids(self) -> Tokens:
        """Its tokens."""
        ...

    @property
    def labels(self) -> Tokens:
        """As many as tokens; sequences.IGNORED carries no loss."""
        ...


class Row(TypedDict):
    """What a batch is made of: three arrays of one length."""

    input_ids: Tokens
    labels: Tokens
    position_ids: Tokens


def plan_rows(lengths: Sequence[int], pack_tokens: int) -> list[list[int]]:
    """Which sequences share a row: indices into `lengths`, every one of them once.

    Best-fit decreasing: from the longest to the shortest each goes to the fullest row that has room for it. A row holds
    at most max(`pack_tokens`, longest sequence) tokens. Deterministic; O(n log n) but for moves within one list.
    """
    capacity = max(pack_tokens, max(lengths, default=0))
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = bisect_left(room, (lengths[index], 0))
        if place < len(room):
            left, row = room.pop(place)
        else:
            left, row = capacity, len(rows)
            rows.append([])
        rows[row].append(index)
        if left > lengths[index]:
            insort(room, (left - lengths[index], row))
    return rows


def pack(sequences: Sequence[Packable], pack_tokens: int) -> list[Row]:
    """`sequences` in rows of at most max(`pack_tokens`, longest sequence) tokens."""
    plan = plan_rows([len(sequence.input_ids) for sequence in sequences], pack_tokens)
    return [build_row(sequences[index] for index in row) for row in plan]


def build_row(sequences: Iterable[Packable]) -> Row:
    """`sequences` one behind the other."""
    ids, labels = zip(*((sequence.input_ids, sequence.labels) for sequence in sequences), strict=True)
    return Row(
        input_ids=np.concatenate([np.asarray(part, np.int32) for part in ids]),
        labels=np.concatenate([np.asarray(part, np.int32) for part in labels]),
        position_ids=np.concatenate([np.arange(len(part), dtype=np.int32) for part in ids]),
    )


def padding_share(rows: int, tokens: int, pack_tokens: int) -> float:
    """The share of `rows` rows of `pack_tokens` that `tokens` tokens leave empty."""
    return 1.0 - tokens / (rows * pack_tokens) if rows else 0.0
