"""Trials at the desk: played by the pair and by an operator alone, chosen by time, refused where they are none."""

from itertools import islice

import msgspec
import pytest
from typer.testing import CliRunner
from unit.trainer.scripted import DONE, Scripted

from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.score import CONFIDENCE_ALONE
from pilotage_simulator.desk.trial import RULES, read_desk_trials
from pilotage_trainer.main import app
from pilotage_trainer.trials.evaluation import choose_trials, evaluate_pair
from pilotage_trainer.trials.source import read_trials
from pilotage_trainer.trials.worker import UNGATED, By, HeldBack, Pair, PairWorker


@pytest.fixture(scope="module")
def trials(sgd_path):
    return list(islice(read_desk_trials(sgd_path, part=(3, 400)), 24))


def test_an_operator_alone_works_a_trial_to_a_right_end(trials):
    for trial in trials[:12]:
        worker = PairWorker(Pair(Scripted(), None, CONFIDENCE_ALONE), RULES, UNGATED, trial.trial_id)
        result = trial.play(worker)
        assert result.ended in ("closed", "transferred")
        assert all(each.by is By.OPERATOR for each in worker.decided)
    assert sum(trial.play(a_desk_worker(trial)).is_right for trial in trials) >= 22


def a_desk_worker(trial):
    return PairWorker(Pair(Scripted(), None, CONFIDENCE_ALONE), RULES, UNGATED, trial.trial_id)


def test_a_trial_closes_rightly_what_may_not_be_closed_yet(trials):
    worker = PairWorker(Pair(Scripted(DONE), None, CONFIDENCE_ALONE), RULES, UNGATED, "t")
    trials[0].play(worker)
    assert [each.held_back for each in worker.decided[:2]] == [None, HeldBack.REFUSED]


def test_without_a_certificate_nothing_critical_runs(trials):
    report = evaluate_pair(trials, Pair(Scripted(*[DONE] * 99), None, CONFIDENCE_ALONE), RULES, target=0.9, delta=0.05)
    assert not report.certificate.stands
    assert report.automation_rate.share == 0.0
    assert msgspec.json.decode(msgspec.json.encode(report))["certificate"]["stands"] is False


def test_a_target_or_delta_that_is_none_is_refused_before_anything_is_played(trials):
    for target, delta in ((1.0, 0.05), (0.9, 0.0)):
        with pytest.raises(InvalidInputError, match="not between"):
            evaluate_pair(trials, Pair(Scripted(), None, CONFIDENCE_ALONE), RULES, target=target, delta=delta)


def test_trials_are_chosen_by_when_they_begin(trials):
    first = trials[0].begins
    assert choose_trials(trials, first, "", 9) == trials[:9]
    with pytest.raises(EvidenceError, match="too few"):
        choose_trials(trials, "", first, None)
    with pytest.raises(InvalidInputError, match="--until"):
        choose_trials(trials, "", "tomorrow", None)


def test_a_name_that_brings_no_trials_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="brings no trials"):
        next(read_trials("nowhere:x"))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["evaluate", "--desk", "missing.jsonl", "--policy", "nowhere"], 6, "cannot be read"),
        (["evaluate", "--desk", "x", "--policy", "p", "--likeness", "0.5"], 2, "does not go with --desk"),
        (["evaluate", "--export", "x", "--policy", "p", "--target", "0.9"], 2, "does not go with sessions"),
        (["rehearse", "--desk", "missing.jsonl", "--policy", "nowhere", "--out", "out.ndjson"], 6, "cannot be read"),
    ],
)
def test_options_and_paths_that_are_wrong_are_named(arguments, code, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == code, told.output
    assert said in " ".join((told.output + str(told.exception)).split()) or code == 6
