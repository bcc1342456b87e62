"""Two arms compared: as the peer does where it covers it, and honest where it does not."""

import math
import time

import numpy as np
import pyarrow as pa
import pytest
import tea_tasting as tt
from hypothesis import example, given
from hypothesis import strategies as st

from pilotage_core.experiment import (
    Arm,
    bootstrap,
    compare,
    find_balance,
    find_cv,
    find_sample_ratio,
    plan_customers,
    plan_margin,
    widen,
)


def draw(seed: int, n: int, lift: float = 0.0, zeros: float = 0.4) -> Arm:
    """Seconds of operators by customer: many need none, some need much."""
    random = np.random.default_rng(seed)
    before = random.lognormal(4.0, 1.0, n)
    value = before * random.lognormal(0.0, 0.5, n) * (1 + lift) * (random.random(n) > zeros)
    return Arm(value, random.integers(1, 5, n).astype(float), before)


def ask_peer(control: Arm, treatment: Arm, metric, alpha: float = 0.05):
    table = pa.table(
        {
            "variant": [0] * control.n + [1] * treatment.n,
            "value": np.concatenate((control.value, treatment.value)),
            "of": np.concatenate((control.of, treatment.of)),
            "before": np.concatenate((control.before, treatment.before)),
        }
    )
    return tt.Experiment(metric=metric, ratio=tt.SampleRatio()).analyze(table, control=0)


METRICS = {
    "mean": (lambda arm: Arm(arm.value), lambda a: tt.Mean("value", confidence_level=1 - a)),
    "cuped": (
        lambda arm: Arm(arm.value, None, arm.before),
        lambda a: tt.Mean("value", "before", confidence_level=1 - a),
    ),
    "ratio": (lambda arm: Arm(arm.value, arm.of), lambda a: tt.RatioOfMeans("value", "of", confidence_level=1 - a)),
    "ratio-cuped": (
        lambda arm: Arm(arm.value, arm.of, arm.before),
        lambda a: tt.RatioOfMeans("value", "of", "before", confidence_level=1 - a),
    ),
}


@pytest.mark.parametrize("alpha", [0.05, 0.1])
@pytest.mark.parametrize(("sizes", "lift"), [((40, 55), -0.3), ((3000, 3100), -0.1), ((700, 90), 0.0)])
@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_peers_to_a_millionth(metric, sizes, lift, alpha):
    reduce, of_peer = METRICS[metric]
    control, treatment = draw(1, sizes[0]), draw(2, sizes[1], lift)
    found = compare(reduce(control), reduce(treatment), alpha)
    peer = ask_peer(control, treatment, of_peer(alpha), alpha)["metric"]
    mine = (found.control, found.treatment, found.relative_effect, found.ci_low, found.ci_high, found.effect,
            found.effect_low, found.effect_high, found.p)  # fmt: skip
    theirs = (peer.control, peer.treatment, peer.rel_effect_size, peer.rel_effect_size_ci_lower,
              peer.rel_effect_size_ci_upper, peer.effect_size, peer.effect_size_ci_lower, peer.effect_size_ci_upper,
              peer.pvalue)  # fmt: skip
    assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("sizes", [(20, 30), (480, 519), (480, 520), (5000, 5300), (9, 9)])
def test_the_sample_ratio_is_the_peers(sizes):
    peer = ask_peer(draw(1, sizes[0]), draw(2, sizes[1]), tt.Mean("value"))["ratio"]
    assert find_sample_ratio(sizes, (1.0, 1.0)) == pytest.approx(peer.pvalue, rel=1e-6)


def test_a_planned_split_is_no_mismatch_and_another_one_is():
    assert find_sample_ratio((9000, 1000), (0.9, 0.1)) > 0.5
    assert find_sample_ratio((9000, 1000), (0.5, 0.5)) < 1e-6
    assert find_sample_ratio((100, 100, 100), (1, 1, 1)) == pytest.approx(1.0)
    assert find_sample_ratio((100, 100, 200), (1, 1, 1)) < 1e-6


def test_customers_are_the_units_not_their_sessions():
    """Ten copies of each session make an interval by session three times too narrow; by customer it stays."""
    once = [draw(seed, 400) for seed in (1, 2)]
    copied = [Arm(arm.value * 10, arm.of * 10) for arm in once]
    by_session = [Arm(np.repeat(arm.value, 10)) for arm in once]
    width = lambda found: found.ci_high - found.ci_low  # noqa: E731
    plain = compare(*[Arm(arm.value, arm.of) for arm in once])
    assert width(compare(*copied)) == pytest.approx(width(plain))
    assert width(compare(*by_session)) < width(plain) / 2.5


def test_an_interval_covers_what_it_says_and_one_for_many_looks_always_does():
    """5 % of 400 experiments without an effect; a look after each hundred customers finds far more, unless it may."""
    fixed = peeked = always = 0
    for seed in range(400):
        arms = draw(2 * seed, 1500), draw(2 * seed + 1, 1500)
        looks = [compare(Arm(arms[0].value[:n]), Arm(arms[1].value[:n]), planned=1500) for n in range(100, 1600, 100)]
        fixed += not looks[-1].ci_low <= 0 <= looks[-1].ci_high
        peeked += any(not look.ci_low <= 0 <= look.ci_high for look in looks)
        always += any(not look.always_low <= 0 <= look.always_high for look in looks)
    assert fixed / 400 < 0.09
    assert peeked / 400 > 0.12
    assert always / 400 <= 0.05


def test_drawing_customers_again_gives_nearly_the_formulas_interval():
    control, treatment = (Arm(draw(seed, 4000).value) for seed in (5, 6))
    found = compare(control, treatment)
    low, high = bootstrap(control, treatment, 2000, 0.05, seed=1)
    assert low == pytest.approx(found.ci_low, abs=0.01)
    assert high == pytest.approx(found.ci_high, abs=0.01)
    assert (low, high) == bootstrap(control, treatment, 2000, 0.05, seed=1)


def test_what_was_before_takes_variance_away_and_tells_of_arms_that_differed():
    control, treatment = draw(1, 3000), draw(2, 3000, -0.1)
    whole = [Arm(arm.value, None, arm.before) for arm in (control, treatment)]
    found = compare(*whole)
    plain = compare(*[Arm(arm.value) for arm in whole])
    assert found.adjusted
    assert found.removed > 0.2
    assert found.ci_high - found.ci_low < plain.ci_high - plain.ci_low
    assert find_balance(*whole) > 0.001
    assert find_balance(whole[0], Arm(treatment.value, None, treatment.before * 1.5)) < 1e-6


@pytest.mark.parametrize("cv", [2.6, 4.8, 1.5])
def test_a_plan_finds_as_often_as_it_says(cv):
    n = plan_customers(cv, -0.2, power=0.8, alpha=0.05)
    assert n == pytest.approx(2 * 2 * 7.849 * cv * cv / 0.04, rel=0.01)
    assert plan_customers(cv, -0.2, power=0.8, alpha=0.05, treated=0.1) > 2.5 * n


def test_a_plan_is_the_peers():
    data = pa.table({"value": draw(1, 5000).value})
    peer = tt.Mean("value", rel_effect_size=0.1, power=0.8).solve_power(data, "n_obs")[0]
    value = draw(1, 5000).value
    mine = plan_customers(float(value.std(ddof=1) / value.mean()), 0.1, power=0.8, alpha=0.05)
    assert mine == pytest.approx(peer.n_obs, rel=1e-3)


def test_three_points_at_thirty_need_some_1570_an_arm():
    assert plan_margin(30.0, 3.0, power=0.8) == 1570


def test_a_published_interval_gives_back_the_variation_it_came_from():
    arms = [Arm(draw(seed, 20000).value) for seed in (1, 2)]
    found = compare(*arms)
    cv = float(np.concatenate([a.value for a in arms]).std() / arms[0].value.mean())
    assert find_cv(20000, 20000, found.relative_effect, found.ci_low, found.ci_high) == pytest.approx(cv, rel=0.03)
    with pytest.raises(ValueError, match="outside"):
        find_cv(10, 10, 0.5, -0.1, 0.1)


@given(
    st.lists(st.floats(0, 1e6), min_size=2, max_size=30), st.lists(st.floats(0, 1e6), min_size=2, max_size=30)
)  # fmt: skip
@example([0.0, 0.0], [1.0, 1.0])
@example([0.0, 0.0], [1e-219, 2e-219])
@example([0.0, 0.0], [0.0, 7.5e-118])
def test_whatever_comes_an_interval_holds_its_own_effect_or_is_not_given(one, other):
    found = compare(Arm(np.array(one)), Arm(np.array(other)))
    if not math.isnan(found.ci_low):
        assert found.ci_low <= found.relative_effect + 1e-9
        assert found.always_low <= found.ci_low + 1e-9
        assert found.ci_high + 1e-9 >= found.relative_effect
    if math.isnan(found.p):  # a difference without any spread: how likely it is cannot be told
        assert found.effect_low == found.effect == found.effect_high != 0
    else:
        assert 0 <= found.p <= 1


def test_a_look_for_many_is_wider_always_and_tightest_near_its_plan():
    assert all(widen(n, 0.05, 1000) > 1.96 for n in (10, 1000, 100000))
    assert widen(1000, 0.05, 1000) < min(widen(20, 0.05, 1000), widen(1000, 0.05, 20))


def test_two_arms_of_77000_with_two_thousand_draws_take_seconds():
    control, treatment = (Arm(draw(seed, 77000).value) for seed in (5, 6))
    began = time.perf_counter()
    bootstrap(control, treatment, 2000, 0.05, seed=1)
    print(f"{time.perf_counter() - began:.1f} s")
