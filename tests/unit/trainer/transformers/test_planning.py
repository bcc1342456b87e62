"""What a run would take: counted weights are the model's own, steps and disk follow from the settings."""

import json

import msgspec
import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from pilotage_core.errors import InvalidInputError
from pilotage_core.training import Lora
from pilotage_trainer.backends.transformers.training.model import count_weights
from pilotage_trainer.backends.transformers.training.planning import (
    GIB,
    Devices,
    Workload,
    build_plan,
    find_model,
    read_workload,
)
from pilotage_trainer.config import read_config
from pilotage_trainer.main import app

QWEN = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944,
    "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064,
    "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
FIFTY_THOUSAND = Workload(50_000, 2_600, 400)


@pytest.fixture
def base(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN))
    return str(tmp_path)


def a_plan(base, workload=FIFTY_THOUSAND, devices=Devices(), **policy):
    config = read_config(json.dumps({"base_model": base, "transformers": {"policy": policy}}))
    return build_plan(config, find_model(config), workload, devices)


def test_the_weights_counted_are_those_of_the_model_with_and_without_adapters():
    model = find_model(read_config('{"base_model": ""}'))
    built = AutoModelForCausalLM.from_config(model)
    assert count_weights(model) == (built.num_parameters(), built.num_parameters())
    lora = Lora(rank=4)
    adapted = get_peft_model(built, LoraConfig(r=4, target_modules=list(lora.targets), task_type="CAUSAL_LM"))
    assert count_weights(model, lora)[1] == adapted.num_parameters(only_trainable=True)


def test_the_paper_s_settings_on_eight_gpus(base):
    made = a_plan(base)
    assert made.weights == 7_615_616_512
    assert (made.steps, made.warm_up_steps) == (261, 261 / 4)
    assert sum(made.gpu_bytes.values()) < 60 * GIB
    assert made.host_bytes_a_node == 8 * made.weights * 4
    assert made.disk_bytes["checkpoints"] == 3 * made.weights * 12
    assert made.hours == pytest.approx(made.gpu_hours / 8)
    assert str(made).splitlines()[0] == "7.62 billion weights, 7.62 of them trained"


def test_a_batch_of_sequences_is_a_few_rows_and_says_which_gpus_have_none(base):
    made = a_plan(base, batchIn="sequences")
    assert (made.rows_a_step, made.idle_gpus) == (3, 5)
    assert "5 GPUs have no row" in str(made)
    assert a_plan(base, batchIn="sequences", globalBatch=256).idle_gpus == 0


def test_sharing_out_and_adapters_take_less_of_each_gpu(base):
    whole, alone, adapted = (
        a_plan(base).gpu_bytes,
        a_plan(base, sharding="none").gpu_bytes,
        a_plan(base, lora={"rank": 16}).gpu_bytes,
    )
    states = "weights, gradients and moments"
    assert alone[states] == pytest.approx(8 * whole[states], rel=1e-6)
    assert adapted[states] < whole[states] / 3


@pytest.mark.parametrize("devices", [Devices("abacus"), Devices(gpus=0), Devices(mfu=0.0), Devices(mfu=1.5)])
def test_what_nothing_runs_on_is_refused(base, devices):
    with pytest.raises(InvalidInputError, match="nothing to plan for"):
        a_plan(base, devices=devices)


def test_the_command(base, tmp_path):
    config = json.dumps({"base_model": base})
    done = CliRunner().invoke(app, ["plan", "--sessions", "1000", "--config", config, "--json"])
    assert json.loads(done.stdout)["gpu_hours"] > 0
    for wrong in ([], ["--sessions", "9", "--dataset", str(tmp_path)], ["--dataset", str(tmp_path)]):
        assert CliRunner().invoke(app, ["plan", *wrong, "--config", config]).exit_code == 2
    absent = ["plan", "--sessions", "9", "--config", '{"base_model": "/nowhere"}']
    assert CliRunner().invoke(app, absent).exit_code == 10


def test_a_data_set_says_how_much_there_is(tmp_path):
    side = dict.fromkeys(("sessions", "rows", "actions", "nothing", "rejections", "left_out", "longest"), 1)
    side |= {"sequences": 10, "tokens": 26_000, "loss_tokens": 4_000, "padding_share": 0.0}
    side |= {"closed_since": "", "closed_until": ""}
    side |= {f"by_{name}": {} for name in ("tool", "screen", "operator", "day", "source")}
    card = dict.fromkeys(("digest", "data", "prompt_format", "masking"), "")
    card |= {"process_clusters": {}, "settings": {}, "dialog": {}, "tokenizer": {}, "repeated_sessions": 0}
    card |= {"sessions_without_actions": 0, "splits": {"train": side}}
    card["trims"] = dict.fromkeys(("sessions", "trims", "lines", "chars", "windows"), 0)
    (tmp_path / "card.json").write_bytes(msgspec.json.encode(card))
    assert read_workload(tmp_path) == Workload(10, 2_600, 400)
