"""A transformer evaluated on sessions: every kind of confidence is told, and is that of its own reply."""

import math

import msgspec
from unit.trainer.neural.tiny import SCHEMA, build_model, build_prompts, build_tokenizer

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_trainer.artefact import TRANSFORMERS, Manifest
from pilotage_trainer.evaluation_sessions import PolicyAsker
from pilotage_trainer.neural.inference import PolicyModel
from pilotage_trainer.neural.served import ServedTransformerPolicy


def test_each_kind_of_confidence_is_of_the_reply():
    tokenizer = build_tokenizer()
    manifest = Manifest("policy", "a/b", "r1", TRANSFORMERS, "", "", DEFAULT_FORMAT.digest, "", {})
    policy = ServedTransformerPolicy(manifest, PolicyModel(build_model(len(tokenizer)), tokenizer, manifest))
    asks = [(prompt, SCHEMA) for prompt in build_prompts(3)]
    for reply, (text, confidence) in zip(PolicyAsker(policy).ask(asks), policy.propose_many(asks), strict=True):
        assert reply.text == text
        assert math.isclose(reply.confidence, confidence, rel_tol=1e-5)
        assert 0.0 < reply.whole <= reply.least <= reply.mean <= 1.0
        assert msgspec.json.decode(reply.text)["tool"] is not None
