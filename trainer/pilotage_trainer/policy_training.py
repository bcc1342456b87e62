"""Fitting a policy: counts, the log-linear part (scikit-learn), and their shares, chosen on development sessions.

Not here: reading sessions (dataset.py), serving (policy.py).
"""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from pilotage_core.errors import EvidenceError
from pilotage_trainer.config import PolicySettings
from pilotage_trainer.counts import Example, count_steps
from pilotage_trainer.failures import OneClassError
from pilotage_trainer.policy import Policy, Prediction, StoredPolicy, StoredWeights

SHARES = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0)
DEFAULT_SHARE = 0.8
"""Where there are no development sessions to choose on; what is mostly chosen where there are."""
LEAST_PROBABILITY = 1e-6


def fit_policy(examples: Sequence[Example], settings: PolicySettings, share: float = DEFAULT_SHARE) -> Policy:
    """Fit to `examples`. Raises EvidenceError for too few, OneClassError where all steps are the same."""
    if len(examples) < settings.least_examples:
        raise EvidenceError(
            f"{len(examples)} demonstrations are too few to learn from",
            where="window",
            remedy=f"at least {settings.least_examples} are needed: widen the window or wait",
        )
    steps = sorted({example.step for example in examples})
    if len(steps) < 2:
        raise OneClassError(f"every demonstration is {steps[0]!r}", where="window", remedy="check the export")
    loglinear = _fit_loglinear(examples, settings)
    return Policy(StoredPolicy(count_steps(examples), loglinear, share))


def score_predictions(predictions: Sequence[tuple[Prediction, str]]) -> float:
    """Mean log probability of the steps taken."""
    likely = [max(prediction.mixed.get(step, 0.0), LEAST_PROBABILITY) for prediction, step in predictions]
    return math.fsum(math.log(p) for p in likely) / len(likely)


def choose_share(predictions: Sequence[tuple[Prediction, str]]) -> float:
    """The share of the log-linear part under which the steps taken are likeliest."""

    def score(share: float) -> float:
        return score_predictions([(prediction.remix(share), step) for prediction, step in predictions])

    return max(SHARES, key=score)


def _fit_loglinear(examples: Sequence[Example], settings: PolicySettings) -> StoredWeights:
    seen = Counter(trait for example in examples for trait in example.traits)
    traits = tuple(sorted(trait for trait, n in seen.items() if n >= settings.rarest))
    model = LogisticRegression(C=settings.strength, max_iter=settings.iterations, tol=1e-3)
    with warnings.catch_warnings():  # a fixed number of iterations is meant: it is cheap, and as good on new sessions
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(build_sparse([dict.fromkeys(e.traits, 1.0) for e in examples], traits), [e.step for e in examples])
    weights, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes: that of the second
        weights, intercepts = np.vstack([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
    return StoredWeights(
        traits=traits,
        steps=tuple(str(step) for step in model.classes_),
        weights=weights.T.astype("<f4").tobytes(),
        intercepts=intercepts.astype("<f4").tobytes(),
    )


def build_sparse(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> sp.csr_matrix:
    """Rows of named values as a matrix with one column for each of `names` (others are passed over)."""
    column = {name: i for i, name in enumerate(names)}
    cells = [sorted((column[name], value) for name, value in row.items() if name in column) for row in rows]
    starts = np.cumsum([0, *(len(row) for row in cells)])
    indices = np.fromiter((i for row in cells for i, _ in row), dtype=np.int32, count=int(starts[-1]))
    values = np.fromiter((v for row in cells for _, v in row), dtype=np.float32, count=int(starts[-1]))
    return sp.csr_matrix((values, indices, starts), shape=(len(rows), len(names)))
