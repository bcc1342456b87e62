"""The artefact of a transformer: safetensors, tokenizer and manifest, written whole or not at all, checked when read.

The folder is what `--policy DIR` means, what pilotage-serve loads, and what vLLM serves as it is. A LoRA adapter is an
artefact too: its manifest names its base by digest, and the adapter is called by its revision. Not here: the layout and
the manifest of every artefact (artefact.py).
"""

import errno
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from pilotage_core.dialog import ACTION_MARK
from pilotage_trainer.artefact import (
    Manifest,
    check_artefact,
    digest_bytes,
    digest_file,
    place_artefact,
)
from pilotage_trainer.backends.transformers import NAME, find_maker
from pilotage_trainer.backends.transformers.rows.tokenizer import label_token_ids, load_tokenizer
from pilotage_trainer.failures import BaseModelError, DamagedArtefactError

ADAPTER_CONFIG = "adapter_config.json"
SHARD_SIZE = "4GB"
TRAINING = "training.json"
"""The settings an artefact was trained with."""
TOKENIZER_CONFIG = "tokenizer_config.json"
PROBE = "@ a=b\n" + ACTION_MARK
"""A prompt in small: what a tokenizer has to keep as it is."""
ACTED = PROBE + '{"tool":"close_chat"}\n< it\'s 12 of <|end|>\n% form\n!'


def write_transformer(
    folder: Path,
    manifest: Manifest,
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    extra: Mapping[str, bytes] | None = None,
    state: Mapping[str, torch.Tensor] | None = None,
) -> Manifest:
    """Put `model`, `tokenizer` and the files of `extra` at `folder`, all or nothing; what was there is replaced.

    A PeftModel is written as an adapter; merge it before (`merge_and_unload`) for a model of its own. `state` holds the
    weights where the model's own are sharded. The manifest is completed: backend, code, files, digest. Raises
    SplitLabelError, BaseModelError, OSError.
    """
    check_tokenizer(tokenizer, model.config.vocab_size)
    _check_heads(model.config)
    maker = find_maker()
    manifest = msgspec.structs.replace(manifest, backend=maker.backend, code=maker.code)

    def fill(temporary: Path) -> None:
        # a base model's own generation settings (repetition penalty, top-p) would change what vLLM answers
        end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        plain = model.get_base_model() if isinstance(model, PeftModel) else model
        plain.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=pad, do_sample=False)
        plain.config.eos_token_id, plain.config.pad_token_id, plain.config.bos_token_id = end, pad, None
        _save_weights(model, temporary, state)
        _save_tokenizer(tokenizer, temporary)
        for name, data in (extra or {}).items():
            (temporary / name).write_bytes(data)

    return place_artefact(folder, manifest, fill)


def load_transformer(
    folder: Path, kind: str, device: str = "cpu", prompt_format: str = ""
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, Manifest]:
    """The `kind` artefact at `folder`, every digest checked; an adapter is merged into its base.

    `prompt_format` as for `read_manifest`.
    Raises DamagedArtefactError, BaseModelError (an adapter's base), SplitLabelError.
    """
    manifest = check_artefact(folder, kind, prompt_format)
    if manifest.backend != NAME:
        raise DamagedArtefactError(f"is of backend {manifest.backend}, not {NAME}", where=str(folder))
    if ADAPTER_CONFIG in manifest.files:
        model = _load_adapted(folder, manifest)
    else:
        model = _load_whole(folder)
    return model.to(device), load_tokenizer(folder), manifest


def check_tokenizer(tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> None:
    """Refuse a tokenizer that a served model could not be asked through. Raises SplitLabelError, BaseModelError.

    `accept` and `reject` are one token each; a prompt's tokens begin those of the prompt with an action after it;
    nothing is added to a text, neither by encoding nor by the chat template; `vocabulary` embeddings are enough.
    """
    label_token_ids(tokenizer)
    prompt = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    longer = tokenizer(ACTED, add_special_tokens=False)["input_ids"]
    chat = tokenizer.apply_chat_template([{"role": "user", "content": PROBE}], tokenize=False)
    faults = {
        f"joins {ACTION_MARK!r} to what follows it": longer[: len(prompt)] != prompt,
        "adds special tokens to a text": tokenizer(PROBE)["input_ids"] != prompt,
        "has a chat template that is not the text alone": chat != PROBE,
        "has no end token": tokenizer.eos_token_id is None,
        f"has {len(tokenizer)} tokens for {vocabulary} embeddings": len(tokenizer) > vocabulary,
    }
    for fault, is_so in faults.items():
        if is_so:
            raise BaseModelError(
                f"the tokenizer {fault}", where="tokenizer", remedy="make it with learn_tokenizer or adapt_tokenizer"
            )


def digest_base(base: str | Path) -> str:
    """Identity of the base model in the folder `base`: its configuration, weights and tokenizer; empty for none.

    Raises BaseModelError.
    """
    if not str(base):
        return ""
    folder = Path(base)
    kinds = ("config.json", "*.safetensors", "tokenizer.json", "*.gguf")
    found = sorted({path for kind in kinds for path in folder.glob(kind)})
    if not found:
        raise BaseModelError("there is no model", where=str(base), remedy="name a folder that holds one")
    return digest_bytes(b"\0".join(f"{path.name}={digest_file(path)}".encode() for path in found))


def digest_base_of(base_model: str) -> str:
    """What a manifest says of the base: a folder's digest, a name as it is, nothing for none."""
    return digest_base(base_model) if Path(base_model).is_dir() else base_model


def _check_heads(config: Any) -> None:
    """vLLM's Qwen2 divides width by heads, whatever `head_dim` says, and loads other weights without a word."""
    size = getattr(config, "head_dim", None)
    if config.model_type == "qwen2" and size and size * config.num_attention_heads != config.hidden_size:
        raise BaseModelError(
            f"{config.num_attention_heads} heads of {size} are not {config.hidden_size}", where="model"
        )


def _save_weights(model: Any, folder: Path, state: Mapping[str, torch.Tensor] | None) -> None:
    """The weights and configuration of `model`, in `folder`. Raises OSError, for a full disk too."""
    try:
        model.save_pretrained(folder, state_dict=None if state is None else dict(state), max_shard_size=SHARD_SIZE)
    except SafetensorError as error:
        full = f"os error {errno.ENOSPC}" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error), str(folder)) from error
    if isinstance(model, PeftModel) and (named := folder / model.active_adapter).is_dir():
        for path in named.iterdir():  # peft puts an adapter with a name into a folder of that name, vLLM looks above it
            path.rename(folder / path.name)
        named.rmdir()


def _save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """The tokenizer, so that vLLM reads it as it is. Raises BaseModelError where transformers would not.

    AutoTokenizer, which vLLM asks, puts Qwen2's own splitting of text in the place of ours wherever config.json says
    qwen2. A class of our own, which nobody may load, makes it go by `tokenizer_class` (transformers 5.16 to 5.23).
    """
    tokenizer.save_pretrained(folder)
    path = folder / TOKENIZER_CONFIG
    told = json.loads(path.read_text())
    told |= {"tokenizer_class": "PreTrainedTokenizerFast", "auto_map": {"AutoTokenizer": [None, "pilotage.AsItIs"]}}
    path.write_text(json.dumps(told, indent=2, sort_keys=True))
    read = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if read(ACTED)["input_ids"] != tokenizer(ACTED)["input_ids"]:
        raise BaseModelError("transformers reads back another tokenizer than was written", where=type(read).__name__)


def _load_whole(folder: Path) -> PreTrainedModel:
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype="auto", output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise DamagedArtefactError(f"holds no model that loads: {error}", where=str(folder)) from error
    if lacking := [*told["missing_keys"], *told["mismatched_keys"]]:
        raise DamagedArtefactError(f"lacks {len(lacking)} weights, {lacking[0]} first", where=str(folder))
    return model


def _load_adapted(folder: Path, manifest: Manifest) -> PreTrainedModel:
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path or ""
    if (found := digest_base(base)) != manifest.base:
        raise BaseModelError(f"is another base ({found}) than the adapter's ({manifest.base})", where=base)
    adapted: Any = PeftModel.from_pretrained(_load_whole(Path(base)), folder, adapter_name=manifest.revision)
    return adapted.merge_and_unload()
