"""Every pod that the controller makes may run where Pod Security is `restricted`, says the real API server."""

import sys
from pathlib import Path

import pytest
from manifests import has_cluster, kubectl

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "operator_"))
from facts import make_bundle

from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.facts import Bundle, JobPhase, WantedEndpoint, WantedJob
from pilotage_operator.manifests.inference_service import build_inference_service
from pilotage_operator.manifests.job import build_job

pytestmark = pytest.mark.kubernetes
NAMESPACE = "pilotage-restricted"
SPECS = {
    "counts": {"backend": "counts"},
    "gpus": {
        "backend": "transformers",
        "training": {"gpus": 2, "image": "registry.example/train"},
        "serving": {"runtime": "vllm", "image": "registry.example/vllm", "gpus": 1},
    },
}


@pytest.fixture(scope="module", autouse=True)
def namespace():
    assert has_cluster(), 'no cluster is given: eval "$(hack/cluster/up.sh)"'
    kubectl("create", "namespace", NAMESPACE)
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted", "--overwrite", check=True)
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def make(spec: dict) -> Bundle:
    import dataclasses

    return dataclasses.replace(make_bundle(), policy_critic=PolicyCriticSpec.model_validate(spec))


def try_pod(name: str, spec: dict) -> str:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}
    done = kubectl("create", "--dry-run=server", "-f", "-", stdin=pod)
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("phase", [JobPhase.POLICY, JobPhase.CRITIC, JobPhase.CALIBRATE])
def test_a_jobs_pod_is_let_in(kind, phase):
    job = build_job(make(SPECS[kind]), WantedJob("train", phase, "r1"), image="image", export="http://gateway")
    assert try_pod("train", job["spec"]["template"]["spec"]) == ""


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize("phase", [JobPhase.POLICY, JobPhase.CRITIC])
def test_a_model_servers_pod_is_let_in(kind, phase):
    item = build_inference_service(make(SPECS[kind]), WantedEndpoint("serve", phase, "r1"), image="image")
    predictor = item["spec"]["predictor"]
    spec = {name: predictor[name] for name in ("securityContext", "containers", "volumes")}
    assert try_pod("serve", spec) == ""
