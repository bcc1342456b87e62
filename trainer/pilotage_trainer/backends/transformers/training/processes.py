"""Several processes that train together: what shards what, what a lost one looks like, and a stop that loses nothing.

Not here: starting them (launch.py).
"""

import contextlib
import itertools
import logging
import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Self

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import MixedPrecisionPolicy
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from pilotage_core.errors import InvalidInputError
from pilotage_core.training import Optimisation, Optimizer, Precision, Sharding
from pilotage_trainer.failures import BaseModelError, WorkerDiedError
from pilotage_trainer.results import tell

LOST = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL", "Broken pipe", "Socket Timeout")
"""Parts of what a backend says when a process it talks to is gone."""
LONGEST_WAIT = timedelta(days=2)
"""NCCL's own ten minutes are less than a large policy takes to propose on every session of a window."""
STOPPED = 143
"""Exit code after SIGTERM, as shells have it."""


def open_state() -> PartialState:
    """The processes torchrun or accelerate started (one without them), before there is a model.

    They wait for the first one as long as it takes: it alone makes data sets and labels. Where one
    dies, torchrun's agent ends the others.
    """
    return PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)


def open_accelerator(settings: Optimisation, model: PreTrainedModel) -> Accelerator:
    """The processes torchrun or accelerate started (one without them), and what they keep of `model`."""
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    disable_progress_bar()
    cpu = not torch.cuda.is_available()
    mixed = "bf16" if settings.precision is Precision.BF16 and has_bf16() else "no"
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else _count_processes()
    sharded = processes > 1 and settings.sharding is Sharding.FULL
    if sharded and settings.optimizer is Optimizer.MUON:
        raise InvalidInputError(
            "muon steps whole matrices, sharding full cuts them", where="optimizer", remedy="sharding none, or AdamW"
        )
    plugin = build_sharding(settings, model) if sharded else None
    if settings.activation_checkpointing and not sharded:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    accelerator = Accelerator(cpu=cpu, mixed_precision=mixed, fsdp_plugin=None if cpu else plugin)
    if plugin is not None and cpu:  # accelerate shards on accelerators only, unless its state says otherwise
        accelerator.state.distributed_type = PartialState().distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
    return accelerator


def has_bf16() -> bool:
    """Whether bf16 is faster than fp32 here: on GPUs it is, on processors that have instructions for it too."""
    return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()


def build_sharding(settings: Optimisation, model: PreTrainedModel) -> FullyShardedDataParallelPlugin:
    """FSDP2 layer by layer; computing in `precision`, summing gradients in 32 bits."""
    bf16 = torch.bfloat16 if settings.precision is Precision.BF16 else None
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        mixed_precision_policy=MixedPrecisionPolicy(param_dtype=bf16, reduce_dtype=torch.float32),
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=list(model._no_split_modules or ()),
        state_dict_type="SHARDED_STATE_DICT" if settings.sharded_state_dict else "FULL_STATE_DICT",
        activation_checkpointing=settings.activation_checkpointing,
        cpu_ram_efficient_loading=False,
    )


def prefetch(model: torch.nn.Module, settings: Optimisation) -> None:
    """Let each sharded layer gather the next one's weights while it computes, forward and backward."""
    layers = [m for m in model.modules() if hasattr(m, "set_modules_to_forward_prefetch") and hasattr(m, "self_attn")]
    for before, after in itertools.pairwise(layers):
        if settings.forward_prefetch:
            before.set_modules_to_forward_prefetch([after])
        if settings.backward_prefetch:
            after.set_modules_to_backward_prefetch([before])


@contextlib.contextmanager
def name_lost_worker() -> Iterator[None]:
    """Tell a lost process and a full device as what they are. Raises WorkerDiedError, BaseModelError."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BaseModelError(
            "does not fit: the device's memory ran out",
            where="training",
            remedy="more devices (sharding full), activationCheckpointing, lora.rank, or fewer maxTokens",
        ) from error
    except RuntimeError as error:
        if not torch.distributed.is_initialized() or not any(sign in str(error) for sign in LOST):
            raise
        raise WorkerDiedError(
            f"a process that trains with this one (rank {torch.distributed.get_rank()}) is gone",
            where="training",
            remedy="see its own output; started again, training goes on from the last checkpoint",
        ) from error


class Stop:
    """SIGTERM while it is open: finish the batch, save, leave. A second one ends the process at once."""

    def __init__(self) -> None:
        self.wanted = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGTERM, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def leave(self, why: str) -> None:
        """End this process."""
        tell(why)
        sys.exit(STOPPED)

    def _take(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, self._before)
        self.wanted = True


def _count_processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
