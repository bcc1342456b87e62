"""Which rows make which batch, and rows as tensors. All of it follows from a seed and a step: nothing to restore.

A row is a mapping with `input_ids`, `labels` and `position_ids` of one length T (positions begin anew where a sequence
does) and, where losses are weighed, `weights`; lists or arrays, so a datasets.Dataset is one as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from pilotage_core.training import BatchUnit, Optimisation
from pilotage_trainer.backends.transformers.rows.sequences import IGNORED

SAMPLED = 256
"""Rows that say how many sequences a row has."""
TEXT_DRAWN = 0.25
"""The share of other tokens that a batch learns from where it does: logits cost most of a small model's time."""
Row = Mapping[str, Any]
Rows = Sequence[Row]


@dataclass(frozen=True)
class Batch:
    """Rows one behind the other, and what is to be predicted in them.

    `input_ids`, `position_ids` `[1, T]`; `lengths` of the sequences in it and `offsets` between them; `places` `[n]`
    are where the model predicts `targets` `[n]` (the token before each), `weights` `[n]` what each loss counts, and the
    first `actions` of them are what was to be learned: the rest is the dialog's text. Without `counts` it only keeps
    step with other processes: none of its losses is one.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    lengths: tuple[int, ...]
    offsets: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    actions: int
    counts: bool = True

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, torch.Tensor)}
        return type(self)(**{**vars(self), **moved})

    def silence(self) -> Self:
        """The same without any loss: for a process that has no row of its own left in a batch."""
        return type(self)(**{**vars(self), "weights": torch.zeros_like(self.weights), "counts": False})


def collate(rows: Sequence[Row], text_weight: float = 0.0, seed: tuple[int, ...] = (0,)) -> Batch:
    """`rows` as one batch. The first token of a sequence is never a target: nothing before it belongs to it.

    With `text_weight` a quarter of all other tokens, drawn by `seed`, are targets too; together they count
    `text_weight` times what the labelled ones do.
    """
    ids, positions, labels = (
        np.concatenate([np.asarray(row[name], dtype=np.int64) for row in rows])
        for name in ("input_ids", "position_ids", "labels")
    )
    weights = np.concatenate([np.asarray(row.get("weights", np.ones(len(row["labels"]))), np.float32) for row in rows])
    starts = np.flatnonzero(positions == 0)
    offsets = np.append(starts, len(ids)).astype(np.int32)
    places = np.flatnonzero((labels != IGNORED) & (positions > 0))
    weights, actions = weights[places], len(places)
    if text_weight:
        drawn = np.random.default_rng(seed).random(len(ids)) < TEXT_DRAWN
        text = np.flatnonzero((labels == IGNORED) & (positions > 0) & drawn)
        share = text_weight * float(weights.sum()) / max(len(text), 1)
        labels = np.where(labels == IGNORED, ids, labels)
        places = np.concatenate([places, text])
        weights = np.concatenate([weights, np.full(len(text), share, dtype=np.float32)])
    return Batch(
        input_ids=torch.from_numpy(ids)[None],
        position_ids=torch.from_numpy(positions)[None],
        lengths=tuple(int(n) for n in np.diff(offsets)),
        offsets=torch.from_numpy(offsets),
        places=torch.from_numpy(places - 1),
        targets=torch.from_numpy(labels[places]),
        weights=torch.from_numpy(weights),
        actions=actions,
    )


def find_batch_size(settings: Optimisation, rows: Rows) -> int:
    """Rows in a batch. Where it is counted in sequences, by how many the first SAMPLED rows have."""
    if settings.batch_in is BatchUnit.ROWS:
        return settings.global_batch
    sampled = [rows[i]["position_ids"] for i in range(min(len(rows), SAMPLED))]
    return count_rows(settings.global_batch, sum(int(np.sum(np.asarray(each) == 0)) for each in sampled) / len(sampled))


def count_rows(sequences: int, sequences_a_row: float) -> int:
    """Rows that hold so many sequences on average; one at least."""
    return max(1, round(sequences / max(sequences_a_row, 1.0)))


class BatchOrder:
    """The rows of every batch: `epochs` permutations of `rows` one after the other, `size` at a time."""

    def __init__(self, rows: int, size: int, epochs: int, seed: int) -> None:
        self.rows, self.size, self.seed = rows, size, seed
        self.steps = -(-rows * epochs // size)
        self._drawn: dict[int, np.ndarray[Any, np.dtype[np.int64]]] = {}
        self._total = rows * epochs

    def __getitem__(self, step: int) -> list[int]:
        """The rows of batch `step` (from 0); the last one may be smaller."""
        places = range(step * self.size, min((step + 1) * self.size, self._total))
        return [int(self._epoch(place // self.rows)[place % self.rows]) for place in places]

    def _epoch(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if epoch not in self._drawn:
            self._drawn = {k: v for k, v in self._drawn.items() if k == epoch - 1}
            self._drawn[epoch] = np.random.default_rng((self.seed, epoch)).permutation(self.rows)
        return self._drawn[epoch]


def share_out(batch: Sequence[int], process: int, processes: int, micro_batch: int) -> list[list[int]]:
    """The micro-batches of one process; every process has as many, an empty one where there is no row left for it."""
    most = -(-len(batch) // processes)
    own = list(batch[process::processes])
    return [own[at : at + micro_batch] for at in range(0, most, micro_batch)]
