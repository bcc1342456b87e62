"""The preference ablation: DPO or APO on single steps that operators overrode, from a policy, to another policy.

Chosen is what the operator did, rejected what was proposed, and the prompt is the dialog. TRL does the learning, with
our optimiser and schedule. Not here: the command line (commands/), supervised learning (sft.py).
"""

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from pilotage_core.actions import Action, ActionRules
from pilotage_core.dialog import DialogFormat, encode_action
from pilotage_core.errors import EvidenceError, InvalidActionError
from pilotage_core.events import Grade, Outcome
from pilotage_core.proposal import build_action_schema, read_reply
from pilotage_core.record import SessionRecord
from pilotage_core.training import Precision, PreferenceLoss, PreferenceTraining
from pilotage_core.walk import walk_session
from pilotage_core.wire import JobResult
from pilotage_trainer.backends.transformers import find_maker
from pilotage_trainer.backends.transformers.asking.export import TRAINING, write_transformer
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel, find_device
from pilotage_trainer.backends.transformers.asking.readable import propose_readable
from pilotage_trainer.backends.transformers.rows.sequences import is_proposable
from pilotage_trainer.backends.transformers.training.metrics_file import METRICS
from pilotage_trainer.backends.transformers.training.optimizer import build_optimizer, find_warm_up, schedule_factor
from pilotage_trainer.config import JobConfig
from pilotage_trainer.failures import NotANumberError
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import closed_after, human_points
from pilotage_trainer.sessions.labels import is_same_step
from pilotage_trainer.window import Window, build_digests

LEAST_PAIRS = 10
NAMES_IN_TRL = {PreferenceLoss.DPO: "sigmoid"}
"""Where TRL calls a loss something else."""


@dataclass(frozen=True)
class PreferencePair:
    """One step: what the operator did, and what was proposed instead."""

    prompt: str
    chosen: str
    rejected: str


@dataclass
class Tuned:
    """What came of a run: the model, and figures of every step (loss, rewards/chosen, rewards/accuracies, …)."""

    model: PreTrainedModel
    lines: list[dict[str, float]] = field(default_factory=list)


def run_preference(window: Window, config: JobConfig, policy_folder: Path, replayed: bool = False) -> JobResult:
    """Tune the policy at `policy_folder` on the window's overrides; the window's revision is the new policy.

    With `replayed` also on its own proposals in sessions it has not learned from, wherever the operator did another
    thing. Raises EvidenceError where there are too few pairs, DamagedArtefactError, NotANumberError, OSError.
    """
    settings = config.preference
    policy = PolicyModel.load(policy_folder, find_device())
    made, tokenizer = policy.made, policy.tokenizer
    records, held_out = window.hold_out(window.read())
    pairs = [pair for record in records for pair in list_overrides(record, made.dialog)]
    overrides = len(pairs)
    if replayed:
        pairs += replay_pairs(closed_after(records, made.trained_until), policy, config.rules)
    require_pairs(pairs, replayed)
    dtype = policy.model.dtype
    tuned = tune(policy, pairs, settings)
    described = window.describe("policy", config, records, made.dialog, find_maker())
    described = msgspec.structs.replace(
        described,
        base=made.base,
        trained_since=min(described.trained_since, made.trained_since),
        trained_until=max(described.trained_until, made.trained_until),
    )
    extra = {
        TRAINING: settings.model_dump_json(indent=1).encode(),
        METRICS: b"".join(msgspec.json.encode(line) + b"\n" for line in tuned.lines),
    }
    manifest = write_transformer(window.folder("policy"), described, tuned.model.to(dtype), tokenizer, extra=extra)
    return JobResult(
        phase="preference",
        revision=window.revision,
        passed=True,
        reason=f"{settings.loss} on {len(pairs)} pairs of {overrides} overrides and {len(pairs) - overrides} replays",
        digests={"policy": manifest.digest, "from": made.digest, **build_digests(manifest)},
        metrics={
            "sessions": float(len(records)),
            "held_out_sessions": float(len(held_out)),
            "pairs": float(len(pairs)),
            "overrides": float(overrides),
            **summarise(tuned.lines),
        },
        held_out_after=manifest.trained_until,
        dialog=manifest.dialog,
    )


# --- pairs ------------------------------------------------------------------------------------------------------------
def list_overrides(record: SessionRecord, form: DialogFormat) -> Iterator[PreferencePair]:
    """The steps of `record` in which an operator did something else than was proposed, prompts written in `form`.

    Not where the proposal was called acceptable (it was not wrong), and not where no policy may propose what was done.
    """
    for point in walk_session(record, form):
        proposal = point.proposal
        if not point.operator or proposal is None or proposal.executed or proposal.outcome == Outcome.AMBIGUOUS:
            continue
        if point.feedback is not None and point.feedback.grade is Grade.ACCEPTABLE:
            continue
        yield from _pair(point.prompt, point.taken, proposal.action, form)


def replay_pairs(records: Sequence[SessionRecord], policy: PolicyModel, rules: ActionRules) -> list[PreferencePair]:
    """The steps of `records` in which `policy` would now propose something else than the operator did."""
    pairs: list[PreferencePair] = []
    form = policy.made.dialog
    for record in records:
        points = human_points(record, form)
        screens = [point.state.screen for point in points]
        asks = [(p.prompt, build_action_schema(rules, screen)) for p, screen in zip(points, screens, strict=True)]
        for point, screen, reply in zip(points, screens, propose_readable(policy, asks), strict=True):
            try:
                action = read_reply(reply.reply, screen) if reply else None
            except InvalidActionError:
                continue
            if action is not None:
                pairs += _pair(point.prompt, point.taken, action, form)
    return pairs


def _pair(prompt: str, taken: Action, proposed: Action, form: DialogFormat) -> Iterator[PreferencePair]:
    chosen, rejected = encode_action(taken, form), encode_action(proposed, form)
    if is_proposable(taken) and chosen != rejected and not is_same_step(proposed, taken):
        yield PreferencePair(prompt, chosen, rejected)


def require_pairs(pairs: Sequence[PreferencePair], replayed: bool) -> None:
    """Raises EvidenceError where there are fewer than LEAST_PAIRS."""
    if len(pairs) < LEAST_PAIRS:
        raise EvidenceError(
            f"{len(pairs)} overridden proposals are too few",
            where="window",
            remedy=f"at least {LEAST_PAIRS} are needed: widen the window{'' if replayed else ', or add --replayed'}",
        )


# --- tuning -----------------------------------------------------------------------------------------------------------
def tune(policy: PolicyModel, pairs: Sequence[PreferencePair], settings: PreferenceTraining) -> Tuned:
    """`policy`'s model after `settings.epochs` over `pairs`; its weights are changed. Raises NotANumberError.

    The reference is the model as it was: its log probabilities are taken once, before anything changes.
    """
    disable_progress_bars()
    os.environ["TQDM_DISABLE"] = "1"  # TRL's own, over the reference's log probabilities
    rows = Dataset.from_list([{"prompt": p.prompt, "chosen": p.chosen, "rejected": p.rejected} for p in pairs])
    model = policy.model.float().train()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = _build_trainer(model, rows, policy, settings, Path(folder), watch)
        trainer.train()
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if settings.lora.rank:
        trained = trained.merge_and_unload()
    return Tuned(trained, watch.lines)


class Watch(TrainerCallback):
    """Keeps what TRL logs of each step, and stops at the first loss that is no number."""

    def __init__(self) -> None:
        self.lines: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """One step's figures. Raises NotANumberError."""
        if not logs or "loss" not in logs:
            return
        self.lines.append({"step": state.global_step, **logs})
        loss, norm = logs["loss"], logs.get("grad_norm", 0.0)
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise NotANumberError(
                f"the loss of batch {state.global_step} is {loss}, its gradient's norm {norm}",
                where="preference",
                remedy="lower learningRate or beta",
            )
        tell(f"batch {state.global_step}/{state.max_steps}, loss {loss:.4f}, chosen {logs['rewards/chosen']:+.3f}")


def _build_trainer(
    model: PreTrainedModel,
    rows: Dataset,
    policy: PolicyModel,
    settings: PreferenceTraining,
    folder: Path,
    watch: Watch,
) -> DPOTrainer:
    on_gpu = torch.cuda.is_available()
    steps = -(-len(rows) // settings.global_batch) * settings.epochs
    arguments = DPOConfig(
        output_dir=str(folder),
        loss_type=[NAMES_IN_TRL.get(settings.loss, settings.loss.value)],
        beta=settings.beta,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=settings.micro_batch,
        max_length=None,
        per_device_train_batch_size=settings.micro_batch,
        gradient_accumulation_steps=settings.global_batch // settings.micro_batch,
        num_train_epochs=settings.epochs,
        max_grad_norm=settings.clip,
        learning_rate=settings.learning_rate,
        bf16=on_gpu and settings.precision is Precision.BF16,
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.activation_checkpointing,
        seed=settings.seed,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    adapters = settings.lora
    peft = (
        LoraConfig(
            r=adapters.rank,
            lora_alpha=adapters.alpha,
            lora_dropout=adapters.dropout,
            target_modules=list(adapters.targets),
            task_type="CAUSAL_LM",
        )
        if adapters.rank
        else None
    )
    optimizer = build_optimizer(model, settings) if peft is None else None
    warm_up = find_warm_up(settings.warm_up_batches, steps)
    factor = partial(schedule_factor, total=steps, warm_up=warm_up, final_share=settings.final_share)
    trainer = DPOTrainer(
        model,
        args=arguments,
        train_dataset=rows,
        processing_class=policy.tokenizer,
        peft_config=peft,
        callbacks=[watch],
        optimizers=(optimizer, LambdaLR(optimizer, factor) if optimizer else None),
    )
    if optimizer is None:  # only the adapters, which the trainer has just made
        trainer.optimizer = build_optimizer(trainer.model, settings)
        trainer.lr_scheduler = LambdaLR(trainer.optimizer, factor)
    trainer.remove_callback(PrinterCallback)
    return trainer


def summarise(lines: Sequence[dict[str, float]]) -> dict[str, float]:
    """Loss and rewards of the first and of the last quarter of the steps."""
    names = {"loss": "loss", "reward_chosen": "rewards/chosen", "reward_rejected": "rewards/rejected"}
    names |= {"reward_accuracy": "rewards/accuracies", "reward_margin": "rewards/margins"}
    quarter = max(len(lines) // 4, 1)
    parts = {"first": lines[:quarter], "last": lines[-quarter:]}
    return {
        f"{name}:{part}": sum(line[key] for line in chosen) / len(chosen)
        for name, key in names.items()
        for part, chosen in parts.items()
        if chosen
    }
