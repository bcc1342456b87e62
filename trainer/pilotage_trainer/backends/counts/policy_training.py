"""Fitting a policy: counts, the log-linear part, and their shares, chosen on development sessions.

Not here: reading sessions (examples.py), the regression itself (logistic.py), serving (policy.py).
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends.counts.counts import Example, count_steps
from pilotage_trainer.backends.counts.policy import Policy, Prediction, StoredPolicy, StoredWeights
from pilotage_trainer.backends.logistic import fit_logistic
from pilotage_trainer.config import CountsPolicy
from pilotage_trainer.failures import OneClassError

SHARES = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0)
DEFAULT_SHARE = 0.8
"""Where there are no development sessions to choose on; what is mostly chosen where there are."""
LEAST_PROBABILITY = 1e-6
TOLERANCE = 1e-3


class Lessons:
    """Examples with traits and steps as numbers, found once: several policies are fitted to parts of them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._names = sorted({trait for example in examples for trait in example.traits})
        self._steps = sorted({example.step for example in examples})
        self._rows = build_sparse([dict.fromkeys(e.traits, 1.0) for e in examples], self._names)
        number = {step: i for i, step in enumerate(self._steps)}
        self._classes = np.array([number[example.step] for example in examples], dtype=np.intp)
        self.sessions = np.array([example.session for example in examples], dtype=np.intp)

    def fit(self, chosen: npt.NDArray[np.bool_], settings: CountsPolicy, share: float = DEFAULT_SHARE) -> Policy:
        """Fit to the `chosen` examples.

        Raises EvidenceError for too few, OneClassError where all steps are the same.
        """
        positions = np.flatnonzero(chosen)
        if len(positions) < settings.least_examples:
            raise EvidenceError(
                f"{len(positions)} demonstrations are too few to learn from",
                where="window",
                remedy=f"at least {settings.least_examples} are needed: widen the window or wait",
            )
        steps, classes = np.unique(self._classes[positions], return_inverse=True)
        if len(steps) < 2:
            only = self._steps[steps[0]]
            raise OneClassError(f"every demonstration is {only!r}", where="window", remedy="check the export")
        loglinear = self._fit_loglinear(positions, steps, classes, settings)
        return Policy(StoredPolicy(count_steps(self._examples[i] for i in positions.tolist()), loglinear, share))

    def _fit_loglinear(
        self,
        positions: npt.NDArray[np.intp],
        steps: npt.NDArray[Any],
        classes: npt.NDArray[Any],
        settings: CountsPolicy,
    ) -> StoredWeights:
        rows = self._rows[positions]
        kept = np.flatnonzero(np.bincount(rows.indices, minlength=len(self._names)) >= settings.rarest)
        fitted = fit_logistic(  # a fixed number of iterations is meant: it is cheap, and as good on new sessions
            rows[:, kept], classes, strength=settings.strength, iterations=settings.iterations, tolerance=TOLERANCE
        )
        return StoredWeights(
            traits=tuple(self._names[i] for i in kept),
            steps=tuple(self._steps[i] for i in steps),
            weights=fitted.weights.astype("<f4").tobytes(),
            intercepts=fitted.intercepts.astype("<f4").tobytes(),
        )


def fit_policy(examples: Sequence[Example], settings: CountsPolicy, share: float = DEFAULT_SHARE) -> Policy:
    """Fit to all `examples`. Raises what `Lessons.fit` raises."""
    return Lessons(examples).fit(np.ones(len(examples), dtype=np.bool_), settings, share)


def score_predictions(predictions: Sequence[tuple[Prediction, str]]) -> float:
    """Mean log probability of the steps taken."""
    likely = [max(prediction.mixed.get(step, 0.0), LEAST_PROBABILITY) for prediction, step in predictions]
    return math.fsum(math.log(p) for p in likely) / len(likely)


def choose_share(predictions: Sequence[tuple[Prediction, str]]) -> float:
    """The share of the log-linear part under which the steps taken are likeliest."""

    def score(share: float) -> float:
        return score_predictions([(prediction.remix(share), step) for prediction, step in predictions])

    return max(SHARES, key=score)


def build_sparse(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> sp.csr_matrix:
    """Rows of named values as a matrix with one column for each of `names` (others are passed over)."""
    column = {name: i for i, name in enumerate(names)}
    cells = [[column[name] for name in row if name in column] for row in rows]
    starts = np.cumsum([0, *map(len, cells)])
    indices = np.fromiter(chain.from_iterable(cells), dtype=np.int32, count=int(starts[-1]))
    values = (value for row in rows for name, value in row.items() if name in column)
    matrix = sp.csr_matrix(
        (np.fromiter(values, dtype=np.float32, count=int(starts[-1])), indices, starts), shape=(len(rows), len(names))
    )
    matrix.sort_indices()
    return matrix
