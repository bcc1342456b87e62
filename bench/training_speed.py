"""Tokens a second of training from scratch, by kind of processor, type of Muon's steps, and way of waiting.

    python bench/training_speed.py [--batches 12] [--output bench/results/training_speed.json]

The transformer of bench/star.json, random rows of 1,024 tokens, two threads, one run after the other in processes of
their own. "avx2" has torch and oneDNN leave this processor's wider instructions alone, which is what most laptops and
many clouds have. "neighbour" keeps one core busy beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from provenance import ROOT, describe_run

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
ACTIVE = {"OMP_WAIT_POLICY": "ACTIVE"}
RUNS: tuple[tuple[str, str, dict[str, str], bool], ...] = (
    ("native, Muon in bfloat16", "bfloat16", {}, False),
    ("native, Muon in float32", "float32", {}, False),
    ("avx2, Muon in bfloat16", "bfloat16", AVX2, False),
    ("avx2, Muon in float32", "float32", AVX2, False),
    ("native, one busy neighbour, passive waiting", "bfloat16", {}, True),
    ("native, one busy neighbour, active waiting", "bfloat16", ACTIVE, True),
)
TOKENS = 1024


def measure(dtype: str, batches: int) -> dict[str, object]:
    """In this process: the seconds of `batches` steps after three that do not count."""
    import pilotage_trainer  # noqa: F401, I001  before torch: how its threads wait
    import torch

    from pilotage_core.training import PolicyTraining
    from pilotage_trainer.backends.transformers.training.optimizer import Muon, build_optimizer

    model = build_model()
    optimizer = build_optimizer(model, PolicyTraining(optimizer="muon", learning_rate=0.001))
    for part in getattr(optimizer, "parts", ()):
        if isinstance(part, Muon):
            part.dtype = getattr(torch, dtype)
    torch.manual_seed(0)
    ids = torch.randint(0, model.config.vocab_size, (1, TOKENS))
    seconds = []
    for _ in range(batches + 3):
        began = time.perf_counter()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        before = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append((time.perf_counter() - began, time.perf_counter() - before))
    assert bool(torch.isfinite(loss)), "the model was not trained"
    whole, steps = sum(each[0] for each in seconds[3:]), sum(each[1] for each in seconds[3:])
    return {
        "tokens_per_second": round(batches * TOKENS / whole), "share_in_optimizer": round(steps / whole, 3),
        "weights": sum(each.numel() for each in model.parameters()),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }  # fmt: skip


def build_model():  # type: ignore[no-untyped-def]
    """The shape that bench/star.py trains, with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = json.loads((ROOT / "bench" / "star.json").read_text())["transformers"]["shape"]
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=shape["vocabulary"], max_position_embeddings=4096, tie_word_embeddings=True,
        hidden_size=shape["hidden"], intermediate_size=shape["intermediate"],
        num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
        num_key_value_heads=shape["keyValueHeads"],
    ))  # fmt: skip


def run(dtype: str, batches: int, environment: dict[str, str], neighbour: bool) -> dict[str, object]:
    """`measure` in a process of its own."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if neighbour else None
    try:
        told = subprocess.run(
            [sys.executable, __file__, "--batches", str(batches), "--measure", dtype], check=True, text=True,
            capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
        )  # fmt: skip
        return dict(json.loads(told.stdout))
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--measure", default="", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "training_speed.json")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.batches)))
        return
    os.environ.pop("OMP_WAIT_POLICY", None)
    told = describe_run("torch", "transformers")
    figures = {name: run(dtype, given.batches, extra, beside) for name, dtype, extra, beside in RUNS}
    given.output.write_text(json.dumps({**told, "threads": 2, "figures": figures}, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
