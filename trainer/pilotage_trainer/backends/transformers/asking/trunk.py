"""A dialog in the key-value cache (the trunk) and many continuations of it at once (branches), in one row.

A dialog is append-only, so a session is read once however many points of it are asked about. What a branch sees is
decided by the mask: the trunk up to its own base, and itself. Not here: which tokens are chosen (inference.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from pilotage_core.errors import InvalidInputError

ROOM = 256
"""Tokens a cache grows by at least: growing copies it."""


@dataclass
class Branch:
    """One continuation: it sees the first `base` tokens of the trunk, then its own `ids`."""

    number: int
    base: int
    ids: list[int] = field(default_factory=list)


class RoomyLayer(DynamicLayer):
    """A DynamicLayer that does not copy everything it holds for each token that is added."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append `[1, heads, new, size]`; gives all that is held."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._room = torch.empty(2, *key_states.shape[:2], 0, key_states.shape[-1], dtype=key_states.dtype)
            self._room = self._room.to(key_states.device)
            self.keys, self.values = self._room[0], self._room[1]
        held = self.keys.shape[-2]
        end = held + key_states.shape[-2]
        if end > self._room.shape[-2]:
            grown = self._room.new_empty(*self._room.shape[:-2], end + max(ROOM, end // 4), self._room.shape[-1])
            grown[..., :held, :] = self._room[..., :held, :]
            self._room = grown
        self._room[0, ..., held:end, :] = key_states
        self._room[1, ..., held:end, :] = value_states
        self.keys, self.values = self._room[0, ..., :end, :], self._room[1, ..., :end, :]
        return self.keys, self.values


class Trunk:
    """One dialog in the cache of `model`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.ids: list[int] = []
        self.longest: int = model.config.max_position_embeddings
        self._branches = 0
        self._owners: list[int] = []  # whose each cached token after the trunk is
        self._cache = DynamicCache()
        self._cache.layers = [RoomyLayer() for _ in range(model.config.num_hidden_layers)]

    def count_common(self, ids: Sequence[int]) -> int:
        """How many tokens `ids` and the trunk begin with in common."""
        low, high = 0, min(len(ids), len(self.ids))
        while low < high:
            middle = (low + high + 1) // 2
            if self.ids[low:middle] == list(ids[low:middle]):
                low = middle
            else:
                high = middle - 1
        return low

    def read(self, ids: Sequence[int], after: Sequence[int]) -> torch.Tensor:
        """Make the trunk `ids`, reading only what is new. Raises InvalidInputError where it is too long.

        Gives the logits `[len(after), vocabulary]` of the token that follows the first n tokens, for each n of `after`.
        """
        if min(after, default=1) == 0:
            raise InvalidInputError("the prompt is empty", where="prompt")
        if len(ids) >= self.longest:
            raise InvalidInputError(f"the prompt has {len(ids)} tokens, the model reads {self.longest}", where="prompt")
        kept = min(self.count_common(ids), min(after, default=len(ids)) - bool(after))
        self._drop_after(kept)
        if kept < len(ids):
            new = torch.tensor([ids[kept:]], device=self.model.device)
            wanted = torch.tensor([n - 1 - kept for n in after], dtype=torch.long, device=self.model.device)
            logits = self._forward(new, None, None, wanted)
        else:
            logits = torch.empty(0, self.model.config.vocab_size)
        self.ids = list(ids)
        return logits

    def branch(self, base: int) -> Branch:
        """A new continuation after the first `base` tokens."""
        self._branches += 1
        return Branch(self._branches, base)

    def grow(self, branches: Sequence[Branch], new: Sequence[Sequence[int]]) -> torch.Tensor:
        """Append the tokens `new[i]` to `branches[i]`, all of them made since the last `cut`.

        Gives the logits `[len(branches), vocabulary]` of the token that follows each. Raises InvalidInputError.
        """
        ends = torch.tensor([len(ids) for ids in new]).cumsum(0) - 1
        return self._grow(branches, new, ends)

    def grow_each(self, branches: Sequence[Branch], new: Sequence[Sequence[int]]) -> torch.Tensor:
        """As `grow`, with the logits after every one of the new tokens, `[sum of lengths, vocabulary]`."""
        return self._grow(branches, new, torch.arange(sum(map(len, new))))

    def cut(self) -> None:
        """Forget all branches."""
        self._drop_after(len(self.ids))

    def _grow(self, branches: Sequence[Branch], new: Sequence[Sequence[int]], wanted: torch.Tensor) -> torch.Tensor:
        device = self.model.device
        owners: list[Branch] = []
        positions: list[int] = []
        for branch, ids in zip(branches, new, strict=True):
            start = branch.base + len(branch.ids)
            if not ids:
                raise InvalidInputError("there is nothing to read", where="item")
            if start + len(ids) > self.longest:
                raise InvalidInputError(
                    f"prompt and reply have {start + len(ids)} tokens, the model reads {self.longest}", where="prompt"
                )
            owners += [branch] * len(ids)
            positions += range(start, start + len(ids))
        mask = self._mask(owners)
        for branch, ids in zip(branches, new, strict=True):
            branch.ids += ids
        flat = torch.tensor([[token for ids in new for token in ids]], device=device)
        return self._forward(flat, mask, torch.tensor([positions], device=device), wanted.to(device))

    def _mask(self, owners: Sequence[Branch]) -> torch.Tensor:
        """What each new token of `owners` sees: `[1, 1, new, trunk + branches + new]`, True where seen."""
        before = len(self._owners)
        self._owners += [branch.number for branch in owners]
        columns, place = torch.tensor(self._owners), torch.arange(len(self._owners))
        own = (columns == columns[before:, None]) & (place <= place[before:, None])
        trunk = torch.arange(len(self.ids)) < torch.tensor([branch.base for branch in owners])[:, None]
        return torch.cat([trunk, own], dim=1)[None, None].to(self.model.device)

    def _drop_after(self, kept: int) -> None:
        held = self._cache.get_seq_length()
        if held > kept:
            self._cache.crop(kept - held)
        self.ids = self.ids[:kept]
        self._owners = []

    @torch.inference_mode()
    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor | None, positions: torch.Tensor | None, wanted: torch.Tensor
    ) -> torch.Tensor:
        told = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=wanted,
        )
        return told.logits[0].float()
