"""Which of the actions offered a transformer thinks likeliest, exactly: a session is read once, then a token trie.

The probability of an action is the product of its tokens' (no candidate begins another, so no end token is needed).
A prefix is never less likely than what continues it, so the likeliest prefix is opened first, and the first whole
action that comes up is the best. With a learned tokenizer most actions are one token, and nothing more is run.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from pilotage_core.dialog import DialogFormat, encode_action
from pilotage_trainer.backends.interface import NO_LABEL, Choice, Chosen
from pilotage_trainer.backends.transformers.asking.inference import AT_ONCE, PolicyModel, find_device
from pilotage_trainer.backends.transformers.asking.trunk import Branch, Trunk

Tokens = tuple[int, ...]


@dataclass
class Node:
    """A place in the trie: actions below it by their tokens from here on. `label` where one ends here."""

    below: dict[int, "Node"]
    label: str = NO_LABEL


class Search:
    """The best action at one point: prefixes still open, likeliest first."""

    def __init__(self, root: Node, logprobs: torch.Tensor, base: int) -> None:
        self.base = base
        self.branch: Branch | None = None
        self.found = Chosen(NO_LABEL, 0.0)
        self._open: list[tuple[float, int, Tokens, Node]] = []
        self._count = 0
        self._expand(root, 0.0, (), logprobs)

    def _expand(self, node: Node, so_far: float, prefix: Tokens, logprobs: torch.Tensor) -> None:
        """Open the children of `node`, whose own log probability is `so_far`."""
        tokens = list(node.below)
        for token, logprob in zip(tokens, logprobs[tokens].tolist(), strict=True):
            self._count += 1
            heapq.heappush(self._open, (-(so_far + logprob), self._count, (*prefix, token), node.below[token]))

    def ask(self) -> Tokens | None:
        """The tokens to read next after the prompt; None once the best action is found, or there is none."""
        if not self._open:
            return None
        cost, _, prefix, node = self._open[0]
        if node.label:
            self.found = Chosen(node.label, math.exp(-cost))
            return None
        while not node.label and len(node.below) == 1:  # what can only go on in one way is read together
            ((token, node),) = node.below.items()
            prefix = (*prefix, token)
        return prefix[:-1] if node.label else prefix

    def answer(self, read: Tokens, logprobs: torch.Tensor) -> None:
        """Take in what follows each of the last `len(logprobs)` tokens of `read`, which `ask` named."""
        cost, _, prefix, node = heapq.heappop(self._open)
        so_far, rows = -cost, logprobs[len(prefix) - 1 - len(read) :]
        for row, token in zip(rows, read[len(prefix) :], strict=False):
            so_far += row[token].item()
            node = node.below[token]
        self._expand(node, so_far, read, rows[-1])


class TransformerChooser:
    """A transformer's choices. `form` is how it was trained to write an action."""

    def __init__(self, policy: PolicyModel, form: DialogFormat) -> None:
        self.policy = policy
        self.form = form
        self._tokens = lru_cache(8192)(self._encode)
        self._tries: dict[tuple[str, ...], Node] = {}

    def choose(self, choices: Sequence[Choice]) -> list[Chosen]:
        """The best label at each of one session's `choices`, in their order."""
        found: list[Chosen] = []
        start = 0
        for end in range(1, len(choices) + 1):  # where old lines were dropped, a prompt does not begin the next one
            if end == len(choices) or not choices[end].prompt.startswith(choices[end - 1].prompt):
                found += self._choose_in_chain(choices[start:end])
                start = end
        return found

    def _choose_in_chain(self, choices: Sequence[Choice]) -> list[Chosen]:
        encoded = self.policy.encode_chain([choice.prompt for choice in choices])
        trunk = Trunk(self.policy.model)
        first = torch.log_softmax(trunk.read(encoded[-1], [len(ids) for ids in encoded]), dim=-1).cpu()
        searches = [
            Search(self._trie(choice), logprobs, len(ids))
            for choice, ids, logprobs in zip(choices, encoded, first, strict=True)
        ]
        open_ = [(search, read) for search in searches if (read := search.ask()) is not None]
        while open_:
            for place in range(0, len(open_), AT_ONCE):
                self._read_on(trunk, open_[place : place + AT_ONCE])
            open_ = [(search, read) for search, _ in open_ if (read := search.ask()) is not None]
        return [search.found for search in searches]

    def _read_on(self, trunk: Trunk, asked: Sequence[tuple[Search, Tokens]]) -> None:
        branches: list[Branch] = []
        new: list[Tokens] = []
        for search, read in asked:
            held = tuple(search.branch.ids) if search.branch else ()
            if search.branch is None or read[: len(held)] != held:
                search.branch, held = trunk.branch(search.base), ()
            branches.append(search.branch)
            new.append(read[len(held) :])
        logprobs = torch.log_softmax(trunk.grow_each(branches, new), dim=-1).cpu()
        for (search, read), rows in zip(asked, logprobs.split([len(ids) for ids in new]), strict=True):
            search.answer(read, rows)

    def _trie(self, choice: Choice) -> Node:
        key = tuple(choice.offered)
        if key not in self._tries:
            root = Node({})
            for label, action in choice.offered.items():
                node = root
                for token in self._tokens(encode_action(action, self.form)):
                    node = node.below.setdefault(token, Node({}))
                node.label = label
            self._tries[key] = root
        return self._tries[key]

    def _encode(self, text: str) -> Tokens:
        return tuple(self.policy.encode([text])[0])


def load_chooser(folder: Path) -> TransformerChooser:
    """The transformer at `folder`, on a GPU where there is one. Raises DamagedArtefactError, SplitLabelError."""
    policy = PolicyModel.load(folder, find_device())
    return TransformerChooser(policy, policy.made.dialog)
