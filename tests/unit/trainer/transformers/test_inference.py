"""Our inference says what the plain model says, however sessions are shared, and only what a schema allows."""

import json
import math

import pytest
import torch
from unit.trainer.transformers.tiny import ACTIONS, SCHEMA, SCREEN, build_model, build_prompts, build_tokenizer

from pilotage_core.actions import ActionRules
from pilotage_core.dialog import DEFAULT_FORMAT, VERDICT_MARK, encode_action
from pilotage_core.errors import InvalidInputError
from pilotage_core.proposal import build_action_schema, find_fault, read_reply
from pilotage_core.screen import Screen
from pilotage_trainer.backends.transformers.asking.grammar import Grammars
from pilotage_trainer.backends.transformers.asking.inference import (
    CriticModel,
    PolicyModel,
    Proposal,
    find_chains,
    weigh_first,
)

PROMPTS = [*build_prompts(7, "Rome"), *build_prompts(3, "Oslo")]
QUERIES = [
    prompt + encode_action(ACTIONS[index % len(ACTIONS)], DEFAULT_FORMAT) for index, prompt in enumerate(PROMPTS)
]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    return build_model(len(tokenizer))


@pytest.fixture
def policy(model, tokenizer):
    return PolicyModel(model, tokenizer)


@pytest.fixture
def critic(model, tokenizer):
    return CriticModel(model, tokenizer)


def read_plain(model, ids: list[int]) -> torch.Tensor:
    """The model's own log probabilities after each token of `ids`, read in one piece."""
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=-1)


def test_log_probabilities_are_the_raw_ones_of_the_plain_model(policy, model, tokenizer):
    for prompt, proposal in zip(PROMPTS, policy.propose_many([(p, SCHEMA) for p in PROMPTS], 24), strict=True):
        ids = tokenizer(prompt)["input_ids"]
        plain = read_plain(model, [*ids, *proposal.ids])[len(ids) - 1 : -1]
        told = plain.gather(1, torch.tensor(proposal.ids)[:, None])[:, 0].tolist()
        assert proposal.logprobs == pytest.approx(told, abs=1e-4)
        assert proposal.prompt_tokens == len(ids)


def test_each_token_is_the_likeliest_that_the_grammar_allows(policy, model, tokenizer):
    grammars = Grammars(tokenizer, model.config.vocab_size)
    proposal = policy.propose(PROMPTS[2], SCHEMA, 24)
    ids, matcher, told = tokenizer(PROMPTS[2])["input_ids"], grammars.start(SCHEMA), []
    for token in proposal.ids:
        allowed = grammars.mask(read_plain(model, ids)[-1:], [matcher])
        assert int(allowed.argmax()) == token
        told.append(allowed.log_softmax(dim=-1)[0, token].item())
        matcher.accept_token(token)
        ids = [*ids, token]
    assert proposal.told == pytest.approx(told, abs=1e-4)  # vLLM masks before it takes log probabilities


def test_sessions_read_together_one_by_one_or_anew_answer_the_same(policy, model, tokenizer):
    asks = [(prompt, SCHEMA) for prompt in PROMPTS]
    together = policy.propose_many(asks[::-1], 24)[::-1]
    one_by_one = [policy.propose(prompt, schema, 24) for prompt, schema in asks]
    anew = [PolicyModel(model, tokenizer).propose(prompt, schema, 24) for prompt, schema in asks]
    assert [p.ids for p in together] == [p.ids for p in one_by_one] == [p.ids for p in anew]
    for a, b in zip(together, anew, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)


def test_a_session_that_goes_on_is_not_read_again(policy, monkeypatch):
    read = []
    forward = policy.model.forward
    monkeypatch.setattr(policy.model, "forward", lambda **k: read.append(k["input_ids"].shape[1]) or forward(**k))
    policy.propose(PROMPTS[5], SCHEMA, 1)
    policy.propose(PROMPTS[8], SCHEMA, 1)  # another session in between
    policy.propose(PROMPTS[6], SCHEMA, 1)
    before, longer = (len(policy.encode([PROMPTS[i]])[0]) for i in (5, 6))
    assert (read[0], read[2]) == (before, longer - before)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_whole_reply_is_an_action_that_can_be_done(policy, prompt):
    proposal = policy.propose(prompt, SCHEMA, 64)
    if proposal.finished:
        action = read_reply(proposal.reply, SCREEN)
        assert action is None or not find_fault(action, SCREEN)
        assert proposal.reply == json.dumps(json.loads(proposal.reply), separators=(",", ":"), ensure_ascii=False)


def test_a_schema_of_a_bare_screen_leaves_what_needs_no_control(policy):
    bare = build_action_schema(ActionRules(tools=("close_chat",)), Screen("empty"))
    assert policy.propose(PROMPTS[0], bare).reply in ('{"tool":"close_chat"}', '{"tool":""}')


def test_a_reply_that_does_not_end_is_cut_and_says_so(policy):
    proposal = policy.propose(PROMPTS[0], None, 3)
    assert (proposal.finished, len(proposal.ids)) == (False, 3)


def test_confidence_is_told_in_the_four_ways_it_is_compared_by():
    proposal = Proposal("", (1, 2), (math.log(0.5), math.log(0.125)), 3, True)
    assert proposal.confidence == pytest.approx(0.25)
    assert proposal.mean_probability == pytest.approx(0.3125)
    assert proposal.least_probability == pytest.approx(0.125)
    assert proposal.whole_probability == pytest.approx(0.0625)
    assert Proposal("", (1,), (math.log(0.1),), 3, True, told=(math.log(0.5),)).confidence == pytest.approx(0.5)


def test_a_score_is_the_softmax_over_the_two_words_after_the_mark(critic, model, tokenizer):
    for query, score in zip(QUERIES, critic.score_many(QUERIES), strict=True):
        plain = read_plain(model, tokenizer(query + VERDICT_MARK)["input_ids"])[-1, list(critic.labels)]
        assert score == pytest.approx(torch.softmax(plain, dim=-1)[0].item(), abs=1e-5)
    assert [critic.score(query) for query in QUERIES] == pytest.approx(critic.score_many(QUERIES), abs=1e-5)


def test_query_and_item_are_turned_into_tokens_apart(critic, model):
    (first,), (item,) = critic.encode(["no dialog at al"]), critic.encode(["l"])
    ((told,),) = critic.read_labels([("no dialog at al", "l")], [5])
    assert told == pytest.approx(read_plain(model, first + item)[-1, 5].item(), abs=1e-5)


@pytest.mark.parametrize(
    ("logprobs", "share"), [([0.0, 0.0], 0.5), ([-1e4, 0.0], 0.0), ([0.0, -1e4], 1.0), ([-3.0], 1.0)]
)
def test_the_first_labels_share(logprobs, share):
    assert weigh_first(logprobs) == pytest.approx(share)


def test_chains_are_the_points_of_one_session_and_hold_every_place_once():
    chains = list(find_chains([PROMPTS[2], PROMPTS[8], PROMPTS[0], PROMPTS[2], PROMPTS[1]]))
    assert sorted(chains) == [[1], [2, 4, 0, 3]]
    assert list(find_chains([])) == []


@pytest.mark.parametrize(("prompt", "message"), [("", "empty"), ("x " * 3000 + "\n>", "the model reads 2048")])
def test_a_prompt_that_is_empty_or_too_long_is_refused(policy, critic, prompt, message):
    with pytest.raises(InvalidInputError, match=message):
        policy.propose(prompt)
    with pytest.raises(InvalidInputError, match="nothing to read" if not prompt else message):
        critic.read_labels([(prompt, "")], [1])


def test_a_schema_that_is_none_is_refused(policy):
    with pytest.raises(ValueError, match="schema"):
        policy.propose(PROMPTS[0], {"type": "nothing"})
