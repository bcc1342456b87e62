"""The critic: P(an operator accepts this action), from the prompt and the action alone.

Logistic regression over what the policy thinks of the action and over acceptance rates. What a server needs, no
scipy; fitting is in critic_training.py. Where the critic does not beat the policy's own confidence on sessions
it has not seen, that confidence is the score (ScoreSource).
"""

import math
from collections.abc import Mapping
from typing import Self

import msgspec

from pilotage_core.actions import Action
from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import ACTION_MARK, decode_action
from pilotage_trainer.backends.counts.policy import Policy, Prediction
from pilotage_trainer.backends.rates import Rates
from pilotage_trainer.backends.situation import Situation, read_prompt
from pilotage_trainer.sessions.steps import name_step

LEAST_PROBABILITY = 1e-4
"""Probabilities are kept this far from 0 and 1 before their log-odds are taken."""


class StoredCritic(msgspec.Struct, frozen=True):
    """A critic as stored (critic.json). `weights` by trait."""

    source: ScoreSource
    intercept: float
    weights: dict[str, float]
    rates: Rates


class Critic:
    """A fitted critic beside the policy whose actions it judges."""

    def __init__(self, policy: Policy, stored: StoredCritic) -> None:
        self.policy = policy
        self.stored = stored

    @classmethod
    def decode(cls, policy: Policy, data: bytes) -> Self:
        """The critic stored as `data`; raises msgspec.DecodeError where it is damaged."""
        return cls(policy, msgspec.json.decode(data, type=StoredCritic))

    def score(self, query: str) -> float:
        """P(accept) of the action at the end of `query` (a prompt and an action's JSON).

        Raises ValueError where there is no action, msgspec.ValidationError where it is damaged.
        """
        prompt, mark, action = query.rpartition("\n" + ACTION_MARK)
        if not mark or not action.strip():
            raise ValueError("the query does not end with a proposed action")
        return self.judge(read_prompt(prompt), decode_action(action))

    def judge(self, situation: Situation, action: Action) -> float:
        """P(accept) of `action` in `situation`."""
        step = name_step(action)
        prediction = self.policy.predict(situation, frozenset({step}))
        if self.stored.source is ScoreSource.CONFIDENCE:
            return prediction.mixed[step]
        rates = self.stored.rates.of(build_rate_contexts(situation, step))
        traits = build_judgement(situation, step, prediction) | build_rate_traits(rates)
        return self.weigh(traits)

    def weigh(self, traits: Mapping[str, float]) -> float:
        """The logistic regression alone: P(accept) from traits, those of acceptance rates among them."""
        weights = self.stored.weights
        odds = self.stored.intercept + math.fsum(weights.get(name, 0.0) * value for name, value in traits.items())
        return 1.0 / (1.0 + math.exp(-odds))


def build_judgement(situation: Situation, step: str, prediction: Prediction) -> dict[str, float]:
    """Traits of `step` as a proposal: how sure the policy is, how well it knows the place, and which action it is."""
    own = prediction.mixed[step]
    rival = max((p for other, p in prediction.mixed.items() if other != step), default=0.0)
    entropy = -math.fsum(p * math.log(p) for p in prediction.mixed.values() if p > 0.0)
    last = situation.history[-1] if situation.history else ""
    numbers = {
        "confidence": log_odds(own),
        "margin": log_odds(own) - log_odds(rival),
        "counts": log_odds(prediction.by_counts[step]),
        "traits": log_odds(prediction.by_traits[step]),
        "agreement": min(prediction.by_counts[step], prediction.by_traits[step]),
        "entropy": entropy,
        "level": prediction.support.level / 3.0,
        "seen": math.log1p(prediction.support.seen) / 3.0,
        "clicks": min(situation.clicks, 4) / 4.0,
        "turns": min(len(situation.history), 20) / 20.0,
    }
    named = (
        f"tool={step.partition(' ')[0]}",
        f"step={step}",
        f"place={situation.place}",
        f"form={situation.form}",
        f"last={last}",
        f"step={step}&form={situation.form}",
        f"step={step}&last={last}",
        f"failed={situation.failed}",
    )
    return numbers | dict.fromkeys(named, 1.0)


def build_rate_contexts(situation: Situation, step: str) -> tuple[str, ...]:
    """The contexts whose acceptance rates a critic knows, coarsest first."""
    last = situation.history[-1] if situation.history else ""
    parts = (
        (),
        (step.partition(" ")[0],),
        (step,),
        (step, situation.form),
        (step, situation.form, situation.place, last),
    )
    return tuple("\t".join(part) for part in parts)


def build_rate_traits(rates: list[float]) -> dict[str, float]:
    """Acceptance rates as traits."""
    return {f"rate{i}": log_odds(rate) for i, rate in enumerate(rates)}


def log_odds(probability: float) -> float:
    """ln(p / (1 − p)), with p kept off 0 and 1; thirds, so that it is of the size of the other traits."""
    p = min(max(probability, LEAST_PROBABILITY), 1.0 - LEAST_PROBABILITY)
    return math.log(p / (1.0 - p)) / 3.0
