"""A transformer evaluated on sessions: every kind of confidence is told, and is that of its own reply."""

import math

import msgspec
import pytest
from unit.trainer.transformers.tiny import SCHEMA, build_model, build_prompts, build_tokenizer

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.backends.transformers.asking.served import ServedTransformerPolicy
from pilotage_trainer.evaluation.points import PolicyAsker


@pytest.fixture
def policy():
    tokenizer = build_tokenizer()
    manifest = Manifest("policy", "a/b", "r1", "transformers", "", "", DEFAULT_FORMAT.digest, "", {})
    return ServedTransformerPolicy(manifest, PolicyModel(build_model(len(tokenizer)), tokenizer, manifest))


def test_a_prompt_that_is_too_long_has_an_empty_reply(policy):
    short, long = build_prompts(1)[0], "@ " + "é" * policy.longest + "\n>"
    first, second = PolicyAsker(policy).ask([(long, SCHEMA), (short, SCHEMA)])
    assert (first.text, first.confidence) == ("", 0.0)
    assert second.text == policy.propose_many([(short, SCHEMA)])[0][0]


def test_each_kind_of_confidence_is_of_the_reply(policy):
    asks = [(prompt, SCHEMA) for prompt in build_prompts(3)]
    for reply, (text, confidence) in zip(PolicyAsker(policy).ask(asks), policy.propose_many(asks), strict=True):
        assert reply.text == text
        assert math.isclose(reply.confidence, confidence, rel_tol=1e-5)
        assert 0.0 < reply.whole <= reply.least <= reply.mean <= 1.0
        assert msgspec.json.decode(reply.text)["tool"] is not None
