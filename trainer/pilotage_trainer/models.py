"""The served models: artefacts loaded and answering vLLM's requests. Pure but for the loading; HTTP is in serve.py.

In-process scoring (calibrate --local) and the server go through the same methods, so their scores are the same. Count
models are here; transformers answer through the same faces (neural/served.py), loaded by the manifest's backend.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.actions import Action
from pilotage_core.dialog import VERDICT_MARK, encode_action, encode_judged
from pilotage_trainer import vllm
from pilotage_trainer.artefact import (
    COUNTS,
    MANIFEST,
    TRANSFORMERS,
    Manifest,
    digest_code,
    read_artefact,
    read_manifest,
)
from pilotage_trainer.backend import Answer, AnyCritic, AnyPolicy, Ask, ScoreCard
from pilotage_trainer.critic import Critic
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.features import read_prompt, step_action
from pilotage_trainer.policy import Policy
from pilotage_trainer.schema import allowed_steps

POLICY_FILE = "policy.msgpack"
CRITIC_FILE = "critic.json"
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


def open_policy(folder: Path) -> AnyPolicy:
    """The policy at `folder`, of whichever backend, digests checked. Raises DamagedArtefactError."""
    if read_manifest(folder).backend != TRANSFORMERS:
        return load_policy(folder)
    from pilotage_trainer.neural.served import ServedTransformerPolicy  # imports torch, which count models do without

    return ServedTransformerPolicy.load(folder)


def open_critic(folder: Path) -> AnyCritic:
    """The critic at `folder`, of whichever backend, digests checked. Raises DamagedArtefactError."""
    if read_manifest(folder).backend != TRANSFORMERS:
        return load_critic(folder)
    from pilotage_trainer.neural.served import ServedTransformerCritic

    return ServedTransformerCritic.load(folder)


def read_score_card(folder: Path) -> ScoreCard:
    """What the score of the critic at `folder` is, without its model. Raises DamagedArtefactError."""
    path = folder / CRITIC_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ScoreCard)
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no critic: {error!r}", where=str(path)) from error


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
    if manifest.backend != COUNTS:
        raise DamagedArtefactError(f"is of backend {manifest.backend}, not {COUNTS}", where=str(folder))
    return manifest, files


def decode_policy(files: dict[str, bytes], folder: Path) -> Policy:
    """The policy among an artefact's files. Raises DamagedArtefactError."""
    try:
        return Policy.decode(files[POLICY_FILE])
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no policy: {error!r}", where=str(folder / POLICY_FILE)) from error


def load_models(folder: Path) -> tuple[AnyPolicy | None, AnyCritic | None]:
    """What `folder` holds: one artefact, or a revision with a policy, a critic or both. Raises DamagedArtefactError."""
    if (folder / MANIFEST).exists():
        is_critic = read_manifest(folder).kind == "critic"
        return (None, open_critic(folder)) if is_critic else (open_policy(folder), None)
    policy = open_policy(folder / "policy") if (folder / "policy" / MANIFEST).exists() else None
    critic = open_critic(folder / "critic") if (folder / "critic" / MANIFEST).exists() else None
    if policy is None and critic is None:
        raise DamagedArtefactError("holds neither a policy nor a critic", where=str(folder))
    return policy, critic


def find_label(word: str) -> int:
    """The id of `word`, with its space or without, for a count model. Raises ValueError for any but its two."""
    known = [each.strip() for each in vllm.VOCABULARY]
    if word.strip() not in known:
        raise ValueError(f"a count model's vocabulary is {' and '.join(known)}")
    return known.index(word.strip())


def find_foreign_code(manifest: Manifest) -> str:
    """A warning where `manifest` was made by other code than this; empty where it was not. Scores may then differ."""
    code = digest_code(manifest.backend)
    return "" if manifest.code == code else f"made by code {manifest.code}, served by {code}: calibrate again"


def build_query(prompt: str, action: Action) -> str:
    """What a critic is asked about: the prompt, continued with the action whole, as it would run."""
    return prompt + encode_judged(action)


def read_logprob(probability: float) -> float:
    """ln P, finite."""
    return math.log(max(probability, 1e-12))
