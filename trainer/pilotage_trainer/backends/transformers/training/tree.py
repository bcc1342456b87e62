"""A session once, and everything that is asked about it as branches: one row, told apart by positions alone.

The row is the longest prompt with the first branch behind it, then the others by falling base: wherever positions do
not go on by one, a branch begins; it sees the session up to its own base, and itself. So a tree is a row like any other
(batches.py), and what a branch says is what it would say as a sequence of its own. Not here: what is asked
(critic/data.py), the same in serving (trunk.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from pilotage_trainer.backends.transformers.rows.sequences import IGNORED
from pilotage_trainer.backends.transformers.training.attention import build_no_mask

TREES = "pilotage_trees"
"""The name models are told to find this attention by."""


@dataclass(frozen=True)
class Branch:
    """After the first `base` tokens of the session come `ids`. The last is the target, and weighs `weight`."""

    base: int
    ids: list[int]
    weight: float = 1.0


def build_tree(trunk: Sequence[int], branches: Sequence[Branch]) -> dict[str, Any]:
    """A row of `trunk` (cut to the largest base) and `branches`, in the order of `order_branches`."""
    ordered = [branches[index] for index in order_branches(branches)]
    longest = ordered[0].base
    ids, positions = list(trunk[:longest]), list(range(longest))
    labels, weights = [IGNORED] * longest, [1.0] * longest
    for branch in ordered:
        ids += branch.ids
        positions += range(branch.base, branch.base + len(branch.ids))
        labels += [IGNORED] * (len(branch.ids) - 1) + branch.ids[-1:]
        weights += [branch.weight] * len(branch.ids)
    return {"input_ids": ids, "position_ids": positions, "labels": labels, "weights": weights}


def order_branches(branches: Sequence[Branch]) -> list[int]:
    """The order in which a tree holds `branches`: by falling base, or two could look like one."""
    return sorted(range(len(branches)), key=lambda index: -branches[index].base)


@dataclass(frozen=True)
class TreeShape:
    """One tree of a row: `main` tokens that are one sequence, then `others`, which see what `mask` lets them see.

    `mask` `[others, main + others]`, True where seen.
    """

    main: int
    others: int
    mask: torch.Tensor


def read_shapes(position_ids: torch.Tensor, lengths: Sequence[int]) -> tuple[TreeShape, ...]:
    """The trees of a row: `position_ids` `[1, T]`, each of `lengths` a tree."""
    positions = position_ids[0].cpu().numpy()
    ends = np.cumsum(lengths)
    return tuple(
        _read_shape(positions[end - length : end], position_ids.device)
        for length, end in zip(lengths, ends, strict=True)
    )


def _read_shape(positions: np.ndarray[Any, Any], device: torch.device) -> TreeShape:
    number = np.cumsum(np.diff(positions, prepend=-1) != 1)  # 0: the main sequence
    main = int(np.searchsorted(number, 1))
    starts = np.flatnonzero(np.diff(number[main:], prepend=0))
    bases = positions[main:][starts][number[main:] - 1]
    place = np.arange(len(positions))
    before = place[None] < np.where(place < main, 1, 0)[None] * bases[:, None]
    own = (number[None] == number[main:, None]) & (place[None] <= place[main:, None])
    return TreeShape(main, len(positions) - main, torch.from_numpy(before | own).to(device))


def attend_trees(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    shapes: tuple[TreeShape, ...] = (),
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a row of trees; no `shapes`: the row is one sequence.

    `query` `[1, heads, T, size]`, `key` and `value` `[1, key-value heads, T, size]`; gives `[1, T, heads, size]`.
    """
    done, start = [], 0
    for shape in shapes or (TreeShape(query.shape[2], 0, torch.empty(0)),):
        middle, end = start + shape.main, start + shape.main + shape.others

        q, k, v = (tensor[:, :, start:middle] for tensor in (query, key, value))
        done.append(
            scaled_dot_product_attention(q, k, v, None, dropout, is_causal=True, scale=scaling, enable_gqa=True)
        )
        if shape.others:
            q, k, v = query[:, :, middle:end], key[:, :, start:end], value[:, :, start:end]
            done.append(
                scaled_dot_product_attention(q, k, v, shape.mask[None, None], dropout, scale=scaling, enable_gqa=True)
            )
        start = end
    return torch.cat(done, dim=2).transpose(1, 2), None


def use_trees(model: Any) -> None:
    """Have `model` read rows of trees, given their `shapes`; other rows as before."""
    AttentionInterface.register(TREES, attend_trees)
    AttentionMaskInterface.register(TREES, build_no_mask)
    model.set_attn_implementation(TREES)


def read_targets(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    """The logits `[n, vocabulary]` of each target of `batch`, whose rows are trees, in the rows' order."""
    return model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        logits_to_keep=batch.places,
        use_cache=False,
        shapes=read_shapes(batch.position_ids, batch.lengths),
    ).logits[0]
