"""Fitting a critic on labels, choosing among its checkpoints, and finding out what it adds to the policy's confidence.

The older sessions are learned from. Of the newer ones every other chooses the checkpoint and the rule that makes a
score of critic and confidence, and the rest compare that with confidence alone, so that neither looks at what the other
was decided by. What was compared is what is served.
Not here: labels and rows (data.py), the Job (job.py), the loop (sft.py).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from accelerate import PartialState
from peft import PeftModel
from sklearn.linear_model import LogisticRegression
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

from pilotage_core.score import CONFIDENCE_ALONE, CRITIC_ALONE, ScoreRule, find_score, log_odds
from pilotage_core.training import CriticTraining
from pilotage_trainer.backends.transformers.asking.critic_card import CardedCritic, CriticCard, Measure, tell_rates
from pilotage_trainer.backends.transformers.asking.export import ADAPTER_CONFIG
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.backends.transformers.critic.data import CriticExample, build_rows, crossfit_rates, tell_nothing
from pilotage_trainer.backends.transformers.rows.tokenizer import label_token_ids
from pilotage_trainer.backends.transformers.training.batches import Batch
from pilotage_trainer.backends.transformers.training.model import add_adapters
from pilotage_trainer.backends.transformers.training.sft import Candidate, train
from pilotage_trainer.backends.transformers.training.tree import read_targets, use_trees
from pilotage_trainer.config import Selection
from pilotage_trainer.measures.comparison import Comparison, compare_scores
from pilotage_trainer.measures.ranking import count_at_precision, stratified_auroc
from pilotage_trainer.results import tell

LoadPolicy = Callable[[], PolicyModel]
"""Gives the policy as it was before anything was trained."""


@dataclass(frozen=True)
class LabelSplit:
    """Labels by what they are for; whole sessions, the first part the oldest."""

    learned: list[CriticExample]
    choosing: list[CriticExample]
    comparing: list[CriticExample]


@dataclass(frozen=True)
class Fitted:
    """What is served, how its score compares with confidence, and the AUROC of each measure of that.

    `step` 0: nothing was trained.
    """

    model: PreTrainedModel
    card: CriticCard
    compared: Comparison
    measures: Mapping[Measure, float]
    step: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)


def split_labels(labels: Sequence[CriticExample], development_share: float) -> LabelSplit:
    """The newest `development_share` of sessions, at least one, choose and compare in turn."""
    sessions = sorted({each.session for each in labels})
    newer = sessions[len(sessions) - max(1, round(len(sessions) * development_share)) :]
    compare, choose = set(newer[::2]), set(newer[1::2])
    return LabelSplit(
        [each for each in labels if each.session not in compare | choose],
        [each for each in labels if each.session in choose],
        [each for each in labels if each.session in compare],
    )


def fit_better(
    load_policy: LoadPolicy,
    labels: Sequence[CriticExample],
    training: CriticTraining,
    choosing: Selection,
    work: Path,
    identity: str = "",
    target: float = 0.9,
) -> Fitted:
    """A critic whose score beats confidence on sessions that neither learned from; else the policy, and confidence.

    `work` gets checkpoints and figures. Raises NotANumberError, WorkerDiedError, OSError.
    """
    split = split_labels(labels, choosing.critic_development_share)
    measures = {
        measure: measure_auroc(split.comparing, [measure.of(each.reply) for each in split.comparing])
        for measure in Measure
    }
    confidences = score_labels(split.comparing, CONFIDENCE_ALONE)
    confidence = CriticCard(CONFIDENCE_ALONE.source, CONFIDENCE_ALONE)
    if len(split.learned) < choosing.least_labels or len({each.accepted for each in split.learned}) < 2:
        tell(f"{len(split.learned)} labels of older sessions are too few to train on: confidence is the score")
        nothing = Comparison(len(split.comparing), 0.5, measure_auroc(split.comparing, confidences), 0.0)
        return Fitted(load_policy().model, confidence, nothing, measures)
    critic, rule, step = train_critic(load_policy, split, training, work, identity)
    answers = critic.score_many([each.query for each in split.comparing])
    scores = score_labels(split.comparing, rule, answers)
    compared = compare_labels(split.comparing, scores, confidences, choosing)
    figures = {
        "critic_auroc": measure_auroc(split.comparing, answers),
        "coverage": find_coverage(split.comparing, scores, target),
        "confidence_coverage": find_coverage(split.comparing, confidences, target),
    }
    if compared.share_better >= choosing.certainty:
        card = msgspec.structs.replace(critic.card, source=rule.source, rule=rule)
        return Fitted(critic.model, card, compared, measures, step, figures)
    return Fitted(load_policy().model, confidence, compared, measures, step, figures)


def train_critic(
    load_policy: LoadPolicy, split: LabelSplit, training: CriticTraining, work: Path, identity: str = ""
) -> tuple[CardedCritic, ScoreRule, int]:
    """The best checkpoint of a critic trained on `split.learned` from the policy's weights, its rule, and its step.

    Best by AUROC of the score on `split.choosing`, the smaller development loss where that is the same.
    """
    policy = load_policy()
    rates, tell_of = crossfit_rates(split.learned, training.folds) if training.side_evidence else (None, tell_nothing)
    card = CriticCard(rates=rates)
    longest = int(policy.model.config.max_position_embeddings)
    rows = build_rows(split.learned, policy, longest, tell_of)
    tell_known = (lambda label: tell_rates(rates, label.query)) if rates else tell_nothing
    development = build_rows(split.choosing, policy, longest, tell_known)
    dtype, model = policy.model.dtype, policy.model.float().train()
    use_trees(model)
    model.config.use_cache = False
    if training.lora.rank:
        model = add_adapters(model, training.lora)
    loss = partial(sum_verdict_losses, tokens=label_token_ids(policy.tokenizer))
    trained = train(model, rows, training, work, development, loss, identity)
    if not PartialState().is_main_process:
        sys.exit(0)  # choosing and comparing is the first process's
    found: list[tuple[float, float, int]] = []
    rules: dict[int, ScoreRule] = {}
    for candidate in trained.candidates:
        critic = load_candidate(candidate, load_policy, dtype, card)
        answers = critic.score_many([each.query for each in split.choosing])
        rule = rules[candidate.step] = fit_rule(split.choosing, answers)
        auroc = measure_auroc(split.choosing, score_labels(split.choosing, rule, answers))
        tell(f"batch {candidate.step}: AUROC {auroc:.3f} on {len(split.choosing)} choosing labels")
        found.append((auroc, -candidate.loss, candidate.step))
    step = max(found)[-1]
    (best,) = (each for each in trained.candidates if each.step == step)
    return load_candidate(best, load_policy, dtype, card), rules[step], step


def fit_rule(labels: Sequence[CriticExample], answers: Sequence[float]) -> ScoreRule:
    """What a critic's `answers` and the policy's confidence are worth beside each other: logistic stacking on `labels`.

    What has no positive weight is left out. The critic is alone where confidence was not told, or to one class only.
    """
    known = [(each, answer) for each, answer in zip(labels, answers, strict=True) if each.confidence is not None]
    accepted = [each.accepted for each, _ in known]
    if len(set(accepted)) < 2:
        return CRITIC_ALONE
    told = [(log_odds(answer), log_odds(each.confidence or 0.0)) for each, answer in known]
    fitted = LogisticRegression().fit(np.array(told), accepted)
    critic, confidence, bias = (float(f"{x:.6g}") for x in (*fitted.coef_[0], fitted.intercept_[0]))
    if confidence <= 0.0:
        return CRITIC_ALONE
    return ScoreRule(critic, confidence, bias) if critic > 0.0 else CONFIDENCE_ALONE


def sum_verdict_losses(model: torch.nn.Module, batch: Batch, tokens: tuple[int, int]) -> torch.Tensor:
    """The weighted sum of the cross-entropies of `batch`'s verdicts over the two `tokens` alone, a scalar."""
    accept, reject = tokens
    logits = read_targets(model, batch)[:, [accept, reject]].float()
    losses = cross_entropy(logits, (batch.targets == reject).long(), reduction="none")
    return (losses * batch.weights).sum()


def load_candidate(candidate: Candidate, load_policy: LoadPolicy, dtype: torch.dtype, card: CriticCard) -> CardedCritic:
    """The critic of a checkpoint, in the `dtype` it will be served in; adapters are merged."""
    policy = load_policy()
    if (candidate.folder / ADAPTER_CONFIG).exists():
        adapted: Any = PeftModel.from_pretrained(policy.model.float(), candidate.folder)
        model = adapted.merge_and_unload()
    else:
        model = AutoModelForCausalLM.from_pretrained(candidate.folder, dtype=dtype, local_files_only=True)
    return CardedCritic(model.to(device=policy.model.device, dtype=dtype), policy.tokenizer, None, card)


# --- measuring --------------------------------------------------------------------------------------------------------
def score_labels(
    labels: Sequence[CriticExample], rule: ScoreRule, answers: Sequence[float] | None = None
) -> list[float]:
    """The score of each by `rule`, `answers` being the critic's; 0 where there is none, which is below every τ."""
    said: Sequence[float | None] = answers or [None] * len(labels)
    return [find_score(rule, answer, each.confidence) or 0.0 for each, answer in zip(labels, said, strict=True)]


def measure_auroc(labels: Sequence[CriticExample], scores: Sequence[float]) -> float:
    """P(an accepted label scores above a rejected one of its stratum); 0.5 where there is no such pair."""
    strata = np.unique([each.stratum for each in labels], return_inverse=True)[1] if labels else np.zeros(0, np.intp)
    accepted = np.array([each.accepted for each in labels], dtype=np.bool_)
    return stratified_auroc(np.asarray(scores, dtype=np.float64), accepted, strata)


def compare_labels(
    labels: Sequence[CriticExample], scores: Sequence[float], confidences: Sequence[float], choosing: Selection
) -> Comparison:
    """`scores` against `confidences`: paired bootstrap by session."""
    return compare_scores(
        scores,
        confidences,
        [each.accepted for each in labels],
        [each.stratum for each in labels],
        [each.session for each in labels],
        choosing.draws,
        choosing.seed,
    )


def find_coverage(labels: Sequence[CriticExample], scores: Sequence[float], target: float) -> float:
    """The share of labels that are right in the longest prefix, stratum by stratum, of which `target` is right."""
    strata = {each.stratum for each in labels}
    right = sum(
        count_at_precision(
            [(s, each.accepted) for each, s in zip(labels, scores, strict=True) if each.stratum == of], target
        )
        for of in strata
    )
    return right / max(len(labels), 1)
