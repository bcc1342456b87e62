"""Copiers behind the faces of the served models (interface.py): what pilotage-serve and calibration ask."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.actions import Action
from pilotage_core.dialog import encode_action
from pilotage_trainer.backends.copier import NAME
from pilotage_trainer.backends.copier.critic import Critic
from pilotage_trainer.backends.copier.policy import Policy
from pilotage_trainer.backends.interface import CRITIC_FILE, NO_LABEL, Choice, Chosen, ScoreCard
from pilotage_trainer.backends.plain import NOTHING, PlainCritic, PlainPolicy, read_own
from pilotage_trainer.backends.situation import Reader, read_points
from pilotage_trainer.failures import DamagedArtefactError

POLICY_FILE = "policy.msgpack"
WEIGHTS_FILE = "critic.weights"


@dataclass(frozen=True)
class ServedPolicy(PlainPolicy):
    """A copying policy."""

    policy: Policy
    reader: Reader = field(default_factory=Reader)

    def propose(self, prompt: str, schema: dict[str, Any] | None) -> tuple[str, float]:
        """The reply to `prompt` and its probability. Raises ValueError for a schema or prompt that is none.

        Nothing is proposed where the likeliest is nothing, or is not allowed: that is an operator's alone.
        """
        prediction = self.policy.predict(self.reader.read(prompt))
        best = prediction.best
        action, share = prediction.moment.candidates[best].action, float(prediction.shares[best])
        if action is None or (schema is not None and not is_allowed(schema, action)):
            return NOTHING, share
        return encode_action(action, self.manifest.dialog), share


@dataclass(frozen=True)
class ServedCritic(PlainCritic):
    """A copier's critic."""

    critic: Critic
    reader: Reader = field(default_factory=Reader)

    @property
    def card(self) -> ScoreCard:
        """What its score is. It holds the policy, so that its own answer is confidence where it did not beat it."""
        return ScoreCard(self.critic.stored.source)

    def judge_query(self, query: str) -> float:
        """P(accept) of the action at the end of `query`. Raises ValueError for none."""
        return self.critic.score(query, self.reader)


class CopierChooser:
    """The likeliest action among those that are labels."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def choose(self, choices: Sequence[Choice]) -> list[Chosen]:
        """The best label at each of one session's `choices`, in their order."""
        found = []
        for choice, situation in read_points(choices):
            prediction = self.policy.predict(situation)
            places = {label: prediction.find(action) for label, action in choice.offered.items()}
            shares = {label: float(prediction.shares[at]) if at is not None else 0.0 for label, at in places.items()}
            best = max(shares, key=shares.__getitem__, default=NO_LABEL)
            found.append(Chosen(best, shares.get(best, 0.0)))
        return found


def is_allowed(schema: dict[str, Any], action: Action) -> bool:
    """Whether `schema` (proposal.build_action_schema) allows `action`. Raises ValueError where it is no such schema."""
    try:
        for branch in schema["anyOf"]:
            properties = branch["properties"]
            if properties["tool"]["const"] == action.tool:
                return action.control_id in properties.get("control_id", {}).get("enum", [""])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the schema is none of actions: {error!r}") from error
    return False


def load_policy(folder: Path) -> ServedPolicy:
    """The policy at `folder`, digests checked. Raises DamagedArtefactError."""
    manifest, files = read_own(folder, "policy", NAME)
    return ServedPolicy(manifest, decode_policy(files, folder))


def load_critic(folder: Path) -> ServedCritic:
    """The critic at `folder` with the policy it judges, digests checked. Raises DamagedArtefactError."""
    manifest, files = read_own(folder, "critic", NAME)
    policy = decode_policy(files, folder)
    try:
        return ServedCritic(manifest, Critic.decode(policy, files[CRITIC_FILE], files[WEIGHTS_FILE]))
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no critic: {error!r}", where=str(folder / CRITIC_FILE)) from error


def decode_policy(files: dict[str, bytes], folder: Path) -> Policy:
    """The policy among an artefact's files. Raises DamagedArtefactError."""
    try:
        return Policy.decode(files[POLICY_FILE])
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no policy: {error!r}", where=str(folder / POLICY_FILE)) from error
