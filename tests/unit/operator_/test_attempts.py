"""Attempts to certify share one δ: which share each tests at, over failures, rollbacks and new pairs."""

import json

import pytest
from facts import MemoryWorld, climb_to, healthy, make_bundle

from pilotage_core.guardrail import Reading
from pilotage_core.stage import Stage
from pilotage_operator.facts import JobPhase
from pilotage_operator.manifests.job import build_train_command


def test_attempts_to_certify_share_one_delta_whatever_came_of_them():
    world = climb_to(MemoryWorld(make_bundle(), certifies=False), "Copilot")
    for sessions in (160, 240, 320, 400):
        world.count(sessions=sessions, feedback_sessions=60)
        world.steps(20)
    world.certifies = True
    world.count(sessions=480)
    world.steps(20)
    assert world.status.stage is Stage.CALIBRATION
    world.step(readings={"corrections": Reading(0.5, 40)})
    world.count(sessions=600)
    world.steps(40, readings=healthy())
    tried = [job for job in world.job_log if job.phase is JobPhase.CALIBRATE]
    assert [job.calibration for job in tried] == [1, 2, 3, 4, 5, 6], "a rollback, and a new pair, start no new count"
    spent = [json.loads(find_config(world.bundle, job))["delta"] for job in tried]
    assert spent == pytest.approx([0.05 / (k * (k + 1)) for k in range(1, 7)])
    assert sum(spent) < 0.05
    policy = next(job for job in world.job_log if job.phase is JobPhase.POLICY)
    assert json.loads(find_config(world.bundle, policy))["delta"] == 0.05


def test_a_calibration_that_came_to_no_result_looked_at_nothing():
    world = climb_to(MemoryWorld(make_bundle()), "Copilot")
    world.count(sessions=160, feedback_sessions=60)
    while not any(job.phase is JobPhase.CRITIC for job in world.job_log):
        world.step()
    world.exit_code = 1
    world.steps(20)
    world.exit_code = 0
    world.steps(60)
    tried = [job for job in world.job_log if job.phase is JobPhase.CALIBRATE]
    assert len(tried) > 1
    assert {job.calibration for job in tried} == {1}
    assert world.status.pipeline.calibrations == 1


def find_config(bundle, job) -> str:
    command = build_train_command(bundle, job, export="http://gateway", out="out")
    return command[command.index("--config") + 1]
