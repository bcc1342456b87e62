"""The score: what a rule makes of a critic's answer and the policy's confidence."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.certificate import ScoreSource
from pilotage_core.score import (
    CONFIDENCE_ALONE,
    CRITIC_ALONE,
    ScoreRule,
    find_score,
    format_score,
    log_odds,
    read_confidence,
)

BOTH = ScoreRule(0.5, 2.0, -1.0)
PROBABILITIES = st.floats(0.0, 1.0)
WEIGHTS = st.floats(0.0, 10.0)


@pytest.mark.parametrize(
    ("rule", "critic", "confidence", "score"),
    [
        (CRITIC_ALONE, 0.3, 0.9, 0.3),
        (CRITIC_ALONE, 0.3, None, 0.3),
        (CRITIC_ALONE, None, 0.9, None),
        (CRITIC_ALONE, 1.5, 0.9, 1.5),  # no score, as the gate will say
        (CONFIDENCE_ALONE, None, 0.9, 0.9),
        (CONFIDENCE_ALONE, math.nan, 0.9, 0.9),
        (CONFIDENCE_ALONE, 0.3, None, None),
        (BOTH, 0.5, 0.5, 1.0 / (1.0 + math.e)),
        (BOTH, 0.8, 0.5, 2.0 / (2.0 + math.e)),  # odds of 4 to the power of a half
        (BOTH, 0.8, 2.0 / 3.0, 8.0 / (8.0 + math.e)),
        (BOTH, None, 0.5, None),
        (BOTH, 0.5, None, None),
        (BOTH, math.nan, 0.5, None),
        (BOTH, 0.5, 1.0000001, None),
        (BOTH, 0.5, -0.1, None),
        (BOTH, math.inf, 0.5, None),
    ],
)
def test_score(rule, critic, confidence, score):
    assert find_score(rule, critic, confidence) == (None if score is None else pytest.approx(score))


@pytest.mark.parametrize("answer", [0.0, 0.1 + 0.2, 1.0, -1.0, math.inf])
def test_the_critic_alone_is_its_answer_to_the_last_bit(answer):
    assert find_score(CRITIC_ALONE, answer, 0.5) == answer
    assert math.isnan(find_score(CRITIC_ALONE, math.nan, 0.5))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (CRITIC_ALONE, ScoreSource.CRITIC),
        (ScoreRule(2.0, 0.0, 1.0), ScoreSource.CRITIC),
        (CONFIDENCE_ALONE, ScoreSource.CONFIDENCE),
        (BOTH, ScoreSource.BOTH),
    ],
)
def test_what_a_score_is_made_of(rule, source):
    assert rule.source is source


@given(WEIGHTS, WEIGHTS, st.floats(-50.0, 50.0), PROBABILITIES, PROBABILITIES, PROBABILITIES, PROBABILITIES)
def test_a_score_is_a_probability_and_never_falls_where_either_rises(a, b, bias, critic, confidence, more, surer):
    rule = ScoreRule(a, b, bias)
    score = find_score(rule, critic, confidence)
    assert 0.0 <= score <= 1.0
    assert find_score(rule, max(critic, more), max(confidence, surer)) >= score


@given(st.floats(1e-8, 1.0 - 1e-8))
def test_confidence_alone_is_the_confidence(confidence):
    assert find_score(CONFIDENCE_ALONE, None, confidence) == pytest.approx(confidence)


@given(PROBABILITIES)
def test_log_odds_are_finite(probability):
    assert math.isfinite(log_odds(probability))


@pytest.mark.parametrize(
    ("logprobs", "confidence"),
    [
        ([], None),
        ([0.0, 0.0], 1.0),
        ([math.log(0.5), math.log(0.125)], 0.25),
        ([0.1], 1.0),  # rounding
        ([-math.inf, 0.0], None),
        ([math.nan], None),
    ],
)
def test_confidence_is_the_geometric_mean_of_its_tokens(logprobs, confidence):
    assert read_confidence(logprobs) == (None if confidence is None else pytest.approx(confidence))


@pytest.mark.parametrize("rule", [CRITIC_ALONE, CONFIDENCE_ALONE, BOTH])
def test_a_rule_travels_as_json(rule):
    assert msgspec.json.decode(msgspec.json.encode(rule), type=ScoreRule) == rule


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (0.0, "0.000"),
        (0.42651695281364055, "0.427"),
        (0.9994, "0.999"),
        (0.9996, "0.9996"),
        (0.9999984701546843, "0.999998"),
        (math.nextafter(1.0, 0.0), "1.000"),
        (1.0, "1.000"),
    ],
)
def test_a_score_below_one_is_not_told_as_one(score, said):
    assert format_score(score) == said
