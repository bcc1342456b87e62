"""Shares by slice: what they are, and intervals that hold for all of them at once."""

import numpy as np
import pytest

from pilotage_trainer.measures.slices import estimate_shares, keep_largest


def test_shares_by_hand_largest_slice_first():
    found = estimate_shares([1, 1, 0, 1, 0], ["a", "a", "a", "b", "b"], ["s1", "s1", "s2", "s2", "s3"])
    assert [(one.name, one.n, one.sessions) for one in found] == [("a", 3, 2), ("b", 2, 2)]
    assert [one.share for one in found] == pytest.approx([2 / 3, 1 / 2])
    assert all(0.0 <= one.low <= one.share <= one.high <= 1.0 for one in found)


def test_nothing_has_no_slices():
    assert estimate_shares([], [], []) == []


def test_a_slice_that_is_always_right_is_not_certain():
    found = estimate_shares([1] * 30 + [0, 1] * 15, ["a"] * 30 + ["b"] * 30, [f"s{n // 3}" for n in range(60)])
    assert next(one for one in found if one.name == "a").low < 1.0


def test_intervals_hold_for_all_slices_at_once():
    """200 worlds of 40 sessions whose labels go together: all five intervals hold in about 95 % of them."""
    rng, held = np.random.default_rng(7), 0
    truth = np.array([0.5, 0.6, 0.7, 0.8, 0.65])
    for _ in range(200):
        slices = np.tile(np.arange(5), 40 * 6)
        sessions = np.repeat(np.arange(40), 30)
        luck = rng.normal(0, 0.1, 40)[sessions]
        right = rng.random(len(slices)) < truth[slices] + luck
        found = estimate_shares(right, [str(n) for n in slices], [str(n) for n in sessions], draws=300)
        held += all(one.low <= truth[int(one.name)] <= one.high for one in found)
    assert held >= 180


def test_the_rest_is_one_slice():
    assert keep_largest(["a", "b", "a", "c", "b", "a"], 2) == ["a", "b", "a", "others", "b", "a"]
