"""A pair evaluated in closed loop: τ and the session certificate from one half of the trials, figures on the other."""

from collections.abc import Iterable, Sequence
from itertools import islice

from pilotage_core.actions import ActionRules
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.trial import Trial
from pilotage_trainer.config import read_config
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import read_time, require_times
from pilotage_trainer.trials.report import TrialReport, build_report
from pilotage_trainer.trials.request import TrialsRequest
from pilotage_trainer.trials.running import open_pair, play_trials
from pilotage_trainer.trials.source import read_trials
from pilotage_trainer.trials.thresholds import Played, certify_sessions
from pilotage_trainer.trials.worker import COPILOT, UNGATED, Pair, Reign

FEWEST_TRIALS = 8
CHOSEN_ON = 3
"""One in so many of the sessions of the first half chooses what strata need; the others are walked."""


def choose_trials(trials: Iterable[Trial], since: str, until: str, limit: int | None) -> list[Trial]:
    """Those of `trials` that begin in [since, until), `limit` of them at most.

    Raises InvalidInputError for a time that is none, naming its option, EvidenceError for too few.
    """
    require_times(since=since, until=until)
    wanted = (
        trial
        for trial in trials
        if (not since or read_time(trial.begins) >= read_time(since))
        and (not until or read_time(trial.begins) < read_time(until))
    )
    chosen = list(islice(wanted, limit))
    if len(chosen) < FEWEST_TRIALS:
        raise EvidenceError(f"{len(chosen)} trials are too few", where="trials", remedy="widen --since and --until")
    return chosen


def evaluate_pair(
    trials: Sequence[Trial], pair: Pair, rules: ActionRules, *, target: float, delta: float
) -> TrialReport:
    """τ of whole sessions and their certificate from every other trial, run ungated; three arms on the rest."""
    for name, given in (("--target", target), ("--delta", delta)):
        if not 0.0 < given < 1.0:
            raise InvalidInputError(f"{given} is not between 0 and 1", where=name)
    certifying, measured = trials[::2], trials[1::2]
    ungated = list(play_trials(count_trials(certifying, "to certify"), pair, rules, UNGATED))
    chosen_on, walked_on = split_chosen(ungated)
    certificate = certify_sessions(chosen_on, walked_on, target=target, delta=delta)
    reign = Reign(taus=certificate.taus if certificate.stands else {})
    automatic = list(play_trials(count_trials(measured, "with the pair"), pair, rules, reign))
    copilot = list(play_trials(count_trials(measured, "in copilot"), pair, rules, COPILOT))
    return build_report(automatic, copilot, [trial.play_alone() for trial in measured], certificate)


def split_chosen(played: Sequence[Played]) -> tuple[list[Played], list[Played]]:
    """Those that choose what strata need, and those that are walked."""
    return list(played[::CHOSEN_ON]), [each for place, each in enumerate(played) if place % CHOSEN_ON]


def count_trials(trials: Sequence[Trial], what: str) -> Iterable[Trial]:
    """`trials`, each as it is asked for; how far it is is told now and then."""
    for number, trial in enumerate(trials, 1):
        yield trial
        if number % 200 == 0 or number == len(trials):
            tell(f"{number} of {len(trials)} sessions {what}")


def run_trials(request: TrialsRequest) -> TrialReport:
    """Evaluate the pair that `request` names. Raises DamagedArtefactError, InvalidInputError, EvidenceError."""
    pair = open_pair(request.policy, request.critic)
    found = read_trials(request.source, request.process_cluster)
    trials = choose_trials(found, request.since, request.until, request.sessions)
    rules = read_config(request.config).rules if request.config else trials[0].rules
    return evaluate_pair(trials, pair, rules, target=request.target, delta=request.delta)
