"""Policy and critic of transformers, asked as vLLM would be, on any device: structured greedy replies, label scores.

vLLM tells log probabilities among the tokens that the schema allows (it masks logits before it takes them): `told`;
`logprobs` are the model's own. Nothing is ever added to a text, no special tokens and no chat frame. A critic's verdict
is read after VERDICT_MARK, an item of its own: query and item are turned into tokens apart, here and by vLLM.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pilotage_core.dialog import ACTION_MARK, VERDICT_MARK
from pilotage_core.errors import InvalidInputError
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.interface import Ask
from pilotage_trainer.backends.transformers.asking.grammar import Grammars
from pilotage_trainer.backends.transformers.asking.trunk import Branch, Trunk
from pilotage_trainer.backends.transformers.rows.tokenizer import label_token_ids

MAX_TOKENS = 512
AT_ONCE = 64
"""Branches that grow together."""
KEPT_TRUNKS = 8
PROMPT_END = "\n" + ACTION_MARK


def find_device() -> str:
    """Where models run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Proposal:
    """A policy's reply, its tokens (the end token among them) and the log probability of each.

    `logprobs` are those of the model; `told` those among what the schema allowed, as vLLM tells them (empty: the same).
    """

    reply: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_tokens: int
    finished: bool
    told: tuple[float, ...] = ()

    @property
    def confidence(self) -> float:
        """exp of the mean of what is told: what a gateway makes of vLLM's reply."""
        told = self.told or self.logprobs
        return math.exp(sum(told) / len(told))

    @property
    def mean_probability(self) -> float:
        """Mean over the tokens."""
        return sum(map(math.exp, self.logprobs)) / len(self.logprobs)

    @property
    def least_probability(self) -> float:
        """Of the token the policy was least sure of."""
        return math.exp(min(self.logprobs))

    @property
    def whole_probability(self) -> float:
        """Of the whole reply."""
        return math.exp(sum(self.logprobs))


class Reader:
    """What policy and critic have in common: a model, its tokenizer, and the dialogs that were read last."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manifest: Manifest | None = None
    ) -> None:
        if "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
            raise InvalidInputError("sees a sliding window only", where="model", remedy="serve it with vLLM")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.manifest = manifest
        self._trunks: list[Trunk] = []

    @property
    def made(self) -> Manifest:
        """What it was made of; only for a model that was loaded from an artefact."""
        assert self.manifest is not None
        return self.manifest

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text alone, nothing added."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]

    def encode_chain(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of prompts each of which begins the next one."""
        starts = ["", *texts[:-1]]
        ids: list[int] = []
        found: list[list[int]] = []
        for piece in self.encode([text[len(start) :] for start, text in zip(starts, texts, strict=True)]):
            ids = ids + piece
            found.append(ids)
        return found

    def find_trunk(self, ids: Sequence[int]) -> Trunk:
        """The kept dialog that `ids` go on with, or a new one in the place of that which was not used for longest."""
        for trunk in reversed(self._trunks):
            if trunk.count_common(ids) * 2 > len(trunk.ids):
                self._trunks.remove(trunk)
                break
        else:
            trunk = Trunk(self.model)
            self._trunks = self._trunks[-KEPT_TRUNKS + 1 :]
        self._trunks.append(trunk)
        return trunk


class PolicyModel(Reader):
    """A policy: continues a prompt with an action."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manifest: Manifest | None = None
    ) -> None:
        super().__init__(model, tokenizer, manifest)
        self.grammars = Grammars(tokenizer, model.config.vocab_size)
        self.end: int = tokenizer.eos_token_id

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "PolicyModel":
        """The policy at `folder`, its digests checked. Raises DamagedArtefactError, SplitLabelError."""
        from pilotage_trainer.backends.transformers.asking.export import load_transformer

        return cls(*load_transformer(folder, "policy", device))

    def propose(self, prompt: str, schema: dict[str, Any] | None = None, max_tokens: int = MAX_TOKENS) -> Proposal:
        """The likeliest reply to `prompt` that fits `schema`. Raises ValueError, InvalidInputError."""
        return self.propose_many([(prompt, schema)], max_tokens)[0]

    def propose_many(self, asks: Sequence[Ask], max_tokens: int = MAX_TOKENS) -> list[Proposal]:
        """The reply to each of `asks`, in their order. Prompts of one session are read once."""
        found: dict[int, Proposal] = {}
        for chain in find_chains([prompt for prompt, _ in asks]):
            encoded = self.encode_chain([asks[index][0] for index in chain])
            trunk = self.find_trunk(encoded[-1])
            first = trunk.read(encoded[-1], [len(ids) for ids in encoded])
            for start in range(0, len(chain), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                branches = [trunk.branch(len(ids)) for ids in encoded[part]]
                schemas = [asks[index][1] for index in chain[part]]
                found |= zip(chain[part], self._reply(trunk, branches, schemas, first[part], max_tokens), strict=True)
                trunk.cut()
        return [found[index] for index in range(len(asks))]

    def _reply(
        self,
        trunk: Trunk,
        branches: Sequence[Branch],
        schemas: Sequence[dict[str, Any] | None],
        logits: torch.Tensor,
        max_tokens: int,
    ) -> list[Proposal]:
        """Greedy decoding of all branches together; `logits` are those of their first tokens."""
        matchers = [None if schema is None else self.grammars.start(schema) for schema in schemas]
        ids: list[list[int]] = [[] for _ in branches]
        raws: list[list[float]] = [[] for _ in branches]
        told: list[list[float]] = [[] for _ in branches]
        live = list(range(len(branches)))
        while live:
            raw = torch.log_softmax(logits, dim=-1)
            allowed = self.grammars.mask(raw, [matchers[index] for index in live])
            chosen = allowed.argmax(dim=-1)
            logprobs = raw.gather(1, chosen[:, None])[:, 0]
            among = logprobs - allowed.logsumexp(dim=-1)
            for index, token, logprob, share in zip(
                live, chosen.tolist(), logprobs.tolist(), among.tolist(), strict=True
            ):
                ids[index].append(token)
                raws[index].append(logprob)
                told[index].append(min(share, 0.0))
                if (matcher := matchers[index]) is not None:
                    matcher.accept_token(token)
            live = [index for index in live if ids[index][-1] != self.end and len(ids[index]) < max_tokens]
            if live:
                logits = trunk.grow([branches[index] for index in live], [ids[index][-1:] for index in live])
        return [
            self._complete(branch, tokens, logprobs, among)
            for branch, tokens, logprobs, among in zip(branches, ids, raws, told, strict=True)
        ]

    def _complete(self, branch: Branch, ids: list[int], logprobs: list[float], told: list[float]) -> Proposal:
        finished = ids[-1] == self.end
        text = self.tokenizer.decode(ids[: len(ids) - finished], skip_special_tokens=True)
        return Proposal(text, tuple(ids), tuple(logprobs), branch.base, finished, tuple(told))


class CriticModel(Reader):
    """A critic: P(accept) of the action at the end of a dialog."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manifest: Manifest | None = None
    ) -> None:
        super().__init__(model, tokenizer, manifest)
        self.labels = label_token_ids(tokenizer)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "CriticModel":
        """The critic at `folder`, its digests checked. Raises DamagedArtefactError, SplitLabelError."""
        from pilotage_trainer.backends.transformers.asking.export import load_transformer

        return cls(*load_transformer(folder, "critic", device))

    def score(self, query: str) -> float:
        """P(accept) of the action at the end of `query`, which is a prompt and its continuation."""
        return self.score_many([query])[0]

    def score_many(self, queries: Sequence[str]) -> list[float]:
        """P(accept) for each query: the softmax of accept over accept and reject. Sessions are read once."""
        told = self.read_labels([(query, VERDICT_MARK) for query in queries], self.labels)
        return [weigh_first(logprobs) for logprobs in told]

    def read_labels(self, parts: Sequence[tuple[str, str]], labels: Sequence[int]) -> list[list[float]]:
        """The log probability of each of `labels` (token ids) as the token after each pair of texts, joined as tokens.

        Raises InvalidInputError where a pair is empty or too long.
        """
        found: dict[int, list[float]] = {}
        cuts = [text.rfind(PROMPT_END) + len(PROMPT_END) if PROMPT_END in text else 0 for text, _ in parts]
        for chain in find_chains([text[:cut] for (text, _), cut in zip(parts, cuts, strict=True)]):
            encoded = self.encode_chain([parts[index][0][: cuts[index]] for index in chain])
            tails = self.encode([parts[index][0][cuts[index] :] for index in chain])
            items = self.encode([parts[index][1] for index in chain])
            trunk = self.find_trunk(encoded[-1])
            trunk.read(encoded[-1], [])
            for start in range(0, len(chain), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                branches = [trunk.branch(len(ids)) for ids in encoded[part]]
                new = [tail + item for tail, item in zip(tails[part], items[part], strict=True)]
                raw = torch.log_softmax(trunk.grow(branches, new), dim=-1)
                found |= zip(chain[part], raw[:, list(labels)].tolist(), strict=True)
                trunk.cut()
        return [found[index] for index in range(len(parts))]


def weigh_first(logprobs: Sequence[float]) -> float:
    """The softmax of the first of `logprobs` over all of them."""
    return 1.0 / sum(math.exp(min(logprob - logprobs[0], 700.0)) for logprob in logprobs)


def find_chains(texts: Sequence[str]) -> Iterator[list[int]]:
    """All places in `texts`, in runs in which each text begins the next: the points of one session."""
    chain: list[int] = []
    for index in sorted(range(len(texts)), key=texts.__getitem__):
        before = texts[chain[-1]] if chain else ""
        if chain and not (before.endswith(PROMPT_END) and texts[index].startswith(before)):
            yield chain
            chain = []
        chain.append(index)
    if chain:
        yield chain
