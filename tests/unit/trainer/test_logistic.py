"""The regression: it finds what can be worked out otherwise, in either precision, and the same every time."""

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

from pilotage_trainer.backends.logistic import fit_logistic, minimise


def rows_of(number, columns, kinds, seed, dtype=np.float64):
    """Sparse rows of ones and the classes they tell of, with noise."""
    rng = np.random.default_rng(seed)
    rows = (rng.random((number, columns)) < 0.2).astype(dtype)
    scores = rows @ rng.normal(size=(columns, kinds)) + rng.gumbel(size=(number, kinds))
    return sp.csr_matrix(rows), scores.argmax(axis=1)


def loss_of(rows, classes, weights, intercepts, strength, importance=None):
    """The loss as the docstring says it, in double precision."""
    shares = np.ones(len(classes)) if importance is None else np.asarray(importance)
    scores = rows.toarray().astype(float) @ weights.astype(float) + intercepts
    likely = scores[np.arange(len(classes)), classes] - np.logaddexp.reduce(scores, axis=1)
    return -(shares @ likely) / shares.sum() + 0.5 / (strength * shares.sum()) * (weights.astype(float) ** 2).sum()


@pytest.mark.parametrize("kinds", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_finds_the_minimum_that_another_optimiser_finds(kinds, weighted):
    rows, classes = rows_of(300, 12, kinds, seed=kinds)
    importance = np.random.default_rng(1).uniform(0.2, 5.0, 300) if weighted else None
    fitted = fit_logistic(rows, classes, strength=0.3, iterations=1000, tolerance=1e-6, importance=importance)
    shape = (13, kinds)

    def loss(x):
        table = x.reshape(shape)
        return loss_of(rows, classes, table[:-1], table[-1], 0.3, importance)

    other = scipy.optimize.minimize(loss, np.zeros(13 * kinds), method="BFGS")
    assert loss_of(rows, classes, *fitted, 0.3, importance) == pytest.approx(other.fun, abs=1e-6)
    assert fitted.weights == pytest.approx(other.x.reshape(shape)[:-1], abs=2e-3)


def test_single_precision_is_as_good_for_a_few_iterations():
    single, classes = rows_of(500, 40, 6, seed=3, dtype=np.float32)
    losses = []
    for rows in (single, single.astype(np.float64)):
        fitted = fit_logistic(rows, classes, strength=0.3, iterations=25, tolerance=1e-3)
        assert fitted.weights.dtype == rows.dtype
        losses.append(loss_of(rows, classes, *fitted, 0.3))
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_the_same_rows_give_the_same_weights():
    rows, classes = rows_of(200, 20, 4, seed=5, dtype=np.float32)
    first, second = (fit_logistic(rows, classes, strength=1.0, iterations=25, tolerance=1e-3) for _ in range(2))
    assert (first.weights == second.weights).all()
    assert (first.intercepts == second.intercepts).all()


def test_without_columns_intercepts_are_the_shares():
    rows = sp.csr_matrix((40, 0), dtype=np.float64)
    classes = np.array([0] * 10 + [1] * 30)
    fitted = fit_logistic(rows, classes, strength=1.0, iterations=100, tolerance=1e-9)
    assert fitted.intercepts[1] - fitted.intercepts[0] == pytest.approx(math.log(3.0), abs=1e-6)


def test_a_start_at_the_minimum_stays_there():
    found = minimise(lambda x: (float(x @ x) / 2.0, x), np.zeros(3), 10, 1e-6)
    assert (found == 0.0).all()


def test_the_fitting_jobs_do_not_wait_for_scikit_learn():
    code = "import sys, pilotage_trainer.main; from pilotage_trainer.backends.counts import critic_job, policy_job; "
    code += "print({'sklearn', 'torch', 'pyarrow', 'aiohttp', 'pandas'} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
