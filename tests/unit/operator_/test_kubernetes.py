"""Kubernetes objects as they are read, and what of a status counts as a change."""

import base64
import json
from datetime import UTC, datetime

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from pilotage_core.errors import InvalidInputError
from pilotage_operator.decide.waking import without_counts
from pilotage_operator.facts import JobFact, JobState
from pilotage_operator.kubernetes_api import find_credentials
from pilotage_operator.observe.kubernetes import needs_pod, read_endpoint, read_job, read_refusal

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


# --- kubeconfigs ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A key and a certificate that is its own authority, as files and as text."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tried")])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    built = built.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2056, 1, 1, tzinfo=UTC))
    folder = tmp_path_factory.mktemp("pki")
    pem = built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    (folder / "client.crt").write_bytes(pem)
    (folder / "client.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder


def write_kubeconfig(path, cluster, user):
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


def as_data(file):
    return base64.b64encode(file.read_bytes()).decode()


@pytest.mark.parametrize("form", ["files, as minikube", "data, as kind", "a token"])
def test_a_kubeconfig_is_read_as_tools_write_it(form, pki, tmp_path, monkeypatch):
    crt, key = pki / "client.crt", pki / "client.key"
    cluster, user = {
        "files, as minikube": (
            {"certificate-authority": str(crt)},
            {"client-certificate": str(crt), "client-key": str(key)},
        ),
        "data, as kind": (
            {"certificate-authority-data": as_data(crt)},
            {"client-certificate-data": as_data(crt), "client-key-data": as_data(key)},
        ),
        "a token": ({"certificate-authority-data": as_data(crt)}, {"token": "t"}),
    }[form]
    monkeypatch.setenv("KUBECONFIG", write_kubeconfig(tmp_path / "config", cluster, user))
    found = find_credentials()
    assert found.server == "https://127.0.0.1:6443"
    assert found.headers() == ({"Authorization": "Bearer t"} if form == "a token" else {})
    assert found.tls.cert_store_stats()["x509"] >= 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "no whole current context"),
        ("{current-context: x, contexts: [], clusters: [], users: []}", "no whole current context"),
        ("[", "no whole current context"),
    ],
)
def test_a_kubeconfig_without_a_whole_context_says_so(text, said, tmp_path, monkeypatch):
    (tmp_path / "config").write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    with pytest.raises(InvalidInputError, match=said):
        find_credentials()


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({}, "neither a client certificate nor a token"),
        ({"client-certificate": "/nowhere", "client-key": "/nowhere"}, "cannot be read"),
    ],
)
def test_a_user_that_cannot_log_in_is_told(user, said, pki, tmp_path, monkeypatch):
    cluster = {"certificate-authority": str(pki / "client.crt")}
    monkeypatch.setenv("KUBECONFIG", write_kubeconfig(tmp_path / "config", cluster, user))
    with pytest.raises(InvalidInputError, match=said):
        find_credentials()
