"""The score of a proposed action: its critic's answer, the policy's confidence, or both together. Pure.

A pair says which (`ScoreRule`, made by the critic Job and part of its artefact). Gateway and calibration compute it
here, so a τ and what is compared with it are the same number. Not here: asking models, the threshold (calibration.py).
"""

import math
from collections.abc import Sequence

import msgspec

from pilotage_core.certificate import ScoreSource

FURTHEST = 1e-9
"""Probabilities are kept this far from 0 and 1, so that both have log-odds."""


class ScoreRule(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """log-odds of the score = `critic` × those of the critic's answer + `confidence` × those of confidence + `bias`.

    Weights are ≥ 0: a score never falls because critic or policy is surer. Logistic stacking (Wolpert 1992).
    """

    critic: float = 1.0
    confidence: float = 0.0
    bias: float = 0.0

    @property
    def source(self) -> ScoreSource:
        """What the score is made of."""
        if not self.confidence:
            return ScoreSource.CRITIC
        return ScoreSource.BOTH if self.critic else ScoreSource.CONFIDENCE


CRITIC_ALONE = ScoreRule()
"""The critic's answer as it is."""
CONFIDENCE_ALONE = ScoreRule(critic=0.0, confidence=1.0)


def find_score(rule: ScoreRule, critic: float | None, confidence: float | None) -> float | None:
    """The score in (0, 1); None where something that counts is missing or no probability.

    Under `CRITIC_ALONE` the critic's answer to the last bit, whatever it is: the gate judges it.
    """
    if rule == CRITIC_ALONE:
        return critic
    total = rule.bias
    for weight, probability in ((rule.critic, critic), (rule.confidence, confidence)):
        if weight:
            if probability is None or not 0.0 <= probability <= 1.0:  # NaN fails the comparison too
                return None
            total += weight * log_odds(probability)
    return 1.0 / (1.0 + math.exp(min(-total, 700.0)))


def log_odds(probability: float) -> float:
    """ln p / (1 − p), finite."""
    p = min(max(probability, FURTHEST), 1.0 - FURTHEST)
    return math.log(p / (1.0 - p))


def read_confidence(logprobs: Sequence[float]) -> float | None:
    """How sure a policy was of a reply: exp of the mean log probability of its tokens; None where none is told."""
    mean = sum(logprobs) / len(logprobs) if logprobs else math.nan
    return math.exp(min(0.0, mean)) if math.isfinite(mean) else None


def format_score(score: float) -> str:
    """A score or τ for people: three digits, and more where these would say 1 of less than 1."""
    places = next((places for places in range(3, 16) if round(score, places) < 1.0), 3)
    return f"{score:.{places}f}"
