"""The training loop in one process: it learns, it goes on where it was stopped, it says what is wrong."""

import errno
import json
import math
import os
import shutil

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from unit.trainer.transformers.rows import SMALL, build_rows, build_tiny, read_losses

from pilotage_core.errors import EvidenceError
from pilotage_core.training import Lora, PolicyTraining
from pilotage_trainer.backends.transformers.training import processes
from pilotage_trainer.backends.transformers.training.checkpoint import list_folders, name_full_disk, read_progress
from pilotage_trainer.backends.transformers.training.model import add_adapters, load_base, sum_losses
from pilotage_trainer.backends.transformers.training.sft import train
from pilotage_trainer.backends.transformers.training.throughput import (
    count_flops,
    count_layer_weights,
    find_peak,
    llm_foundry_flops,
)
from pilotage_trainer.failures import BaseModelError, NotANumberError, WorkerDiedError, find_exit_code


def run(out, rows=13, loss=sum_losses, model=None, **changed):
    settings = PolicyTraining(**SMALL | changed)
    return train(
        model or build_tiny(), build_rows(rows), settings, out, build_rows(3, 1), loss, text_weight=settings.text_weight
    )


def test_it_learns_and_leaves_candidates_that_load_as_any_model_does(tmp_path):
    trained = run(tmp_path, epochs=10)
    losses = read_losses(tmp_path)
    assert trained.steps == len(losses) == 33
    assert losses[-1] < 0.8 * losses[0]
    assert len(trained.candidates) <= 4
    assert trained.candidates[-1].step == 33
    loaded = AutoModelForCausalLM.from_pretrained(trained.candidates[-1].folder)
    assert loaded.config.architectures == ["Qwen2ForCausalLM"]
    assert trained.candidates[-1].loss < losses[0]


def test_micro_batches_change_nothing(tmp_path):
    run(tmp_path / "one")
    run(tmp_path / "two", micro_batch=2)
    assert read_losses(tmp_path / "two") == pytest.approx(read_losses(tmp_path / "one"), rel=1e-5)


def test_activation_checkpointing_changes_nothing(tmp_path):
    run(tmp_path / "plain", epochs=1)
    run(tmp_path / "checkpointing", epochs=1, activation_checkpointing=True)
    assert read_losses(tmp_path / "checkpointing") == pytest.approx(read_losses(tmp_path / "plain"), rel=1e-6)


@pytest.mark.parametrize("changed", [{}, {"optimizer": "muon", "text_weight": 0.5}])
def test_a_stopped_run_goes_on_to_the_very_same_losses(tmp_path, changed):
    class Stopped(Exception):
        pass

    calls = 0

    def stops(*given):
        nonlocal calls
        calls += 1
        if calls == 23:  # in batch 5, after the checkpoint of batch 4 (16 rows and 3 of evaluation)
            raise Stopped
        return sum_losses(*given)

    run(tmp_path / "whole", **changed)
    with pytest.raises(Stopped):
        run(tmp_path / "stopped", loss=stops, **changed)
    assert len(read_losses(tmp_path / "stopped")) == 4
    run(tmp_path / "stopped", **changed)
    assert read_losses(tmp_path / "stopped") == read_losses(tmp_path / "whole")


def test_a_damaged_checkpoint_is_passed_over_and_anothers_too(tmp_path, capsys):
    run(tmp_path, keep_checkpoints=3)
    whole = read_losses(tmp_path)
    newest, before = list_folders(tmp_path / "checkpoints")[-1], list_folders(tmp_path / "checkpoints")[-2]
    with (newest / "optimizer.bin").open("r+b") as file:
        file.truncate(100)
    assert read_progress(newest) is None
    assert read_progress(before) is not None
    run(tmp_path, keep_checkpoints=3)
    assert read_losses(tmp_path) == whole
    assert "is damaged and passed over" in capsys.readouterr().err
    run(tmp_path, keep_checkpoints=3, learning_rate=1e-3)
    assert "other settings" in capsys.readouterr().err
    assert read_losses(tmp_path)[-1] != whole[-1]


def test_a_loss_that_is_no_number_names_the_batch_and_has_its_own_code(tmp_path):
    def poisons(model, batch):
        return sum_losses(model, batch) * (math.nan if torch.is_grad_enabled() else 1.0)

    with pytest.raises(NotANumberError, match=r"batch 1 is nan.*rows|rows .*batch 1 is nan") as refused:
        run(tmp_path, loss=poisons)
    assert find_exit_code(refused.value) == 8
    assert list_folders(tmp_path / "checkpoints") == []


def test_nothing_to_learn_from_is_said(tmp_path):
    with pytest.raises(EvidenceError, match="nothing to learn from"):
        run(tmp_path, rows=0)


def test_adapters_alone_are_trained_and_saved(tmp_path):
    base = build_tiny()
    base.save_pretrained(tmp_path / "base")
    adapted = add_adapters(build_tiny(), Lora(rank=4, alpha=8.0))
    before = base.model.layers[0].self_attn.q_proj.weight.detach().clone()
    trained = run(tmp_path / "out", model=adapted, epochs=4)
    folder = trained.candidates[-1].folder
    assert {path.name for path in folder.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert not (folder / "model.safetensors").exists()
    torch.testing.assert_close(adapted.base_model.model.model.layers[0].self_attn.q_proj.base_layer.weight, before)
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), folder)
    assert read_losses(tmp_path / "out")[-1] < read_losses(tmp_path / "out")[0]
    assert merged is not None


def test_a_warm_up_is_a_quarter_of_the_run_at_most_and_that_is_told(tmp_path, capsys):
    run(tmp_path, epochs=4, warm_up_batches=500)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert f"warm-up takes {len(rates) / 4:g} batches, not 500: the run has {len(rates)}" in capsys.readouterr().err
    assert rates.index(max(rates)) <= len(rates) // 4 + 1, "the peak is reached, and left again"


def test_adapters_for_modules_that_are_not_there_are_refused():
    with pytest.raises(BaseModelError, match="has none of w_up"):
        add_adapters(build_tiny(), Lora(rank=4, targets=("w_up",)))


def configure(folder, **changed):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded"),
        (lambda folder: os.truncate(folder / "model.safetensors", 999), "cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: configure(folder, intermediate_size=48), "cannot be loaded"),
        (lambda folder: configure(folder, num_hidden_layers=3, layer_types=["full_attention"] * 3), "lacks .* weights"),
        (lambda folder: configure(folder, model_type="bert", architectures=["BertModel"]), "no causal language model"),
    ],
    ids=["gone", "empty", "cut off", "config", "other sizes", "more layers", "other kind"],
)
def test_a_base_model_that_cannot_be_loaded_is_named(tmp_path, spoil, said):
    folder = tmp_path / "base"
    build_tiny().save_pretrained(folder)
    spoil(folder)
    with pytest.raises(BaseModelError, match=said) as refused:
        load_base(str(folder), PolicyTraining())
    assert find_exit_code(refused.value) == 10


def test_a_base_model_that_does_not_fit_says_how_much_it_takes(tmp_path, monkeypatch):
    build_tiny().save_pretrained(tmp_path)
    monkeypatch.setattr("pilotage_trainer.backends.transformers.training.model.find_memory", lambda: 1000)
    with pytest.raises(BaseModelError, match="does not fit") as refused:
        load_base(str(tmp_path), PolicyTraining())
    assert find_exit_code(refused.value) == 10


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_a_full_disk_whatever_a_library_says(tmp_path, error):
    with pytest.raises(OSError, match="No space left on device") as refused, name_full_disk(tmp_path):
        raise error
    assert find_exit_code(refused.value) == 7
    with pytest.raises(RuntimeError, match="other"), name_full_disk(tmp_path):
        raise RuntimeError("other")


def test_a_lost_process_is_told_from_other_faults(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    with pytest.raises(WorkerDiedError) as refused, processes.name_lost_worker():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1")
    assert find_exit_code(refused.value) == 11
    with pytest.raises(RuntimeError, match="shape"), processes.name_lost_worker():
        raise RuntimeError("shape mismatch")


def test_operations_are_counted_as_the_model_needs_them():
    model = build_tiny()
    config = model.config
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n)
    assert count_layer_weights(config) == matrices
    assert count_flops(config, 100, 0, 0) == 6 * matrices * 100
    assert count_flops(config, 100, 7, 0) - count_flops(config, 100, 0, 0) == 6 * 7 * config.hidden_size * 60
    assert count_flops(config, 0, 0, 100**2) == 6 * 2 * 64 * 100**2  # 2 layers, causal
    assert llm_foundry_flops(config, 1000, 10) == 3 * (2 * 1000 * 10 + 4 * 2 * 64 * 100)
    assert find_peak("NVIDIA H100 80GB HBM3") == find_peak("NVIDIA H200") == 989e12
    assert find_peak("abacus") == 0.0


def test_the_metrics_are_lines_of_json_with_all_figures(tmp_path):
    run(tmp_path, epochs=1)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "loss", "gradient_norm", "learning_rate", "tokens_per_second", "mfu"} <= set(lines[0])
    assert lines[0]["learning_rate"] == 0.0
    assert "development_loss" in lines[-1]
