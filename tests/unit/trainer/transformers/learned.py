"""A tiny policy that has really learned the synthetic sessions of tests/unit/trainer/conftest.py, as an artefact."""

from functools import cache
from pathlib import Path

import msgspec
from unit.trainer.conftest import KEY, RULES

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.record import SessionRecord
from pilotage_core.training import Optimisation, Shape
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.transformers.asking.export import write_transformer
from pilotage_trainer.backends.transformers.rows.sequences import Encoder, build_segments
from pilotage_trainer.backends.transformers.rows.tokenizer import learn_tokenizer
from pilotage_trainer.backends.transformers.training.model import build_model
from pilotage_trainer.backends.transformers.training.sft import train

QUICK = {
    "global_batch": 8,
    "micro_batch": 8,
    "learning_rate": 4e-3,
    "warm_up_batches": 4,
    "evaluate_every": 1000,
    "precision": "fp32",
    "activation_checkpointing": False,
}
SHAPE = Shape(hidden=64, layers=2, heads=2, key_value_heads=1, intermediate=128, vocabulary=600)


def write_policy(records: list[SessionRecord], folder: Path, work: Path, epochs: int = 4) -> Manifest:
    """A policy that has learned from `records`, at `folder`."""
    segments = [segment for record in records for segment in build_segments(record, DEFAULT_FORMAT)]
    tokenizer = learn_tokenizer((segment.text for segment in segments), SHAPE.vocabulary)
    settings = Optimisation(epochs=epochs, **QUICK)
    model = build_model("", SHAPE, tokenizer, settings, longest=2048)
    rows = [
        {"input_ids": s.input_ids, "labels": s.labels, "position_ids": list(range(len(s.input_ids)))}
        for s in Encoder.of(tokenizer).encode(segments)
    ]
    train(model, rows, settings, work)
    made = Manifest(
        "policy", KEY, "r1", "", "data", "config", DEFAULT_FORMAT.digest, "", {},
        trained_since=records[0].closed_at, trained_until=records[-1].closed_at,
    )  # fmt: skip
    return write_transformer(folder, made, model, tokenizer)


@cache
def describe_rules() -> dict[str, object]:
    """The rules of these sessions, for a Job's configuration."""
    return msgspec.to_builtins(RULES)
