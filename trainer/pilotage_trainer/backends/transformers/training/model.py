"""The model that is trained: a Qwen2 from scratch, or a base model, whole or with adapters; and its loss.

Not here: the optimiser, the loop (sft.py), how a trained model is read again (inference.py, export.py).
"""

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers import PreTrainedTokenizerFast as Tokenizer

from pilotage_core.training import Lora, Optimisation, Shape
from pilotage_trainer.backends.transformers.training.attention import PACKED, register_packed
from pilotage_trainer.backends.transformers.training.batches import Batch
from pilotage_trainer.failures import BaseModelError

BYTES_A_WEIGHT = 16
"""Of training all weights: the weight, its gradient and AdamW's two moments, 32 bits each."""
BYTES_A_FROZEN_WEIGHT = 4


def build_model(
    base_model: str,
    shape: Shape,
    tokenizer: Tokenizer,
    settings: Optimisation,
    longest: int = 32_768,
    processes: int = 1,
) -> PreTrainedModel:
    """The model to train: `base_model` (a folder or a name), or one of `shape` from scratch where that is empty.

    Its embeddings fit `tokenizer`. The weights of a model from scratch follow from `settings.seed`. Raises
    BaseModelError where it cannot be loaded, will not fit into the memory of `processes` such machines' devices, or has
    no room for the tokenizer's tokens and only adapters are trained; or where adapters have no base.
    """
    register_packed()
    if settings.lora.rank and not base_model:
        raise BaseModelError(
            "adapters add to a base model, and there is none", where="lora.rank", remedy="name a baseModel, or set 0"
        )
    if base_model:
        model = load_base(base_model, settings, processes)
        rows = model.get_input_embeddings().weight.shape[0]
        if len(tokenizer) > rows and settings.lora.rank:
            raise BaseModelError(
                f"has {rows} embeddings for {len(tokenizer)} tokens, and adapters learn no new one",
                where=f"baseModel {base_model}",
                remedy="train it whole (lora.rank 0), or take a base with room for a token more, as Qwen2.5",
            )
        if len(tokenizer) > rows:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    else:
        model = build_from_scratch(shape, tokenizer, settings.seed, longest)
    if settings.lora.rank:
        model = add_adapters(model, settings.lora)
    return model


def build_from_scratch(shape: Shape, tokenizer: Tokenizer, seed: int, longest: int) -> Qwen2ForCausalLM:
    """A Qwen2 of `shape` with weights drawn from `seed`, for `longest` tokens; embeddings are tied."""
    config = build_config(
        shape,
        len(tokenizer),
        max_position_embeddings=longest,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        attn_implementation=PACKED,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def build_config(shape: Shape, vocabulary: int, **given: Any) -> Qwen2Config:
    """A Qwen2 of `shape` for `vocabulary` tokens, embeddings tied; what else is `given` as Qwen2Config has it."""
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        tie_word_embeddings=True,
        **given,
    )


def count_weights(config: PretrainedConfig, lora: Lora = Lora()) -> tuple[int, int]:
    """Weights of a model, shared ones once, and how many of them are trained: adapters, or all. No memory is taken."""
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config)
    weights = sum(weight.numel() for weight in made.parameters())
    adapted = [each for name, each in made.named_modules() if name.rpartition(".")[2] in lora.targets]
    adapters = sum(lora.rank * (each.in_features + each.out_features) for each in adapted)
    return weights, adapters or weights


def load_base(name: str, settings: Optimisation, processes: int = 1) -> PreTrainedModel:
    """The base model `name` with 32-bit weights. Raises BaseModelError."""
    try:
        config = AutoConfig.from_pretrained(name)
        require_causal(config, name)
        require_memory(config, settings.lora, processes, name)
        model, told = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, attn_implementation=PACKED, output_loading_info=True
        )
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise BaseModelError("does not fit into memory", where=f"baseModel {name}", remedy=BIGGER) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BaseModelError(
            f"cannot be loaded: {first}",
            where=f"baseModel {name}",
            remedy="give a folder in Hugging Face's layout, or a name that this machine can download or has cached",
        ) from error
    if lacking := sorted(told["missing_keys"]):  # transformers would draw them at random
        raise BaseModelError(f"lacks {len(lacking)} weights, {lacking[0]} first", where=f"baseModel {name}")
    return model


def require_causal(config: Any, name: str) -> None:
    """Raises BaseModelError for a kind of model that sees what comes after a token, as BERT does."""
    kinds = config.architectures or []
    if kinds and not any(kind.endswith(("ForCausalLM", "GPT2LMHeadModel")) for kind in kinds):
        raise BaseModelError(
            f"is a {kinds[0]}, no causal language model", where=f"baseModel {name}", remedy="take a …ForCausalLM"
        )


BIGGER = "train it on more devices (sharding full), with adapters (lora.rank), or take a smaller one"


def require_memory(config: Qwen2Config, lora: Lora, processes: int, name: str) -> None:
    """Raises BaseModelError where weights and optimiser state alone are larger than the memory there is."""
    weights, _ = count_weights(config)
    needed = weights * (BYTES_A_FROZEN_WEIGHT if lora.rank else BYTES_A_WEIGHT) // processes
    there = find_memory()
    if there and needed > there:
        raise BaseModelError(
            f"does not fit: its {weights / 1e9:.1f} billion weights take {needed / 2**30:.0f} GiB a process to train, "
            f"{there / 2**30:.0f} GiB are there",
            where=f"baseModel {name}",
            remedy=BIGGER,
        )


def find_memory() -> int:
    """Bytes that one process may take: of its GPU, else of what the machine has left; 0 where that is unknown."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[1])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)


def add_adapters(model: PreTrainedModel, lora: Lora) -> PreTrainedModel:
    """`model` with low-rank adapters; only they are trained. Raises BaseModelError where it has no such modules."""
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise BaseModelError(
            f"has none of {', '.join(lora.targets)}", where="lora.targets", remedy="name modules of this model"
        ) from error


def read_candidate(folder: Path, base: str = "", adapter: str = "default") -> Any:
    """The weights at `folder`; where they are adapters, `base` with the one called `adapter`. In bf16 on a GPU."""
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base or folder, dtype=dtype)
    return PeftModel.from_pretrained(model, folder, adapter_name=adapter) if base else model


def build_shell(model: PreTrainedModel) -> PreTrainedModel:
    """`model` without its weights, to save others' under its name: sharded models cannot be saved from one process."""
    memo: dict[int, object] = {
        id(each): torch.nn.Parameter(torch.empty_like(each, device="meta"), each.requires_grad)
        for each in model.parameters()
    }
    return copy.deepcopy(model, memo)


def sum_losses(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The weighted sum of the cross-entropies of `batch`'s targets, a scalar. Logits are computed nowhere else."""
    logits = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        logits_to_keep=batch.places,
        use_cache=False,
        lengths=batch.lengths,
        offsets=batch.offsets,
    ).logits[0]
    losses = cross_entropy(logits.float(), batch.targets, reduction="none")
    return (losses * batch.weights).sum()
