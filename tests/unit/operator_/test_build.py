"""What is built: commands the trainer really takes, objects that Kubernetes' and KServe's own models take, leaves."""

import importlib
import json
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
import yaml
from facts import make_bundle, make_certificate

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind
from pilotage_core.job_exit import list_final
from pilotage_core.score import CONFIDENCE_ALONE, CRITIC_ALONE, ScoreRule
from pilotage_core.snapshot import DECODE_PART, Parts, assemble, find_leave
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave
from pilotage_operator.api.digests import digest_actions
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.status import DialogStatus, PairStatus, ScoreStatus
from pilotage_operator.decide.leave import build_leave, build_pair_ref
from pilotage_operator.facts import Bundle, JobPhase, WantedEndpoint, WantedJob
from pilotage_operator.manifests.inference_service import build_inference_service
from pilotage_operator.manifests.job import (
    COMMANDS,
    QUEUE_LABEL,
    THREAD_VARIABLES,
    build_job,
    build_train_command,
    build_train_config,
)

IMAGE = "localhost/pilotage:0123"
TIME = "2026-01-01T00:00:00.000Z"


def wanted(phase: JobPhase) -> WantedJob:
    return WantedJob(
        name=f"one-r2-{phase}",
        phase=phase,
        revision="r2",
        since=TIME,
        until=TIME,
        fresh_after=TIME,
        held_out_after=TIME,
        held_out_share="0.5",
        policy_url="http://p",
        critic_url="http://c",
    )


@pytest.mark.parametrize("gpus", [0, 2])
@pytest.mark.parametrize("phase", list(JobPhase))
def test_the_trainer_takes_every_option_it_is_given(phase, gpus):
    typer = pytest.importorskip("typer")
    trainer = pytest.importorskip("pilotage_trainer.main")
    bundle = make_training_bundle("transformers", gpus=gpus)
    command = build_train_command(bundle, wanted(phase), export="http://g", out="/artefacts", result="/r")
    assert command[:2] == ["pilotage-train", COMMANDS[phase]]
    parser = typer.main.get_command(trainer.app).commands[COMMANDS[phase]]
    context = parser.make_context("train", command[2:])
    assert context.params["process_cluster"] == "star/one"
    assert context.params["revision"] == "r2"


def test_the_trainer_is_told_of_transformers_in_the_same_types():
    config = pytest.importorskip("pilotage_trainer.config")
    policy = {"learningRate": "0.001", "lora": {"rank": 16}}
    dataset = {"balancing": "tool", "snapshot": "difference", "maxChars": 60_000}
    spec = {"backend": "transformers", "transformers": {"policy": policy, "dataset": dataset}}
    bundle = replace(make_bundle(), policy_critic=PolicyCriticSpec.model_validate(spec))
    command = build_train_command(bundle, wanted(JobPhase.POLICY), export="http://g", out="/artefacts")
    read = config.read_config(build_train_config(bundle))
    assert command[-2:] == ["--backend", "transformers"]
    assert read.transformers == bundle.policy_critic.transformers
    assert read.transformers.dataset.form == DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000)
    assert (read.base_model, read.transformers.policy.learning_rate) == ("Qwen/Qwen2.5-7B-Instruct", 0.001)
    scratch = replace(bundle, policy_critic=PolicyCriticSpec.model_validate(spec | {"baseModel": ""}))
    assert config.read_config(build_train_config(scratch)).base_model == ""


def test_the_trainer_reads_its_configuration_and_gets_the_digests_only_we_know():
    config = pytest.importorskip("pilotage_trainer.config")
    bundle = make_bundle()
    read = config.read_config(build_train_config(bundle))
    assert read.evidence.actions == digest_actions(bundle.cluster)
    assert read.evidence.serving_image == bundle.serving_image
    assert [(s.name, s.target) for s in read.strata] == [("procedure", 0.0), ("finalizing", 0.0)]
    assert (read.precision_target, read.delta) == (0.9, 0.05)
    asked = {**json.loads(build_train_config(bundle))}
    assert set(asked["counts"]["policy"]) <= set(read.counts.policy.__struct_fields__)
    assert set(asked["counts"]["critic"]) <= set(read.counts.critic.__struct_fields__)
    assert set(asked["selection"]) <= set(read.selection.__struct_fields__)


def test_a_job_is_owned_labelled_small_and_fails_at_once_on_data_that_does_not_carry_it():
    job = build_job(make_bundle(), wanted(JobPhase.CRITIC), image=IMAGE, export="http://g")
    assert job["metadata"]["labels"]["pilotage.dev/process-cluster"] == "one"
    assert job["metadata"]["labels"]["pilotage.dev/revision"] == "r2"
    assert job["metadata"]["ownerReferences"][0]["uid"] == "u1"
    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == IMAGE
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == list_final()
    assert job["spec"]["activeDeadlineSeconds"] == 3600


def make_training_bundle(backend: str, **training: object) -> Bundle:
    spec = {"backend": backend, "training": training}
    return replace(make_bundle(), policy_critic=PolicyCriticSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("backend", "training", "phase", "gpus", "processes", "threads"),
    [
        ("counts", {}, "policy", None, None, "1"),
        ("counts", {"cpu": "8"}, "policy", None, None, "1"),
        ("transformers", {"cpu": "500m"}, "policy", None, None, "1"),
        ("transformers", {"cpu": "3500m"}, "policy", None, None, "3"),
        ("transformers", {"cpu": "2.5"}, "critic", None, None, "2"),
        ("transformers", {"cpu": "4"}, "calibrate", None, None, "4"),
        ("transformers", {"cpu": "4", "gpus": 1}, "policy", "1", None, "4"),
        ("transformers", {"cpu": "64", "gpus": 8}, "policy", "8", "8", "8"),
        ("transformers", {"cpu": "4", "gpus": 8}, "critic", "8", "8", "1"),
        ("transformers", {"cpu": "64", "gpus": 8}, "calibrate", None, None, "64"),
    ],
)
def test_what_learns_gets_a_process_for_each_gpu_and_the_cores_it_asked_for(
    backend, training, phase, gpus, processes, threads
):
    job = build_job(make_training_bundle(backend, **training), wanted(JobPhase(phase)), image=IMAGE, export="http://g")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"].get("limits", {}).get("nvidia.com/gpu") == gpus
    options = dict(pairwise(container["command"]))
    assert options.get("--processes") == processes
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    assert {environment[name] for name in THREAD_VARIABLES} == {threads}
    mounted = [mount["name"] for mount in container["volumeMounts"] if mount["mountPath"] == "/dev/shm"]
    memory = [volume["name"] for volume in pod["volumes"] if volume.get("emptyDir") == {"medium": "Memory"}]
    assert mounted == memory == (["shm"] if processes else [])
    # all of them have to be done before the pod is killed
    grace = pod.get("terminationGracePeriodSeconds", 30)
    assert (grace > 30) is (gpus is not None)
    assert 30 < int(environment.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", 31)) <= max(grace, 31)
    assert ("TORCH_ELASTIC_SHUTDOWN_TIMEOUT" in environment) is (processes is not None)


@pytest.mark.parametrize("phase", list(JobPhase))
@pytest.mark.parametrize(
    ("training", "image", "queue"),
    [({}, IMAGE, None), ({"image": "torch:1"}, "torch:1", None), ({"queue": "gpus"}, IMAGE, "gpus")],
)
def test_a_job_runs_the_image_and_waits_in_the_queue_that_are_asked_for(training, image, queue, phase):
    job = build_job(make_training_bundle("transformers", **training), wanted(phase), image=IMAGE, export="http://g")
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert job["metadata"]["labels"].get(QUEUE_LABEL) == queue
    assert QUEUE_LABEL not in job["spec"]["template"]["metadata"]["labels"]
    assert "suspend" not in job["spec"]  # Kueue's webhook does that; without Kueue the Job starts


@pytest.mark.parametrize(
    ("code", "conditions", "action"),
    [
        (3, [], "FailJob"),
        (1, [], "Count"),
        (7, [], "Count"),
        (11, [], "Count"),
        (137, [], "Count"),
        (137, ["DisruptionTarget"], "Ignore"),
        (143, [], "Ignore"),
        (143, ["DisruptionTarget"], "Ignore"),
    ],
)
def test_being_preempted_is_no_failure(code, conditions, action):
    """A Job that Kueue suspends ends its pods without a condition; what they exit with tells."""
    job = build_job(make_bundle(), wanted(JobPhase.POLICY), image=IMAGE, export="http://g")
    assert decide_pod_failure(job["spec"]["podFailurePolicy"]["rules"], code, conditions) == action


def decide_pod_failure(rules: list[dict], code: int, conditions: list[str]) -> str:
    """The first rule that matches decides, as in Kubernetes."""
    for rule in rules:
        if code in rule.get("onExitCodes", {}).get("values", []):
            return rule["action"]
        if any(condition["type"] in conditions for condition in rule.get("onPodConditions", [])):
            return rule["action"]
    return "Count"


@pytest.mark.parametrize(
    "bundle",
    [make_bundle(), make_training_bundle("transformers", gpus=8, cpu="64", image="torch:1", queue="gpus")],
    ids=["counts", "eight GPUs"],
)
def test_kubernetes_own_models_take_the_job(bundle):
    client = importlib.import_module("kubernetes.client")
    job = build_job(bundle, wanted(JobPhase.POLICY), image=IMAGE, export="http://g")
    api = client.ApiClient()
    read = api._ApiClient__deserialize(job, "V1Job")
    assert read.spec.template.spec.containers[0].command[0] == "pilotage-train"
    assert api.sanitize_for_serialization(read)["spec"] == job["spec"]


def test_kserves_own_models_take_the_inference_service():
    kserve = importlib.import_module("kserve.models")
    service = build_inference_service(
        make_bundle(), WantedEndpoint("one-r2-critic", JobPhase.CRITIC, "r2"), image=IMAGE
    )
    known = set(kserve.V1beta1PredictorSpec.attribute_map.values())
    assert set(service["spec"]["predictor"]) <= known
    container = service["spec"]["predictor"]["containers"][0]
    assert container["name"] == "kserve-container"
    assert container["command"] == [
        "pilotage-serve",
        "--artefact",
        "/artefacts/star/one/r2/critic",
        "--listen",
        "0.0.0.0:8080",
    ]


def test_vllm_serves_the_artefact_as_it_is_from_an_image_of_its_own_and_may_take_long_to_start():
    serving = {"runtime": "vllm", "image": "vllm:1", "gpus": 2, "memory": "64Gi"}
    pair = PolicyCriticSpec.model_validate({"backend": "transformers", "serving": serving})
    bundle = replace(make_bundle(), policy_critic=pair)
    service = build_inference_service(bundle, WantedEndpoint("one-r2-policy", JobPhase.POLICY, "r2"), image="vllm:1")
    container = service["spec"]["predictor"]["containers"][0]
    assert container["command"][:5] == [
        "vllm",
        "serve",
        "/artefacts/star/one/r2/policy",
        "--served-model-name",
        "policy",
    ]
    assert json.loads(container["command"][-1]) == {"backend": "xgrammar", "disable_any_whitespace": True}
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in container["env"]
    assert container["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": "2"}
    assert container["startupProbe"]["failureThreshold"] >= 600


@pytest.mark.parametrize("stage", list(Stage))
def test_a_leave_carries_certificates_only_where_they_may_be_used(stage):
    bundle = make_bundle()
    leave = build_leave(
        bundle,
        stage,
        PairStatus(revision="r1", policy_digest="p", policy_url="http://p"),
        (make_certificate(bundle, "r1", 0),),
        finalizing_by_human=True,
        audits_all=False,
    )
    assert bool(leave.certificates) is (stage in (Stage.CALIBRATION, Stage.AUTOMATION))
    assert (leave.pair is not None) is (stage is not Stage.LOGGING)


FORMS = (
    DEFAULT_FORMAT,
    DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000),
    DialogFormat(SnapshotKind.WHOLE, 1_000, 333),
)


RULES = (CRITIC_ALONE, CONFIDENCE_ALONE, ScoreRule(0.712345, 1.0 / 3.0, -1e-7))


@pytest.mark.parametrize(("form", "rule"), list(zip(FORMS, RULES, strict=True)))
def test_format_and_score_come_through_status_and_snapshot_as_they_were(form, rule):
    known = {"revision": "r1", "policy_digest": "p", "policy_url": "http://p"}
    told = PairStatus(**known, dialog=DialogStatus.of(form), score=ScoreStatus.of(rule)).to_json()
    pairs = [
        build_pair_ref(PairStatus.model_validate(stored))
        for stored in (told, yaml.safe_load(yaml.safe_dump(told)), json.loads(json.dumps(told)))
    ]
    assert len({msgspec.json.encode(pair) for pair in pairs}) == 1
    assert (pairs[0].dialog, pairs[0].score) == (form, rule)
    sent = Parts((Leave("a", "star", Stage.COPILOT, pair=pairs[0]),))
    received = assemble(map(DECODE_PART, sent.bodies))
    assert received.digest == sent.digest
    assert received.leaves[0].pair.dialog.digest == form.digest
    assert received.leaves[0].pair.score == rule


def test_a_pair_from_before_these_were_told_has_the_defaults_and_the_same_snapshot():
    told = PairStatus(revision="r1").to_json()
    old = {name: value for name, value in told.items() if name not in ("dialog", "score")}
    pairs = [build_pair_ref(PairStatus.model_validate(stored)) for stored in (told, old)]
    assert pairs[0].dialog == DEFAULT_FORMAT
    encoded = [msgspec.json.encode(pair) for pair in pairs]
    assert encoded[0] == encoded[1] == b'{"revision":"r1"}'


def test_the_snapshot_matches_the_higher_priority_first_and_then_by_name():
    leaves = [
        Leave("tail", "star", Stage.LOGGING, priority=0),
        Leave("b", "star", Stage.LOGGING, priority=5),
        Leave("a", "star", Stage.LOGGING, priority=5),
    ]
    snapshot = assemble(map(DECODE_PART, Parts(leaves).bodies))
    assert [leave.name for leave in snapshot.leaves] == ["a", "b", "tail"]
    assert find_leave(snapshot, {}).name == "a"
    assert Parts(reversed(leaves)).digest == snapshot.digest
