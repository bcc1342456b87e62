"""Kubernetes objects as they are read, and what of a status counts as a change."""

import json

import pytest

from pilotage_core.errors import InvalidInputError
from pilotage_operator.apply.kubernetes import without_counts
from pilotage_operator.facts import JobFact, JobState
from pilotage_operator.kubernetes_api import read_kubeconfig
from pilotage_operator.observe.kubernetes import needs_pod, read_endpoint, read_job, read_refusal
from pilotage_operator.observe.watch import Store

PASSED = json.dumps({"phase": "policy", "revision": "r1", "passed": True, "digests": {"policy": "d"}})
REFUSED = json.dumps({"phase": "policy", "revision": "r1", "passed": False, "reason": "3 sessions are too few"})


def job(*conditions: str, suspend: bool = False, queue: str = "") -> dict:
    labels = {"kueue.x-k8s.io/queue-name": queue} if queue else {}
    written = {"metadata": {"labels": labels, "uid": "job-1"}, "spec": {"suspend": suspend}}
    return written | {
        "status": {"conditions": [{"type": kind, "status": "True", "message": "m"} for kind in conditions]}
    }


def pod(message: str, code: int = 0, at: str = "2026-01-01T00:00:00Z", owner: str = "job-1") -> dict:
    ended = {"exitCode": code, "message": message, "finishedAt": at}
    return {
        "metadata": {"ownerReferences": [{"uid": owner, "controller": True}]},
        "status": {"containerStatuses": [{"state": {"terminated": ended}}]},
    }


@pytest.mark.parametrize(
    ("found", "pods", "state", "code", "reason"),
    [
        (job(), [], JobState.RUNNING, None, ""),
        (job(queue="gpus"), [], JobState.RUNNING, None, ""),
        (job(suspend=True, queue="gpus"), [], JobState.RUNNING, None, "the Job waits in queue gpus"),
        (job(suspend=True), [], JobState.RUNNING, None, "the Job is suspended"),
        (job("Complete"), [pod(PASSED)], JobState.SUCCEEDED, 0, ""),
        (
            job("Complete"),
            [pod("", 1, "2026-01-01T00:00:00Z"), pod(PASSED, 0, "2026-01-01T00:01:00Z")],
            "Succeeded",
            0,
            "",
        ),
        (job("Complete"), [], JobState.SUCCEEDED, 0, "its termination message cannot be read"),
        (job("Complete"), [pod("{half")], JobState.SUCCEEDED, 0, "its termination message cannot be read"),
        (job("Failed"), [pod(REFUSED, 3)], JobState.FAILED, 3, "3 sessions are too few"),
        (job("Failed"), [pod("Killed", 137)], JobState.FAILED, 137, "Killed"),
        (job("Failed"), [], JobState.FAILED, None, "m"),
        (job("Complete"), [pod(PASSED, owner="x")], JobState.SUCCEEDED, 0, "its termination message cannot be read"),
        (job("Failed"), [pod(REFUSED, 3, owner="x")], JobState.FAILED, None, "m"),
    ],
)
def test_a_job_is_what_its_last_pod_said(found, pods, state, code, reason):
    fact = read_job(found, pods)
    assert (fact.state, fact.exit_code, fact.reason) == (state, code, reason)


def test_a_job_that_gets_no_pod_is_refused_as_its_newest_event_says():
    started = {"spec": {}, "status": {"startTime": "2026-01-01T00:00:00Z"}}
    assert needs_pod(started)
    assert not needs_pod({"spec": {}, "status": {"startTime": "x", "active": 1}})
    assert not needs_pod({"spec": {"suspend": True}, "status": {"startTime": "x"}})
    assert read_refusal([]) is None
    said = [
        {"lastTimestamp": "2026-01-01T00:00:05Z", "message": "exceeded quota: small, requested: memory=4Gi"},
        {"lastTimestamp": "2026-01-01T00:00:01Z", "message": "an older one"},
    ]
    fact = read_refusal(said)
    assert fact == JobFact(
        JobState.REFUSED, reason="the Job is refused a pod: exceeded quota: small, requested: memory=4Gi"
    )


def service(ready: str, model: str | None = None) -> dict:
    status = {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    if model:
        status["modelStatus"] = {"states": {"activeModelState": model}}
    return {"metadata": {"name": "one-r1-policy", "namespace": "star"}, "status": status}


@pytest.mark.parametrize(
    ("found", "ready"),
    [
        (service("True"), True),
        (service("True", "Loaded"), True),
        (service("True", "Loading"), False),
        (service("False"), False),
        (service("Unknown"), False),
        ({"metadata": {"name": "one-r1-policy", "namespace": "star"}}, False),
    ],
)
def test_an_endpoint_is_ready_only_where_kserve_says_so_and_the_model_is_loaded(found, ready):
    fact = read_endpoint(found)
    assert fact.ready is ready
    assert fact.url == "http://one-r1-policy-predictor.star.svc.cluster.local"
    assert ready or fact.reason


def test_counts_are_no_change_and_everything_a_decision_rests_on_is():
    status = {
        "stage": "Copilot",
        "supervision": {"sessions": 1},
        "pipeline": {"phase": "Feedback", "reason": "1 of 2"},
        "guardrails": [{"name": "g", "verdict": "Healthy", "value": "0.1"}],
        "conditions": [{"type": "Ready", "status": "True", "reason": "Working", "message": ""}],
    }
    counted = json.loads(json.dumps(status))
    counted["supervision"]["sessions"] = 2
    counted["pipeline"]["reason"] = "2 of 2"
    counted["guardrails"][0]["value"] = "0.2"
    assert without_counts(counted) == without_counts(status)
    for path, value in (("stage", "Logging"), ("pipeline", {"phase": "Critic"}), ("rollback", {"id": "x"})):
        assert without_counts(counted | {path: value}) != without_counts(status)


def test_a_store_forgets_what_is_deleted_and_what_a_list_does_not_name():
    store = Store()
    one, two = ({"metadata": {"namespace": "star", "name": name}} for name in ("one", "two"))
    store.take("ADDED", one)
    store.take(None, two)
    store.take("DELETED", one)
    assert list(store.items) == [("star", "two")]
    store.replace([one])
    assert list(store.items) == [("star", "one")]
    assert store.is_whole


@pytest.mark.parametrize("config", [{}, {"current-context": "x", "contexts": [], "clusters": [], "users": []}])
def test_a_kubeconfig_without_a_whole_context_says_so(config):
    with pytest.raises(InvalidInputError, match="current context"):
        read_kubeconfig(config, "config")
