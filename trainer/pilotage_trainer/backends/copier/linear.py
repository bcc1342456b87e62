"""A linear model over named traits, as stored and as it answers: numpy, no scipy. Fitting is in fitting.py."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


FARTHEST = 30.0
"""Beyond that a logistic function is 0 or 1 in float32."""


class StoredLinear(msgspec.Struct, frozen=True):
    """`weights` is float32, little-endian, traits × kinds, row by row; `intercepts` one for each kind."""

    traits: tuple[str, ...]
    kinds: tuple[str, ...]
    weights: bytes
    intercepts: bytes


class Linear:
    """Scores of each kind: an intercept and the weights of the traits present."""

    def __init__(self, stored: StoredLinear) -> None:
        self.stored = stored
        self.kinds = stored.kinds
        self._row = {trait: i for i, trait in enumerate(stored.traits)}
        shape = (len(stored.traits), len(stored.kinds))
        self._weights: Floats = np.frombuffer(stored.weights, dtype="<f4").reshape(shape)
        self._intercepts: Floats = np.frombuffer(stored.intercepts, dtype="<f4")

    def scores(self, traits: Sequence[str]) -> Floats:
        """One score a kind."""
        rows = [self._row[trait] for trait in traits if trait in self._row]
        found: Floats = self._weights[rows].sum(axis=0) + self._intercepts
        return found

    def shares(self, traits: Sequence[str]) -> Floats:
        """Softmax of the scores: they sum to 1."""
        return find_shares(self.scores(traits))

    def chances(self, traits: Sequence[str]) -> Floats:
        """Each kind for itself: the logistic function of its score."""
        scores = np.clip(self.scores(traits), -FARTHEST, FARTHEST)
        chances: Floats = np.float32(1.0) / (np.float32(1.0) + np.exp(-scores))
        return chances


def find_shares(scores: Floats) -> Floats:
    """Softmax: they sum to 1."""
    odds = np.exp(scores - scores.max())
    shares: Floats = odds / odds.sum()
    return shares
