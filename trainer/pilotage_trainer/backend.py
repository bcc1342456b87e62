"""What a policy and a critic of any backend answer. Count models: models.py; transformers: neural/served.py."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from pilotage_core.certificate import ScoreSource
from pilotage_core.score import CRITIC_ALONE, ScoreRule
from pilotage_trainer.artefact import Manifest

Ask = tuple[str, dict[str, Any] | None]
"""A prompt and the schema of what may be answered (None: anything)."""


class ScoreCard(msgspec.Struct, frozen=True):
    """What every backend's critic.json says: what a score is, and what makes it of critic and confidence."""

    source: ScoreSource = ScoreSource.CRITIC
    rule: ScoreRule = CRITIC_ALONE


@dataclass(frozen=True)
class Answer:
    """A reply with its tokens, each with its log probability, as vLLM tells them."""

    text: str
    tokens: tuple[tuple[str, float], ...]
    prompt_tokens: int
    finished: bool = True


class Served(Protocol):
    """A model of any backend."""

    @property
    def manifest(self) -> Manifest:
        """What it came with."""
        ...

    @property
    def busy(self) -> bool:
        """Whether its answers take so long that they are made off the event loop."""
        ...

    @property
    def longest(self) -> int:
        """The longest text it reads, in its tokens."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """The ids of the tokens of `text`. Raises ValueError where it has none."""
        ...


class AnyPolicy(Served, Protocol):
    """A policy of any backend."""

    def propose_many(self, asks: Sequence[Ask]) -> list[tuple[str, float]]:
        """The reply to each prompt and its confidence. Raises ValueError or InvalidInputError."""
        ...

    def answer(self, prompt: str, schema: dict[str, Any] | None, max_tokens: int) -> Answer:
        """The reply to `prompt`, token by token. Raises ValueError or InvalidInputError."""
        ...


class AnyCritic(Served, Protocol):
    """A critic of any backend."""

    @property
    def card(self) -> ScoreCard:
        """What its score is."""
        ...

    @property
    def vocabulary(self) -> int:
        """Label ids are below it."""
        ...

    def score_many(self, queries: Sequence[str]) -> list[float]:
        """P(accept) of the action at the end of each query. Raises ValueError or InvalidInputError."""
        ...

    def weigh(self, parts: Sequence[tuple[str, str]], labels: Sequence[int], apply_softmax: bool) -> list[float]:
        """P of the first of `labels` after each pair of texts: among them (softmax), or of the whole vocabulary.

        Raises ValueError or InvalidInputError.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """How long `text` is (of a count model: in lines)."""
        ...
