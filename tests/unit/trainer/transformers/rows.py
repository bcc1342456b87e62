"""Rows that a tiny model can learn something from, and a run over them that other processes can start.

`python rows.py OUT '{"epochs": 2}' [batch N | write N | stop N]`: what the tests of killed and several processes run.
"""

import json
import os
import random
import signal
import sys
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from pilotage_core.training import PolicyTraining
from pilotage_trainer.backends.transformers.training.attention import PACKED, register_packed

VOCABULARY, TOKENS = 60, 96
SMALL = {
    "epochs": 2, "global_batch": 4, "micro_batch": 1, "learning_rate": 5e-3, "warm_up_batches": 3,
    "evaluate_every": 4, "evaluation_batches": 1, "precision": "fp32", "activation_checkpointing": False,
}  # fmt: skip


def build_rows(number: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """Packed rows of counting sequences; a third of the tokens carry loss."""
    rng = random.Random(seed)
    rows = []
    for _ in range(number):
        row: dict[str, list[int]] = {"input_ids": [], "labels": [], "position_ids": []}
        while len(row["input_ids"]) < TOKENS:
            length = min(rng.randint(8, 40), TOKENS - len(row["input_ids"]))
            start, step = rng.randrange(VOCABULARY), rng.randint(1, 3)
            ids = [(start + step * i) % VOCABULARY for i in range(length)]
            row["input_ids"] += ids
            row["labels"] += [token if rng.random() < 0.3 else -100 for token in ids]
            row["position_ids"] += range(length)
        rows.append(row)
    return rows


def build_tiny(seed: int = 0, heads: int = 2, layers: int = 2) -> Qwen2ForCausalLM:
    """Hidden 64."""
    register_packed()
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=1,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            attn_implementation=PACKED,
        )
    )


def read_losses(out: Path) -> list[float]:
    """The loss of every batch, from metrics.jsonl."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 1 + sum("loss" in x for x in lines)))
    return [line["loss"] for line in lines if "loss" in line]


def main(out: str, settings: str, fault: str = "", value: str = "0") -> None:
    """One run, with a fault: SIGKILL in the middle of writing checkpoint number VALUE, or as batch VALUE begins.

    Or SIGTERM as batch VALUE begins, to what a container runs first: torchrun's agent, or this process alone.
    """
    from pilotage_core.errors import PilotageError
    from pilotage_trainer.backends.transformers.training import checkpoint, model, sft
    from pilotage_trainer.failures import explain_error, find_exit_code

    torch.set_num_threads(1)
    calls = written = 0

    def counted(*args: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if fault == "batch" and calls == int(value) and os.environ.get("RANK", "1") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "stop" and calls == int(value) and os.environ.get("RANK", "0") == "0":
            os.kill(os.getppid() if "RANK" in os.environ else os.getpid(), signal.SIGTERM)
        return model.sum_losses(*args)  # type: ignore[arg-type]

    if fault == "write":
        original = checkpoint._list_sizes

        def killed(folder: Path) -> dict[str, int]:
            nonlocal written
            written += 1
            if written == int(value):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(folder)

        checkpoint._list_sizes = killed
    try:
        sft.train(
            build_tiny(),
            build_rows(13),
            PolicyTraining(**SMALL | json.loads(settings)),
            Path(out),
            build_rows(3, 1),
            counted,
        )
    except (PilotageError, OSError) as error:
        print(explain_error(error), file=sys.stderr)
        sys.exit(find_exit_code(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
