"""A pair opened from its artefacts, and trials played with it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pilotage_core.actions import ActionRules
from pilotage_core.score import CONFIDENCE_ALONE
from pilotage_core.trial import Trial
from pilotage_trainer.backends.open import find_artefact, open_critic, open_policy, read_score_card
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.trials.thresholds import Played
from pilotage_trainer.trials.worker import Pair, PairWorker, Reign


def open_pair(policy: Path, critic: Path | None) -> Pair:
    """The pair at these folders, digests checked. Raises DamagedArtefactError, also where they are none."""
    folder = find_artefact(policy, "policy")
    opened = open_policy(folder)
    if critic is None:
        return Pair(opened, None, CONFIDENCE_ALONE)
    judge = open_critic(find_artefact(critic, "critic"))
    if judge.manifest.policy != opened.manifest.digest:
        raise DamagedArtefactError(
            f"judges policy {judge.manifest.policy}, not {opened.manifest.digest}",
            where=str(critic),
            remedy="run the critic Job again",
        )
    return Pair(opened, judge, read_score_card(find_artefact(critic, "critic")).rule)


def play_trials(trials: Iterable[Trial], pair: Pair, rules: ActionRules, reign: Reign) -> Iterator[Played]:
    """Each of `trials` as the pair works it under `reign`."""
    for trial in trials:
        worker = PairWorker(pair, rules, reign, trial.trial_id)
        result = trial.play(worker)
        yield Played(trial.trial_id, trial.operator, result, tuple(worker.decided))
