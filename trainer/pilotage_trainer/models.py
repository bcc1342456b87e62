"""The served models: artefacts loaded and answering vLLM's requests. Pure but for the loading; HTTP is in serve.py.

In-process scoring (calibrate --local) and the server go through the same methods, so their scores are the same.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.actions import Action
from pilotage_core.dialog import encode_action
from pilotage_trainer.artefact import MANIFEST, Manifest, digest_code, read_artefact
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
    """A policy and the manifest it came with."""

    manifest: Manifest
    policy: Policy

    def propose(self, prompt: str, schema: dict[str, Any] | None) -> tuple[str, float]:
        """The reply to `prompt` and its probability. Raises ValueError for a schema or prompt that is none."""
        allowed = None if schema is None else allowed_steps(schema)
        prediction = self.policy.predict(read_prompt(prompt), allowed or frozenset())
        proposed = prediction.proposed(allowed)
        if proposed:
            return encode_action(step_action(proposed)), prediction.mixed[proposed]
        return NOTHING, prediction.mixed[prediction.ranked[0]]


@dataclass(frozen=True)
class ServedCritic:
    """A critic and the manifest it came with."""

    manifest: Manifest
    critic: Critic

    def score(self, query: str) -> float:
        """P(accept) of the action at the end of `query`. Raises ValueError where there is none."""
        return self.critic.score(query)


def load_policy(folder: Path) -> ServedPolicy:
    """The policy at `folder`, digests checked. Raises DamagedArtefactError."""
    manifest, files = read_artefact(folder, "policy")
    return ServedPolicy(manifest, decode_policy(files, folder))


def load_critic(folder: Path) -> ServedCritic:
    """The critic at `folder` with the policy it judges, digests checked. Raises DamagedArtefactError."""
    manifest, files = read_artefact(folder, "critic")
    policy = decode_policy(files, folder)
    try:
        return ServedCritic(manifest, Critic.decode(policy, files[CRITIC_FILE]))
    except (KeyError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no critic: {error!r}", where=str(folder / CRITIC_FILE)) from error


def decode_policy(files: dict[str, bytes], folder: Path) -> Policy:
    """The policy among an artefact's files. Raises DamagedArtefactError."""
    try:
        return Policy.decode(files[POLICY_FILE])
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no policy: {error!r}", where=str(folder / POLICY_FILE)) from error


def load_models(folder: Path) -> tuple[ServedPolicy | None, ServedCritic | None]:
    """What `folder` holds: one artefact, or a revision with a policy, a critic or both. Raises DamagedArtefactError."""
    if (folder / MANIFEST).exists():
        is_critic = (folder / CRITIC_FILE).exists()
        return (None, load_critic(folder)) if is_critic else (load_policy(folder), None)
    policy = load_policy(folder / "policy") if (folder / "policy" / MANIFEST).exists() else None
    critic = load_critic(folder / "critic") if (folder / "critic" / MANIFEST).exists() else None
    if policy is None and critic is None:
        raise DamagedArtefactError("holds neither a policy nor a critic", where=str(folder))
    return policy, critic


def find_foreign_code(manifest: Manifest) -> str:
    """A warning where `manifest` was made by other code than this; empty where it was not. Scores may then differ."""
    code = digest_code()
    return "" if manifest.code == code else f"made by code {manifest.code}, served by {code}: calibrate again"


def build_query(prompt: str, action: Action) -> str:
    """What a critic is asked about: the prompt continued with the action."""
    return prompt + encode_action(action)


def read_logprob(probability: float) -> float:
    """ln P, finite."""
    return math.log(max(probability, 1e-12))
