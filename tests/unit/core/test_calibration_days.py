"""Labels of one day have much in common: days that differ cost evidence, few days are said not to be covered."""

import numpy as np
import pytest
from scipy.special import expit
from unit.core.labels import drawn

from pilotage_core.calibration import calibrate
from pilotage_core.certificate import COVERED_DAYS
from pilotage_core.errors import InvalidInputError

N = 3000


def run(seed, days, spread, *, told=True, log_odds=3.0):
    """One calibration on N labels given on `days` days, one after the other, that differ by `spread`."""
    rng = np.random.default_rng(seed)
    day = np.arange(N) * days // N
    accepted = rng.random(N) < expit(log_odds + spread * rng.standard_normal(days)[day])
    people, sessions = rng.integers(0, 20, N), np.arange(N)
    scores = rng.random(N)
    return calibrate(scores, accepted, people, sessions, target=0.9, delta=0.05, days=day if told else None)


def test_days_that_differ_cost_evidence_and_days_that_do_not_cost_little():
    def mean_effect(spread, told):
        return np.mean([run(seed, 10, spread, told=told).design_effect for seed in range(20)])

    assert mean_effect(0.0, True) < 1.5 * mean_effect(0.0, False)
    assert mean_effect(0.6, True) > 3.0 * mean_effect(0.6, False)


def test_the_promise_is_kept_where_days_differ_in_a_small_seeded_simulation():
    """Every score is as good as any other, and actions are just below target: whatever is certified is a violation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)

    def precision(log_odds):
        return float(expit(log_odds + 0.4 * nodes) @ weights / weights.sum())

    low, high = 0.0, 4.0
    for _ in range(60):
        low, high = (low, (low + high) / 2) if precision((low + high) / 2) > 0.8999 else ((low + high) / 2, high)
    wrong = {told: sum(run(seed, 10, 0.4, told=told, log_odds=low).tau is not None for seed in range(300))
             for told in (True, False)}  # fmt: skip
    assert wrong[True] <= 0.08 * 300, "0.05 and two standard errors"
    assert wrong[False] > wrong[True]


def test_fewer_days_than_are_covered_are_counted_and_change_nothing():
    few, none = run(1, COVERED_DAYS - 1, 0.3), run(1, COVERED_DAYS - 1, 0.3, told=False)
    assert (few.days, none.days) == (COVERED_DAYS - 1, 0)
    assert (few.tau, few.bound, few.design_effect) == (none.tau, none.bound, none.design_effect)
    assert run(1, COVERED_DAYS, 0.6).design_effect > run(1, COVERED_DAYS, 0.6, told=False).design_effect


def test_stray_labels_on_other_days_make_no_days():
    scores, accepted, operators, sessions = drawn(seed=3, n=3000)
    stray = np.zeros(3000, dtype=int)
    stray[:4] = [1, 2, 3, 4]
    result = calibrate(scores, accepted, operators, sessions, target=0.9, delta=0.05, days=stray)
    assert result.days == 1


def test_names_of_days_mean_nothing_and_their_number_is_checked():
    scores, accepted, operators, sessions = drawn(seed=3, n=600)
    days = np.arange(600) // 60
    given = {"target": 0.9, "delta": 0.05}
    assert calibrate(scores, accepted, operators, sessions, days=days, **given) == calibrate(
        scores, accepted, operators, sessions, days=1000 - 7 * days, **given
    )
    with pytest.raises(InvalidInputError, match=r"days.*\(599,\)"):
        calibrate(scores, accepted, operators, sessions, days=days[1:], **given)
