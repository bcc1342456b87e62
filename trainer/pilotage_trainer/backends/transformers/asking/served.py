"""Transformers behind the faces of the served models (interface.py): what pilotage-serve and calibration ask."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.interface import Answer, Ask, Reply, ScoreCard
from pilotage_trainer.backends.transformers.asking.critic_card import CardedCritic, read_card
from pilotage_trainer.backends.transformers.asking.export import load_transformer
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel, weigh_first
from pilotage_trainer.backends.transformers.asking.readable import propose_readable


@dataclass(frozen=True)
class ServedTransformerPolicy:
    """A policy and the manifest it came with."""

    manifest: Manifest
    policy: PolicyModel
    busy: bool = True

    @classmethod
    def load(cls, folder: Path) -> "ServedTransformerPolicy":
        """The policy at `folder`, digests checked. Raises DamagedArtefactError."""
        model, tokenizer, manifest = load_transformer(folder, "policy")
        return cls(manifest, PolicyModel(model, tokenizer, manifest))

    @property
    def longest(self) -> int:
        """Tokens it reads."""
        return int(self.policy.model.config.max_position_embeddings)

    def propose_many(self, asks: Sequence[Ask]) -> list[tuple[str, float]]:
        """The reply to each prompt and its confidence, as a gateway makes it of vLLM's log probabilities."""
        return [(proposal.reply, proposal.confidence) for proposal in self.policy.propose_many(asks)]

    def reply_many(self, asks: Sequence[Ask]) -> list[Reply]:
        """The reply to each prompt with every kind of confidence; an empty one where the prompt is too long."""
        return [
            Reply(one.reply, one.confidence, one.mean_probability, one.least_probability, one.whole_probability)
            if one
            else Reply("")
            for one in propose_readable(self.policy, asks)
        ]

    def answer(self, prompt: str, schema: dict[str, Any] | None, max_tokens: int) -> Answer:
        """The reply to `prompt`, token by token."""
        found = self.policy.propose(prompt, schema, max_tokens)
        texts = self.policy.tokenizer.batch_decode([[token] for token in found.ids])
        tokens = tuple(zip(texts, found.told, strict=True))
        return Answer(found.reply, tokens, found.prompt_tokens, found.finished)

    def tokenize(self, text: str) -> list[int]:
        """The ids of the tokens of `text`."""
        return self.policy.encode([text])[0]


@dataclass(frozen=True)
class ServedTransformerCritic:
    """A critic and the manifest it came with."""

    manifest: Manifest
    critic: CardedCritic
    busy: bool = True

    @classmethod
    def load(cls, folder: Path) -> "ServedTransformerCritic":
        """The critic at `folder`, digests checked. Raises DamagedArtefactError."""
        model, tokenizer, manifest = load_transformer(folder, "critic")
        return cls(manifest, CardedCritic(model, tokenizer, manifest, read_card(folder)))

    @property
    def card(self) -> ScoreCard:
        """What its score is."""
        return ScoreCard(self.critic.card.source, self.critic.card.rule)

    @property
    def longest(self) -> int:
        """Tokens it reads."""
        return int(self.critic.model.config.max_position_embeddings)

    @property
    def vocabulary(self) -> int:
        """Rows of its embedding."""
        return int(self.critic.model.config.vocab_size)

    def score_many(self, queries: Sequence[str]) -> list[float]:
        """P(accept) of the action at the end of each query."""
        return self.critic.score_many(queries)

    def weigh(self, parts: Sequence[tuple[str, str]], labels: Sequence[int], apply_softmax: bool) -> list[float]:
        """P of the first of `labels` after each pair of texts: among them (softmax), or of the whole vocabulary."""
        told = self.critic.read_labels(parts, list(dict.fromkeys(labels)))
        return [weigh_first(logprobs) if apply_softmax else math.exp(logprobs[0]) for logprobs in told]

    def count_tokens(self, text: str) -> int:
        """Tokens."""
        return len(self.tokenize(text))

    def tokenize(self, text: str) -> list[int]:
        """The ids of the tokens of `text`."""
        return self.critic.encode([text])[0]
