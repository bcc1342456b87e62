"""The training loop, top to bottom: rows in, candidate checkpoints out. One process or many (accelerate, FSDP2 or DDP).

What a batch is follows from the seed and its number, what the learning rate is from its number: a run that was killed
goes on from its last checkpoint as if nothing had happened. Not here: what rows and losses are (batches.py, model.py),
checkpoints (checkpoint.py), processes (processes.py), which candidate is served (choosing.py).
"""

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from transformers import PreTrainedModel

from pilotage_core.errors import EvidenceError
from pilotage_core.training import Optimisation
from pilotage_trainer.backends.transformers.training.batches import (
    Batch,
    BatchOrder,
    Rows,
    collate,
    find_batch_size,
    share_out,
)
from pilotage_trainer.backends.transformers.training.checkpoint import (
    Progress,
    beside,
    clear_leftovers,
    list_folders,
    load_checkpoint,
    save_checkpoint,
)
from pilotage_trainer.backends.transformers.training.metrics_file import MetricsFile, read_metrics
from pilotage_trainer.backends.transformers.training.model import build_shell, sum_losses
from pilotage_trainer.backends.transformers.training.optimizer import build_optimizer, find_warm_up, schedule_factor
from pilotage_trainer.backends.transformers.training.processes import Stop, name_lost_worker, open_accelerator, prefetch
from pilotage_trainer.backends.transformers.training.throughput import count_flops, find_peak
from pilotage_trainer.failures import NotANumberError
from pilotage_trainer.results import tell

SumLosses = Callable[[torch.nn.Module, Batch], torch.Tensor]


@dataclass(frozen=True)
class Candidate:
    """Weights that may be served: the folder they are in, the batch they are from, their loss on development rows."""

    step: int
    loss: float
    folder: Path


@dataclass(frozen=True)
class Trained:
    """What came of a run. `candidates` by step; the last one is the end of the schedule. `seconds` over all starts."""

    steps: int
    tokens: int
    seconds: float
    candidates: tuple[Candidate, ...]


def train(
    model: PreTrainedModel,
    rows: Rows,
    settings: Optimisation,
    out: Path,
    development: Rows = (),
    loss: SumLosses = sum_losses,
    identity: str = "",
    text_weight: float = 0.0,
) -> Trained:
    """Train `model` on `rows`; `out` gets metrics.jsonl, checkpoints/ and candidates/.

    The loss of a batch is the sum of its rows' losses (`loss`) over the number of its targets, however the rows are
    shared among micro-batches and processes. Goes on where a run with the same settings, rows and `identity` stopped.
    `text_weight`: how much the text between the targets counts at the start, falling to nothing (collate).
    Raises EvidenceError without rows, NotANumberError, WorkerDiedError, OSError where the disk is full.
    """
    if not len(rows):
        raise EvidenceError("there is nothing to learn from", where="dataset", remedy="widen the window")
    with name_lost_worker():
        accelerator = open_accelerator(settings, model)
        return _Run(accelerator, model, rows, settings, out, development, loss, identity, text_weight).go()


class _Run:
    """One start of a run."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: PreTrainedModel,
        rows: Rows,
        settings: Optimisation,
        out: Path,
        development: Rows,
        loss: SumLosses,
        identity: str,
        text_weight: float,
    ) -> None:
        set_seed(settings.seed + accelerator.process_index)
        self.accelerator, self.settings, self.rows, self.loss = accelerator, settings, rows, loss
        self.config, self.out = model.config, out
        self.development, self.text_weight = development, text_weight
        self.order = BatchOrder(len(rows), find_batch_size(settings, rows), settings.epochs, settings.seed)
        self.holds_gradients = accelerator.distributed_type is not DistributedType.FSDP
        self.warm_up = find_warm_up(settings.warm_up_batches, self.order.steps)
        if self.warm_up < settings.warm_up_batches and accelerator.is_main_process:
            tell(
                f"warm-up takes {self.warm_up:g} batches, not {settings.warm_up_batches}: the run has "
                f"{self.order.steps}, and a quarter at most is warm-up"
            )
        self.shell = build_shell(model)
        self.model, self.optimizer = accelerator.prepare(model, build_optimizer(model, settings))
        prefetch(self.model, settings)
        if accelerator.is_main_process:
            clear_leftovers(out / "checkpoints")
            clear_leftovers(out / "candidates")
        given = f"{settings.model_dump_json()} {len(rows)} {accelerator.num_processes} {identity}"
        digest = hashlib.blake2b(given.encode(), digest_size=16).hexdigest()
        self.progress = load_checkpoint(accelerator, out / "checkpoints", digest) or Progress(digest)
        self.metrics = MetricsFile(out, self.progress.step, self.order.steps) if accelerator.is_main_process else None
        self.peak = find_peak() * accelerator.num_processes
        self.began = time.monotonic() - self.progress.seconds

    def go(self) -> Trained:
        """All batches that are left."""
        progress, settings = self.progress, self.settings
        with Stop() as stop:
            while progress.step < self.order.steps and self.share_done() < 1.0:
                self.train_batch()
                ends = progress.step == self.order.steps or self.share_done() >= 1.0
                if ends or progress.step % settings.evaluate_every == 0:
                    self.keep_candidate()
                due = settings.checkpoint_every and progress.step % settings.checkpoint_every == 0
                stopped = self.agree(float(stop.wanted)) > 0.0
                if ends or due or stopped or progress.step % settings.evaluate_every == 0:
                    save_checkpoint(self.accelerator, self.out / "checkpoints", progress, settings.keep_checkpoints)
                if stopped and not ends:
                    stop.leave(f"stopped after batch {progress.step}; started again, it goes on from there")
        if self.metrics is not None:
            self.metrics.close()
        return Trained(progress.step, progress.tokens, progress.seconds, self.list_candidates())

    def train_batch(self) -> None:
        """One step of the optimiser."""
        progress, accelerator = self.progress, self.accelerator
        indices = self.order[progress.step]
        factor = self.find_factor()
        self.optimizer.optimizer.set_factor(factor)
        text = self.text_weight * max(1.0 - self.share_done(), 0.0)
        batches = self.build_batches(self.rows, indices, text)
        own = [b for b in batches if b.counts]
        targets, tokens, squares = map(
            int,
            self.add_up(
                sum(b.actions for b in own),
                sum(b.input_ids.shape[1] for b in own),
                sum(n * n for b in own for n in b.lengths),
            ),
        )
        total = 0.0
        for number, batch in enumerate(batches, 1):
            syncs = number == len(batches) or not self.holds_gradients  # unsynced, FSDP2 keeps whole gradients
            with nullcontext() if syncs else accelerator.no_sync(self.model):
                summed = self.loss(self.model, batch.to(accelerator.device))
                accelerator.backward(summed * accelerator.num_processes / max(targets, 1))
                total += float(summed.detach())
        loss = self.add_up(total)[0] / max(targets, 1)
        norm = float(accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise NotANumberError(
                f"the loss of batch {progress.step + 1} is {loss}, its gradient's norm {norm}",
                where=f"rows {', '.join(map(str, indices[:8]))}{' …' if len(indices) > 8 else ''}",
                remedy="look at these rows, or lower learningRate; the last checkpoint is from before",
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.note(loss, norm, factor, targets, tokens, squares)

    def note(self, loss: float, norm: float, factor: float, targets: int, tokens: int, squares: int) -> None:
        """Count the batch as done, and say so."""
        progress = self.progress
        before = progress.seconds
        progress.step += 1
        progress.tokens += tokens
        progress.seconds = self.add_up(time.monotonic() - self.began if self.accelerator.is_main_process else 0.0)[0]
        if progress.step <= self.warm_up:
            progress.warm_seconds = progress.seconds
        if self.metrics is None:
            return
        seconds = max(progress.seconds - before, 1e-9)
        mfu = count_flops(self.config, tokens, targets, squares) / seconds / self.peak if self.peak else 0.0
        self.metrics.write(
            progress.step,
            loss=loss,
            gradient_norm=norm,
            learning_rate=self.settings.learning_rate * factor,
            targets=targets,
            tokens=tokens,
            seconds=progress.seconds,
            tokens_per_second=tokens / seconds,
            mfu=mfu,
        )
        done = max(self.share_done(), 1e-9)
        self.metrics.tell(progress.step, loss, tokens / seconds, mfu, progress.seconds * (1.0 - done) / done)

    def keep_candidate(self) -> None:
        """Take the loss on development rows, and keep the weights: the newest few and those of the least loss."""
        loss = self.evaluate()
        folder = self.out / "candidates" / f"step-{self.progress.step:08d}"
        state = self.accelerator.get_state_dict(self.model)
        with beside(self.accelerator, folder) as temporary:
            if self.accelerator.is_main_process:
                self.shell.save_pretrained(temporary, state_dict=state)
        if self.metrics is not None:
            self.metrics.write(self.progress.step, development_loss=loss)
            tell(f"batch {self.progress.step}: development loss {loss:.4f}")
            candidates = self.list_candidates()
            best = min(candidates, key=lambda each: each.loss)
            others = [each for each in candidates if each is not best]
            for left in others[: max(len(candidates) - self.settings.candidates, 0)]:
                shutil.rmtree(left.folder, ignore_errors=True)

    def evaluate(self) -> float:
        """The loss on the first development batches; NaN where there are no development rows."""
        if not len(self.development):
            return math.nan
        most = min(self.settings.evaluation_batches * self.settings.global_batch, len(self.development))
        total = targets = 0.0
        self.model.eval()
        with torch.no_grad():
            for batch in self.build_batches(self.development, range(most)):
                total += float(self.loss(self.model, batch.to(self.accelerator.device)))
                targets += batch.actions if batch.counts else 0
        self.model.train()
        total, targets = self.add_up(total, targets)
        return total / max(targets, 1.0)

    def build_batches(self, rows: Rows, indices: Sequence[int], text_weight: float = 0.0) -> list[Batch]:
        """This process's micro-batches of the batch of `indices`."""
        accelerator = self.accelerator
        shares = share_out(indices, accelerator.process_index, accelerator.num_processes, self.settings.micro_batch)
        return [
            collate([rows[i] for i in share], text_weight, (self.settings.seed, self.progress.step, *share))
            if share
            else collate([rows[indices[0]]]).silence()
            for share in shares
        ]

    def add_up(self, *values: float) -> list[float]:
        """Each of `values`, summed over the processes."""
        if self.accelerator.num_processes == 1:
            return [float(value) for value in values]
        given = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        torch.distributed.all_reduce(given)
        return [float(value) for value in given]

    def agree(self, wanted: float) -> float:
        """How many processes want it."""
        return self.add_up(wanted)[0]

    def share_done(self) -> float:
        """How much of the run is done: of its batches, or of its time where there is less of that."""
        budget = self.settings.time_budget_seconds
        return max(self.progress.step / self.order.steps, self.progress.seconds / budget if budget else 0.0)

    def find_factor(self) -> float:
        """What the learning rate is multiplied by now. A time budget stretches the cosine to end with it."""
        settings, progress = self.settings, self.progress
        steps, warm, done = self.order.steps, self.warm_up, float(progress.step)
        budget = settings.time_budget_seconds
        if budget and progress.step >= warm:
            passed = (progress.seconds - progress.warm_seconds) / max(budget - progress.warm_seconds, 1e-9)
            done = max(done, warm + passed * (steps - warm))
        return schedule_factor(done, steps, warm, settings.final_share)

    def list_candidates(self) -> tuple[Candidate, ...]:
        """The candidates on disk up to now, by step."""
        lines = read_metrics(self.out / "metrics.jsonl")
        losses = {line["step"]: line["development_loss"] for line in lines if "development_loss" in line}
        found = [(int(folder.name.removeprefix("step-")), folder) for folder in list_folders(self.out / "candidates")]
        return tuple(
            Candidate(step, math.nan if losses.get(step) is None else losses[step], folder)
            for step, folder in found
            if step <= self.progress.step
        )
