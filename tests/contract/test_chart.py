"""The chart, rendered by the real Helm and taken by the real API server: nothing is refused, nothing is made up."""

import json
import shutil
import subprocess

import pytest
import yaml
from manifests import ROOT, has_cluster, kubectl

CHART = str(ROOT / "charts/pilotage")
NAMESPACE = "pilotage-chart"
ALL = (
    "monitoring.dashboard=true",
    "controller.priorityClassName=system-cluster-critical",
    "gateway.nodeSelector.disk=ssd",
    "networkPolicies.gatewayFrom[0].ipBlock.cidr=10.0.0.1/32",
)
pytestmark = pytest.mark.kubernetes


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("helm", *words), capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)


def render(*settings: str, also: tuple[str, ...] = ()) -> list[dict]:
    done = helm(
        "template", "pilotage", CHART, "-n", NAMESPACE, "--kube-version", "1.34", *also,
        *(word for setting in settings for word in ("--set", setting)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    assert has_cluster(), 'no cluster is given: eval "$(hack/cluster/up.sh)"'
    assert shutil.which("helm"), "no helm: hack/cluster/binaries.sh helm"
    for name in (NAMESPACE, f"{NAMESPACE}-a"):
        kubectl("create", "namespace", name)
    yield
    for name in (NAMESPACE, f"{NAMESPACE}-a"):
        kubectl("delete", "namespace", name, "--wait=false")


def test_lint_finds_nothing():
    done = helm("lint", "--strict", CHART)
    assert done.returncode == 0, done.stdout


def test_what_kustomize_installs_is_what_the_chart_installs():
    done = subprocess.run(("hack/render.sh", "--check"), capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "settings", [(), ALL, (f"controller.namespaces={{{NAMESPACE}-a}}",), ("image.digest=sha256:" + "a" * 64,)], ids=str
)
def test_the_api_server_takes_every_object_of_it(settings):
    items = [item for item in render(*settings) if item["kind"] != "CustomResourceDefinition"]
    done = kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-",
        stdin={"apiVersion": "v1", "kind": "List", "items": items},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(server dry run)") == len(items)


def test_every_pod_of_it_may_run_under_pod_security_restricted():
    kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted", "--overwrite", check=True)
    for item in render():
        if item["kind"] == "Deployment":
            pod = {"apiVersion": "v1", "kind": "Pod", "spec": item["spec"]["template"]["spec"]}
            pod["metadata"] = {"name": item["metadata"]["name"], "namespace": NAMESPACE}
            pod["spec"].pop("serviceAccountName")
            done = kubectl("create", "--dry-run=server", "-f", "-", stdin=pod)
            assert done.returncode == 0, done.stderr


def test_in_a_namespaced_installation_nothing_of_jobs_or_servers_is_for_the_whole_cluster():
    def rules(items: list[dict], kind: str) -> set[str]:
        return {
            resource
            for item in items
            if item["kind"] == kind and item["metadata"]["name"].startswith("pilotage-controller")
            for rule in item["rules"]
            for resource in rule["resources"]
        }

    whole, namespaced = render(), render(f"controller.namespaces={{{NAMESPACE}-a}}")
    assert {"jobs", "inferenceservices", "pods", "configmaps", "events"} <= rules(whole, "ClusterRole")
    assert not {"jobs", "inferenceservices", "pods", "configmaps", "events"} & rules(namespaced, "ClusterRole")
    role = next(i for i in namespaced if i["kind"] == "Role" and i["metadata"]["name"] == "pilotage-controller-fleet")
    assert role["metadata"]["namespace"] == f"{NAMESPACE}-a"
    command = next(
        i for i in namespaced if i["metadata"]["name"] == "pilotage-controller" and i["kind"] == "Deployment"
    )
    assert f"--namespaces={NAMESPACE}-a" in command["spec"]["template"]["spec"]["containers"][0]["command"]


def test_monitors_and_rules_come_where_their_kinds_are_served():
    kinds = {item["kind"] for item in render()}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    found = render(also=("--api-versions", "monitoring.coreos.com/v1"))
    monitor = next(item for item in found if item["kind"] == "ServiceMonitor")
    wanted = set(monitor["spec"]["selector"]["matchExpressions"][0]["values"])
    services = [item["metadata"]["labels"].get("app.kubernetes.io/name") for item in found if item["kind"] == "Service"]
    assert sorted(filter(None, services)) == sorted(wanted), "each pod is scraped by one Service"
    rules = next(item for item in found if item["kind"] == "PrometheusRule")
    assert rules["metadata"]["namespace"] == NAMESPACE
    kept = yaml.safe_load((ROOT / "config/monitoring/alerts.yaml").read_text())
    assert rules["spec"] == kept["spec"], "no template has touched what Prometheus is to fill in"


def test_the_dashboard_is_the_one_that_is_tested():
    found = render("monitoring.dashboard=true")
    told = next(item for item in found if item["metadata"]["name"] == "pilotage-dashboard")["data"]["pilotage.json"]
    assert json.loads(told) == json.loads((ROOT / "config/monitoring/dashboard.json").read_text())


def test_definitions_outlive_the_chart():
    definitions = [item for item in render() if item["kind"] == "CustomResourceDefinition"]
    assert len(definitions) == 3
    for item in definitions:
        assert item["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        kept = yaml.safe_load((ROOT / "crds" / f"{item['spec']['names']['plural']}.yaml").read_text())
        assert item["spec"] == kept["spec"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("postgresql.url=x", "gateway.database.secretName"),
        ("oidc.issuer=x", "people sign in by the issuers of access.issuers"),
        ("gateway.replicas=2", "more than one needs PostgreSQL"),
        ("controller.replicsa=2", "replicsa"),
        ("controller.permitTtlSeconds=600", "permitTtlSeconds"),
        ("controller.namespaces={Not_A_Name}", "namespaces"),
        ("image.digest=latest", "digest"),
    ],
)
def test_what_is_not_there_or_misspelt_is_refused_by_its_name(setting, said):
    done = helm("template", "pilotage", CHART, "--kube-version", "1.34", "--set", setting)
    assert done.returncode != 0
    assert said in done.stderr
