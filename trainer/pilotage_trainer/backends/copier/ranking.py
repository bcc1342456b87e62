"""The ranker: P(action) ∝ exp(Σ weights of its keys paired with the moment's tokens), over what may come next.

Pairs are hashed into BUCKETS weights. What a server needs, numpy alone; fitting is in fitting.py.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilotage_core.actions import Action
from pilotage_trainer.backends.copier.linear import Floats

BUCKETS = 1 << 20
MULTIPLIER = np.uint32(0x9E3779B1)

Places = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Candidate:
    """One action that may come next, and its keys. None: nothing that could be proposed."""

    action: Action | None
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Moment:
    """What may come next, and the tokens of the moment."""

    candidates: tuple[Candidate, ...]
    tokens: tuple[str, ...]


def number_names(names: Iterable[str]) -> npt.NDArray[np.uint32]:
    """A number for each name (crc32: the same on every machine)."""
    return np.array([zlib.crc32(name.encode()) for name in names], dtype=np.uint32)


def find_pairs(moment: Moment) -> tuple[Places, Places]:
    """The buckets of every pair of key and token, candidate by candidate, and how many each candidate has."""
    keys = number_names(key for candidate in moment.candidates for key in candidate.keys)
    tokens = number_names(moment.tokens)
    mixed = (keys[:, None] * MULTIPLIER) ^ (tokens[None, :] * np.uint32(0x85EBCA6B))
    mixed ^= mixed >> np.uint32(15)
    places = (mixed & np.uint32(BUCKETS - 1)).astype(np.int32).ravel()
    counts = np.array([len(candidate.keys) * len(tokens) for candidate in moment.candidates], dtype=np.int32)
    return places, counts


def weigh_pairs(weights: Floats, places: Places, counts: Places) -> Floats:
    """The score of each candidate."""
    starts = np.cumsum(counts) - counts
    scores: Floats = np.add.reduceat(weights[places], starts)
    return scores
