"""Domain-adaptive pretraining: plain text in, a base model out that a policy may start from."""

import pytest
from unit.trainer.transformers.rows import SMALL

from pilotage_core.errors import EvidenceError, InvalidInputError, UnavailableError
from pilotage_core.training import PretrainTraining, Shape, TransformersSettings
from pilotage_trainer.backends.transformers.asking.export import load_transformer
from pilotage_trainer.backends.transformers.policy.pretrain_job import build_rows, read_documents, run_pretrain
from pilotage_trainer.backends.transformers.rows.tokenizer import adapt_tokenizer, learn_tokenizer
from pilotage_trainer.backends.transformers.training.model import load_base
from pilotage_trainer.config import JobConfig

SHAPE = Shape(hidden=64, layers=1, heads=1, key_value_heads=1, intermediate=96, vocabulary=400)
TEXT = "\n---\n".join(
    f"A parcel that is {day} days late is refunded in full.\nAsk for its number." for day in range(40)
)


def test_text_becomes_a_base_model(tmp_path):
    (tmp_path / "manual.txt").write_text(TEXT)
    settings = PretrainTraining(**SMALL | {"epochs": 3})
    config = JobConfig(base_model="", transformers=TransformersSettings(shape=SHAPE), pretraining=settings)
    trained = run_pretrain([tmp_path / "manual.txt"], tmp_path / "base", config, 64)
    assert trained is not None
    assert trained.candidates[-1].loss < 6
    load_transformer(tmp_path / "base", "base")
    assert len(adapt_tokenizer(tmp_path / "base")) <= load_base(str(tmp_path / "base"), settings).config.vocab_size


def test_a_folder_that_is_no_base_model_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(InvalidInputError, match="is there already and is no base"):
        run_pretrain([tmp_path / "thesis.txt"], tmp_path, JobConfig(base_model=""), 64)


def test_every_token_carries_loss_and_documents_end():
    tokenizer = learn_tokenizer([TEXT], 400)
    rows = build_rows(["Ask for its number.", TEXT], tokenizer, 64)
    assert all(list(row["labels"]) == list(row["input_ids"]) for row in rows)
    assert sum(list(row["input_ids"]).count(tokenizer.eos_token_id) for row in rows) == 2
    assert max(len(row["input_ids"]) for row in rows) <= 64


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b").write_text("---\n \n---\n")
    with pytest.raises(InvalidInputError, match="no UTF-8"):
        list(read_documents([tmp_path / "a"]))
    with pytest.raises(UnavailableError, match="gone: cannot be read: No such file"):
        list(read_documents([tmp_path / "gone"]))
    assert list(read_documents([tmp_path / "b"])) == []
    with pytest.raises(EvidenceError, match="no text"):
        build_rows([], learn_tokenizer([TEXT], 400), 64)
