"""The settings transformers are trained by: Table 5 as they stand, decimals either way, nothing unknown."""

import json

import pytest
from pydantic import ValidationError

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind
from pilotage_core.training import CriticTraining, DatasetSettings, PolicyTraining, Shape, TransformersSettings


def test_the_defaults_are_the_papers_table_5():
    policy, dataset = PolicyTraining(), DatasetSettings()
    assert (policy.epochs, policy.global_batch, policy.micro_batch, policy.clip) == (2, 32, 1, 2.0)
    assert (policy.learning_rate, policy.beta_1, policy.beta_2) == (2e-6, 0.9, 0.95)
    assert (policy.epsilon, policy.weight_decay) == (1e-8, 1e-7)
    assert (policy.warm_up_batches, policy.final_share) == (500, 0.1)
    assert (policy.evaluate_every, policy.evaluation_batches) == (500, 20)
    assert (policy.precision, policy.sharding, dataset.max_tokens) == ("bf16", "full", 32_768)
    assert policy.sharded_state_dict
    assert policy.activation_checkpointing
    assert policy.backward_prefetch
    assert policy.forward_prefetch


def test_decimals_are_texts_without_exponents_in_a_resource_and_numbers_here():
    given = {"learningRate": "0.001", "weightDecay": "1e-7"}
    read = PolicyTraining.model_validate(given)
    written = json.loads(read.model_dump_json(by_alias=True))
    assert (read.learning_rate, read.weight_decay) == (1e-3, 1e-7)
    assert (written["learningRate"], written["weightDecay"], written["clip"]) == ("0.001", "0.0000001", "2")
    settings = TransformersSettings(policy=read)
    assert TransformersSettings.model_validate_json(settings.model_dump_json(by_alias=True)) == settings
    assert TransformersSettings.model_validate_json(settings.model_dump_json()) == settings


def test_dialogs_are_written_as_the_data_set_says():
    assert DatasetSettings().form == DEFAULT_FORMAT
    wanted = DatasetSettings.model_validate({"snapshot": "difference", "maxChars": 60_000})
    assert wanted.form == DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000)


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        (PolicyTraining, {"globalBatch": 32, "microBatch": 5}, "no multiple of microBatch"),
        (PolicyTraining, {"learningRate": "0"}, "above 0"),
        (PolicyTraining, {"learningRate": "nan"}, "above 0"),
        (PolicyTraining, {"learningRate": "inf"}, "finite"),
        (PolicyTraining, {"weightDecay": "inf"}, "finite"),
        (PolicyTraining, {"learningRate": "fast"}, "learningRate"),
        (PolicyTraining, {"beta1": "1.0"}, "less than 1"),
        (PolicyTraining, {"warmup": 3}, "Extra inputs"),
        (PolicyTraining, {"precision": "fp8"}, "precision"),
        (CriticTraining, {"grades": {"incorrect": "2"}}, "less than or equal to 1"),
        (DatasetSettings, {"logsPerRejection": "4", "rejections": 9}, "not both"),
        (DatasetSettings, {"maxChars": 999}, "greater than or equal to 1000"),
        (DatasetSettings, {"snapshot": "brief"}, "snapshot"),
        (Shape, {"hidden": 100, "heads": 3}, "no even head size"),
        (Shape, {"heads": 4, "keyValueHeads": 3}, "no multiple of keyValueHeads"),
    ],
)
def test_what_cannot_be_meant_is_refused(model, given, said):
    with pytest.raises(ValidationError, match=said):
        model.model_validate(given)
