"""Training's figures: one JSON line a batch and an evaluation, a line for people now and then, TensorBoard if there."""

import time
from pathlib import Path
from typing import Any

import msgspec

from pilotage_trainer.backends.transformers.training.throughput import describe_time
from pilotage_trainer.results import tell

METRICS = "metrics.jsonl"
SECONDS_BETWEEN_LINES = 5.0

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:  # not installed: the JSON lines have it all
    SummaryWriter = None


class MetricsFile:
    """`folder`/metrics.jsonl; lines after batch `step` are those of a run that was killed, and go."""

    def __init__(self, folder: Path, step: int, steps: int) -> None:
        self.path, self.steps = folder / METRICS, steps
        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        temporary = self.path.with_suffix(".part")
        temporary.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in kept))
        temporary.replace(self.path)
        self._file = self.path.open("ab", buffering=0)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step) if SummaryWriter else None
        self._told = 0.0

    def write(self, step: int, **figures: float) -> None:
        """One line of figures of batch `step`."""
        self._file.write(msgspec.json.encode({"step": step, **figures}) + b"\n")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name, value, step)

    def tell(self, step: int, loss: float, tokens_per_second: float, mfu: float, seconds_left: float) -> None:
        """Say how it goes, at most every few seconds."""
        if time.monotonic() - self._told < SECONDS_BETWEEN_LINES and step < self.steps:
            return
        self._told = time.monotonic()
        used = f", MFU {mfu:.1%}" if mfu else ""
        tell(
            f"batch {step}/{self.steps}, loss {loss:.4f}, {tokens_per_second:,.0f} tokens/s{used}, "
            f"{describe_time(seconds_left)} left"
        )

    def close(self) -> None:
        """Flush and close."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; what a killed process left half-written is no line."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_bytes().splitlines():
        try:
            lines.append(msgspec.json.decode(text, type=dict[str, Any]))
        except msgspec.DecodeError:
            break
    return lines
