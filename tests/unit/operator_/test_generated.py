"""What is generated or only read is current: crds/, the example, and the models behind them."""

import pytest
import yaml
from facts import ROOT, make_bundle

from pilotage_core.actions import UNCRITICAL, ActionPattern, ActionRules
from pilotage_core.certificate import Certificate
from pilotage_core.errors import InvalidInputError
from pilotage_operator.api.generate import FOLDER, build_definitions, find_stale
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.reading import read_spec
from pilotage_operator.api.rules import build_action_rules
from pilotage_operator.api.status import ProcessClusterStatus, read_time, write_time
from pilotage_operator.observe.bundle import build_bundle
from pilotage_operator.observe.manifests import read_manifests
from pilotage_operator.observe.screens import read_schemas


def test_the_definitions_in_crds_are_current():
    assert find_stale(FOLDER) == []


def properties(schema: dict, path: str = "") -> list[str]:
    found = [path]
    for name, child in schema.get("properties", {}).items():
        found += properties(child, f"{path}.{name}")
    if "items" in schema:
        found += properties(schema["items"], f"{path}[]")
    return found


@pytest.mark.parametrize("name", list(build_definitions()))
def test_no_field_has_a_name_that_another_yaml_reader_takes_for_a_truth_value(name):
    """`n`, `y`, `on` … are booleans in YAML 1.1, which the API server's clients still read."""
    schema = yaml.safe_load(build_definitions()[name])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    names = {path.rsplit(".", 1)[-1].lower() for path in properties(schema)}
    assert not names & {"n", "y", "no", "yes", "on", "off"}


def undescribed(schema: dict, path: str = "") -> list[str]:
    found = []
    for name, child in schema.get("properties", {}).items():
        said = child.get("description", "")
        found += [] if said.endswith(".") and len(said.split()) > 1 else [f"{path}.{name}: {said}"]
        found += undescribed(child, f"{path}.{name}")
    for inside in (schema.get("items"), schema.get("additionalProperties")):
        found += undescribed(inside, f"{path}[]") if isinstance(inside, dict) else []
    return found


@pytest.mark.parametrize("name", list(build_definitions()))
def test_kubectl_explain_says_of_every_field_what_it_is(name):
    schema = yaml.safe_load(build_definitions()[name])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert undescribed(schema) == [".metadata: "]


@pytest.mark.parametrize(
    ("backend", "other"),
    [("counts", "transformers"), ("transformers", "counts"), ("copier", "counts"), ("copier", "transformers")],
)
def test_settings_of_the_backend_that_is_not_used_are_refused_without_kubernetes_too(backend, other):
    with pytest.raises(InvalidInputError, match=f"spec.{other} is for backend {other}"):
        read_spec(PolicyCriticSpec, {"backend": backend, other: {}}, "PolicyCritic a/b")
    own = {} if backend == "copier" else {backend: {}}
    assert read_spec(PolicyCriticSpec, {"backend": backend, **own}, "PolicyCritic a/b")[1] == ()


def test_the_example_is_read_whole_without_kubernetes():
    objects = read_manifests(ROOT / "examples" / "star")
    clusters = [item for (kind, _, _), item in objects.items() if kind == "ProcessCluster"]
    bundles = {item["metadata"]["name"]: build_bundle(item, objects, "local") for item in clusters}
    assert set(bundles) == {"bookings", "information", "long-tail"}
    assert bundles["long-tail"].cluster.selector == ()
    assert bundles["information"].screens[0].name
    assert bundles["bookings"].gate.delta == "0.05"
    assert all(bundle.namespace == "star" for bundle in bundles.values())


def test_the_desks_example_is_read_whole_and_lets_models_end_sessions():
    objects = read_manifests(ROOT / "examples" / "desk")
    clusters = [item for (kind, _, _), item in objects.items() if kind == "ProcessCluster"]
    bundles = {item["metadata"]["name"]: build_bundle(item, objects, "local") for item in clusters}
    assert set(bundles) == {"evenings", "travel", "long-tail"}
    assert all(bundle.policy_critic.backend.value == "copier" for bundle in bundles.values())
    assert bundles["evenings"].gate.finalization.mode.value == "Auto"
    named = {rule.stratum for rule in bundles["evenings"].cluster.actions.strata} | {"message", "finalizing"}
    assert {stratum.name for stratum in bundles["evenings"].gate.strata} == named


def test_the_overlay_turns_every_pair_into_transformers_and_paces_information():
    plain, patched = (read_manifests(ROOT / "examples" / name) for name in ("star", "star-transformers"))
    assert plain.keys() == patched.keys()
    changed = {key for key in plain if plain[key] != patched[key]}
    assert {key for key in changed if key[0] != "PolicyCritic"} == {("ProcessCluster", "star", "information")}
    assert len(changed) == 4
    for (kind, _, name), item in patched.items():
        if kind == "ProcessCluster":
            made = build_bundle(item, patched, "local").policy_critic
            assert (made.backend.value, made.base_model) == ("transformers", ""), name
            assert made.transformers.policy.optimizer == "muon"


def test_a_patch_by_name_is_for_objects_whose_whole_name_it_matches(tmp_path):
    objects = [{"kind": "ConfigMap", "metadata": {"name": name}} for name in ("one", "one-more", "two")]
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    (tmp_path / "patch.yaml").write_text("data: {changed: yes please}")
    patch = {"path": "patch.yaml", "target": {"kind": "ConfigMap", "name": "one|t.*"}}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["objects.yaml"], "patches": [patch]}))
    found = read_manifests(tmp_path)
    assert {name for (_, _, name), item in found.items() if "data" in item} == {"one", "two"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resources: [gone.yaml]", "gone.yaml"),
        ("images: [{name: x}]\nresources: []", "images is not understood"),
        ("patches: [{path: x}]\nresources: []", "a patch needs a path and a target with a kind"),
        ("resources: [{", "is no YAML"),
    ],
)
def test_a_folder_that_cannot_be_read_as_it_is_says_which_file(tmp_path, text, said):
    (tmp_path / "kustomization.yaml").write_text(text)
    with pytest.raises(InvalidInputError) as refused:
        read_manifests(tmp_path)
    assert said in str(refused.value)


def test_a_reference_to_nothing_names_the_field_and_what_to_do():
    cluster = {"metadata": {"namespace": "star", "name": "one"}, "spec": make_bundle().cluster.to_json()}
    with pytest.raises(InvalidInputError, match=r"spec\.policyCriticRef: PolicyCritic one is not there"):
        build_bundle(cluster, {}, "image")


def test_a_bad_spec_names_its_field_without_kubernetes_too():
    spec = make_bundle().cluster.to_json() | {"priority": "high"}
    with pytest.raises(InvalidInputError, match=r"spec\.priority"):
        build_bundle({"metadata": {"namespace": "star", "name": "one"}, "spec": spec}, {}, "image")


def test_a_screen_schema_that_is_none_names_its_config_map():
    with pytest.raises(InvalidInputError, match="ConfigMap star/x: is no screen schema"):
        read_schemas("- {name: 5}", "ConfigMap star/x")


def test_rules_reach_the_gate_whole():
    bundle = make_bundle(
        {
            "actions": {
                "uncritical": [{"tool": "click_control", "control": "row:*", "screen": "case"}],
                "strata": [{"match": {"control": "submit*"}, "stratum": "procedure"}],
                "transferTargets": ["second line"],
                "nextSteps": [{"after": {"tool": "fill_input"}, "allowed": [{"control": "submit*"}]}],
                "stopTexts": ["password"],
                "tools": ["click_control"],
                "sameActionLimit": 4,
            }
        }
    )
    rules = build_action_rules(bundle.cluster)
    assert isinstance(rules, ActionRules)
    assert rules.strata[0].pattern.control == "submit*"
    assert rules.uncritical == (ActionPattern("click_control", "row:*", "case"),)
    assert rules.transfer_targets == ("second line",)


def test_left_alone_the_rules_list_what_only_navigates_or_fills_in():
    assert build_action_rules(make_bundle({}).cluster).uncritical == UNCRITICAL


def test_a_stop_text_that_would_not_run_is_refused_by_field():
    with pytest.raises(InvalidInputError, match=r"spec.actions.stopTexts\[1\].*regular expression"):
        build_action_rules(make_bundle({"actions": {"stopTexts": ["fine", r"a{1000}{1000}"]}}).cluster)


def test_of_the_rest_of_the_rules_nothing_is_lost():
    bundle = make_bundle(
        {
            "actions": {
                "strata": [{"match": {"tool": "click_control"}, "stratum": "procedure"}],
                "nextSteps": [{"after": {"tool": "fill_input"}, "allowed": [{"control": "submit*"}]}],
                "stopTexts": ["password"],
                "tools": ["click_control"],
                "sameActionLimit": 4,
            }
        }
    )
    rules = build_action_rules(bundle.cluster)
    assert rules.strata[0].stratum == "procedure"
    assert rules.next_steps[0].allowed[0].control == "submit*"
    assert (rules.stop_texts, rules.tools, rules.same_action_limit) == (("password",), ("click_control",), 4)


def test_status_times_survive_being_written():
    assert write_time(0) == ""
    assert read_time("") == 0
    assert read_time(write_time(1_800_000_000.123)) == pytest.approx(1_800_000_000.123, abs=1e-3)


def test_an_empty_status_is_a_process_cluster_seen_for_the_first_time():
    status = ProcessClusterStatus.model_validate({})
    assert (status.stage, status.pipeline) == ("Logging", None)
    assert "n" in Certificate.__struct_fields__  # core's own JSON, kept as it is inside status.certificates
