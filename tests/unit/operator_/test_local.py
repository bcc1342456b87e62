"""Local processes in the place of Jobs and model servers: started once, found again, ended, and how Jobs are read."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from facts import make_bundle

from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.apply import local
from pilotage_operator.apply.local import LocalWorld, find_free_port, read_job
from pilotage_operator.apply.processes import find_process, start_process, stop_process
from pilotage_operator.facts import JobPhase, JobState, LifecycleDecision, WantedJob
from pilotage_operator.manifests.job import THREAD_VARIABLES

PYTHON = sys.executable


def wait_for(condition, seconds: float = 10.0):
    """Poll with a limit; the only waiting in these tests."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("did not come about")


def ended(folder):
    process = find_process(folder)
    return process if process is not None and not process.running else None


def test_a_process_is_found_again_by_its_folder_and_its_end_is_known(tmp_path):
    start_process(tmp_path / "job", [PYTHON, "-c", "print('last words'); raise SystemExit(3)"])
    process = wait_for(lambda: ended(tmp_path / "job"))
    assert (process.exit_code, process.log_tail) == (3, "last words")
    fact = read_job(process)
    assert (fact.state, fact.exit_code, fact.reason) == (JobState.FAILED, 3, "last words")


@pytest.mark.parametrize("threads", [1, 3])
def test_a_process_has_the_threads_it_is_given(tmp_path, threads):
    asked = f"import os; print(*(os.environ[name] for name in {THREAD_VARIABLES}))"
    start_process(tmp_path / "job", [PYTHON, "-c", asked], threads=threads)
    assert wait_for(lambda: ended(tmp_path / "job")).log_tail == " ".join([str(threads)] * len(THREAD_VARIABLES))


def test_a_killed_job_is_a_failed_one(tmp_path):
    process = start_process(tmp_path / "job", [PYTHON, "-c", "import time; time.sleep(60)"])
    assert find_process(tmp_path / "job").running
    os.killpg(process.record.pid, signal.SIGKILL)
    process = wait_for(lambda: ended(tmp_path / "job"))
    assert (read_job(process).state, read_job(process).reason) == (JobState.FAILED, "killed")


def test_a_job_succeeds_with_its_result_and_fails_without(tmp_path):
    folder = tmp_path / "job"
    start_process(folder, [PYTHON, "-c", "print('done')"])
    process = wait_for(lambda: ended(folder))
    assert "result cannot be read" in read_job(process).reason
    (folder / "result.json").write_text(json.dumps({"phase": "policy", "revision": "r1", "passed": True}))
    assert read_job(process).state is JobState.SUCCEEDED


def test_a_reused_process_number_is_nobody(tmp_path):
    process = start_process(tmp_path / "job", [PYTHON, "-c", "import time; time.sleep(60)"])
    record = json.loads((tmp_path / "job" / "process.json").read_text())
    (tmp_path / "job" / "process.json").write_text(json.dumps(record | {"started": record["started"] - 1}))
    assert not find_process(tmp_path / "job").running
    stop_process(process)
    wait_for(lambda: ended(tmp_path / "job"))


def test_no_process_was_started_where_there_is_no_folder(tmp_path):
    assert find_process(tmp_path / "none") is None
    assert find_free_port() > 0


@pytest.fixture
def world(tmp_path):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "kustomization.yaml").write_text("resources: [one.yaml]\nnamespace: star\n")
    cluster = {"kind": "ProcessCluster", "metadata": {"name": "one"}, "spec": make_bundle().cluster.to_json()}
    (tmp_path / "manifests" / "one.yaml").write_text(json.dumps(cluster))
    return LocalWorld(tmp_path / "state", tmp_path / "manifests", "http://127.0.0.1:9", None)


async def test_status_is_a_whole_file_and_is_read_back(world, tmp_path):
    sighting = await world.observe_world()
    cluster = sighting.clusters["star/one"]
    assert cluster["status"] == {}
    await world.apply_status(cluster, ProcessClusterStatus(first_seen="2026-01-01T00:00:00Z"))
    path = tmp_path / "state" / "status" / "star" / "one.json"
    written = path.stat().st_mtime_ns
    assert (await world.observe_world()).clusters["star/one"]["status"]["firstSeen"] == "2026-01-01T00:00:00Z"
    await world.apply_status(cluster, ProcessClusterStatus(first_seen="2026-01-01T00:00:00Z"))
    assert path.stat().st_mtime_ns == written, "nothing is written where nothing changed"


async def test_changed_manifests_are_read_again(world, tmp_path):
    await world.observe_world()
    path = tmp_path / "manifests" / "one.yaml"
    cluster = json.loads(path.read_text())
    cluster["spec"]["suspend"] = True
    path.write_text(json.dumps(cluster))
    os.utime(path, ns=(1, 1))
    assert (await world.observe_world()).clusters["star/one"]["spec"]["suspend"] is True


async def test_a_job_of_transformers_has_the_cores_it_asks_for(world, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(local, "start_process", lambda *given: started.append(given))
    spec = {"backend": "transformers", "training": {"cpu": "6", "gpus": 2}}
    bundle = replace(make_bundle(), policy_critic=PolicyCriticSpec.model_validate(spec))
    job = WantedJob("one-r1-policy", JobPhase.POLICY, "r1")
    await world.apply_workloads(bundle, LifecycleDecision(ProcessClusterStatus(), leave=None, jobs=(job,)))
    [(folder, command, _, threads)] = started
    assert folder.name == "one-r1-policy"
    assert ("--processes", "2") in pairwise(command)
    assert threads == 3


async def test_servers_nobody_wants_are_ended_and_those_of_others_left(world, tmp_path):
    for name, owner in (("one-r1-policy", "one"), ("two-r1-policy", "two")):
        folder = tmp_path / "state" / "servers" / "star" / name
        start_process(folder, [PYTHON, "-c", "import time; time.sleep(60)"], 1)
        (folder / "owner").write_text(owner)
    bundle = make_bundle()
    await world.apply_workloads(bundle, LifecycleDecision(ProcessClusterStatus(), leave=None))
    assert not (tmp_path / "state" / "servers" / "star" / "one-r1-policy").exists()
    assert find_process(tmp_path / "state" / "servers" / "star" / "two-r1-policy").running
    world.stop()
    wait_for(lambda: ended(tmp_path / "state" / "servers" / "star" / "two-r1-policy"))
