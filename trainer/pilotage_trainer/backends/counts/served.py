"""Count models behind the faces of the served models (interface.py): what pilotage-serve and calibration ask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.dialog import encode_action
from pilotage_trainer.backends.counts import NAME
from pilotage_trainer.backends.counts.critic import Critic
from pilotage_trainer.backends.counts.policy import Policy
from pilotage_trainer.backends.counts.schema import allowed_steps
from pilotage_trainer.backends.interface import CRITIC_FILE, ScoreCard
from pilotage_trainer.backends.plain import NOTHING, PlainCritic, PlainPolicy, read_own
from pilotage_trainer.backends.situation import read_prompt
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.sessions.steps import step_action

POLICY_FILE = "policy.msgpack"


@dataclass(frozen=True)
class ServedPolicy(PlainPolicy):
    """A count policy."""

    policy: Policy

    def propose(self, prompt: str, schema: dict[str, Any] | None) -> tuple[str, float]:
        """The reply to `prompt` and its probability. Raises ValueError for a schema or prompt that is none."""
        allowed = None if schema is None else allowed_steps(schema)
        prediction = self.policy.predict(read_prompt(prompt), allowed or frozenset())
        proposed = prediction.proposed(allowed)
        if proposed:
            return encode_action(step_action(proposed), self.manifest.dialog), prediction.mixed[proposed]
        return NOTHING, prediction.mixed[prediction.ranked[0]]


@dataclass(frozen=True)
class ServedCritic(PlainCritic):
    """A count critic."""

    critic: Critic

    @property
    def card(self) -> ScoreCard:
        """What its score is. It holds the policy, so that its own answer is confidence where it did not beat it."""
        return ScoreCard(self.critic.stored.source)

    def judge_query(self, query: str) -> float:
        """P(accept) of the action at the end of `query`. Raises ValueError for none."""
        return self.critic.score(query)


def load_policy(folder: Path) -> ServedPolicy:
    """The count policy at `folder`, digests checked. Raises DamagedArtefactError."""
    manifest, files = read_own(folder, "policy", NAME)
    return ServedPolicy(manifest, decode_policy(files, folder))


def load_critic(folder: Path) -> ServedCritic:
    """The count critic at `folder` with the policy it judges, digests checked. Raises DamagedArtefactError."""
    manifest, files = read_own(folder, "critic", NAME)
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
