"""The critic: what it may see, how it is compared, and when confidence stands in for it."""

import msgspec
import numpy as np
import pytest

from pilotage_core.actions import Action, ActionPattern, ActionRules, StratumRule, Tool
from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import DEFAULT_FORMAT, encode_action
from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends.counts.critic import Critic
from pilotage_trainer.backends.counts.critic_training import (
    JudgedProposal,
    fit_better,
    fit_critic,
    judge_crossfitted,
    judge_sessions,
    score_judged,
)
from pilotage_trainer.backends.counts.examples import build_examples
from pilotage_trainer.backends.counts.policy_training import fit_policy
from pilotage_trainer.config import CountsCritic, CountsPolicy
from pilotage_trainer.failures import OneClassError
from pilotage_trainer.measures.ranking import count_at_precision, stratified_auroc
from pilotage_trainer.sessions.export import human_points

SUBMITS = ActionPattern(tool="click_control", control="submit*")
RULES = ActionRules(strata=(StratumRule(SUBMITS, "procedure"),))
SUBMIT = Action(Tool.CLICK_CONTROL, "submit")


def labels_of(n, seed, informative):
    """`n` labels, three to a session; a trait tells the verdict (`informative`) or is noise. Confidence is noise."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        accepted = bool(rng.random() < 0.7)
        told = accepted if informative and rng.random() < 0.9 else bool(rng.random() < 0.5)
        made.append(
            JudgedProposal(
                session=i // 3,
                stratum="procedure",
                accepted=accepted,
                weight=1.0,
                live=True,
                confidence=float(rng.random()),
                traits={"hint": float(told)},
                rate_contexts=("", "t", "s", "f", "l"),
            )
        )
    return made


@pytest.fixture
def pair(make_sessions):
    sessions = make_sessions(90)
    policy = fit_policy(build_examples(sessions[:45]), CountsPolicy())
    labels = judge_sessions(sessions[45:], policy, "digest", RULES)
    return policy, labels, sessions


def test_scores_are_the_same_from_a_query_and_from_known_traits(pair):
    policy, labels, sessions = pair
    critic = fit_critic(policy, labels, CountsCritic())
    point = next(p for p in human_points(sessions[50], DEFAULT_FORMAT) if p.taken == SUBMIT)
    told = critic.score(point.prompt + encode_action(SUBMIT, DEFAULT_FORMAT))
    known = [j for j in judge_sessions([sessions[50]], policy, "digest", RULES) if j.stratum == "procedure"]
    assert told in [score_judged(critic, j) for j in known]
    again = Critic.decode(policy, msgspec.json.encode(critic.stored))
    assert again.score(point.prompt + encode_action(SUBMIT, DEFAULT_FORMAT)) == told


@pytest.mark.parametrize("query", ["", "no dialog", "@ a=b\n>", '{"tool":"close_chat"}'])
def test_a_query_without_an_action_is_refused(pair, query):
    policy, labels, _ = pair
    with pytest.raises(ValueError, match="proposed action"):
        fit_critic(policy, labels, CountsCritic()).score(query)


def test_an_action_the_screen_does_not_show_still_has_a_score(pair):
    policy, labels, _ = pair
    score = fit_critic(policy, labels, CountsCritic()).score('@ a=b\n>{"tool":"click_control","control_id":"x"}')
    assert 0.0 <= score <= 1.0


def test_a_critic_that_knows_more_beats_confidence(pair):
    critic, compared = fit_better(pair[0], labels_of(600, 1, informative=True), CountsCritic())
    assert critic.stored.source is ScoreSource.CRITIC
    assert compared.auroc > 0.8 > compared.confidence_auroc
    assert compared.share_better == 1.0


def test_where_it_does_not_confidence_is_the_score(pair):
    policy, _, sessions = pair
    critic, compared = fit_better(policy, labels_of(600, 2, informative=False), CountsCritic())
    assert critic.stored.source is ScoreSource.CONFIDENCE
    assert compared.share_better < 0.95
    point = human_points(sessions[0], DEFAULT_FORMAT)[0]
    step = f"open_procedure {point.taken.control_id}"
    from pilotage_trainer.backends.situation import read_prompt

    expected = policy.predict(read_prompt(point.prompt)).mixed[step]
    assert critic.score(point.prompt + encode_action(point.taken, DEFAULT_FORMAT)) == expected


def test_the_comparison_is_the_same_for_the_same_seed(pair):
    labels = labels_of(300, 3, informative=True)
    first, second = (fit_better(pair[0], labels, CountsCritic())[1] for _ in range(2))
    assert first == second


def test_crossfitted_labels_come_from_policies_that_did_not_see_the_session(make_sessions):
    sessions = make_sessions(48)
    labels = judge_crossfitted(sessions, RULES, CountsCritic(folds=3), CountsPolicy())
    assert {label.session for label in labels} <= set(range(48))
    other = judge_sessions([sessions[0]], fit_policy(build_examples(sessions[1:]), CountsPolicy()), "", RULES)
    held_out = fit_policy([e for e in build_examples(sessions) if e.session % 3 != 0], CountsPolicy())
    assert [j for j in labels if j.session == 0] == judge_sessions([sessions[0]], held_out, "", RULES)
    assert other != []


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (labels_of(10, 4, True), EvidenceError, "10 labels of critical actions are too few"),
        ([j for j in labels_of(300, 5, True) if j.accepted], OneClassError, "labels are accepted"),
        ([j for j in labels_of(300, 5, True) if not j.accepted], OneClassError, "labels are rejected"),
    ],
)
def test_too_little_or_one_class_is_said(pair, labels, error, message):
    with pytest.raises(error, match=message):
        fit_critic(pair[0], labels, CountsCritic())


@pytest.mark.parametrize(
    ("scores", "accepted", "strata", "auroc"),
    [
        ([0.9, 0.8, 0.1], [True, True, False], [0, 0, 0], 1.0),
        ([0.1, 0.9], [True, False], [0, 0], 0.0),
        ([0.5, 0.5], [True, False], [0, 0], 0.5),
        ([0.9, 0.1], [True, False], [0, 1], 0.5),  # a pair across strata is none
        ([0.9, 0.1, 0.2, 0.3], [True, False, True, False], [0, 0, 1, 1], 0.5),
        ([], [], [], 0.5),
    ],
)
def test_auroc_counts_pairs_within_a_stratum(scores, accepted, strata, auroc):
    given = np.array(scores), np.array(accepted, dtype=bool), np.array(strata, dtype=np.intp)
    assert stratified_auroc(*given) == auroc


@pytest.mark.parametrize(
    ("scored", "target", "right"),
    [
        ([], 0.9, 0),
        ([(0.9, True), (0.8, True), (0.1, False)], 0.9, 2),
        ([(0.9, False), (0.8, True), (0.7, True), (0.6, True)], 0.75, 3),
        ([(0.9, True), (0.5, True), (0.5, False)], 0.9, 1),  # equal scores are never parted
        ([(0.9, False)], 0.5, 0),
    ],
)
def test_the_longest_prefix_at_a_precision_is_found(scored, target, right):
    assert count_at_precision(scored, target) == right
