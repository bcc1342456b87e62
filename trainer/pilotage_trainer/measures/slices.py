"""Shares by slice (operator, issue type, day) with intervals that hold for all slices at once. Pure.

Labels of one session go together, so whole sessions are drawn. Not here: which slices there are.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
DRAWS = 1000


class SliceShare(msgspec.Struct, frozen=True):
    """The share of a slice's `n` labels, of `sessions` sessions, that are right; [low, high] holds with all others."""

    name: str
    n: int
    sessions: int
    share: float
    low: float
    high: float


def estimate_shares(
    right: npt.ArrayLike,
    slices: Sequence[str],
    sessions: Sequence[str],
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[SliceShare]:
    """The share right in each of `slices`, largest slice first; all arguments but the last three are of one length.

    Simultaneous intervals by the maximum of studentised deviations over slices, in bootstrap draws of whole sessions
    (max-t: Romano and Wolf 2005; Montiel Olea and Plagborg-Møller 2019). A slice in which all labels agree has a
    standard error too: that of (right + 1) / (n + 2) over its sessions (Agresti and Coull 1998).
    """
    if not len(slices):
        return []
    names, place = np.unique(np.asarray(slices, dtype=np.str_), return_inverse=True)
    clusters, cluster = np.unique(np.asarray(sessions, dtype=np.str_), return_inverse=True)
    shape = (len(clusters), len(names))
    hits, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(hits, (cluster, place), np.asarray(right, dtype=np.float64))
    np.add.at(counts, (cluster, place), 1.0)
    n, held = counts.sum(axis=0), (counts > 0).sum(axis=0)
    share = hits.sum(axis=0) / n
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(clusters), np.full(len(clusters), 1.0 / len(clusters)), size=draws).astype(np.float64)
    totals = drawn @ counts
    redrawn = np.where(totals > 0, (drawn @ hits) / np.maximum(totals, 1.0), share)
    smoothed = (hits.sum(axis=0) + 1.0) / (n + 2.0)
    error = np.maximum(redrawn.std(axis=0), np.sqrt(smoothed * (1.0 - smoothed) / np.maximum(held, 1)) / 2.0)
    widest = np.max(np.abs(redrawn - share) / error, axis=1)
    reach = max(float(np.quantile(widest, confidence)), 1.96) * error
    found = [
        SliceShare(
            str(names[i]), int(n[i]), int(held[i]), float(share[i]),
            float(max(share[i] - reach[i], 0.0)), float(min(share[i] + reach[i], 1.0)),
        )
        for i in range(len(names))
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-one.n, one.name))


def keep_largest(slices: Sequence[str], most: int, rest: str = "others") -> list[str]:
    """`slices` with all but the `most` largest called `rest`."""
    names, counts = np.unique(np.asarray(slices, dtype=np.str_), return_counts=True)
    kept = {str(names[i]) for i in np.argsort(-counts, kind="stable")[:most]}
    return [name if name in kept else rest for name in slices]
