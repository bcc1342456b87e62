"""Every arm and seed of an ablation, each run kept in a file: what is finished is not run again.

A run that fails is reported and does not stop the others. Not here: training (learning.py), the table (report.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from pilotage_core.errors import EvidenceError, PilotageError
from pilotage_core.score import ScoreRule
from pilotage_trainer.ablations.answers import Answer, answer_labels, ask_policy, measure_policy, measure_score
from pilotage_trainer.ablations.arms import PLAIN, Arm, Kind
from pilotage_trainer.ablations.learning import (
    find_budget,
    find_policy,
    load_policy,
    name_run,
    train_policy,
    write_policy,
)
from pilotage_trainer.ablations.study import Study, prepare
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.backends.transformers.critic.data import CriticExample, judge_sessions, require_labels
from pilotage_trainer.backends.transformers.critic.fit import LabelSplit, score_labels, train_critic
from pilotage_trainer.failures import explain_error
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import closed_after

if TYPE_CHECKING:  # trl takes longer to import than a small arm to run
    from pilotage_trainer.backends.transformers.policy.preference_job import PreferencePair

CHOOSING_SHARE = 0.25
"""Of the development sessions with labels: those that choose the critic's checkpoint; it learns from the older ones."""


class Run(msgspec.Struct, frozen=True):
    """What came of one arm with one seed. `failure` says why there is nothing else."""

    arm: str
    seed: int
    identity: str
    figures: dict[str, float] = {}
    answers: tuple[Answer, ...] = ()
    prompt_format: str = ""
    policy: str = ""
    failure: str = ""


@dataclass
class Runner:
    """Runs a study's arms. What several arms of one seed share is kept: a policy's labels, its critic, its pairs."""

    study: Study
    budget: int
    _labels: dict[int, tuple[list[CriticExample], list[CriticExample]]] = field(default_factory=dict)
    _critics: dict[int, tuple[list[float], ScoreRule, dict[str, float]]] = field(default_factory=dict)
    _pairs: "dict[int, list[PreferencePair]]" = field(default_factory=dict)

    def run(self, arm: Arm, seed: int) -> Run:
        """That run, as it was kept where it was finished before."""
        path = self.study.out / "runs" / f"{name_run(arm, seed)}.json"
        if path.exists():
            kept = msgspec.json.decode(path.read_bytes(), type=Run)
            if kept.identity == self.study.identity and not kept.failure:
                tell(f"{arm.name}, seed {seed}: finished before")
                return kept
        tell(f"{arm.name}, seed {seed}")
        try:
            run = self._make(arm, seed)
        except (PilotageError, OSError, RuntimeError) as error:  # the last: torch, out of memory among others
            reason = explain_error(error) if not isinstance(error, RuntimeError) else str(error).split("\n", 1)[0]
            tell(f"{arm.name}, seed {seed}: failed: {reason}")
            run = Run(arm.name, seed, self.study.identity, failure=reason or type(error).__name__)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".unfinished")
        beside.write_bytes(msgspec.json.encode(run))
        beside.replace(path)
        return run

    def _make(self, arm: Arm, seed: int) -> Run:
        make: dict[Kind, Callable[[Arm, int], Run]] = {
            Kind.POLICIES: self.run_policy,
            Kind.SCORES: self.run_score,
            Kind.TUNED: self.run_tuned,
        }
        return make[self.study.ablation.kind](arm, seed)

    def run_policy(self, arm: Arm, seed: int) -> Run:
        """A policy of its own."""
        manifest, figures = train_policy(self.study, arm, seed, self.budget)
        return self._measure(arm, seed, load_policy(self.study, arm, seed), figures, manifest.digest)

    def _measure(self, arm: Arm, seed: int, policy: PolicyModel, figures: dict[str, float], digest: str) -> Run:
        config = self.study.config
        answers = ask_policy(policy, prepare(self.study.held_out, arm), self.study.find_form(arm), config)
        found = {**measure_policy(answers, config), **figures}
        prompt_format = self.study.find_prompt_format(arm)
        return Run(arm.name, seed, self.study.identity, found, tuple(answers), prompt_format, digest)

    # --- one policy, several scores -----------------------------------------------------------------------------------
    def run_score(self, arm: Arm, seed: int) -> Run:
        """A score of the plain policy's critical proposals, on held-out sessions."""
        study = self.study
        _, labels = self.read_labels(seed)
        figures: dict[str, float] = {}
        if arm.measure is not None:
            scores: Sequence[float] = [arm.measure.of(each.reply) for each in labels]
        else:
            scores, rule, figures = self.ask_critic(seed)
            if arm.with_confidence:
                scores = score_labels(labels, rule, scores)
                figures = figures | {"critic_weight": rule.critic, "confidence_weight": rule.confidence}
        figures = measure_score(labels, scores, study.config.precision_target) | figures
        answers = tuple(answer_labels(labels, scores))
        return Run(arm.name, seed, study.identity, figures, answers, study.find_prompt_format(PLAIN))

    def ask_critic(self, seed: int) -> tuple[list[float], ScoreRule, dict[str, float]]:
        """The answers of the plain policy's critic on the held-out labels, its rule, and what it learned from."""
        if seed not in self._critics:
            study = self.study
            older, labels = self.read_labels(seed)
            require_labels(older, study.config.selection.least_labels)
            sessions = sorted({each.session for each in older})
            choosing = set(sessions[len(sessions) - max(1, round(len(sessions) * CHOOSING_SHARE)) :])
            split = LabelSplit(
                [each for each in older if each.session not in choosing],
                [each for each in older if each.session in choosing],
                labels,
            )
            training = study.config.transformers.critic
            training = training.model_copy(update={"seed": training.seed + seed})
            work = study.out / "work" / f"critic-seed-{seed}"
            critic, rule, step = train_critic(
                lambda: load_policy(study, PLAIN, seed), split, training, work, f"{study.identity} {seed}"
            )
            figures = {"step": float(step), "labels_learned_from": float(len(split.learned))}
            self._critics[seed] = critic.score_many([each.query for each in labels]), rule, figures
        return self._critics[seed]

    def read_labels(self, seed: int) -> tuple[list[CriticExample], list[CriticExample]]:
        """Labels of the plain policy's critical proposals in development and in held-out sessions."""
        if seed not in self._labels:
            study, policy = self.study, self.load_plain(seed)
            about = (policy, study.config.rules, study.config.transformers.critic)
            older = judge_sessions(study.development, *about).labels
            self._labels[seed] = older, judge_sessions(study.held_out, *about, first=len(study.development)).labels
        require_labels(self._labels[seed][1], 1)
        return self._labels[seed]

    def load_plain(self, seed: int) -> PolicyModel:
        """The policy that all scores are about, trained once."""
        if not find_policy(self.study, PLAIN, seed).exists():
            train_policy(self.study, PLAIN, seed, self.budget)
        return load_policy(self.study, PLAIN, seed)

    # --- one policy, tuned in several ways ----------------------------------------------------------------------------
    def run_tuned(self, arm: Arm, seed: int) -> Run:
        """The supervised policy, or what a preference loss makes of it."""
        study, sft = self.study, self.study.ablation.arms[0]
        if arm.loss is None:
            return self.run_policy(arm, seed)
        if not find_policy(study, sft, seed).exists():
            raise EvidenceError(f"there is no policy to begin with: {sft.name} failed", where=arm.name)
        from pilotage_trainer.backends.transformers.policy.preference_job import (
            list_overrides,
            replay_pairs,
            require_pairs,
            tune,
        )

        policy = load_policy(study, sft, seed)
        if seed not in self._pairs:
            kept = [*study.train, *study.development]
            made = [pair for record in kept for pair in list_overrides(record, policy.made.dialog)]
            unseen = closed_after(kept, policy.made.trained_until)
            self._pairs[seed] = made + replay_pairs(unseen, policy, study.config.rules)
        pairs = self._pairs[seed]
        require_pairs(pairs, replayed=True)
        given = study.config.preference
        settings = given.model_copy(update={"loss": arm.loss, "seed": given.seed + seed})
        dtype = policy.model.dtype
        tuned = tune(policy, pairs, settings)
        manifest = write_policy(study, arm, seed, tuned.model.to(dtype), policy.tokenizer)
        figures = {"pairs": float(len(pairs)), "steps": float(len(tuned.lines))}
        return self._measure(arm, seed, load_policy(study, arm, seed), figures, manifest.digest)


def run_arms(study: Study) -> tuple[list[Run], int]:
    """All runs, arm by arm, and the budget in tokens (0: in seconds)."""
    budget = find_budget(study)
    runner = Runner(study, budget)
    return [runner.run(arm, seed) for arm in study.arms for seed in range(study.request.seeds)], budget
