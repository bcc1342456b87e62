"""`pilotage diff`: what a pull request would do, by the controller's own decision, before anybody merges it."""

import copy
import re
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pilotage.diff import describe, list_differences
from pilotage.main import app
from pilotage_operator.api.promotion import GUARDED, SPECIAL, list_guarded

sys.path.insert(0, str(Path(__file__).parents[1] / "operator_"))
from facts import GATE, SPEC, START, MemoryWorld, climb_to, make_bundle

ROOT = Path(__file__).parents[3]
CLUSTER, PAIR, LIMITS = (
    ("ProcessCluster", "star", "one"),
    ("PolicyCritic", "star", "one"),
    ("AutomationGate", "star", "one"),
)
Objects = dict[tuple[str, str, str], dict]


@pytest.fixture(scope="module")
def climbed() -> MemoryWorld:
    return climb_to(MemoryWorld(make_bundle()), "Automation")


@pytest.fixture
def live(climbed) -> Objects:
    def item(kind: str, spec: dict) -> dict:
        metadata = {"namespace": "star", "name": "one", "uid": "u1", "generation": 1}
        return {"kind": kind, "metadata": metadata, "spec": copy.deepcopy(spec)}

    cluster = item("ProcessCluster", SPEC) | {"status": climbed.status.to_json()}
    screens = {"metadata": {"namespace": "star", "name": "screens"}, "data": {}}
    return {
        CLUSTER: cluster,
        PAIR: item("PolicyCritic", {"backend": "counts"}),
        LIMITS: item("AutomationGate", GATE),
        ("ConfigMap", "star", "screens"): screens,
    }


def change(live: Objects, key: tuple[str, str, str], path: str, value: object) -> str:
    """What `diff` says of the manifests as they are, with one field changed."""
    wanted = {k: {n: v for n, v in copy.deepcopy(item).items() if n != "status"} for k, item in live.items()}
    place = wanted[key]["spec"]
    *parents, last = path.split(".")
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return "\n".join(describe(list_differences(live, wanted, START + 1000)))


def test_what_is_the_same_differs_in_nothing_also_where_a_default_is_spelt_out(live):
    assert change(live, CLUSTER, "suspend", False) == "no difference"
    assert change(live, LIMITS, "delta", "0.05") == "no difference"


@pytest.mark.parametrize(
    ("key", "path", "value", "says"),
    [
        (CLUSTER, "maxStage", "Copilot", ["spec.maxStage: Automation → Copilot", "→ Automation now, Copilot then"]),
        (
            CLUSTER,
            "suspend",
            True,
            ["spec.suspend: False → True\n", "→ Automation now, Logging then, held by Suspended"],
        ),
        (
            CLUSTER,
            "actions.stopList",
            [{"tool": "transfer_chat"}],
            ["[needs promote]", "certificates void: actions changed", "held by CertificateVoid"],
        ),
        (PAIR, "serving.image", "registry.example/other", ["[needs promote]", "used by one", "serving_image changed"]),
        (PAIR, "training.memory", "8Gi", ["spec.training.memory: 2Gi → 8Gi\n", "used by one"]),
        (LIMITS, "precisionTarget", "0.95", ["spec.precisionTarget: 0.9 → 0.95\n", "used by one"]),
        (LIMITS, "delta", "0.2", ["spec.delta: 0.05 → 0.2  [needs promote]"]),
        (LIMITS, "strata", [{"name": "other"}], ["certificates void: strata changed"]),
    ],
)
def test_a_change_is_told_with_who_may_make_it_and_what_follows(live, key, path, value, says):
    said = change(live, key, path, value) + "\n"
    assert [words for words in says if words not in said] == []


def test_a_raised_ceiling_says_what_was_earned_and_on_what_evidence(live):
    live[CLUSTER]["spec"]["maxStage"] = "Copilot"
    said = change(live, CLUSTER, "maxStage", "Automation")
    assert "spec.maxStage: Copilot → Automation  [needs promote]" in said
    assert "→ Copilot now, Automation then; it has earned Automation" in said
    assert "evidence: procedure=0.800; at least 0.930 are right" in said


def test_one_that_has_earned_nothing_says_what_it_lacks(live):
    del live[CLUSTER]["status"]
    said = change(live, CLUSTER, "supervision", SPEC["supervision"] | {"minDemonstrations": 900})
    assert "→ Demonstrations: 0, needs at least 100 now; 0, needs at least 900 then" in said


def test_a_neighbour_that_is_broken_anyway_costs_nobody_else_a_word(live):
    other = ("ProcessCluster", "star", "other")
    live[other] = copy.deepcopy(live[CLUSTER])
    live[other]["metadata"]["name"] = "other"
    live[other]["spec"]["gateRef"] = {"name": "gone"}
    said = change(live, CLUSTER, "maxStage", "Copilot")
    assert "→ Automation now, Copilot then" in said
    assert "other" not in said


def test_what_would_not_go_together_is_told_of_that_one(live):
    said = change(live, CLUSTER, "gateRef", {"name": "gone"})
    assert "→ it would not be whole: " in said
    assert "AutomationGate gone is not there" in said


def test_what_a_manifest_leaves_open_stays_as_people_have_set_it(live):
    live[CLUSTER]["spec"]["suspend"] = True
    wanted = {CLUSTER: {"kind": "ProcessCluster", "metadata": {"name": "one"}, "spec": dict(SPEC)}}
    assert list(describe(list_differences(live, wanted, START))) == ["no difference"]


def test_a_new_one_begins_in_logging(live):
    wanted = dict(live)
    found = {key: item for key, item in live.items() if key != CLUSTER}
    said = "\n".join(describe(list_differences(found, {CLUSTER: {**wanted[CLUSTER], "status": {}}}, START)))
    assert said.splitlines() == [
        "ProcessCluster star/one",
        "  new  [needs promote]",
        "  → it would begin in Logging, and climb no higher than Automation",
    ]


def test_against_another_folder_it_needs_no_kubernetes(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    star = str(ROOT / "examples/star")
    same = CliRunner().invoke(app, ["diff", star, "--against", star])
    assert (same.exit_code, same.output) == (0, "no difference\n")
    other = CliRunner().invoke(app, ["diff", str(ROOT / "examples/gitops/overlays/production"), "--against", star])
    assert other.exit_code == 1
    assert "ProcessCluster " in other.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML"),
        ("kind: Service\nmetadata: {name: a}\n", "holds no object of pilotage.dev"),
        ("kind: AutomationGate\nmetadata: {name: a}\nspec: {precisionTarget: '2'}\n", "AutomationGate default/a"),
        ("- 1\n", "an object needs kind and metadata.name"),
    ],
)
def test_bad_manifests_are_refused_by_name(tmp_path, text, said):
    path = tmp_path / "given.yaml"
    path.write_text(text)
    done = CliRunner().invoke(app, ["diff", str(path), "--against", str(ROOT / "examples/star")])
    assert done.exit_code == 2
    assert said in done.output


def test_what_is_said_to_need_promote_is_what_the_api_server_asks_it_for():
    policies = {
        item["metadata"]["name"]: item["spec"]
        for item in yaml.safe_load_all((ROOT / "config/default/admission.yaml").read_text())
        if item["kind"] == "ValidatingAdmissionPolicy"
    }
    for kind, name in (("ProcessCluster", "promotion"), ("AutomationGate", "gate"), ("PolicyCritic", "pair")):
        variables = {each["name"]: each["expression"] for each in policies[f"pilotage-{name}"]["variables"]}
        listed = variables.get("guarded") or variables["touched"]
        told = re.search(r"\[('[^\]]*')\]", listed)
        assert tuple(re.findall(r"'(\w+)'", told.group(1))) == GUARDED[kind]
    assert GUARDED.keys() == SPECIAL.keys()


def test_setting_a_suspension_or_lowering_a_ceiling_needs_nothing():
    before = {"maxStage": "Automation", "suspend": False}
    assert list_guarded("ProcessCluster", before, {"maxStage": "Copilot", "suspend": True}) == ()
    assert list_guarded("ProcessCluster", {"maxStage": "Copilot", "suspend": True}, before) == (
        "spec.maxStage",
        "spec.suspend",
    )
