"""Who may do what with a process cluster's leave, tried as the accounts themselves against the real API server.

An ordinary editor (ClusterRole `edit`) and an account with status rights may make things safer, never looser.
"""

import json
from collections.abc import Iterator

import pytest
from manifests import ROOT, change, has_cluster, kubectl, read_example

pytestmark = pytest.mark.kubernetes

NAMESPACE = "pilotage-rights"
EDITOR, PROMOTER, FORGER = (f"system:serviceaccount:{NAMESPACE}:{name}" for name in ("editor", "promoter", "forger"))
CONTROLLER = "system:serviceaccount:pilotage-system:pilotage-controller"
ROLES = {"editor": ("edit",), "promoter": ("edit", "pilotage-promoter"), "forger": ("edit", "status-writer")}
STATUS = '{"status": {"stage": "Automation", "earned": "Automation"}}'


def bind(account: str, role: str, kind: str = "ClusterRole") -> dict:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{account}-{role}", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }


def make_objects() -> list[dict]:
    writer = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "status-writer", "namespace": NAMESPACE},
        "rules": [{"apiGroups": ["pilotage.dev"], "resources": ["*/status"], "verbs": ["get", "update", "patch"]}],
    }
    bindings = [
        bind(account, role, "Role" if role == "status-writer" else "ClusterRole")
        for account, roles in ROLES.items()
        for role in roles
    ]
    return [writer, *bindings]


def make_cluster() -> dict:
    item = change(read_example("ProcessCluster"), "spec.maxStage", "Copilot")
    item["metadata"] = {"name": "one", "namespace": NAMESPACE}
    return item


@pytest.fixture(scope="module", autouse=True)
def rights() -> Iterator[None]:
    assert has_cluster(), 'no cluster is given: eval "$(hack/cluster/up.sh)"'
    kubectl("create", "namespace", "pilotage-system")
    files = [
        f"--filename={ROOT / 'crds' / name}.yaml" for name in ("processclusters", "policycritics", "automationgates")
    ]
    files += [f"--filename={ROOT / 'config/default' / name}.yaml" for name in ("admission", "rbac")]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s", check=True)
    kubectl("create", "namespace", NAMESPACE, check=True)
    for account in ROLES:
        kubectl("-n", NAMESPACE, "create", "serviceaccount", account, check=True)
    kubectl("apply", "-f", "-", stdin={"apiVersion": "v1", "kind": "List", "items": make_objects()}, check=True)
    wait_for_policies()
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def wait_for_policies() -> None:
    """A policy is in force a moment after it is stored: until a gate made by the editor is refused."""
    gate = read_example("AutomationGate") | {"metadata": {"name": "probe", "namespace": NAMESPACE}}
    for _ in range(100):
        done = kubectl("create", "--dry-run=server", f"--as={EDITOR}", "-f", "-", stdin=gate)
        if "needs the verb promote" in done.stderr:
            return
    raise AssertionError(f"the policies are not in force: {done.stderr}")


@pytest.fixture(autouse=True)
def cluster() -> None:
    """The same process cluster and gate before each test, as an all-powerful account makes them."""
    gate = read_example("AutomationGate")
    gate["metadata"] = {"name": "star", "namespace": NAMESPACE}
    pair = {
        "apiVersion": "pilotage.dev/v1alpha1",
        "kind": "PolicyCritic",
        "metadata": {"name": "pair", "namespace": NAMESPACE},
        "spec": {"backend": "counts", "evaluation": {"minActionAccuracy": "0.5"}},
    }
    for item in (make_cluster(), gate, pair):
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=item, check=True)
    patch("processcluster/one", '{"spec": {"suspend": true, "maxStage": "Copilot"}}', "", must=True)


def patch(what: str, body: str, account: str, *options: str, must: bool = False) -> str:
    """What the API server says to a merge patch by `account`; empty where it takes it."""
    who = [f"--as={account}"] if account else []
    done = kubectl("-n", NAMESPACE, "patch", what, "--type=merge", "-p", body, *who, *options, check=must)
    return "" if done.returncode == 0 else done.stderr


LOOSER = [
    ("processcluster/one", {"maxStage": "Automation"}, "spec.maxStage: raising it from Copilot to Automation"),
    ("processcluster/one", {"maxStage": "Calibration"}, "spec.maxStage: raising it from Copilot to Calibration"),
    ("processcluster/one", {"suspend": False}, "spec.suspend: lifting it"),
    ("processcluster/one", {"suspend": None}, "spec.suspend: lifting it"),
    ("processcluster/one", {"acknowledgedRollback": "corrections-1"}, "spec.acknowledgedRollback"),
    ("processcluster/one", {"promotion": {"automation": "Manual"}}, "spec.promotion"),
    ("processcluster/one", {"actions": {"uncritical": [{"tool": "select_option"}]}}, "spec.actions"),
    ("processcluster/one", {"selector": []}, "spec.selector"),
    ("processcluster/one", {"priority": 500}, "spec.priority"),
    ("processcluster/one", {"gateRef": {"name": "lax"}}, "spec.gateRef"),
    ("processcluster/one", {"policyCriticRef": {"name": "other"}}, "spec.policyCriticRef"),
    ("processcluster/one", {"supervision": {"minFeedback": 20}}, "spec.supervision"),
    ("processcluster/one", {"screens": {"configMap": "other"}}, "spec.screens"),
    ("automationgate/star", {"precisionTarget": "0.6"}, "spec.precisionTarget: loosening it"),
    ("automationgate/star", {"delta": "0.2"}, "spec.delta: loosening it"),
    ("automationgate/star", {"calibration": {"minSessions": 20}}, "spec.calibration"),
    (
        "automationgate/star",
        {"guardrails": [read_example("AutomationGate")["spec"]["guardrails"][2]]},
        "spec.guardrails",
    ),
    ("automationgate/star", {"rollback": {"cooldownSeconds": 0}}, "spec.rollback"),
    ("automationgate/star", {"permit": {"ttlSeconds": 60}}, "spec.permit"),
    ("automationgate/star", {"strata": [{"name": "procedure"}]}, "spec.strata"),
    ("policycritic/pair", {"training": {"image": "registry.example/mine"}}, "spec.training.image: changing it"),
    ("policycritic/pair", {"serving": {"image": "registry.example/mine"}}, "spec.serving.image: changing it"),
    ("policycritic/pair", {"backend": "copier"}, "spec.backend: changing it"),
    ("policycritic/pair", {"evaluation": {"minActionAccuracy": "0.4"}}, "spec.evaluation.minActionAccuracy: lowering"),
    ("policycritic/pair", {"selection": {"certainty": "0.01"}}, "spec.selection: changing it"),
    ("policycritic/pair", {"evaluation": None}, "spec.evaluation.minActionAccuracy: lowering"),
]


@pytest.mark.parametrize(("what", "spec", "said"), LOOSER, ids=[f"{w}-{i}" for i, (w, *_) in enumerate(LOOSER)])
def test_an_editor_may_not_loosen_and_a_promoter_may(what, spec, said):
    body = json.dumps({"spec": spec})
    refused = patch(what, body, EDITOR)
    assert said in refused
    assert "needs the verb promote" in refused
    assert patch(what, body, PROMOTER, "--dry-run=server") == ""


@pytest.mark.parametrize(
    ("what", "spec"),
    [
        ("processcluster/one", {"maxStage": "Logging"}),
        ("processcluster/one", {"suspend": True, "maxStage": "Logging"}),
        ("automationgate/star", {"precisionTarget": "0.95"}),
        ("automationgate/star", {"delta": "0.01"}),
        ("policycritic/pair", {"evaluation": {"minActionAccuracy": "0.6"}}),
        ("policycritic/pair", {"counts": {"policy": {"iterations": 30}}, "training": {"memory": "3Gi"}}),
    ],
)
def test_an_editor_may_always_make_it_safer(what, spec):
    assert patch(what, json.dumps({"spec": spec}), EDITOR) == ""


def test_an_editor_may_suspend_what_runs():
    patch("processcluster/one", '{"spec": {"suspend": false}}', "", must=True)
    assert patch("processcluster/one", '{"spec": {"suspend": true}}', EDITOR) == ""


def test_an_editor_may_make_a_process_cluster_that_only_watches_and_none_that_acts():
    item = change(make_cluster(), "metadata.name", "two")
    acting = kubectl("create", "--dry-run=server", f"--as={EDITOR}", "-f", "-", stdin=item)
    assert "spec.maxStage: raising it from Logging to Copilot needs the verb promote" in acting.stderr
    watching = change(item, "spec.maxStage", "Logging")
    assert kubectl("create", "--dry-run=server", f"--as={EDITOR}", "-f", "-", stdin=watching).returncode == 0


def test_an_editor_may_not_make_a_gate_again_after_deleting_it():
    gate = read_example("AutomationGate")
    gate["metadata"] = {"name": "star", "namespace": NAMESPACE}
    kubectl("-n", NAMESPACE, "delete", "automationgate", "star", f"--as={EDITOR}", check=True)
    done = kubectl("create", f"--as={EDITOR}", "-f", "-", stdin=gate)
    assert "creating a gate needs the verb promote" in done.stderr


def test_an_editor_may_not_make_a_policy_critic_again_after_deleting_it():
    kubectl("-n", NAMESPACE, "delete", "policycritic", "pair", f"--as={EDITOR}", check=True)
    pair = {
        "apiVersion": "pilotage.dev/v1alpha1",
        "kind": "PolicyCritic",
        "metadata": {"name": "pair", "namespace": NAMESPACE},
        "spec": {"backend": "counts"},
    }
    done = kubectl("create", f"--as={EDITOR}", "-f", "-", stdin=pair)
    assert "creating a PolicyCritic needs the verb promote" in done.stderr


def test_an_editor_has_no_right_to_status_at_all():
    refused = patch("processcluster/one", STATUS, EDITOR, "--subresource=status")
    assert 'resource "processclusters/status"' in refused
    assert "cannot" in refused


@pytest.mark.parametrize("what", ["processcluster/one", "automationgate/star"])
@pytest.mark.parametrize("account", [FORGER, ""], ids=["account-with-status-rights", "cluster-administrator"])
def test_nobody_but_the_controller_writes_status_whatever_rights_they_have(what, account):
    body = STATUS if what.startswith("processcluster") else '{"status": {"ready": true}}'
    assert "only the controller writes it" in patch(what, body, account, "--subresource=status")


def test_status_is_not_written_by_the_way_with_the_spec():
    patch("processcluster/one", STATUS, "", must=True)
    stage = kubectl("-n", NAMESPACE, "get", "processcluster", "one", "-o", "jsonpath={.status.earned}")
    assert stage.stdout != "Automation"


def test_the_controller_writes_status_and_nothing_of_the_spec():
    status = {
        "apiVersion": "pilotage.dev/v1alpha1",
        "kind": "ProcessCluster",
        "metadata": {"name": "one", "namespace": NAMESPACE},
        "status": {"stage": "Copilot"},
    }
    apply = (
        "apply",
        "--server-side",
        "--subresource=status",
        "--field-manager=pilotage-controller",
        "--dry-run=server",
    )
    assert kubectl(*apply, f"--as={CONTROLLER}", "-f", "-", stdin=status).stderr == ""
    assert "only the controller writes it" in kubectl(*apply, "-f", "-", stdin=status).stderr
    spec = change(make_cluster(), "spec.maxStage", "Automation")
    refused = kubectl("apply", "--server-side", "--dry-run=server", f"--as={CONTROLLER}", "-f", "-", stdin=spec).stderr
    assert "cannot patch resource" in refused


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("update", "processclusters"),
        ("promote", "processclusters"),
        ("delete", "processclusters"),
        ("update", "configmaps"),
        ("create", "rolebindings"),
        ("patch", "deployments"),
    ],
)
def test_the_controller_has_no_rights_it_does_not_use(verb, resource):
    asked = kubectl("auth", "can-i", verb, resource, f"--as={CONTROLLER}", "-n", NAMESPACE)
    assert asked.stdout.strip() == "no"


def test_the_namespace_can_still_be_deleted():
    """A policy that refuses deletions would hang this for ever."""
    kubectl("create", "namespace", f"{NAMESPACE}-gone", check=True)
    item = make_cluster()
    item["metadata"]["namespace"] = f"{NAMESPACE}-gone"
    kubectl("apply", "-f", "-", stdin=item, check=True)
    kubectl("delete", "namespace", f"{NAMESPACE}-gone", "--timeout=60s", check=True)
