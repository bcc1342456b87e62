"""A policy for one arm and seed: its data set, training within the budget, the candidate it is chosen to be.

As the policy Job has it, but that dialogs are the arm's and that every arm is given as many tokens, or seconds. Not
here: which arms (arms.py), what comes of them (running.py).
"""

import gzip
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from transformers import PreTrainedTokenizerFast

from pilotage_core.errors import EvidenceError
from pilotage_trainer.ablations.answers import ask_policy, count_covered
from pilotage_trainer.ablations.arms import PLAIN, Arm, Kind
from pilotage_trainer.ablations.study import Study, prepare
from pilotage_trainer.artefact import MANIFEST, Manifest, artefact_folder
from pilotage_trainer.backends.transformers import find_maker
from pilotage_trainer.backends.transformers.asking.export import digest_base_of, load_transformer, write_transformer
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel, find_device
from pilotage_trainer.backends.transformers.policy.job import MOST_JUDGED, load_candidate, read_weights
from pilotage_trainer.backends.transformers.rows.card import CARD, Card
from pilotage_trainer.backends.transformers.rows.choice import DatasetRequest
from pilotage_trainer.backends.transformers.rows.folder import TOKENIZER
from pilotage_trainer.backends.transformers.rows.job import run_dataset
from pilotage_trainer.backends.transformers.rows.shards import read_rows
from pilotage_trainer.backends.transformers.rows.tokenizer import load_tokenizer
from pilotage_trainer.backends.transformers.training.batches import Row, Rows
from pilotage_trainer.backends.transformers.training.model import build_model
from pilotage_trainer.backends.transformers.training.sft import Candidate, Trained, train

MOST_EPOCHS = 1000
"""Of a run that its seconds end."""


@dataclass(frozen=True)
class Data:
    """An arm's data set."""

    train: Rows
    development: Rows
    tokenizer: PreTrainedTokenizerFast
    card: Card


def make_data(study: Study, arm: Arm) -> Data:
    """The data set of `arm`, made once. Raises EvidenceError where there is nothing for the arm to choose from."""
    folder = study.out / "work" / name_folder(arm.name) / "dataset"
    if not (folder / MANIFEST).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        records = prepare([*study.newest(arm.share), *study.development], arm)
        export = folder.with_name("sessions.ndjson.gz")
        export.write_bytes(gzip.compress(b"".join(msgspec.json.encode(r) + b"\n" for r in records), 1))
        run_dataset(
            DatasetRequest(
                str(export),
                folder,
                base=study.config.base_model,
                vocabulary=study.config.transformers.shape.vocabulary,
                settings=study.find_settings(arm),
                development_share=len(study.development) / len(records),
                workers=1,
            )
        )
        export.unlink()
    card = msgspec.json.decode((folder / CARD).read_bytes(), type=Card)
    if arm.dataset.get("logs_per_rejection") and not card.splits["train"].rejections:
        raise EvidenceError("no proposal was rejected or edited in the training sessions", where=arm.name)
    return Data(read_rows(folder, "train"), read_rows(folder, "development"), load_tokenizer(folder / TOKENIZER), card)


def find_budget(study: Study) -> int:
    """Tokens that every policy reads in training; 0 where seconds are the budget."""
    if study.request.budget_seconds:
        return 0
    if study.request.budget_tokens:
        return study.request.budget_tokens
    first = PLAIN if study.ablation.kind is Kind.SCORES else study.ablation.arms[0]  # scores are of one policy
    card = make_data(study, first).card
    return card.splits["train"].tokens * study.config.transformers.policy.epochs


class Passes(Rows):
    """Rows again and again, in a new order each time, until they are `tokens` long; at least one."""

    def __init__(self, rows: Rows, tokens: int, seed: int) -> None:
        self._rows = rows
        lengths = [len(rows[i]["input_ids"]) for i in range(len(rows))]
        self._order: list[int] = []
        told = turn = 0
        while told < tokens or not self._order:
            for i in np.random.default_rng((seed, turn)).permutation(len(rows)).tolist():
                if told < tokens or not self._order:
                    self._order.append(i)
                    told += lengths[i]
            turn += 1

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return self._rows[self._order[index]]


def train_policy(study: Study, arm: Arm, seed: int, budget: int) -> tuple[Manifest, dict[str, float]]:
    """Train the policy of `arm` and put it at its folder; the figures of its training.

    Goes on where it was killed. Raises EvidenceError, BaseModelError, NotANumberError, OSError.
    """
    data = make_data(study, arm)
    work = study.out / "work" / name_folder(arm.name) / f"seed-{seed}"
    training = study.config.transformers.policy
    rows = Passes(data.train, budget, seed) if budget else data.train
    limits = {"epochs": 1, "time_budget_seconds": 0}
    if not budget:
        limits = {"epochs": MOST_EPOCHS, "time_budget_seconds": study.request.budget_seconds}
    training = training.model_copy(update={**limits, "seed": training.seed + seed})
    config = study.config
    model = build_model(
        config.base_model,
        config.transformers.shape,
        data.tokenizer,
        training,
        longest=config.transformers.dataset.max_tokens,
    )
    trained = train(
        model,
        rows,
        training,
        work,
        data.development,
        identity=f"{study.identity} {arm.name}",
        text_weight=training.text_weight,
    )
    del model
    best = choose(study, arm, trained.candidates, data.tokenizer)
    manifest = write_policy(study, arm, seed, read_weights(best, config, "ablation"), data.tokenizer)
    shutil.rmtree(work, ignore_errors=True)
    return manifest, describe_training(data.card, trained, best)


def choose(study: Study, arm: Arm, candidates: Sequence[Candidate], tokenizer: PreTrainedTokenizerFast) -> Candidate:
    """By coverage at the target on development sessions, then by right answers, then the later one."""
    if len(candidates) == 1:
        return candidates[0]
    records = prepare(study.development[-MOST_JUDGED:], arm)

    def judge(candidate: Candidate) -> tuple[int, int, int]:
        policy = load_candidate(candidate, tokenizer, study.config)
        answers = ask_policy(policy, records, study.find_form(arm), study.config)
        return count_covered(answers, study.config)[0], sum(each.right for each in answers), candidate.step

    return max(candidates, key=judge)


def write_policy(study: Study, arm: Arm, seed: int, model: Any, tokenizer: PreTrainedTokenizerFast) -> Manifest:
    """The artefact of an arm's policy; its manifest names the arm's own prompt format."""
    learned = prepare(study.newest(arm.share), arm)
    described = msgspec.structs.replace(
        study.window.describe("policy", study.config, learned, study.find_form(arm), find_maker()),
        revision=name_run(arm, seed),
        prompt_format=study.find_prompt_format(arm),
        base=digest_base_of(study.config.base_model),
    )
    return write_transformer(find_policy(study, arm, seed), described, model, tokenizer)


def load_policy(study: Study, arm: Arm, seed: int) -> PolicyModel:
    """The policy of a run that was made, asked in the arm's own format. Raises DamagedArtefactError."""
    folder, prompt_format = find_policy(study, arm, seed), study.find_prompt_format(arm)
    return PolicyModel(*load_transformer(folder, "policy", find_device(), prompt_format))


def find_policy(study: Study, arm: Arm, seed: int) -> Path:
    """Where that policy is: the artefact layout, with the run as its revision."""
    return artefact_folder(study.out, study.window.process_cluster, name_run(arm, seed), "policy")


def name_run(arm: Arm, seed: int) -> str:
    """The revision that a run is called."""
    return f"{name_folder(arm.name)}-seed-{seed}"


def name_folder(name: str) -> str:
    """`name` as a folder's."""
    kept = "".join(c if c.isalnum() or c in "._" else "-" for c in name.replace("%", "pct"))
    return "-".join(part for part in kept.split("-") if part)


def describe_training(card: Card, trained: Trained, best: Candidate) -> dict[str, float]:
    """What the arm learned from, and how."""
    side = card.splits["train"]
    return {
        "training_sessions": float(side.sessions),
        "actions_with_loss": float(side.actions),
        "tokens_in_set": float(side.tokens),
        "trims": float(card.trims.trims),
        "tokens_trained": float(trained.tokens),
        "training_seconds": trained.seconds,
        "steps": float(trained.steps),
        "step": float(best.step),
        **({"development_loss": best.loss} if math.isfinite(best.loss) else {}),
    }
