"""Fitting a policy: what turns call for, spans, then the ranker on what those say of sessions they were not fitted on.

Not here: the regressions themselves (logistic.py), reading sessions (lessons.py), serving (policy.py).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pilotage_trainer.backends.copier.linear import FARTHEST, StoredLinear
from pilotage_trainer.backends.logistic import Loss, fit_logistic, minimise

Array = npt.NDArray[Any]


def build_rows(
    rows: Sequence[Sequence[str]], sessions: Sequence[int], rarest: int
) -> tuple[sp.csr_matrix, tuple[str, ...]]:
    """Rows of traits as a matrix of ones, and its columns' names: traits that `rarest` of the `sessions` (one a row)
    have at least. What one session alone says, however often, is nobody else's to know.
    """
    seen = Counter(trait for _, trait in {(s, trait) for s, row in zip(sessions, rows, strict=True) for trait in row})
    names = tuple(sorted(trait for trait, n in seen.items() if n >= rarest))
    column = {name: i for i, name in enumerate(names)}
    cells = [[column[trait] for trait in row if trait in column] for row in rows]
    starts = np.cumsum([0, *map(len, cells)])
    indices = np.fromiter((i for row in cells for i in row), dtype=np.int32, count=int(starts[-1]))
    matrix = sp.csr_matrix((np.ones(len(indices), dtype=np.float32), indices, starts), shape=(len(rows), len(names)))
    return matrix, names


def fit_classes(
    rows: Sequence[Sequence[str]],
    kinds: Sequence[str],
    sessions: Sequence[int],
    *,
    rarest: int,
    strength: float,
    iterations: int,
) -> StoredLinear:
    """One of several `kinds` for each of `rows` of traits: multinomial logistic regression."""
    matrix, names = build_rows(rows, sessions, rarest)
    found, classes = np.unique(np.array(kinds), return_inverse=True)
    fitted = fit_logistic(matrix, classes, strength=strength, iterations=iterations, tolerance=1e-5)
    return _store(names, found.tolist(), fitted.weights, fitted.intercepts)


def fit_calls(
    rows: Sequence[Sequence[str]],
    called: Sequence[frozenset[str]],
    sessions: Sequence[int],
    *,
    rarest: int,
    strength: float,
    iterations: int,
) -> StoredLinear:
    """Any of several kinds for each of `rows`: one logistic regression a kind, all fitted together."""
    matrix, names = build_rows(rows, sessions, rarest)
    seen = Counter(call for _, call in {(s, call) for s, calls in zip(sessions, called, strict=True) for call in calls})
    kinds = tuple(sorted(call for call, n in seen.items() if n >= rarest))
    column = {call: i for i, call in enumerate(kinds)}
    cells = [(i, column[call]) for i, calls in enumerate(called) for call in calls if call in column]
    loss = _build_calls_loss(matrix, np.array(cells, dtype=np.intp), len(kinds), strength)
    start = np.zeros((len(names) + 1) * len(kinds), dtype=np.float32)
    start[-len(kinds) :] = [np.log(max(seen[kind], 1) / len(rows)) for kind in kinds]
    table = minimise(loss, start, iterations, 1e-6).reshape(len(names) + 1, len(kinds))
    return _store(names, kinds, table[:-1], table[-1])


def _build_calls_loss(rows: sp.csr_matrix, cells: Array, kinds: int, strength: float) -> Loss:
    number, columns = rows.shape
    turned = rows.T.tocsr()
    penalty = np.float32(1.0 / (strength * number))

    def loss(x: Array) -> tuple[float, Array]:
        table = x.reshape(columns + 1, kinds)
        scores = rows @ table[:-1]
        scores += table[-1]
        own = float(scores[cells[:, 0], cells[:, 1]].sum(dtype=np.float64))
        value = (float(np.logaddexp(0.0, scores).sum(dtype=np.float64)) - own) / number
        value += 0.5 * float(penalty) * float(np.vdot(table[:-1], table[:-1]))
        np.clip(scores, -FARTHEST, FARTHEST, out=scores)
        np.negative(scores, out=scores)
        np.exp(scores, out=scores)
        scores += 1.0
        np.reciprocal(scores, out=scores)
        scores[cells[:, 0], cells[:, 1]] -= 1.0
        scores /= number
        slope = np.empty_like(table)
        slope[:-1] = turned @ scores
        slope[:-1] += penalty * table[:-1]
        slope[-1] = scores.sum(axis=0)
        return value, slope.ravel()

    return loss


def fit_ranker(
    places: Array, counts: Array, groups: Array, gold: Array, buckets: int, *, strength: float, iterations: int
) -> Array:
    """Weights under which the `gold` candidate of each group is likeliest.

    `places` are the buckets of each candidate's pairs, one after the other, `counts` how many each has, `groups` how
    many candidates each moment has, `gold` the place of the one taken among all candidates.
    """
    starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    rows = sp.csr_matrix((np.ones(len(places), dtype=np.float32), places, starts), shape=(len(counts), buckets))
    heads = np.cumsum(groups) - groups
    owner = np.repeat(np.arange(len(groups)), groups)
    number = len(groups)
    penalty = np.float32(1.0 / (strength * number))
    turned = rows.T

    def loss(x: Array) -> tuple[float, Array]:
        scores = rows @ x
        scores -= np.maximum.reduceat(scores, heads)[owner]
        own = float(scores[gold].sum(dtype=np.float64))
        odds = np.exp(scores)
        sums = np.add.reduceat(odds, heads)
        value = (float(np.log(sums).sum(dtype=np.float64)) - own) / number
        value += 0.5 * float(penalty) * float(np.dot(x, x))
        odds /= sums[owner]
        odds[gold] -= 1.0
        odds /= number
        slope = turned @ odds
        slope += penalty * x
        return value, slope

    return minimise(loss, np.zeros(buckets, dtype=np.float32), iterations, 1e-7)


def fit_verdicts(
    places: Sequence[Array], accepted: Array, importance: Array, buckets: int, *, strength: float, iterations: int
) -> tuple[Array, float]:
    """Weights by bucket and an intercept: logistic regression of `accepted` on the buckets of each label's pairs."""
    starts = np.concatenate([[0], np.cumsum([len(each) for each in places])])
    flat = np.concatenate(places)
    rows = sp.csr_matrix((np.ones(len(flat), dtype=np.float32), flat, starts), shape=(len(places), buckets))
    turned = rows.T
    sides = np.where(accepted, 1.0, -1.0).astype(np.float32)
    shares = (importance / importance.sum()).astype(np.float32)
    penalty = np.float32(1.0 / (strength * float(importance.sum())))

    def loss(x: Array) -> tuple[float, Array]:
        margins = sides * (rows @ x[:-1] + x[-1])
        value = float(np.dot(shares, np.logaddexp(0.0, -margins))) + 0.5 * float(penalty) * float(
            np.dot(x[:-1], x[:-1])
        )
        pull = -sides * shares / (1.0 + np.exp(np.clip(margins, -FARTHEST, FARTHEST)))
        slope = np.empty_like(x)
        slope[:-1] = turned @ pull + penalty * x[:-1]
        slope[-1] = pull.sum()
        return value, slope

    found = minimise(loss, np.zeros(buckets + 1, dtype=np.float32), iterations, 1e-7)
    return found[:-1], float(found[-1])


def _store(names: Sequence[str], kinds: Sequence[str], weights: Array, intercepts: Array) -> StoredLinear:
    return StoredLinear(tuple(names), tuple(kinds), weights.astype("<f4").tobytes(), intercepts.astype("<f4").tobytes())
