"""A copier after a rollback: it hears as before, and does what operators do now."""

from itertools import islice

import pytest

from pilotage_core.actions import Tool
from pilotage_simulator.desk.desk import CONFIRM, CONFIRM_TERMS
from pilotage_simulator.desk.recording import read_calendar, record_session
from pilotage_simulator.desk.sgd import SCHEMA_FILE, read_schema
from pilotage_trainer.backends.copier.lessons import FORM, build_lessons
from pilotage_trainer.backends.copier.policy_job import run_policy
from pilotage_trainer.backends.copier.policy_training import fit_policy, refit_policy
from pilotage_trainer.backends.copier.served import load_policy
from pilotage_trainer.backends.situation import read_points
from pilotage_trainer.config import Copier, CopierPolicy, JobConfig
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.window import Window

KEY = "desk/bookings"
SETTINGS = CopierPolicy(iterations=10, ranker_iterations=20)
BEFORE, CHANGED = 80, 110
"""Sessions up to BEFORE teach the first policy, those from CHANGED on are of the changed process."""


@pytest.fixture(scope="module")
def records(sgd_path):
    schema = read_schema(sgd_path.with_name(SCHEMA_FILE))
    taken = islice(read_calendar(sgd_path, schema, KEY, (0, 3)), CHANGED + 80)
    return [
        record_session(dialogue, schema, KEY, number, has_terms=place >= CHANGED)
        for place, (number, dialogue) in enumerate(taken)
    ]


@pytest.fixture(scope="module")
def first(records):
    return fit_policy(build_lessons(records[:BEFORE]), SETTINGS)


def confirmations(policy, records):
    """How often `policy` asks for a yes with the terms where operators ask for one."""
    asked = [
        policy.predict(situation)
        for record in records
        for point, situation in read_points(human_points(record, FORM))
        if point.taken.tool is Tool.SEND_TEXT_TO_CHAT and point.taken.control_id.startswith(CONFIRM)
    ]
    said = [prediction.moment.candidates[prediction.best].action for prediction in asked]
    return sum(action is not None and action.control_id == CONFIRM_TERMS for action in said) / len(asked)


def test_it_does_what_operators_do_now_after_few_sessions_of_it(records, first):
    unheard, fresh, unseen = records[BEFORE:CHANGED], records[CHANGED : CHANGED + 50], records[CHANGED + 50 :]
    lessons = [*build_lessons(unheard), *build_lessons(fresh, are_new=True)]
    again = refit_policy(first, lessons, SETTINGS)
    assert confirmations(first, unseen) < 0.1
    assert confirmations(again, unseen) > 0.8
    assert (again.stored.calls, again.stored.spans) == (first.stored.calls, first.stored.spans), "it hears as before"


def test_the_job_goes_on_from_the_pair_that_is_replaced(records, write_export, tmp_path, capsys):
    config = JobConfig(copier=Copier(policy=SETTINGS))
    export = write_export(records)
    cut, rollback = records[BEFORE].closed_at, records[CHANGED - 1].closed_at
    run_policy(Window(export, KEY, "r1", tmp_path, until=cut), config)
    after = Window(export, KEY, "r2", tmp_path, fresh_after=rollback, held_out_share=0.5)
    result = run_policy(after, config, start_from="r1")
    made, earlier = (load_policy(tmp_path / KEY / revision / "policy") for revision in ("r2", "r1"))
    assert (made.manifest.begun_with, made.policy.stored.is_new) == (earlier.manifest.digest, True)
    assert result.metrics["held_out_sessions"] == 40
    assert result.metrics["development_sessions"] == 10, "what its critic learns from"
    assert made.manifest.trained_until < result.held_out_after < records[CHANGED + 40].closed_at
    few = Window(export, KEY, "r3", tmp_path, until=records[30].closed_at, fresh_after=records[9].closed_at)
    run_policy(few, config, start_from="r9")
    assert "all is learned anew" in capsys.readouterr().err
    assert load_policy(tmp_path / KEY / "r3/policy").policy.stored.is_new, "learned anew, it answers for after as well"
