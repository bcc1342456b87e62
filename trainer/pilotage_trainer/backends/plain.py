"""Models without tokens behind the faces of the served models (interface.py): a reply is one token, a prompt its lines.

Not here: what they answer (counts/, copier/).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage_core.dialog import VERDICT_MARK
from pilotage_core.errors import InvalidInputError
from pilotage_trainer.artefact import Manifest, read_artefact
from pilotage_trainer.backends import vllm
from pilotage_trainer.backends.interface import Answer, Ask, LearningOptions, Reply
from pilotage_trainer.failures import DamagedArtefactError

NOTHING = '{"tool":""}'
"""The reply that proposes nothing."""


@dataclass(frozen=True)
class Plain(ABC):
    """A model and the manifest it came with."""

    manifest: Manifest

    @property
    def busy(self) -> bool:
        """It answers at once."""
        return False

    @property
    def longest(self) -> int:
        """As long as any server takes."""
        return vllm.LONGEST_PROMPT

    def tokenize(self, text: str) -> list[int]:
        """Only the critic's two words are tokens."""
        return [find_label(text)]


@dataclass(frozen=True)
class PlainPolicy(Plain):
    """A policy."""

    @abstractmethod
    def propose(self, prompt: str, schema: dict[str, Any] | None) -> tuple[str, float]:
        """The reply to `prompt` and its probability. Raises ValueError for a schema or prompt that is none."""

    def propose_many(self, asks: Sequence[Ask]) -> list[tuple[str, float]]:
        """`propose` for each."""
        return [self.propose(prompt, schema) for prompt, schema in asks]

    def reply_many(self, asks: Sequence[Ask]) -> list[Reply]:
        """A reply is one token: every kind of confidence is its probability."""
        return [Reply(text, p, p, p, p) for text, p in self.propose_many(asks)]

    def answer(self, prompt: str, schema: dict[str, Any] | None, max_tokens: int) -> Answer:
        """The reply is one token, and a prompt's tokens are its lines."""
        text, probability = self.propose(prompt, schema)
        return Answer(text, ((text, read_logprob(probability)),), prompt.count("\n") + 1)


@dataclass(frozen=True)
class PlainCritic(Plain):
    """A critic."""

    @property
    def vocabulary(self) -> int:
        """Its two words."""
        return len(vllm.VOCABULARY)

    @abstractmethod
    def judge_query(self, query: str) -> float:
        """P(accept) of the action at the end of `query`. Raises ValueError for none."""

    def score(self, query: str) -> float:
        """The same, asked for its verdict or not."""
        return self.judge_query(query.removesuffix(VERDICT_MARK))

    def score_many(self, queries: Sequence[str]) -> list[float]:
        """`score` for each."""
        return [self.score(query) for query in queries]

    def weigh(self, parts: Sequence[tuple[str, str]], labels: Sequence[int], apply_softmax: bool) -> list[float]:
        """P of the first of `labels`: of accept what `score` says, of reject the rest."""
        found = []
        for accept in self.score_many([first + second for first, second in parts]):
            probabilities = {vllm.ACCEPT_TOKEN_ID: accept, vllm.REJECT_TOKEN_ID: 1.0 - accept}
            first = probabilities[labels[0]]
            found.append(first / sum(probabilities[label] for label in set(labels)) if apply_softmax else first)
        return found

    def count_tokens(self, text: str) -> int:
        """Lines."""
        return text.count("\n") + 1


def find_label(word: str) -> int:
    """The id of `word`, with its space or without. Raises ValueError for any but the critic's two."""
    known = [each.strip() for each in vllm.VOCABULARY]
    if word.strip() not in known:
        raise ValueError(f"a plain model's vocabulary is {' and '.join(known)}")
    return known.index(word.strip())


def read_logprob(probability: float) -> float:
    """ln P, finite."""
    return math.log(max(probability, 1e-12))


def refuse_options(options: LearningOptions, backend: str) -> None:
    """A plain model has nothing to start: raises InvalidInputError for any option."""
    given = {
        "--dataset": options.dataset,
        "--start-from": options.start_from,
        "--processes": options.processes > 1,
        "--time-budget-seconds": options.time_budget_seconds,
    }
    if wrong := [option for option, value in given.items() if value]:
        raise InvalidInputError(f"backend {backend} does not take it", where=wrong[0], remedy="leave it out")


def read_own(folder: Path, kind: str, backend: str) -> tuple[Manifest, dict[str, bytes]]:
    """A `kind` artefact that `backend` made, digests checked. Raises DamagedArtefactError."""
    manifest, files = read_artefact(folder, kind)
    if manifest.backend != backend:
        raise DamagedArtefactError(f"is of backend {manifest.backend}, not {backend}", where=str(folder))
    return manifest, files
