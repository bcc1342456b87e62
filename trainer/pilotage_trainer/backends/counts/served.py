"""Count models behind the faces of the served models (interface.py): what pilotage-serve and calibration ask."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.dialog import VERDICT_MARK, encode_action
from pilotage_trainer.artefact import Manifest, read_artefact
from pilotage_trainer.backends import vllm
from pilotage_trainer.backends.counts import NAME
from pilotage_trainer.backends.counts.critic import Critic
from pilotage_trainer.backends.counts.policy import Policy
from pilotage_trainer.backends.counts.schema import allowed_steps
from pilotage_trainer.backends.interface import CRITIC_FILE, Answer, Ask, Reply, ScoreCard
from pilotage_trainer.backends.situation import read_prompt
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.sessions.steps import step_action

POLICY_FILE = "policy.msgpack"

NOTHING = '{"tool":""}'
"""The reply that proposes nothing."""


@dataclass(frozen=True)
class ServedPolicy:
    """A count policy and the manifest it came with."""

    manifest: Manifest
    policy: Policy
    busy: bool = False
    longest: int = vllm.LONGEST_PROMPT

    def propose(self, prompt: str, schema: dict[str, Any] | None) -> tuple[str, float]:
        """The reply to `prompt` and its probability. Raises ValueError for a schema or prompt that is none."""
        allowed = None if schema is None else allowed_steps(schema)
        prediction = self.policy.predict(read_prompt(prompt), allowed or frozenset())
        proposed = prediction.proposed(allowed)
        if proposed:
            return encode_action(step_action(proposed), self.manifest.dialog), prediction.mixed[proposed]
        return NOTHING, prediction.mixed[prediction.ranked[0]]

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

    def tokenize(self, text: str) -> list[int]:
        """Only the critic's two words are tokens."""
        return [find_label(text)]


@dataclass(frozen=True)
class ServedCritic:
    """A count critic and the manifest it came with."""

    manifest: Manifest
    critic: Critic
    busy: bool = False
    longest: int = vllm.LONGEST_PROMPT
    vocabulary: int = len(vllm.VOCABULARY)

    @property
    def card(self) -> ScoreCard:
        """What its score is. It holds the policy, so that its own answer is confidence where it did not beat it."""
        return ScoreCard(self.critic.stored.source)

    def score(self, query: str) -> float:
        """P(accept) of the action at the end of `query`, asked for its verdict or not. Raises ValueError for none."""
        return self.critic.score(query.removesuffix(VERDICT_MARK))

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

    def tokenize(self, text: str) -> list[int]:
        """Only the critic's two words are tokens."""
        return [find_label(text)]


def load_policy(folder: Path) -> ServedPolicy:
    """The count policy at `folder`, digests checked. Raises DamagedArtefactError."""
    manifest, files = _read_counts(folder, "policy")
    return ServedPolicy(manifest, decode_policy(files, folder))


def load_critic(folder: Path) -> ServedCritic:
    """The count critic at `folder` with the policy it judges, digests checked. Raises DamagedArtefactError."""
    manifest, files = _read_counts(folder, "critic")
    policy = decode_policy(files, folder)
    try:
        return ServedCritic(manifest, Critic.decode(policy, files[CRITIC_FILE]))
    except (KeyError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no critic: {error!r}", where=str(folder / CRITIC_FILE)) from error


def _read_counts(folder: Path, kind: str) -> tuple[Manifest, dict[str, bytes]]:
    manifest, files = read_artefact(folder, kind)
    if manifest.backend != NAME:
        raise DamagedArtefactError(f"is of backend {manifest.backend}, not {NAME}", where=str(folder))
    return manifest, files


def decode_policy(files: dict[str, bytes], folder: Path) -> Policy:
    """The policy among an artefact's files. Raises DamagedArtefactError."""
    try:
        return Policy.decode(files[POLICY_FILE])
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no policy: {error!r}", where=str(folder / POLICY_FILE)) from error


def find_label(word: str) -> int:
    """The id of `word`, with its space or without, for a count model. Raises ValueError for any but its two."""
    known = [each.strip() for each in vllm.VOCABULARY]
    if word.strip() not in known:
        raise ValueError(f"a count model's vocabulary is {' and '.join(known)}")
    return known.index(word.strip())


def read_logprob(probability: float) -> float:
    """ln P, finite."""
    return math.log(max(probability, 1e-12))
