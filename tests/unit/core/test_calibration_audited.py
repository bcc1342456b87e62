"""Labels that were looked at by chance: weighed by the chance, and never believed for more than they show."""

import numpy as np
import pytest
from scipy.special import expit
from unit.core.labels import drawn, run

from pilotage_core.calibration import (
    CalibrationReason,
    TauResult,
)


# --- audited labels ---------------------------------------------------------------------------------------------------
def test_a_single_propensity_for_all_is_the_same_as_none():
    labels = drawn(seed=5, n=1500)
    plain, audited = run(*labels), run(*labels, propensities=np.full(1500, 0.1))
    assert (audited.tau, audited.selected, audited.errors) == (plain.tau, plain.selected, plain.errors)
    assert audited.bound == pytest.approx(plain.bound)


def test_labels_less_likely_to_be_looked_at_count_for_more_and_unequal_ones_say_less():
    n = 1200
    accepted = np.ones(n, dtype=bool)
    accepted[::31] = False
    sure, rare = np.full(n, 1.0), np.where(accepted, 1.0, 0.25)
    scores = np.linspace(1.0, 0.5, n)
    assert run(scores, accepted, propensities=rare).bound < run(scores, accepted, propensities=sure).bound
    mixed = run(scores, accepted, propensities=np.where(np.arange(n) % 2, 1.0, 0.25))
    assert mixed.design_effect >= n * (1 + 16) / 2 * n / (n * 2.5) ** 2 * 0.99  # Kish's


@pytest.mark.parametrize(("rare", "seldom"), [(0.1, 0.1), (0.05, 0.1), (0.2, 0.5)])
def test_the_promise_is_kept_where_actions_seldom_looked_at_err_more(rare, seldom):
    """Kish's effective count alone takes errors to be no heavier than other labels, and violates 11 % of the time."""
    rng, runs, n = np.random.default_rng(8), 150, 1500
    x = rng.standard_normal(400_000)
    seldom_of_all = rng.random(400_000) < seldom
    accept = expit(1.34 + 1.37 * x + np.where(seldom_of_all, -2.0, 0.5))
    order = np.argsort(-x)
    precision_from, falling = np.cumsum(accept[order]) / np.arange(1, 400_001), -x[order]
    violations = 0
    for _ in range(runs):
        looked = np.flatnonzero(rng.random(400_000) < np.where(seldom_of_all, rare, 1.0))
        seen = rng.choice(looked, n, replace=False)
        accepted = rng.random(n) < accept[seen]
        result = run(expit(x[seen]), accepted, propensities=np.where(seldom_of_all[seen], rare, 1.0))
        if result.tau is not None:
            at = np.searchsorted(falling, -np.log(result.tau / (1 - result.tau)), side="right")
            violations += precision_from[max(at - 1, 0)] < 0.9
    assert violations / runs <= 0.08


@pytest.mark.parametrize(
    ("share", "propensity", "precision", "n", "told"),
    [(0.2, 0.02, 0.6, 1000, False), (0.2, 0.02, 0.6, 600, False), (0.15, 0.05, 0.4, 150, True)],
)
def test_the_promise_is_kept_where_hardly_a_label_shows_the_actions_that_err(share, propensity, precision, n, told):
    """True precision is 0.89. With 150 labels a quarter of the tables have none of such an action, and must be told."""
    rng, certified, runs = np.random.default_rng(8), 0, 200
    among_labels = share * propensity / (share * propensity + 1.0 - share)
    for _ in range(runs):
        seldom = rng.random(n) < among_labels
        accepted = rng.random(n) < np.where(seldom, precision, (0.89 - share * precision) / (1.0 - share))
        propensities = np.where(seldom, propensity, 1.0)
        floor = {"least_propensity": propensity} if told else {}
        certified += run(rng.random(n), accepted, propensities=propensities, **floor).tau is not None
    assert certified / runs <= 0.04


@pytest.mark.parametrize(
    ("propensities", "least", "reason"),
    [
        (np.where(np.arange(200) == 70, 0.1, 1.0), 1.0, CalibrationReason.TOO_FEW_LABELS),
        (np.where(np.arange(200) % 5 == 0, 0.1, 1.0), 1.0, CalibrationReason.CERTIFIED),
        (np.full(200, 0.1), 1.0, CalibrationReason.CERTIFIED),
        (np.full(200, 0.1), 0.1, CalibrationReason.CERTIFIED),
        (np.ones(200), 0.1, CalibrationReason.TOO_FEW_LABELS),
        (None, 0.1, CalibrationReason.TOO_FEW_LABELS),
        (None, 1e-300, CalibrationReason.TOO_FEW_LABELS),
    ],
)
def test_labels_have_to_weigh_as_much_as_the_fewest_of_the_heaviest_kind(propensities, least, reason):
    result = run(
        np.linspace(1.0, 0.5, 200), np.ones(200, dtype=bool), propensities=propensities, least_propensity=least
    )
    assert result.reason is reason
    assert (result.needed > 200) == (reason is CalibrationReason.TOO_FEW_LABELS)


def test_as_many_labels_as_are_said_to_be_needed_are_enough():
    def of(n: int) -> TauResult:
        return run(np.linspace(1.0, 0.5, n), np.ones(n, dtype=bool), least_propensity=0.03)

    needed = of(100).needed
    assert (of(needed - 1).reason, of(needed).reason) == (
        CalibrationReason.TOO_FEW_LABELS,
        CalibrationReason.CERTIFIED,
    )


def test_where_the_walk_starts_does_not_depend_on_which_labels_err():
    seldom = np.arange(1000) % 10 == 3
    scores, propensities = np.linspace(1.0, 0.5, 1000), np.where(seldom, 0.1, 1.0)
    started = {
        run(scores, ~wrong, propensities=propensities).selected
        for wrong in (seldom, np.arange(1000) % 3 == 1, seldom & (np.arange(1000) < 200))
    }
    assert len(started) == 1
    assert run(scores, ~seldom, propensities=propensities).tau is None
