"""Bad manifests: each is refused by the real API server, with the field and the rule it breaks."""

import pytest
from manifests import EXAMPLE, INSTALLATION, ROOT, change, has_cluster, kubectl, read_example

pytestmark = pytest.mark.kubernetes

PC, CRITIC, GATE = "ProcessCluster", "PolicyCritic", "AutomationGate"
SHARE, DECIMAL = "should match '^(0(", "should match '^[0-9]+("
RATE = "a rate is a share: its threshold must be at most 1"

BAD = [
    # kind, field, value, the field as told, the rule as told
    (PC, "spec.maxStage", "Autopilot", "spec.maxStage", "Unsupported value"),
    (PC, "spec.maxStage", 3, "spec.maxStage", "must be of type string"),
    (PC, "spec.suspend", "yes", "spec.suspend", "must be of type boolean"),
    (PC, "spec.priority", 5000, "spec.priority", "less than or equal to 1000"),
    (PC, "spec.priority", "high", "spec.priority", "must be of type integer"),
    (PC, "spec.screens", None, "spec.screens", "Required value"),
    (PC, "spec.screens.configMap", "Star_Screens", "spec.screens.configMap", "should match"),
    (PC, "spec.policyCriticRef", None, "spec.policyCriticRef", "Required value"),
    (PC, "spec.policyCriticRef.name", "", "spec.policyCriticRef.name", "at least 1 chars long"),
    (PC, "spec.gateRef", None, "spec.gateRef", "Required value"),
    (PC, "spec.gateRef.name", "Not A Name", "spec.gateRef.name", "should match"),
    (PC, "spec.selector.0.operator", "Like", "spec.selector[0].operator", "Unsupported value"),
    (PC, "spec.selector.0.values", [], "spec.selector[0]", "In, NotIn and AllIn need values"),
    (PC, "spec.selector.0.operator", "Exists", "spec.selector[0]", "Exists and DoesNotExist take none"),
    (PC, "spec.selector.0.key", None, "spec.selector[0].key", "Required value"),
    (PC, "spec.selector.0.values", ["hotel", "hotel"], "spec.selector[0].values[1]", "Duplicate value"),
    (PC, "spec.promotion", {"automation": "Sometimes"}, "spec.promotion.automation", "Unsupported value"),
    (PC, "spec.actions.critical", [{"tool": "submit_form"}], "spec.actions", "lists it"),
    (
        PC,
        "spec.actions.uncritical.0",
        {},
        "spec.actions.uncritical[0]",
        "a pattern names a tool, a control or a screen",
    ),
    (PC, "spec.actions.uncritical.0.tool", "click control", "spec.actions.uncritical[0].tool", "should match"),
    (PC, "spec.actions.uncritical.0", {"tool": "click_control"}, "uncritical[0]", "names control and screen"),
    (PC, "spec.actions.uncritical.0", {"tool": "*"}, "uncritical[0]", "names control and screen"),
    (PC, "spec.actions.uncritical.0", {"tool": "close_chat"}, "uncritical[0]", "is always critical"),
    (PC, "spec.actions.strata.0.stratum", "Procedure!", "spec.actions.strata[0].stratum", "should match"),
    (PC, "spec.actions.strata.0.match", None, "spec.actions.strata[0].match", "Required value"),
    (PC, "spec.actions.tools", ["click"], "spec.actions.tools[0]", "Unsupported value"),
    (PC, "spec.actions.tools", ["close_chat", "close_chat"], "spec.actions.tools[1]", "Duplicate value"),
    (PC, "spec.actions.stopTexts", ["(unclosed"], "spec.actions.stopTexts[0]", "regular expression"),
    (PC, "spec.actions.stopTexts", [""], "spec.actions.stopTexts[0]", "at least 1 chars long"),
    (
        PC,
        "spec.actions.nextSteps",
        [{"after": {"tool": "close_chat"}, "allowed": []}],
        "nextSteps[0].allowed",
        "at least 1",
    ),
    (PC, "spec.actions.sameActionLimit", 1, "spec.actions.sameActionLimit", "greater than or equal to 2"),
    (PC, "spec.supervision.minDemonstrations", 0, "spec.supervision.minDemonstrations", "greater than or equal to 20"),
    (PC, "spec.supervision.minFeedback", -1, "spec.supervision.minFeedback", "greater than or equal to 20"),
    (
        PC,
        "spec.supervision.minimumCycleSeconds",
        1.5,
        "spec.supervision.minimumCycleSeconds",
        "must be of type integer",
    ),
    (PC, "spec.supervision.rollingWindowSessions", 100, "spec.supervision", "at least minDemonstrations"),
    (PC, "spec.acknowledgedRollback", "Yes please", "spec.acknowledgedRollback", "should match"),
    (PC, "spec.stage", "Automation", "spec.stage", "unknown field"),
    (PC, "metadata.name", "a" * 41, "metadata.name", "at most 40 characters"),
    (CRITIC, "spec.backend", "magic", "spec.backend", "Unsupported value"),
    (CRITIC, "spec.backend", None, "spec.backend", "Required value"),
    (CRITIC, "spec.baseModel", "qwen", "spec", "only backend transformers has a base model"),
    (
        CRITIC,
        "spec.transformers.policy",
        {"globalBatch": 32, "microBatch": 5},
        "spec.transformers.policy",
        "multiple of",
    ),
    (CRITIC, "spec.transformers.policy", {"learningRate": "0"}, "policy.learningRate", "must be above 0"),
    (CRITIC, "spec.transformers.policy", {"learningRate": 0.1}, "policy.learningRate", "must be of type string"),
    (CRITIC, "spec.transformers.policy", {"precision": "fp8"}, "policy.precision", "Unsupported value"),
    (CRITIC, "spec.transformers.shape", {"hidden": 100, "heads": 3}, "spec.transformers.shape", "multiple of heads"),
    (
        CRITIC,
        "spec.transformers.dataset",
        {"logsPerRejection": "4", "rejections": 100},
        "spec.transformers.dataset",
        "by ratio or by count",
    ),
    (CRITIC, "spec.evaluation.minActionAccuracy", "1.2", "spec.evaluation.minActionAccuracy", SHARE),
    (CRITIC, "spec.evaluation.minActionAccuracy", 0.4, "spec.evaluation.minActionAccuracy", "must be of type string"),
    (CRITIC, "spec.counts", {"policy": {"strength": "0"}}, "spec.counts.policy.strength", "must be above 0"),
    (CRITIC, "spec.counts", {"critic": {"folds": 1}}, "spec.counts.critic.folds", "greater than or equal to 2"),
    (CRITIC, "spec.selection", {"certainty": "0.0"}, "spec.selection.certainty", "must be above 0 and below 1"),
    (CRITIC, "spec", {"backend": "copier", "counts": {}}, "spec", "spec.counts is for backend counts: leave it out"),
    (CRITIC, "spec", {"backend": "copier", "training": {"gpus": 1}}, "spec", "only backend transformers trains"),
    (CRITIC, "spec.transformers", {}, "spec", "spec.transformers is for backend transformers: leave it out"),
    (CRITIC, "spec.policy", {"strength": "1"}, "spec.policy", "unknown field"),
    (CRITIC, "spec.serving.replicas", 0, "spec.serving.replicas", "greater than or equal to 1"),
    (CRITIC, "spec.serving.memory", "lots", "spec.serving.memory", "should match"),
    (CRITIC, "spec.training.gpus", 1, "spec", "only backend transformers trains on GPUs"),
    (CRITIC, "spec.training.gpus", 17, "spec.training.gpus", "less than or equal to 16"),
    (CRITIC, "spec.training.queue", "GPU queue", "spec.training.queue", "should match"),
    (CRITIC, "spec.training.cpu", "4Gi", "spec.training.cpu", "should match"),
    (CRITIC, "spec.training.deadlineSeconds", 5, "spec.training.deadlineSeconds", "greater than or equal to 30"),
    (CRITIC, "spec.revisionHistoryLimit", 0, "spec.revisionHistoryLimit", "greater than or equal to 1"),
    (CRITIC, "spec.learningRate", "0.1", "spec.learningRate", "unknown field"),
    (GATE, "spec.precisionTarget", "1.0", "spec.precisionTarget", "should match"),
    (GATE, "spec.precisionTarget", "0.3", "spec.precisionTarget", "a precision target below 0.5 is no target"),
    (GATE, "spec.precisionTarget", 0.9, "spec.precisionTarget", "must be of type string"),
    (GATE, "spec.delta", "0.5", "spec.delta", "must be above 0 and at most 0.2"),
    (GATE, "spec.delta", "0.0", "spec.delta", "must be above 0 and at most 0.2"),
    (GATE, "spec.strata", [], "spec.strata", "at least 1 items"),
    (GATE, "spec.strata", [{"name": "a"}, {"name": "a"}], "spec.strata[1]", "Duplicate value"),
    (GATE, "spec.strata.0.precisionTarget", "0.2", "spec.strata[0].precisionTarget", "below 0.5 is no target"),
    (GATE, "spec.calibration.heldOutShare", "1.0", "spec.calibration.heldOutShare", "should match"),
    (GATE, "spec.calibration.auditShare", "0.0", "spec.calibration.auditShare", "must be above 0 and below 1"),
    (GATE, "spec.calibration.minSessions", 5, "spec.calibration.minSessions", "greater than or equal to 20"),
    (GATE, "spec.calibration.maxFinalizationRejection", "-0.1", "maxFinalizationRejection", SHARE),
    (GATE, "spec.finalization.mode", "Never", "spec.finalization.mode", "Unsupported value"),
    (GATE, "spec.guardrails", [], "spec.guardrails", "at least 1 items"),
    (GATE, "spec.guardrails.0.builtin", "Vibes", "spec.guardrails[0].builtin", "Unsupported value"),
    (GATE, "spec.guardrails.0.threshold", "30%", "spec.guardrails[0].threshold", DECIMAL),
    (GATE, "spec.guardrails.0.threshold", "30", "spec.guardrails[0]", RATE),
    (GATE, "spec.guardrails.2.threshold", "3", "spec.guardrails[2]", "a threshold below 100 alarms on noise"),
    (GATE, "spec.guardrails.0.comparator", "<", "spec.guardrails[0]", "is worse when it is higher"),
    (GATE, "spec.guardrails.0.comparator", "!=", "spec.guardrails[0].comparator", "Unsupported value"),
    (GATE, "spec.guardrails.0.stages", ["Logging"], "spec.guardrails[0].stages", "nothing is watched in Logging"),
    (GATE, "spec.guardrails.0.stages", [], "spec.guardrails[0].stages", "at least 1 items"),
    (GATE, "spec.guardrails.0.windowSeconds", 1, "spec.guardrails[0].windowSeconds", "greater than or equal to 10"),
    (GATE, "spec.guardrails.0.minSamples", 0, "spec.guardrails[0].minSamples", "greater than or equal to 1"),
    (GATE, "spec.guardrails.0.onMissingData", "Ignore", "spec.guardrails[0].onMissingData", "Unsupported value"),
    (GATE, "spec.guardrails.1.name", "corrective-interventions", "spec.guardrails[1]", "Duplicate value"),
    (GATE, "spec.rollback.flapBudget", 0, "spec.rollback.flapBudget", "greater than or equal to 1"),
    (GATE, "spec.permit.ttlSeconds", 600, "spec.permit.ttlSeconds", "less than or equal to 60"),
]


@pytest.fixture(scope="module", autouse=True)
def definitions() -> None:
    assert has_cluster(), 'no cluster is given: eval "$(hack/cluster/up.sh)"'
    files = [
        f"--filename={ROOT / 'crds' / name}.yaml" for name in ("processclusters", "policycritics", "automationgates")
    ]
    kubectl("apply", "--server-side", "--force-conflicts", *files, check=True)
    kubectl("wait", "--for=condition=Established", *files, "--timeout=20s", check=True)
    kubectl("create", "namespace", "star")


def refuse(item: dict) -> str:
    done = kubectl("create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-", stdin=item)
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.parametrize(
    ("kind", "path", "value", "field", "rule"), BAD, ids=[f"{k}-{p}-{i}" for i, (k, p, *_) in enumerate(BAD)]
)
def test_a_bad_manifest_is_refused_with_field_and_rule(kind, path, value, field, rule):
    item = change(read_example(kind), path, value)
    item["metadata"]["name"] = item["metadata"]["name"] if path == "metadata.name" else "tried"
    said = refuse(item)
    assert said, f"{kind} with {path} = {value!r} was accepted"
    assert field in said
    assert rule in said


def test_all_guardrails_on_what_is_executed_may_not_be_dry_runs():
    gate = read_example(GATE)
    for number in range(3):
        gate = change(gate, f"spec.guardrails.{number}.dryRun", True)
    gate["metadata"]["name"] = "tried"
    assert "must not be a dry run" in refuse(gate)


def test_there_are_at_least_forty_of_them():
    assert len(BAD) >= 40


def test_the_good_example_is_accepted():
    done = kubectl("apply", "--dry-run=server", "--validate=strict", "-k", str(EXAMPLE))
    assert done.returncode == 0, done.stderr


def test_the_installation_is_accepted():
    kubectl("create", "namespace", "pilotage-system")
    done = kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-k", str(INSTALLATION)
    )
    assert done.returncode == 0, done.stderr


def test_a_minimal_process_cluster_gets_its_defaults():
    item = read_example(PC)
    item["metadata"]["name"] = "minimal"
    item["spec"] = {name: item["spec"][name] for name in ("screens", "policyCriticRef", "gateRef")}
    done = kubectl("create", "--dry-run=server", "--validate=strict", "-o", "jsonpath={.spec}", "-f", "-", stdin=item)
    assert done.returncode == 0, done.stderr
    assert '"maxStage":"Logging"' in done.stdout
    assert '"minDemonstrations":1000' in done.stdout
