"""examples/gitops, as the tools read it that it is for: Argo CD's Lua in a real Lua, and kstatus' rules beside it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from lupa.lua54 import LuaRuntime

sys.path.insert(0, str(Path(__file__).parent / "operator_"))
from test_conditions import MADE, read_kstatus

from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.decide.lifecycle import decide_faulty
from pilotage_operator.decide.referred import describe_gate

ROOT = Path(__file__).parents[2] / "examples/gitops"
ARGO = {
    "CollectingEvidence": "Healthy",
    "Training": "Healthy",
    "InService": "Healthy",
    "Suspended": "Suspended",
    "RolledBack": "Suspended",
    "NoPermitAuthority": "Degraded",
    "EndpointNotReady": "Degraded",
    "JobRefused": "Degraded",
}
"""What Argo CD is to make of a process cluster by the reason of its Ready, where nothing is Reconciling."""


def read_argo(item: dict) -> tuple[str, str]:
    """Health and message, by health.lua."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(item, recursive=True)
    found = lua.execute((ROOT / "argocd/health.lua").read_text())
    return str(found["status"]), str(found["message"])


@pytest.mark.parametrize(("made", "reason", "kstatus"), MADE)
def test_argo_and_kstatus_agree_on_what_a_roll_out_waits_for(made, reason, kstatus):
    status = made().status.to_json()
    health, message = read_argo({"metadata": {"generation": 1}, "status": status})
    assert read_kstatus(status) == kstatus
    assert (health == "Progressing") == any(c["type"] == "Reconciling" for c in status["conditions"])
    if health != "Progressing":
        assert health == ARGO.get(reason, "Degraded")
    assert message


@pytest.mark.parametrize(
    ("item", "health"),
    [
        ({"metadata": {"generation": 1}}, "Progressing"),
        ({"metadata": {"generation": 1}, "status": {}}, "Progressing"),
        (
            {
                "metadata": {"generation": 2},
                "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True", "reason": "x"}]},
            },
            "Progressing",
        ),
        ({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "x"}]}}, "Healthy"),
        (
            {"metadata": {}, "status": {"conditions": [{"type": "Quarantined", "status": "True", "reason": "Failed"}]}},
            "Degraded",
        ),
    ],
)
def test_what_the_controller_has_not_seen_is_not_healthy(item, health):
    assert read_argo(item)[0] == health


def test_a_gate_that_nobody_uses_yet_ends_its_wave_and_a_wrong_one_is_degraded():
    for fault, health in (("", "Healthy"), ("spec.delta: wrong", "Degraded")):
        status = describe_gate(1, fault, {}, {}, (), 0.0).to_json()
        assert read_argo({"metadata": {"generation": 1}, "status": status})[0] == health


def test_manifests_on_their_way_progress_and_degrade_only_when_they_stay_away():
    status, again = decide_faulty(ProcessClusterStatus(), "gate a is not there", 1, 1000.0)
    assert read_argo({"metadata": {"generation": 1}, "status": status.to_json()})[0] == "Progressing"
    status, _ = decide_faulty(status, "gate a is not there", 1, again)
    health, message = read_argo({"metadata": {"generation": 1}, "status": status.to_json()})
    assert (health, message) == ("Degraded", "Invalid: gate a is not there")


def test_argocd_is_given_the_lua_that_is_tested():
    data = yaml.safe_load((ROOT / "argocd/argocd-cm.yaml").read_text())["data"]
    kinds = ("ProcessCluster", "PolicyCritic", "AutomationGate")
    assert data.keys() == {f"resource.customizations.health.pilotage.dev_{kind}" for kind in kinds}
    lua = (ROOT / "argocd/health.lua").read_text()
    assert all(text == lua for text in data.values())


def test_the_commands_of_the_pipeline_run_and_a_mistake_fails_it(tmp_path):
    """Its last step, with rendered files in place of kubectl and a folder in place of the cluster."""
    steps = yaml.safe_load((ROOT / "ci/diff.yaml").read_text())["jobs"]["diff"]["steps"]
    command = steps[-1]["run"]
    assert re.search(r"kubectl kustomize overlays/production \| pilotage diff -", command)
    played = command.replace("kubectl kustomize overlays/production", "cat given.yaml")
    program = Path(sys.executable).with_name("pilotage")
    played = played.replace("pilotage diff -", f"{program} diff - --against star.yaml")
    gate = yaml.safe_load((ROOT.parent / "star/gate.yaml").read_text())
    stricter = gate | {"spec": gate["spec"] | {"delta": "0.01"}}
    for name, item in (("star.yaml", gate), ("given.yaml", stricter), ("wrong.yaml", gate | {"spec": {}})):
        (tmp_path / name).write_text(yaml.safe_dump(item))

    def play(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-e", "-c", text], cwd=tmp_path, capture_output=True, text=True, check=False)

    good = play(played)
    wrong = play(played.replace("given.yaml", "wrong.yaml"))
    assert (good.returncode, wrong.returncode) == (0, 1), (good.stderr, wrong.stderr)
    assert "spec.delta: 0.05 → 0.01" in good.stdout
