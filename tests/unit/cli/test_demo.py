"""The driver's decisions, and that what it starts is ended: by process id, after a crash too."""

import os
import signal
import subprocess
import sys
import time

import pytest
from stubs.run_records import process_cluster

from pilotage.demo.faults import FaultPlan, after_kill, after_recovery, next_to_kill
from pilotage.demo.processes import Processes, Recorded, end_stale, is_same_process, start_time, write_recorded
from pilotage.demo.world import Scene, is_at_work, is_complete, is_settled

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def scene(*stages: str) -> Scene:
    item = process_cluster(*((stage, n, "x") for n, stage in enumerate(stages)))
    return Scene(process_clusters=(item,))


@pytest.mark.parametrize(
    ("stages", "complete"),
    [
        ((), False),
        (("Logging", "Copilot", "Calibration", "Automation"), False),
        (("Logging", "Copilot", "Calibration", "Automation", "Copilot"), False),
        (("Logging", "Copilot", "Calibration", "Copilot", "Calibration"), False),
        (("Logging", "Copilot", "Calibration", "Automation", "Copilot", "Calibration"), True),
    ],
)
def test_a_walk_is_complete_once_it_climbed_fell_and_climbed_again(stages, complete):
    assert is_complete(scene(*stages)) is complete


@pytest.mark.parametrize(
    ("stages", "settled"),
    [
        (("Logging", "Copilot"), True),
        (("Logging", "Calibration"), False),
        (("Calibration", "Automation"), True),
        (("Automation", "Copilot"), False),
    ],
)
def test_the_demo_is_settled_once_what_ever_acted_is_in_automation(stages, settled):
    assert is_settled(scene(*stages)) is settled


@pytest.mark.parametrize(
    ("pipeline", "at_work"),
    [
        ({}, False),
        ({"phase": "Feedback", "state": "Waiting"}, False),
        ({"phase": "Critic", "state": "Running"}, True),
        ({"phase": "CriticEndpoint", "state": "Waiting"}, True),
        ({"phase": "Calibrate", "state": "Failed"}, False),
    ],
)
def test_a_job_or_an_endpoint_may_flip_a_stage_without_another_session(pipeline, at_work):
    looked_at = scene("Copilot")
    looked_at.process_clusters[0]["status"]["pipeline"] = pipeline
    assert is_at_work(looked_at) is at_work


@pytest.mark.parametrize(
    ("plan", "stage", "now", "part"),
    [
        (FaultPlan(("controller",)), "Logging", 100.0, ""),
        (FaultPlan(("controller",)), "Copilot", 100.0, "controller"),
        (FaultPlan(("controller",), over_at=98.0), "Copilot", 100.0, ""),
        (FaultPlan(("gateway",), killed="controller"), "Copilot", 100.0, ""),
        (FaultPlan(("model server",), done=2), "Copilot", 100.0, ""),
        (FaultPlan(("model server",), done=2), "Automation", 100.0, "model server"),
        (FaultPlan(()), "Automation", 100.0, ""),
    ],
)
def test_parts_are_killed_one_at_a_time_when_it_hurts(plan, stage, now, part):
    assert next_to_kill(plan, scene(stage), now) == part


def test_a_plan_goes_on_after_a_recovery():
    plan = after_recovery(after_kill(FaultPlan(("controller", "gateway")), 10.0), 12.0)
    assert (plan.to_come, plan.killed, plan.done, plan.over_at) == (("gateway",), "", 1, 12.0)


def wait_until(holds, seconds=5.0):
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_killed_process_is_started_again_and_ended_at_the_end(tmp_path):
    processes = Processes(tmp_path)
    processes.start("sleeper", SLEEP)
    first = processes.pid("sleeper")
    processes.kill("sleeper")
    wait_until(lambda: processes.exit_code("sleeper") is not None)
    processes.watch()
    second = processes.pid("sleeper")
    assert second != first
    assert processes.restarts == {"sleeper": 1}
    processes.end_all()
    assert start_time(second) is None
    assert not (tmp_path / "pids.json").exists()


def test_children_that_a_killed_process_left_are_ended_with_the_run(tmp_path):
    child = tmp_path / "child"
    parent = (
        "import subprocess,sys,time,pathlib;"
        f"c=subprocess.Popen({SLEEP!r});pathlib.Path({str(child)!r}).write_text(str(c.pid));time.sleep(60)"
    )
    processes = Processes(tmp_path)
    processes.start("parent", [sys.executable, "-c", parent], kept_running=False)
    wait_until(lambda: child.exists() and child.read_text())
    processes.kill("parent")
    processes.end_all()
    wait_until(lambda: start_time(int(child.read_text())) is None)


def test_what_an_interrupted_run_left_is_ended_by_the_next(tmp_path):
    left = subprocess.Popen(SLEEP, start_new_session=True)
    write_recorded(tmp_path / "pids.json", [Recorded("gateway", left.pid, start_time(left.pid) or 0)])
    assert end_stale(tmp_path / "pids.json") == ["gateway"]
    assert left.wait(5) == -signal.SIGTERM


def test_an_id_that_is_somebody_elses_now_is_let_alone(tmp_path):
    write_recorded(tmp_path / "pids.json", [Recorded("gateway", os.getpid(), 1)])
    assert end_stale(tmp_path / "pids.json") == []
    assert is_same_process(Recorded("me", os.getpid(), start_time(os.getpid()) or 0))
