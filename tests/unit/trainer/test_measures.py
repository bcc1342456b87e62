"""Measures, against tables one can check by hand and properties that always hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pilotage_trainer.measures.accuracy import accuracy, judge_verdicts, likeness, macro_f1, weighted_f1
from pilotage_trainer.measures.ranking import (
    area_under_risk,
    auroc,
    coverage_at_precision,
    expected_calibration_error,
    risk_coverage,
)

POINTS = st.lists(st.tuples(st.integers(0, 20).map(lambda n: n / 20), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("truth", "predicted", "share", "weighted", "macro"),
    [
        ([], [], 0.0, 0.0, 0.0),
        (["a", "b"], ["a", "b"], 1.0, 1.0, 1.0),
        (["a", "a", "a", "b"], ["a", "a", "a", "a"], 0.75, 0.75 * 6 / 7, 3 / 7),
        (["a", "b"], ["c", "c"], 0.0, 0.0, 0.0),  # a label nobody has is no help
    ],
)
def test_agreement_of_labels(truth, predicted, share, weighted, macro):
    assert accuracy(truth, predicted) == pytest.approx(share)
    assert weighted_f1(truth, predicted) == pytest.approx(weighted)
    assert macro_f1(truth, predicted) == pytest.approx(macro)


@pytest.mark.parametrize(
    ("confidence", "right", "target", "coverage"),
    [
        ([], [], 0.9, 0.0),
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1], 0.9, 1.0),
        ([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], 0.9, 0.5),
        ([0.9, 0.8, 0.7, 0.6], [0, 1, 1, 1], 0.7, 1.0),  # the first one is wrong, more of them still reach it
        ([0.9, 0.9, 0.1, 0.1], [1, 0, 1, 1], 0.9, 0.0),  # equal confidence is kept or left together
        ([0.5] * 10, [1] * 9 + [0], 0.9, 1.0),
    ],
)
def test_coverage_is_the_most_that_can_be_kept_at_the_target(confidence, right, target, coverage):
    assert coverage_at_precision(confidence, right, target) == pytest.approx(coverage)


@given(POINTS, st.sampled_from([0.5, 0.8, 0.9, 0.97]))
def test_what_is_kept_reaches_the_target_and_no_laxer_threshold_does(points, target):
    scores, right = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    shares = [
        float((scores >= threshold).mean())
        for threshold in np.unique(scores)
        if right[scores >= threshold].mean() >= target - 1e-12
    ]
    assert coverage_at_precision(scores, right, target) == pytest.approx(max(shares, default=0.0))


@given(POINTS)
def test_keeping_everything_has_the_accuracy_as_precision(points):
    curve = risk_coverage(*zip(*points, strict=True))
    assert curve.coverage[-1] == 1.0
    assert curve.precision[-1] == pytest.approx(np.mean([right for _, right in points]))
    assert (np.diff(curve.coverage) > 0).all()
    assert 0.0 <= area_under_risk(*zip(*points, strict=True)) <= 1.0


@given(POINTS)
def test_ranking_is_as_scikit_learn_has_it(points):
    scores, right = [p[0] for p in points], [p[1] for p in points]
    expected = None if len(set(right)) < 2 else roc_auc_score(right, scores)
    assert auroc(scores, right) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("scores", "accepted", "error"),
    [
        ([], [], 0.0),
        ([1.0, 1.0], [1, 1], 0.0),
        ([0.9] * 10, [1] * 9 + [0], 0.0),
        ([0.9] * 10, [0] * 10, 0.9),
        ([0.1] * 5 + [0.9] * 5, [1] * 5 + [1] * 5, 0.5),
    ],
)
def test_calibration_error_is_the_distance_between_score_and_share(scores, accepted, error):
    assert expected_calibration_error(scores, accepted) == pytest.approx(error)


def test_verdicts_name_both_averages():
    told = judge_verdicts([0.9, 0.8, 0.7, 0.2], [True, True, False, False])
    assert told.accept == pytest.approx((2 / 3, 1.0, 0.8))
    assert told.reject == pytest.approx((1.0, 0.5, 2 / 3))
    assert told.macro == pytest.approx((5 / 6, 0.75, (0.8 + 2 / 3) / 2))
    uneven = judge_verdicts([0.9, 0.9, 0.9, 0.9], [True, True, True, False])
    assert uneven.weighted[2] == pytest.approx(0.75 * 6 / 7)
    assert uneven.macro[2] == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("a", "b", "share"),
    [("", "", 1.0), ("abc", "", 0.0), ("kitten", "sitting", 1 - 3 / 7), ("same", "same", 1.0)],
)
def test_texts_that_are_alike(a, b, share):
    assert likeness(a, b) == likeness(b, a) == pytest.approx(share)
