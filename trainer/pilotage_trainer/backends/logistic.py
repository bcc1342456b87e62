"""Multinomial logistic regression with an L2 penalty on sparse rows: the loss, and L-BFGS that makes it small.

Own code because scikit-learn's import and fit cost a Job too much (measured: docs/decisions/036); it is in double
precision throughout.
Here everything is in the precision of the rows. Not here: what rows and classes are (policy_training.py,
critic_training.py).
"""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Array = npt.NDArray[Any]
Loss = Callable[[Array], tuple[float, Array]]

MEMORY = 10
"""How many former steps L-BFGS remembers."""
SUFFICIENT = 1e-4
"""The share of the promised decrease that a step has to bring (Armijo)."""
HALVINGS = 20
SETTLED = 1e-9
"""Where a step lowers the loss by a smaller share than this, nothing more is to be had."""


class Fitted(NamedTuple):
    """Weights (columns × classes) and intercepts (classes)."""

    weights: Array
    intercepts: Array


def fit_logistic(
    rows: sp.csr_matrix,
    classes: npt.NDArray[np.intp],
    *,
    strength: float,
    iterations: int,
    tolerance: float,
    importance: Array | None = None,
) -> Fitted:
    """Fit to `rows`, each of one of `classes` (0, 1, …). Deterministic: it starts at zero.

    The loss is the mean of the rows' (weighted by `importance`) plus |weights|² / (2 · strength · their number);
    intercepts are free. Stops after `iterations`, or where no slope is above `tolerance`.
    """
    columns, kinds = rows.shape[1], int(classes.max()) + 1
    loss = _build_loss(rows, classes, kinds, strength, importance)
    found = minimise(loss, np.zeros((columns + 1) * kinds, dtype=rows.dtype), iterations, tolerance)
    table = found.reshape(columns + 1, kinds)
    return Fitted(table[:-1], table[-1])


def _build_loss(
    rows: sp.csr_matrix, classes: npt.NDArray[np.intp], kinds: int, strength: float, importance: Array | None
) -> Loss:
    """The loss and its slope as functions of weights and, in the last row of the table, intercepts."""
    number, columns = rows.shape
    shares = np.ones(number, dtype=rows.dtype) if importance is None else importance.astype(rows.dtype)
    total = float(shares.sum(dtype=np.float64))
    shares = (shares / total).astype(rows.dtype)
    penalty = rows.dtype.type(1.0 / (strength * total))
    turned = rows.T  # the same numbers by column
    every = np.arange(number)

    def loss(x: Array) -> tuple[float, Array]:
        table = x.reshape(columns + 1, kinds)
        scores = rows @ table[:-1]
        scores += table[-1]
        scores -= scores.max(axis=1, keepdims=True)
        own = scores[every, classes]
        np.exp(scores, out=scores)
        sums = scores.sum(axis=1)
        value = float(np.dot(shares, np.log(sums) - own)) + 0.5 * float(penalty) * float(
            np.vdot(table[:-1], table[:-1])
        )
        scores *= (shares / sums)[:, None]
        scores[every, classes] -= shares
        slope = np.empty_like(table)
        slope[:-1] = turned @ scores
        slope[:-1] += penalty * table[:-1]
        slope[-1] = scores.sum(axis=0)
        return value, slope.ravel()

    return loss


def minimise(loss: Loss, start: Array, iterations: int, tolerance: float) -> Array:
    """L-BFGS with backtracking, for a smooth convex `loss`. Source: Nocedal and Wright 2006, algorithm 7.5."""
    x = start
    value, slope = loss(x)
    steps: deque[tuple[Array, Array, float]] = deque(maxlen=MEMORY)
    for _ in range(iterations):
        if float(np.abs(slope).max()) <= tolerance:
            break
        direction = _turn(slope, steps)
        descent = float(np.dot(direction, slope))
        length = 1.0 if steps else min(1.0, 1.0 / float(np.linalg.norm(slope)))
        for _ in range(HALVINGS):
            moved = x + x.dtype.type(length) * direction
            new_value, new_slope = loss(moved)
            if new_value <= value + SUFFICIENT * length * descent:
                break
            length /= 2.0
        else:
            break  # no decrease to be had in this precision
        step, change = moved - x, new_slope - slope
        bend = float(np.dot(step, change))
        if bend > 0.0:
            steps.append((step, change, bend))
        gained, x, value, slope = value - new_value, moved, new_value, new_slope
        if gained <= SETTLED * abs(value):
            break
    return x


def _turn(slope: Array, steps: deque[tuple[Array, Array, float]]) -> Array:
    """The direction of descent: minus the slope, times what the former steps tell of the inverse curvature."""
    direction = -slope
    parts = []
    for step, change, bend in reversed(steps):
        part = float(np.dot(step, direction)) / bend
        direction -= slope.dtype.type(part) * change
        parts.append(part)
    if steps:
        _, change, bend = steps[-1]
        direction *= slope.dtype.type(bend / float(np.dot(change, change)))
    for (step, change, bend), part in zip(steps, reversed(parts), strict=True):
        direction += slope.dtype.type(part - float(np.dot(change, direction)) / bend) * step
    return direction
