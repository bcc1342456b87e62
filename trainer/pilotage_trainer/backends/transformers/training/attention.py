"""Attention of packed rows: each sequence sees itself and nothing else, and no mask is ever built.

On CUDA it is torch's variable-length flash kernel, elsewhere one call of torch's attention for each sequence. A mask of
a 32,768-token row would be 1 GiB, and most of what is computed under it would be thrown away. Training only: serving
loads a model with its own attention.
"""

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10: one call for each sequence
    varlen_attn = None

PACKED = "pilotage_packed"
"""The name models are told to find this attention by."""


def attend_packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    lengths: tuple[int, ...] = (),
    offsets: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of `lengths` (their sum is T; none: the row is one sequence).

    `query` `[1, heads, T, size]`, `key` and `value` `[1, key-value heads, T, size]`; gives `[1, T, heads, size]`.
    `offsets` `[len(lengths) + 1]` are the same boundaries on the device, as the flash kernel takes them.
    """
    if query.is_cuda and varlen_attn is not None and offsets is not None and query.dtype != torch.float32:
        longest = max(lengths)
        rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]
        out = varlen_attn(
            *rows, offsets, offsets, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=True
        )
        return out[None], None
    pieces = zip(
        *(torch.split(tensor, lengths or query.shape[2], dim=2) for tensor in (query, key, value)), strict=True
    )
    done = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in pieces
    ]
    return torch.cat(done, dim=2).transpose(1, 2), None


def build_no_mask(*_: Any, **__: Any) -> None:
    """The boundaries travel as lengths."""


def register_packed() -> None:
    """Make PACKED known to transformers."""
    AttentionInterface.register(PACKED, attend_packed)
    AttentionMaskInterface.register(PACKED, build_no_mask)
