"""The policy: probabilities, what it proposes, and that it says the same every time."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends.counts.counts import Example, build_contexts, count_steps
from pilotage_trainer.backends.counts.examples import build_examples, measure_accuracy, predict_sessions
from pilotage_trainer.backends.counts.policy import Policy, StoredPolicy, StoredWeights
from pilotage_trainer.backends.counts.policy_training import SHARES, choose_share, fit_policy, score_predictions
from pilotage_trainer.backends.situation import read_prompt
from pilotage_trainer.config import CountsPolicy
from pilotage_trainer.failures import OneClassError
from pilotage_trainer.sessions.export import human_points

NO_WEIGHTS = StoredWeights((), (), b"", b"")
STEPS = ["say", "type", "click_control submit", "send_text_to_chat reply:a", "send_text_to_chat reply:b"]


def learned(pairs, share=0.0):
    """A policy from (history line, step) pairs, by counts alone unless `share` says otherwise."""
    examples = [Example(i, build_contexts(read_prompt(prompt)), (), step) for i, (prompt, step) in enumerate(pairs)]
    return Policy(StoredPolicy(count_steps(examples), NO_WEIGHTS, share))


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.sampled_from(["% s", "% t", "% s\n< hi", ">"]), st.sampled_from(STEPS)), max_size=30),
    shown=st.lists(st.sampled_from(["reply:a", "reply:b", "reply:new"]), unique=True),
    allowed=st.frozensets(st.sampled_from(["click_control submit", "send_text_to_chat reply:hidden"])),
    share=st.floats(0.0, 1.0),
)
def test_probabilities_over_candidates_sum_to_one(pairs, shown, allowed, share):
    policy = learned(pairs, share) if pairs else learned([("% s", "say")], share)
    prompt = "\n".join(["% s", *(f"+ reply {control}=text" for control in shown), ">"])
    prediction = policy.predict(read_prompt(prompt), allowed)
    for part in (prediction.mixed, prediction.by_counts, prediction.by_traits):
        assert sum(part.values()) == pytest.approx(1.0, abs=1e-9)
        assert all(0.0 <= p <= 1.0 for p in part.values())
    assert allowed <= prediction.mixed.keys()


def test_a_context_seen_often_counts_more_than_a_shorter_one():
    policy = learned([("% s", "say")] * 50 + [("% s\n< hi", "type")] * 10)
    by_counts = policy.predict(read_prompt("% s\n< hi\n+ input input:A")).by_counts
    assert max(by_counts, key=by_counts.get) == "type"


def test_an_unknown_context_backs_off_to_the_screen():
    policy = learned([("% s\n< hi", "say")] * 20)
    prediction = policy.predict(read_prompt('% s\n>{"tool":"close_chat"}'))
    assert prediction.ranked[0] == "say"
    assert prediction.support.level == 1


@pytest.mark.parametrize(
    ("likeliest", "allowed", "proposed"),
    [
        ("click_control submit", None, "click_control submit"),
        ("click_control submit", frozenset({"click_control submit"}), "click_control submit"),
        ("click_control submit", frozenset({"close_chat"}), ""),
        ("type", None, ""),
        ("say", None, ""),
    ],
)
def test_what_an_operator_types_or_nothing_allows_is_not_proposed(likeliest, allowed, proposed):
    policy = learned([("% s", likeliest)] * 20)
    prediction = policy.predict(read_prompt("% s\n+ button submit\n+ input input:A"), allowed or frozenset())
    assert prediction.proposed(allowed) == proposed


def test_a_policy_learns_the_process_and_is_the_same_after_storing(make_sessions):
    sessions = make_sessions(80)
    policy = fit_policy(build_examples(sessions[:60]), CountsPolicy())
    read_back = Policy.decode(policy.encode())
    trial = predict_sessions(sessions[60:], policy)
    assert measure_accuracy(trial).metrics()["action_accuracy"] > 0.6
    for (first, _), (second, _) in zip(trial, predict_sessions(sessions[60:], read_back), strict=True):
        assert first.mixed == second.mixed


def test_the_same_sessions_give_the_same_policy(make_sessions):
    examples = build_examples(make_sessions(40))
    assert fit_policy(examples, CountsPolicy()).encode() == fit_policy(examples, CountsPolicy()).encode()


def test_the_share_of_the_traits_is_the_likeliest_one(make_sessions):
    sessions = make_sessions(60)
    trial = predict_sessions(sessions[40:], fit_policy(build_examples(sessions[:40]), CountsPolicy()))
    share = choose_share(trial)
    told = {s: score_predictions([(p.remix(s), step) for p, step in trial]) for s in SHARES}
    assert told[share] == max(told.values())


def test_too_few_examples_say_how_many_are_needed(make_sessions):
    with pytest.raises(EvidenceError, match="too few"):
        fit_policy(build_examples(make_sessions(2)), CountsPolicy())


def test_one_step_only_cannot_be_learned_from():
    examples = [Example(i, ("",), ("1",), "say") for i in range(60)]
    with pytest.raises(OneClassError, match="'say'"):
        fit_policy(examples, CountsPolicy())


def test_two_steps_are_told_apart():
    rows = [("a", "say"), ("b", "close_chat")] * 30
    examples = [Example(i, ("",), (trait,), step) for i, (trait, step) in enumerate(rows)]
    loglinear = fit_policy(examples, CountsPolicy()).loglinear
    assert loglinear.probabilities(("a",), ["say", "close_chat"])["say"] > 0.7
    assert loglinear.probabilities(("b",), ["say", "close_chat"])["say"] < 0.3


def test_what_ran_unattended_teaches_nothing(make_sessions):
    record = make_sessions(1)[0]
    taken = [e for e in record.events if type(e.data).__name__ == "ActionTaken"]
    unattended = msgspec.structs.replace(
        record,
        events=tuple(
            msgspec.structs.replace(e, data=msgspec.structs.replace(e.data, operator="")) if e in taken else e
            for e in record.events
        ),
    )
    assert human_points(record, DEFAULT_FORMAT)
    assert human_points(unattended, DEFAULT_FORMAT) == []
