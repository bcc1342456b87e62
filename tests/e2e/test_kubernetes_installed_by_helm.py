"""Given a real Kubernetes and the real Helm: install, upgrade, roll back, stop everything, uninstall.

It runs after the demo, whose image it uses, and takes that installation away first.
"""

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from kubernetes import client, config

from pilotage_core.wire import CREDENTIAL_HEADER

pytestmark = pytest.mark.kubernetes
ROOT = Path(__file__).resolve().parents[2]
SYSTEM, OTHER, CREDENTIAL = "pilotage-system", "elsewhere", "of-the-lead"


def run(*words: str, stdin: str = "", check: bool = True, limit: float = 240) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=limit, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stdout[-1500:]} {done.stderr[-1500:]}"
    return done


def kubectl(*words: str, stdin: str = "", check: bool = True) -> str:
    return run("kubectl", *words, stdin=stdin, check=check).stdout


def helm(*words: str) -> str:
    return run("helm", *words, "--namespace", SYSTEM).stdout


def read(what: str, name: str, namespace: str) -> dict:
    return json.loads(kubectl("-n", namespace, "get", what, name, "-o", "json"))


def until(holds, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def image() -> list[str]:
    """Settings for the image that the demo ran, built where it is not there."""
    name = run("hack/cluster/images.sh", limit=900).stdout.split()[-1]
    repository, _, tag = name.rpartition(":")
    return ["--set", f"image.repository={repository}", "--set", f"image.tag={tag}"]


@pytest.fixture(scope="module")
def installed(image):
    kubectl("delete", "namespace", "star", "desk", OTHER, SYSTEM, "--ignore-not-found", "--wait=true", "--timeout=120s")
    kubectl("delete", "-k", "config/default", "--ignore-not-found", "--wait=true", "--timeout=60s", check=False)
    kubectl("delete", "-f", "hack/cluster/artefacts-pv.yaml", "--ignore-not-found", "--wait=true", "--timeout=60s")
    kubectl("apply", "-f", "hack/cluster/artefacts-pv.yaml")
    kubectl("create", "namespace", SYSTEM)
    kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted")
    stoppers = [{"name": "lead", "sha256": hashlib.sha256(CREDENTIAL.encode()).hexdigest(), "resumes": True}]
    kubectl(
        "-n", SYSTEM, "create", "secret", "generic", "pilotage-stops", "--from-file=stops.json=/dev/stdin",
        stdin=json.dumps(stoppers),
    )  # fmt: skip
    helm("install", "pilotage", "charts/pilotage", *image, "--wait", "--timeout", "120s")
    yield image
    run("helm", "uninstall", "pilotage", "--namespace", SYSTEM, check=False)
    kubectl("delete", "namespace", "star", OTHER, "--ignore-not-found", "--wait=false")


def test_a_roll_out_over_an_empty_installation_ends(installed):
    """Waiting for evidence is Ready: nobody who waits for the condition waits for weeks."""
    kubectl("apply", "-k", "examples/star")
    for kind in ("processclusters", "policycritics", "automationgates"):
        kubectl("-n", "star", "wait", kind, "--all", "--for=condition=Ready", "--timeout=60s")
    status = read("processcluster", "information", "star")["status"]
    assert {c["reason"] for c in status["conditions"] if c["type"] == "Ready"} == {"CollectingEvidence"}
    assert status["observedGeneration"] == read("processcluster", "information", "star")["metadata"]["generation"]


def test_an_upgrade_to_some_namespaces_leaves_the_others_alone_and_a_rollback_takes_them_back(installed):
    epoch = int(read("configmap", "pilotage-permit-epoch", SYSTEM)["data"]["epoch"])
    helm(
        "upgrade", "pilotage", "charts/pilotage", *installed, "--wait", "--timeout", "120s",
        "--set", "controller.namespaces={star}", "--set", "controller.permitTtlSeconds=8",
    )  # fmt: skip
    kubectl("create", "namespace", OTHER)
    example = kubectl("kustomize", "examples/star").replace("namespace: star", f"namespace: {OTHER}")
    kubectl("apply", "-f", "-", stdin=example.replace("name: star\n", f"name: {OTHER}\n", 1))
    kubectl("-n", "star", "patch", "processcluster", "information", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    until(lambda: read("processcluster", "information", "star")["status"].get("heldBy") in ("Suspended", ""))
    generation = read("processcluster", "information", "star")["metadata"]["generation"]
    until(lambda: read("processcluster", "information", "star")["status"]["observedGeneration"] == generation)
    assert "status" not in read("processcluster", "information", OTHER), "it is not of this controller's namespaces"
    assert int(read("configmap", "pilotage-permit-epoch", SYSTEM)["data"]["epoch"]) > epoch
    helm("rollback", "pilotage", "1", "--wait", "--timeout", "120s")
    until(lambda: "status" in read("processcluster", "information", OTHER))


def test_a_lost_key_is_made_anew_and_the_records_go_on(installed):
    """Whoever held the old one holds nothing; the gateway goes on with the database that it has."""
    before = read("configmap", "pilotage-permit-keys", SYSTEM)
    kubectl("-n", SYSTEM, "delete", "secret", "pilotage-permit-signing")
    kubectl("-n", SYSTEM, "rollout", "restart", "deployment/pilotage-controller")
    kubectl("-n", SYSTEM, "rollout", "status", "deployment/pilotage-controller", "--timeout=90s")
    after = read("configmap", "pilotage-permit-keys", SYSTEM)
    assert after["data"]["installation"] == before["data"]["installation"]
    assert not after["binaryData"].keys() & before["binaryData"].keys()


def show_status(pod: str, credential: str) -> tuple[int, dict]:
    """HTTP status, and what a gateway says of itself, through the API server."""
    config.load_kube_config()
    api = client.ApiClient()
    asked = api.param_serialize(
        "GET",
        f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/v1/status",
        header_params={"Accept": "application/json", CREDENTIAL_HEADER: credential},
        auth_settings=["BearerToken"],
    )
    answer = api.call_api(*asked, _request_timeout=10)
    return answer.status, json.loads(answer.read())


def test_stop_all_reaches_the_gateway_through_the_api_server_and_says_how_long_it_took(
    installed, tmp_path, monkeypatch
):
    command = (f"{ROOT}/.venv/bin/pilotage", "stop-all", "--who", "sre", "--why", "a drill")
    refused = run(*command, check=False)
    assert refused.returncode == 1
    assert "not stopped: every process cluster at 0 of 1 replicas" in refused.stdout
    monkeypatch.setenv("PILOTAGE_CREDENTIAL", CREDENTIAL)
    said = run(*command).stdout
    assert "every process cluster at 1 of 1 replicas, the last one " in said
    pod = kubectl("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/name=pilotage-gateway", "-o", "name").strip()
    status, told = show_status(pod.removeprefix("pod/"), CREDENTIAL)
    assert (status, told["suspended"]) == (200, ["*"])
    assert show_status(pod.removeprefix("pod/"), "")[0] == 401
    dead = tmp_path / "kubeconfig"
    dead.write_text(Path(os.environ["KUBECONFIG"]).read_text().replace(":6443", ":1"))
    env = {**os.environ, "KUBECONFIG": str(dead)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=ROOT)
    assert "replicas as they were named last" in done.stdout, done.stderr
    assert pod.removeprefix("pod/") in done.stdout
    assert done.returncode == (0 if "1 of 1" in done.stdout else 1), "what was not reached is no success"
    assert "let go on" in run(command[0], "resume", *command[2:]).stdout


def test_what_was_earned_and_written_outlives_the_chart(installed):
    helm("uninstall", "pilotage", "--wait", "--timeout", "60s")
    assert kubectl("-n", SYSTEM, "get", "deployments", "-o", "name") == ""
    assert read("processcluster", "information", "star")["status"]["stage"] == "Logging"
    left = kubectl("get", "validatingadmissionpolicies,clusterroles", "-o", "name")
    ours = {line.partition("/")[2] for line in left.split() if "pilotage" in line}
    assert ours <= {"pilotage-prometheus"}, "that one is the demo's"
