"""The policy Job of transformers: from an export to an artefact that proposes, resumed where it was killed."""

import json
from pathlib import Path

import msgspec
import pytest
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from unit.trainer.conftest import KEY
from unit.trainer.transformers.tiny import build_dialog, save_base

from pilotage_core.dialog import DEFAULT_FORMAT, encode_action
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.training import Lora, PreferenceTraining
from pilotage_trainer.artefact import Manifest, check_artefact, write_artefact
from pilotage_trainer.backends.transformers.asking.export import digest_base
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.backends.transformers.policy.earlier import find_earlier
from pilotage_trainer.backends.transformers.policy.job import make_material, run_policy
from pilotage_trainer.config import read_config
from pilotage_trainer.failures import BaseModelError
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.window import Window

POLICY = {
    "epochs": 16, "global_batch": 1, "learning_rate": 4e-3, "warm_up_batches": 4, "evaluate_every": 60, "candidates": 2,
    "precision": "fp32", "activation_checkpointing": False,
}  # fmt: skip
SHAPE = {"hidden": 64, "layers": 2, "heads": 2, "key_value_heads": 1, "intermediate": 128, "vocabulary": 600}


@pytest.fixture
def settings(config):
    given = json.loads(config) | {"base_model": ""}
    transformers = {"policy": POLICY, "shape": SHAPE, "dataset": {"max_tokens": 1024}}
    return read_config(json.dumps(given | {"transformers": transformers}))


def test_a_transformer_is_learned_from_an_export_and_proposes(make_sessions, write_export, settings, tmp_path):
    records = make_sessions(60)
    window = Window(write_export(records), KEY, "r1", tmp_path / "out", held_out_share=0.1)
    result = run_policy(window, settings)
    policy = PolicyModel.load(window.folder("policy"))
    assert result.passed, result.reason
    assert result.metrics["action_accuracy"] > 0.5
    assert result.metrics["held_out_sessions"] == 6.0
    assert result.metrics["steps"] > 10
    assert {name.partition(":")[0] for name in result.metrics} >= {
        "coverage_at_target",
        "proposable_accuracy",
        "points",
    }
    assert policy.manifest is not None
    assert policy.manifest.digest == result.digests["policy"]
    assert result.held_out_after == records[53].closed_at
    files = {path.name for path in Path(window.folder("policy")).iterdir()}
    assert files >= {"model.safetensors", "tokenizer.json", "training.json", "metrics.jsonl", "manifest.json"}
    assert not window.folder("policy").with_name("policy-training").exists()


def test_too_few_sessions_are_said_before_anything_is_trained(make_sessions, write_export, settings, tmp_path):
    window = Window(write_export(make_sessions(4)), KEY, "r1", tmp_path / "out")
    with pytest.raises(EvidenceError, match="too few to learn from"):
        run_policy(window, settings)


def test_a_time_budget_ends_the_schedule_in_time(make_sessions, write_export, settings, tmp_path):
    policy = settings.transformers.policy.model_copy(update={"epochs": 1000, "time_budget_seconds": 2})
    settings = msgspec.structs.replace(
        settings, transformers=settings.transformers.model_copy(update={"policy": policy}), min_action_accuracy=0.0
    )
    window = Window(write_export(make_sessions(30)), KEY, "r1", tmp_path / "out")
    result = run_policy(window, settings)
    lines = [json.loads(line) for line in (window.folder("policy") / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert 1.5 < result.metrics["training_seconds"] < 20
    assert rates[-1] < 0.5 * max(rates)


def test_after_a_rollback_fresh_sessions_go_on_from_the_policy_they_replace(
    make_sessions, write_export, settings, tmp_path
):
    old, fresh = make_sessions(60), make_sessions(60, first=60, changed=True)
    out, export = tmp_path / "out", write_export(old + fresh)
    first = Window(export, KEY, "r1", out, until=fresh[0].closed_at)
    before = run_policy(first, settings)
    window = Window(export, KEY, "r2", out, fresh_after=old[-1].closed_at, held_out_share=0.5)
    after = run_policy(window, settings, start_from="r1")
    manifest, earlier = (check_artefact(one.folder("policy"), "policy") for one in (window, first))
    assert after.metrics["sessions"] == 30.0
    assert after.held_out_after == fresh[29].closed_at
    assert manifest.begun_with == before.digests["policy"]
    assert manifest.base == earlier.base == ""
    assert (manifest.trained_since, manifest.trained_until) == (earlier.trained_since, fresh[23].closed_at)
    right = {name: count_right(each.folder("policy"), fresh[30:]) for name, each in (("r1", first), ("r2", window))}
    assert right["r2"] > right["r1"]


def count_right(folder, records):
    policy, right = PolicyModel.load(folder), 0
    for record in records:
        for point in human_points(record, policy.made.dialog):
            (reply,) = policy.propose_many([(point.prompt, None)])
            right += reply.reply == encode_action(point.taken, policy.made.dialog)
    return right


@pytest.mark.parametrize(
    ("start_from", "changed", "reason"),
    [
        ("", {}, ""),
        ("r9", {}, "cannot be read"),
        ("r1", {"shape": {**SHAPE, "hidden": 32}}, "its shape is another"),
        ("r1", {"policy": {**POLICY, "lora": {"rank": 4}}}, "adapters begin with their base"),
        ("counts", {}, "it is one of counts"),
        ("tuned", {}, "its shape is another, or is not told"),
    ],
)
def test_what_cannot_be_gone_on_from_is_said(
    make_sessions, write_export, settings, config, tmp_path, capsys, start_from, changed, reason
):
    out = tmp_path / "out"
    write_earlier(out / KEY / "r1" / "policy", settings, "transformers")
    write_earlier(out / KEY / "counts" / "policy", settings, "counts")
    write_earlier(out / KEY / "tuned" / "policy", settings, "transformers", PreferenceTraining())
    wanted = settings.transformers.model_validate(settings.transformers.model_dump() | changed)
    window = Window(write_export(make_sessions(12)), KEY, "r2", out)
    assert find_earlier(window, msgspec.structs.replace(settings, transformers=wanted), start_from) is None
    told = capsys.readouterr().err
    assert reason in told
    assert bool(told) is bool(start_from)


def write_earlier(folder, settings, backend, training=None):
    told = (training or settings.transformers).model_dump_json().encode()
    made = Manifest("policy", KEY, folder.parent.name, backend, "d", "c", DEFAULT_FORMAT.digest, "code", {})
    write_artefact(folder, made, {"training.json": told})


def test_another_base_is_begun_with(make_sessions, write_export, settings, tmp_path, capsys):
    out = tmp_path / "out"
    write_earlier(out / KEY / "r1" / "policy", settings, "transformers")
    window = Window(write_export(make_sessions(12)), KEY, "r2", out)
    assert find_earlier(window, settings, "r1") is not None
    assert find_earlier(window, msgspec.structs.replace(settings, base_model="some/base"), "r1") is None
    assert "its base model was another" in capsys.readouterr().err


def test_a_data_set_that_was_left_behind_is_not_taken_for_one_of_another_share(make_sessions, settings, tmp_path):
    records, window = make_sessions(20), Window("", KEY, "r1", tmp_path)
    for share, last in ((0.2, 15), (0.4, 11)):
        selection = msgspec.structs.replace(settings.selection, policy_development_share=share)
        config = msgspec.structs.replace(settings, selection=selection)
        assert make_material(window, config, records, tmp_path / "work").trained_until == records[last].closed_at


@pytest.mark.parametrize("base_model", ["", "someone/some-model"])
def test_adapters_need_a_base_that_is_a_folder(make_sessions, write_export, settings, tmp_path, base_model):
    policy = settings.transformers.policy.model_copy(update={"lora": Lora(rank=4)})
    transformers = settings.transformers.model_copy(update={"policy": policy})
    settings = msgspec.structs.replace(settings, transformers=transformers, base_model=base_model)
    window = Window(write_export(make_sessions(12)), KEY, "r1", tmp_path / "out")
    with pytest.raises(InvalidInputError, match="has to be a folder"):
        run_policy(window, settings)


@pytest.fixture
def base(tmp_path):
    """A Llama with a tokenizer of its own, and no row in its embeddings that is not in use, as SmolLM2."""
    folder = save_base(tmp_path / "base", [build_dialog(12), " accept or reject" * 500])
    tokens = len(PreTrainedTokenizerFast.from_pretrained(folder))
    config = LlamaConfig(
        vocab_size=tokens, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_base_of_another_kind_is_tuned_with_tokens_more(make_sessions, write_export, settings, base, tmp_path):
    policy = settings.transformers.policy.model_copy(update={"epochs": 1})
    transformers = settings.transformers.model_copy(update={"policy": policy})
    settings = msgspec.structs.replace(settings, transformers=transformers, base_model=str(base))
    window = Window(write_export(make_sessions(20)), KEY, "r1", tmp_path / "out")
    run_policy(window, settings)
    learned = PolicyModel.load(window.folder("policy"))
    assert learned.model.config.model_type == "llama"
    assert learned.made.base == digest_base(base)
    assert learned.model.config.vocab_size == len(learned.tokenizer) > count_rows(base)


def count_rows(folder):
    return LlamaForCausalLM.from_pretrained(folder).get_input_embeddings().weight.shape[0]


def test_adapters_cannot_learn_a_token_that_the_base_has_no_room_for(
    make_sessions, write_export, settings, base, tmp_path
):
    policy = settings.transformers.policy.model_copy(update={"lora": Lora(rank=4)})
    transformers = settings.transformers.model_copy(update={"policy": policy})
    settings = msgspec.structs.replace(settings, transformers=transformers, base_model=str(base))
    window = Window(write_export(make_sessions(20)), KEY, "r1", tmp_path / "out")
    with pytest.raises(BaseModelError, match="adapters learn no new one"):
        run_policy(window, settings)


def test_adapters_on_a_base_become_a_policy(make_sessions, write_export, settings, tmp_path):
    records = make_sessions(30)
    policy = settings.transformers.policy.model_copy(update={"epochs": 3})
    quick = settings.transformers.model_copy(update={"policy": policy})
    whole = msgspec.structs.replace(settings, transformers=quick)
    base = Window(write_export(records), KEY, "base", tmp_path / "out")
    run_policy(base, whole)
    adapted = quick.model_copy(update={"policy": policy.model_copy(update={"lora": Lora(rank=4)})})
    window = Window(write_export(records), KEY, "r2", tmp_path / "out")
    folder = str(base.folder("policy"))
    result = run_policy(window, msgspec.structs.replace(whole, transformers=adapted, base_model=folder))
    files = {path.name for path in window.folder("policy").iterdir()}
    assert "adapter_model.safetensors" in files
    assert "model.safetensors" not in files
    loaded = PolicyModel.load(window.folder("policy"))
    assert loaded.manifest is not None
    assert loaded.manifest.digest == result.digests["policy"]
