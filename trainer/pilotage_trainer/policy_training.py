"""Fitting a policy: counts, the log-linear part (scikit-learn), and their shares, chosen on development sessions.

Not here: reading sessions (dataset.py), serving (policy.py).
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from pilotage_core.errors import EvidenceError
from pilotage_trainer.counts import Example, count_steps
from pilotage_trainer.policy import Policy, StoredPolicy, StoredWeights

SHARES = (0.0, 0.25, 0.5, 0.65, 0.8, 0.9, 1.0)


class OneClassError(EvidenceError):
    """Every example or label is of one class: nothing can be told apart."""


class PolicySettings(msgspec.Struct, frozen=True):
    """How a policy is fitted. `strength` is the inverse of the L2 penalty; `rarest` the fewest examples of a trait."""

    strength: float = 0.3
    rarest: int = 3
    iterations: int = 25
    development_share: float = 0.2
    least_examples: int = 50


def fit_policy(examples: Sequence[Example], settings: PolicySettings, share: float) -> Policy:
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


def _fit_loglinear(examples: Sequence[Example], settings: PolicySettings) -> StoredWeights:
    seen = Counter(trait for example in examples for trait in example.traits)
    traits = tuple(sorted(trait for trait, n in seen.items() if n >= settings.rarest))
    model = LogisticRegression(C=settings.strength, max_iter=settings.iterations, tol=1e-3)
    model.fit(build_matrix([e.traits for e in examples], traits), [e.step for e in examples])
    weights, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes: that of the second
        weights, intercepts = np.vstack([-weights, weights]) / 2, np.concatenate([-intercepts, intercepts]) / 2
    return StoredWeights(
        traits=traits,
        steps=tuple(str(step) for step in model.classes_),
        weights=weights.T.astype("<f4").tobytes(),
        intercepts=intercepts.astype("<f4").tobytes(),
    )


def build_matrix(rows: Sequence[Sequence[str]], names: Sequence[str]) -> sp.csr_matrix:
    """Rows of trait names as a 0/1 matrix with one column for each of `names` (others are passed over)."""
    column = {name: i for i, name in enumerate(names)}
    indices = [sorted(column[name] for name in row if name in column) for row in rows]
    starts = np.cumsum([0, *(len(row) for row in indices)])
    flat = np.fromiter((i for row in indices for i in row), dtype=np.int32, count=int(starts[-1]))
    return sp.csr_matrix((np.ones(len(flat), dtype=np.float32), flat, starts), shape=(len(rows), len(names)))
