"""The share of a GPU's peak that training the 7B shape reaches (MFU), with random weights, at 8k and 32k tokens.

    python bench/mfu.py [--layers 28] [--steps 4] [--out bench/results/mfu.json]

Qwen2.5-7B's shape, bf16 weights and gradients, activation checkpointing, packed attention, loss on a twentieth of the
tokens (what actions are of a session), plain SGD: AdamW's moments of 7.6 billion weights fit no single GPU, and a step
of the optimiser is 1 in 32 of a batch's passes. Two figures: ours counts only what the model needs (causal attention,
logits where there is loss), llm-foundry's formula is for comparison with what it publishes. Where there is no GPU the
result says "not measured", and why.
"""

import argparse
import json
import time
from pathlib import Path

from provenance import describe_run

SHAPE = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
LENGTHS = (8192, 32768)
GOAL = {"tokens": 32768, "mfu": 0.40, "llm_foundry_8xH100": 0.3094}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("bench/results/mfu.json"))
    given = parser.parse_args()
    result = {
        **describe_run(),
        "shape": {**SHAPE, "num_hidden_layers": given.layers},
        "goal": GOAL,
        **measure(given.layers, given.steps),
    }
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def measure(layers: int, steps: int) -> dict[str, object]:
    try:
        import torch
    except ImportError:
        return {"figures": "not measured", "why": "torch is not installed (pip install 'pilotage[transformers]')"}
    if not torch.cuda.is_available():
        return {"figures": "not measured", "why": "this machine has no GPU", "torch": torch.__version__}
    name = torch.cuda.get_device_name()
    figures = []
    for tokens in LENGTHS:
        try:
            figures.append(measure_length(layers, tokens, steps))
        except torch.OutOfMemoryError as error:
            figures.append({"tokens": tokens, "mfu": "not measured", "why": str(error).splitlines()[0]})
            torch.cuda.empty_cache()
    return {"figures": figures, "gpu": name, "torch": torch.__version__}


def measure_length(layers: int, tokens: int, steps: int) -> dict[str, object]:
    """One sequence of `tokens` forward and backward, `steps` times after two that do not count."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from pilotage_trainer.backends.transformers.training.attention import PACKED, register_packed
    from pilotage_trainer.backends.transformers.training.batches import collate
    from pilotage_trainer.backends.transformers.training.model import sum_losses
    from pilotage_trainer.backends.transformers.training.throughput import count_flops, find_peak, llm_foundry_flops

    register_packed()
    config = Qwen2Config(**{**SHAPE, "num_hidden_layers": layers}, attn_implementation=PACKED, dtype="bfloat16")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    ids = [i * 7919 % SHAPE["vocab_size"] for i in range(tokens)]
    labels = [token if i % 20 == 0 else -100 for i, token in enumerate(ids)]
    row = {"input_ids": ids, "labels": labels, "position_ids": list(range(tokens))}
    batch = collate([row]).to(torch.device("cuda"))
    seconds = []
    for _ in range(steps + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        (sum_losses(model, batch) / len(batch.targets)).backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    best, peak = min(seconds[2:]), find_peak()
    weights = sum(parameter.numel() for parameter in model.parameters())
    return {
        "tokens": tokens,
        "weights": weights,
        "seconds": seconds[2:],
        "tokens_per_second": tokens / best,
        "mfu": count_flops(config, tokens, len(batch.targets), tokens**2) / best / peak if peak else "unknown peak",
        "mfu_llm_foundry": llm_foundry_flops(config, weights, tokens) / best / peak if peak else "unknown peak",
        "gib": torch.cuda.max_memory_allocated() / 2**30,
    }


if __name__ == "__main__":
    main()
