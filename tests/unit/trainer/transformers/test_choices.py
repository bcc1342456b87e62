"""A transformer's best action among those offered is the one that asking for each of them would give."""

import math

import pytest
import torch
from unit.trainer.transformers.tiny import ACTIONS, build_model, build_prompts, build_tokenizer

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT, encode_action
from pilotage_trainer.backends.transformers.asking.chooser import TransformerChooser
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.evaluation.star import Choice

LONG = [Action(Tool.SEND_TEXT_TO_CHAT, f"reply:{name}") for name in ("unseen_one", "unseen_other", "unseen_on", "x")]
OFFERED = {str(n): action for n, action in enumerate([*ACTIONS[:2], ACTIONS[3], *LONG])}


def score_whole(policy, prompt, action):
    """ln P of the action's tokens after the prompt, one plain forward for it alone."""
    (start,), (new,) = policy.encode([prompt]), policy.encode([encode_action(action, DEFAULT_FORMAT)])
    with torch.inference_mode():
        logprobs = torch.log_softmax(policy.model(input_ids=torch.tensor([start + new])).logits[0].float(), dim=-1)
    return sum(logprobs[len(start) - 1 + i, token].item() for i, token in enumerate(new))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_action_is_that_of_asking_for_each_alone(seed):
    tokenizer = build_tokenizer()
    policy = PolicyModel(build_model(len(tokenizer), seed), tokenizer)
    assert max(len(policy.encode([encode_action(a, DEFAULT_FORMAT)])[0]) for a in OFFERED.values()) > 3
    prompts = [*build_prompts(6), *build_prompts(3, "Oslo")]  # the second is no continuation of the first
    found = TransformerChooser(policy, DEFAULT_FORMAT).choose([Choice(prompt, "", OFFERED) for prompt in prompts])
    for prompt, chosen in zip(prompts, found, strict=True):
        scores = {label: score_whole(policy, prompt, action) for label, action in OFFERED.items()}
        best = max(scores, key=scores.__getitem__)
        assert chosen.label == best
        assert chosen.confidence == pytest.approx(math.exp(scores[best]), rel=1e-4)


@pytest.mark.parametrize("label", [str(n) for n in range(3, 7)])
def test_an_action_of_many_tokens_alone_has_its_own_probability(label):
    tokenizer = build_tokenizer()
    policy = PolicyModel(build_model(len(tokenizer)), tokenizer)
    (prompt, *_) = build_prompts(2)
    (chosen,) = TransformerChooser(policy, DEFAULT_FORMAT).choose([Choice(prompt, "", {label: OFFERED[label]})])
    assert chosen.label == label
    assert math.log(chosen.confidence) == pytest.approx(score_whole(policy, prompt, OFFERED[label]), rel=1e-4)


def test_nothing_offered_is_nothing_chosen():
    tokenizer = build_tokenizer()
    policy = PolicyModel(build_model(len(tokenizer)), tokenizer)
    (chosen,) = TransformerChooser(policy, DEFAULT_FORMAT).choose([Choice(build_prompts(1)[0], "", {})])
    assert (chosen.label, chosen.confidence) == ("", 0.0)
