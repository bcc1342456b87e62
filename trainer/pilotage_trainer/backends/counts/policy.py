"""The policy: back-off counts mixed with a log-linear model over traits, and the action it proposes for a prompt.

What a server needs to answer, and no more: numpy, no scipy. Fitting is in policy_training.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from pilotage_trainer.backends.counts.counts import BackOff, Support, build_contexts
from pilotage_trainer.backends.counts.features import build_traits, list_candidates
from pilotage_trainer.backends.situation import Situation
from pilotage_trainer.sessions.steps import OPERATOR_ONLY

FloatArray = npt.NDArray[np.float32]

UNSEEN_LOGIT = -12.0
"""Score of a step that the log-linear part never saw: next to nothing, yet not impossible."""


class StoredWeights(msgspec.Struct, frozen=True):
    """The log-linear part as stored: `weights` is float32, little-endian, traits × steps, row by row."""

    traits: tuple[str, ...]
    steps: tuple[str, ...]
    weights: bytes
    intercepts: bytes


class StoredPolicy(msgspec.Struct, frozen=True):
    """A policy as stored (policy.msgpack). `share` is the log-linear part's in the mixture."""

    counts: BackOff
    loglinear: StoredWeights
    share: float


class LogLinear:
    """P(step) ∝ exp(intercept + Σ weights of the traits present), over the candidates."""

    def __init__(self, stored: StoredWeights) -> None:
        self.stored = stored
        self._row = {trait: i for i, trait in enumerate(stored.traits)}
        self._column = {step: i for i, step in enumerate(stored.steps)}
        shape = (len(stored.traits), len(stored.steps))
        self._weights: FloatArray = np.frombuffer(stored.weights, dtype="<f4").reshape(shape)
        self._intercepts: FloatArray = np.frombuffer(stored.intercepts, dtype="<f4")

    def probabilities(self, traits: Sequence[str], candidates: Sequence[str]) -> dict[str, float]:
        """P(step) of each of `candidates`; they sum to 1."""
        rows = sorted(self._row[trait] for trait in traits if trait in self._row)
        logits = (self._weights[rows].sum(axis=0) + self._intercepts).tolist()
        scores = [logits[self._column[c]] if c in self._column else UNSEEN_LOGIT for c in candidates]
        highest = max(scores)
        odds = [math.exp(score - highest) for score in scores]
        total = sum(odds)
        return {step: value / total for step, value in zip(candidates, odds, strict=True)}


def mix(by_traits: dict[str, float], by_counts: dict[str, float], share: float) -> dict[str, float]:
    """The two parts as one, `share` of it by traits."""
    return {step: share * p + (1.0 - share) * by_counts[step] for step, p in by_traits.items()}


@dataclass(frozen=True)
class Prediction:
    """What a policy thinks comes next: the mixture, its two parts, and how well the context is known.

    Each maps the same candidates to probabilities that sum to 1.
    """

    mixed: dict[str, float]
    by_counts: dict[str, float]
    by_traits: dict[str, float]
    support: Support

    @cached_property
    def ranked(self) -> list[str]:
        """Candidates, likeliest first; equals stay in screen order."""
        return sorted(self.mixed, key=self.mixed.__getitem__, reverse=True)

    def remix(self, share: float) -> "Prediction":
        """The same with another share of the log-linear part."""
        return Prediction(mix(self.by_traits, self.by_counts, share), self.by_counts, self.by_traits, self.support)

    def proposed(self, allowed: frozenset[str] | None = None) -> str:
        """The likeliest step, or "" where it is the operator's alone or not in `allowed` (None: all are)."""
        best = self.ranked[0]
        return "" if best in OPERATOR_ONLY or (allowed is not None and best not in allowed) else best


class Policy:
    """A fitted policy. Deterministic: one situation always gets one answer."""

    def __init__(self, stored: StoredPolicy) -> None:
        self.stored = stored
        self.counts = stored.counts
        self.loglinear = LogLinear(stored.loglinear)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The policy stored as `data`; raises msgspec.DecodeError or ValueError where it is damaged."""
        return cls(msgspec.msgpack.decode(data, type=StoredPolicy))

    def encode(self) -> bytes:
        """What `decode` reads."""
        return msgspec.msgpack.encode(self.stored)

    def predict(self, situation: Situation, allowed: frozenset[str] = frozenset()) -> Prediction:
        """Probabilities of every step possible in `situation`; `allowed` adds steps that its screen does not show."""
        candidates = list_candidates(situation)
        candidates += sorted(allowed.difference(candidates))
        contexts = build_contexts(situation)
        by_counts = self.counts.probabilities(contexts, candidates)
        by_traits = self.loglinear.probabilities(build_traits(situation), candidates)
        mixed = mix(by_traits, by_counts, self.stored.share)
        return Prediction(mixed, by_counts, by_traits, self.counts.support(contexts))
