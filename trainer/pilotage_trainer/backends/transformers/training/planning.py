"""What a training run would take, before anyone pays for it: memory, disk, steps, hours. Arithmetic only.

Memory counts what is there for certain: weights, gradients and moments (32 bits each), one layer's weights gathered
in bf16 and the next one's, activations kept at each layer's border and one layer's inside, and the logits of the
targets. What an allocator adds is not in it: leave a tenth. Hours follow from an assumed MFU (throughput.py counts the
operations). Not here: whether it fits, which loading a base model decides (training/model.py).
"""

import math
from pathlib import Path

import msgspec
from transformers import AutoConfig, PretrainedConfig

from pilotage_core.errors import InvalidInputError
from pilotage_core.training import BatchUnit, Optimisation, Sharding
from pilotage_trainer.backends.transformers.rows.card import CARD, Card
from pilotage_trainer.backends.transformers.training.batches import count_rows
from pilotage_trainer.backends.transformers.training.model import (
    BYTES_A_FROZEN_WEIGHT,
    BYTES_A_WEIGHT,
    build_config,
    count_weights,
)
from pilotage_trainer.backends.transformers.training.optimizer import find_warm_up
from pilotage_trainer.backends.transformers.training.throughput import count_flops, count_layer_weights, find_peak
from pilotage_trainer.config import JobConfig
from pilotage_trainer.failures import BaseModelError

GIB = 2**30
BF16, FP32 = 2, 4
MOMENTS_AND_WEIGHT = 12
"""Bytes a trained weight has in a checkpoint to resume from: itself and AdamW's two moments."""
INSIDE_A_LAYER = 8
"""Hidden-width activations that a layer keeps for its backward pass beside those of its feed-forward part: norms,
query, key, value, attention's output, residuals (Korthikanti et al. 2022, without scores, which flash never keeps).
"""
LOGIT_BYTES = BF16 + 2 * FP32
"""Of each logit: as computed, in 32 bits for the loss, and its gradient."""


class Workload(msgspec.Struct, frozen=True):
    """What is learned from: sessions, tokens and targets (tokens that carry loss) of each on average."""

    sessions: int
    tokens_a_session: int
    targets_a_session: int


def read_workload(dataset: Path) -> Workload:
    """What the data set in the folder `dataset` says of its training side. Raises InvalidInputError."""
    try:
        card = msgspec.json.decode((dataset / CARD).read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInputError(f"no data set is there: {error}", where=str(dataset / CARD)) from error
    train = card.splits["train"]
    each = max(train.sequences, 1)
    return Workload(each, max(1, train.tokens // each), max(1, train.loss_tokens // each))


class Devices(msgspec.Struct, frozen=True):
    """What it runs on: so many GPUs called `name`, on so many nodes; `mfu` is assumed."""

    name: str = "H100"
    gpus: int = 8
    nodes: int = 1
    mfu: float = 0.35


class Plan(msgspec.Struct, frozen=True):
    """The plan. Bytes by what they are for; `steps` of the optimiser, of which `warm_up_steps` are warm-up."""

    weights: int
    trained: int
    rows: int
    rows_a_step: int
    idle_gpus: int
    steps: int
    warm_up_steps: float
    tokens: int
    gpu_bytes: dict[str, int]
    host_bytes_a_node: int
    disk_bytes: dict[str, int]
    hours: float
    gpu_hours: float
    assumed: dict[str, float | str]

    def __str__(self) -> str:
        lines = [
            f"{self.weights / 1e9:.2f} billion weights, {self.trained / 1e9:.2f} of them trained",
            f"{self.tokens / 1e6:,.0f} million tokens in {self.rows:,} rows: {self.steps:,} steps of "
            f"{self.rows_a_step} rows, {self.warm_up_steps:g} of them warm-up",
            _sum_up("memory of a GPU", self.gpu_bytes),
            f"memory of a node: {self.host_bytes_a_node / GIB:.0f} GiB (each process loads the weights in 32 bits)",
            _sum_up("disk", self.disk_bytes),
            f"{self.hours:.1f} hours, {self.gpu_hours:.0f} GPU-hours",
            "assumed: " + ", ".join(f"{name} {value}" for name, value in self.assumed.items()),
        ]
        if self.idle_gpus:
            lines.insert(2, f"{self.idle_gpus} GPUs have no row in a step: pack shorter rows (dataset.maxTokens)")
        return "\n".join(lines)


def _sum_up(what: str, parts: dict[str, int]) -> str:
    told = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    return f"{what}: {sum(parts.values()) / GIB:.0f} GiB ({told})"


def find_model(config: JobConfig) -> PretrainedConfig:
    """The shape of what `config` trains. Raises BaseModelError where its base model is not here."""
    if not config.base_model:
        shape = config.transformers.shape
        return build_config(shape, shape.vocabulary)
    try:
        return AutoConfig.from_pretrained(config.base_model)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BaseModelError(
            f"cannot be read: {first}",
            where=f"baseModel {config.base_model}",
            remedy="a folder with its config.json is enough for a plan",
        ) from error


def build_plan(config: JobConfig, model: PretrainedConfig, workload: Workload, devices: Devices) -> Plan:
    """The plan of the policy's training. Raises InvalidInputError for devices that are unknown or none."""
    settings, longest = config.transformers.policy, config.transformers.dataset.max_tokens
    hourly = _find_hourly(devices)
    processes = devices.gpus * devices.nodes
    weights, trained = count_weights(model, settings.lora)
    tokens = workload.sessions * workload.tokens_a_session
    length = min(workload.tokens_a_session, longest)
    sequences_a_row = longest // length
    rows = max(1, -(-tokens // (sequences_a_row * length)))
    in_sequences = settings.batch_in is BatchUnit.SEQUENCES
    rows_a_step = count_rows(settings.global_batch, sequences_a_row) if in_sequences else settings.global_batch
    steps = -(-rows * settings.epochs // rows_a_step)
    targets = workload.sessions * workload.targets_a_session
    hours = settings.epochs * count_flops(model, tokens, targets, workload.sessions * length**2) / hourly
    return Plan(
        weights=weights,
        trained=trained,
        rows=rows,
        rows_a_step=rows_a_step,
        idle_gpus=max(0, processes - rows_a_step),
        steps=steps,
        warm_up_steps=find_warm_up(settings.warm_up_batches, steps),
        tokens=tokens * settings.epochs,
        gpu_bytes=_count_gpu(
            model, settings, weights, trained, processes, longest, sequences_a_row * workload.targets_a_session
        ),
        host_bytes_a_node=devices.gpus * weights * FP32,
        disk_bytes=_count_disk(settings, weights, trained),
        hours=hours,
        gpu_hours=hours * processes,
        assumed={"gpu": devices.name, "mfu": devices.mfu, **_describe(workload)},
    )


def _find_hourly(devices: Devices) -> float:
    """Operations that all of `devices` do in an hour."""
    peak = find_peak(devices.name)
    if not peak or devices.gpus < 1 or devices.nodes < 1 or not 0.0 < devices.mfu <= 1.0:
        raise InvalidInputError(
            f"{devices.nodes} × {devices.gpus} {devices.name} at an MFU of {devices.mfu:g} is nothing to plan for",
            where="--gpu",
            remedy="a GPU as H100, H200, A100, L40S; at least one; an MFU in (0, 1]",
        )
    return peak * devices.gpus * devices.nodes * devices.mfu * 3600


def _count_disk(settings: Optimisation, weights: int, trained: int) -> dict[str, int]:
    """One more of each than is kept: it is written before another one goes."""
    return {
        "checkpoints": (settings.keep_checkpoints + 1) * trained * MOMENTS_AND_WEIGHT,
        "candidates": (settings.candidates + 1) * trained * FP32,
        "what is served": weights * BF16,
    }


def _describe(workload: Workload) -> dict[str, float | str]:
    return {"tokens a session": workload.tokens_a_session, "targets a session": workload.targets_a_session}


def _count_gpu(
    model: PretrainedConfig, settings: Optimisation, weights: int, trained: int, processes: int, row: int, targets: int
) -> dict[str, int]:
    shares = processes if settings.sharding is Sharding.FULL else 1
    frozen = weights if settings.lora.rank else 0
    tokens, border = row * settings.micro_batch, model.hidden_size * BF16
    inside = (INSIDE_A_LAYER * model.hidden_size + 3 * model.intermediate_size) * BF16
    kept = border if settings.activation_checkpointing else inside
    gathered = 2 * count_layer_weights(model) // model.num_hidden_layers * BF16 if shares > 1 else weights * BF16
    return {
        "weights, gradients and moments": math.ceil(
            (trained * BYTES_A_WEIGHT + frozen * BYTES_A_FROZEN_WEIGHT) / shares
        ),
        "weights in use": gathered,
        "activations": tokens * (kept * model.num_hidden_layers + inside),
        "logits": targets * settings.micro_batch * model.vocab_size * LOGIT_BYTES,
    }
