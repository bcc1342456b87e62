"""How fast training is: floating-point operations a batch needs, and the share of the device's peak it reaches (MFU).

Only what the model needs is counted: no recomputation, attention only where it is causal, logits only where they are
computed. `llm_foundry_flops` is the formula of the published figures, for comparison.
"""

import torch
from transformers import PretrainedConfig

PEAKS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "L4": 121e12,
}
"""Dense bf16 operations a second, by a part of the device's name, from NVIDIA's data sheets; the first that fits."""


def find_peak(name: str = "") -> float:
    """Peak operations a second of the device called `name` (default: this one); 0 where it is unknown or no GPU."""
    if not name and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAKS.items() if part in name), 0.0)


def count_layer_weights(config: PretrainedConfig) -> int:
    """Weights of all layers' matrices: what each token is multiplied with, besides the logits."""
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = config.hidden_size * size * (2 * config.num_attention_heads + 2 * config.num_key_value_heads)
    return int(config.num_hidden_layers * (attention + 3 * config.hidden_size * config.intermediate_size))


def count_flops(config: PretrainedConfig, tokens: int, targets: int, squares: int) -> float:
    """Operations of forward and backward over `tokens` of which `targets` get logits.

    `squares` is the sum of the squares of the sequences' lengths. 2 operations a weight and token forward, 4 backward.
    """
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    linear = count_layer_weights(config) * tokens + config.hidden_size * config.vocab_size * targets
    attention = 2 * config.num_hidden_layers * config.num_attention_heads * size * squares / 2
    return 6.0 * (linear + attention)


def llm_foundry_flops(config: PretrainedConfig, weights: int, length: int) -> float:
    """Operations of one sequence of `length` as llm-foundry counts: all weights, attention as if it were not causal."""
    return 3.0 * (2.0 * weights * length + 4.0 * config.num_hidden_layers * config.hidden_size * length**2)


def describe_time(seconds: float) -> str:
    """`seconds` for people."""
    minutes, hours = seconds / 60, seconds / 3600
    return f"{hours:.1f} h" if hours >= 2 else f"{minutes:.0f} min" if minutes >= 2 else f"{max(seconds, 0):.0f} s"
