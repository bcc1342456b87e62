"""Artefacts of transformers: what is written is what is read, and nothing half-written or altered is ever loaded."""

import errno

import msgspec
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from unit.trainer.transformers.tiny import SCHEMA, build_model, build_prompts, build_tokenizer

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind
from pilotage_core.job_exit import JobExit
from pilotage_trainer.artefact import MANIFEST, Manifest, digest_manifest, read_manifest
from pilotage_trainer.backends.transformers.asking import export
from pilotage_trainer.backends.transformers.asking.export import (
    check_tokenizer,
    digest_base,
    load_transformer,
    write_transformer,
)
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.failures import BaseModelError, DamagedArtefactError, SplitLabelError, find_exit_code

MADE = Manifest("policy", "star/weather", "r1", "", "data", "config", DEFAULT_FORMAT.digest, "", {})
PROMPTS = [(prompt, SCHEMA) for prompt in build_prompts(3)]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A policy, written."""
    model = build_model(len(tokenizer))
    write_transformer(tmp_path / "r1/policy", MADE, model, tokenizer, extra={"training.json": b"{}"})
    return tmp_path / "r1/policy"


def test_what_is_read_answers_as_what_was_written(folder, tokenizer):
    written = PolicyModel(build_model(len(tokenizer)), tokenizer)
    read = PolicyModel.load(folder)
    assert read.propose_many(PROMPTS, 8) == written.propose_many(PROMPTS, 8)
    assert read.manifest is not None
    assert read.manifest.digest == read_manifest(folder).digest


def test_the_manifest_names_every_file_and_the_code(folder):
    manifest = read_manifest(folder)
    assert manifest.files.keys() == {path.name for path in folder.iterdir()} - {MANIFEST}
    assert manifest.files.keys() >= {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "training.json",
    }  # fmt: skip
    assert (manifest.backend, len(manifest.code)) == ("transformers", 32)


@pytest.mark.parametrize("added", [False, True])
def test_whoever_asks_transformers_for_the_tokenizer_gets_ours(folder, tokenizer, added):
    text = build_prompts(3)[-1] + '{"tool":"close_chat"}\n< it is 12 o\'clock, <|end|> accept'
    read = AutoTokenizer.from_pretrained(folder)  # as vLLM does; for a qwen2 it would make a tokenizer of its own
    assert read(text, add_special_tokens=added)["input_ids"] == tokenizer(text)["input_ids"]
    assert read.apply_chat_template([{"role": "user", "content": text}], tokenize=False) == text


def test_a_base_models_own_generation_settings_are_left_behind(tmp_path, tokenizer):
    model = build_model(len(tokenizer))
    model.generation_config.repetition_penalty = 1.05
    write_transformer(tmp_path / "policy", MADE, model, tokenizer)
    assert b"penalty" not in (tmp_path / "policy/generation_config.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda data: data[:-100]),
        ("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("tokenizer.json", lambda data: data.replace(b"accept", b"accept ")),
        ("training.json", lambda data: b""),
        (MANIFEST, lambda data: data.replace(b"weather", b"trivia")),
        (MANIFEST, lambda data: b""),
    ],
)
def test_half_written_and_altered_files_are_refused(folder, name, damage):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(DamagedArtefactError) as refused:
        load_transformer(folder, "policy")
    assert find_exit_code(refused.value) == JobExit.DAMAGED


def test_a_missing_file_and_another_kind_are_refused(folder):
    with pytest.raises(DamagedArtefactError, match="is a policy, not a critic"):
        load_transformer(folder, "critic")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DamagedArtefactError, match="cannot be read"):
        load_transformer(folder, "policy")


def test_a_model_that_lacks_weights_is_refused_though_its_digests_are_right(tmp_path, tokenizer):
    model = build_model(len(tokenizer))
    state = {name: value for name, value in model.state_dict().items() if "layers.1.mlp" not in name}
    write_transformer(tmp_path / "policy", MADE, model, tokenizer, state=state)
    with pytest.raises(DamagedArtefactError, match=r"lacks 3 weights, model\.layers\.1\.mlp"):
        load_transformer(tmp_path / "policy", "policy")


def test_a_failure_while_writing_leaves_what_was_there(folder, tokenizer, monkeypatch):
    before = read_manifest(folder)

    def fill_the_disk(*_: object, **__: object) -> None:
        raise export.SafetensorError("I/O error: No space left on device (os error 28)")

    model = build_model(len(tokenizer))
    monkeypatch.setattr(model, "save_pretrained", fill_the_disk)
    with pytest.raises(OSError, match="No space left") as full:
        write_transformer(folder, MADE, model, tokenizer)
    assert full.value.errno == errno.ENOSPC
    assert read_manifest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


def test_an_adapter_is_called_by_its_revision_and_bound_to_its_base(tmp_path, tokenizer):
    base = tmp_path / "base"
    build_model(len(tokenizer)).save_pretrained(base)
    tokenizer.save_pretrained(base)
    model = export.AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False), "r1")
    torch.manual_seed(0)
    made = msgspec.structs.replace(MADE, base=digest_base(base))
    expected = PolicyModel(adapted, tokenizer).propose_many(PROMPTS, 8)
    write_transformer(tmp_path / "policy", made, adapted, tokenizer)
    read = PolicyModel.load(tmp_path / "policy").propose_many(PROMPTS, 8)
    assert [p.ids for p in read] == [p.ids for p in expected]
    assert read[0].logprobs == pytest.approx(expected[0].logprobs, abs=1e-4)
    build_model(len(tokenizer), seed=1).save_pretrained(base)
    with pytest.raises(BaseModelError, match="another base") as refused:
        load_transformer(tmp_path / "policy", "policy")
    assert find_exit_code(refused.value) == JobExit.BASE_MODEL


def test_a_tokenizer_that_splits_accept_or_reject_is_refused():
    bare = Tokenizer(models.BPE(unk_token="?", vocab={"?": 0}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.raises(SplitLabelError) as refused:
        check_tokenizer(PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="?"), 1)
    assert find_exit_code(refused.value) == JobExit.SPLIT_LABEL


def test_a_tokenizer_that_puts_a_frame_around_a_chat_or_outgrows_the_model_is_refused():
    framed = build_tokenizer()
    framed.chat_template = "<user>" + framed.chat_template
    with pytest.raises(BaseModelError, match="chat template"):
        check_tokenizer(framed, len(framed))
    with pytest.raises(BaseModelError, match="embeddings"):
        check_tokenizer(build_tokenizer(), 100)


def test_heads_that_vllm_would_misread_are_refused(tmp_path, tokenizer):
    model = build_model(len(tokenizer))
    model.config.head_dim = 32
    with pytest.raises(BaseModelError, match="2 heads of 32 are not 128"):
        write_transformer(tmp_path / "policy", MADE, model, tokenizer)


def test_a_count_models_manifest_keeps_the_digest_it_had_before_there_were_bases_and_formats():
    new = {"base": "b", "begun_with": "p", "dialog": DialogFormat(SnapshotKind.WHOLE)}
    told = msgspec.to_builtins(msgspec.structs.replace(MADE, backend="counts"))
    for name, value in new.items():
        assert name in told
        assert digest_manifest(MADE) != digest_manifest(msgspec.structs.replace(MADE, **{name: value}))
    old = msgspec.json.encode({k: v for k, v in msgspec.to_builtins(MADE).items() if k not in new}, order="sorted")
    assert digest_manifest(MADE) == export.digest_bytes(old)
