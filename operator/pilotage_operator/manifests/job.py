"""Training Jobs: the trainer's command line, and the batch/v1 Job around it.

The command is the same for Kubernetes and local processes. A Job is created once under its name and never changed.
"""

from typing import Any

import msgspec

from pilotage_core.certificate import find_attempt_share
from pilotage_core.job_exit import JobExit, list_final
from pilotage_core.training import BASE_MODEL, TransformersSettings
from pilotage_core.wire import EXPORT_AUDIENCE, TOKEN_FILE_VARIABLE
from pilotage_operator.api.automation_gate import FinalizationMode
from pilotage_operator.api.digests import digest_actions, digest_screens
from pilotage_operator.api.fields import API_VERSION
from pilotage_operator.api.policy_critic import Backend, Counts
from pilotage_operator.api.rules import build_action_rules
from pilotage_operator.facts import Bundle, JobPhase, WantedJob

LABEL_PROCESS_CLUSTER = "pilotage.dev/process-cluster"
LABEL_REVISION = "pilotage.dev/revision"
LABEL_PHASE = "pilotage.dev/phase"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PASSIVE_WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "OPENBLAS_THREAD_TIMEOUT": "4"}
"""Threads that wait sleep: nodes are shared, and spinning beside a busy neighbour costs three quarters of the speed."""
ARTEFACTS_CLAIM = "artefacts"
ARTEFACTS_PATH = "/artefacts"
TOKEN_PATH = "/var/run/secrets/pilotage"
TOKEN_ENVIRONMENT = {"name": TOKEN_FILE_VARIABLE, "value": f"{TOKEN_PATH}/export"}
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Kueue's webhook suspends a Job that is created with it until there is room."""
STOP_SECONDS = 300
"""For a batch and a checkpoint of every weight and moment, on a volume that others write to as well."""

COMMANDS = {JobPhase.POLICY: "policy", JobPhase.CRITIC: "critic", JobPhase.CALIBRATE: "certify"}


def build_train_command(bundle: Bundle, job: WantedJob, *, export: str, out: str, result: str = "") -> list[str]:
    """`pilotage-train …` for `job`: sessions from the gateway at `export`, artefacts into the folder `out`."""
    options = {
        "--export": export,
        "--process-cluster": bundle.key,
        "--revision": job.revision,
        "--since": job.since,
        "--until": job.until,
        "--fresh-after": job.fresh_after if job.phase is not JobPhase.CALIBRATE else "",
        "--start-from": job.start_from if _learns_anew(bundle, job.phase) else "",
        "--held-out-share": job.held_out_share if job.phase is not JobPhase.CALIBRATE else "",
        "--held-out-after": job.held_out_after if job.phase is not JobPhase.POLICY else "",
        "--policy-url": job.policy_url if job.phase is JobPhase.CALIBRATE else "",
        "--critic-url": job.critic_url if job.phase is JobPhase.CALIBRATE else "",
        "--config": build_train_config(bundle, job.calibration if job.phase is JobPhase.CALIBRATE else 0),
        "--out": out,
        "--result": result,
        "--backend": bundle.policy_critic.backend.value if job.phase is not JobPhase.CALIBRATE else "",
        "--processes": str(gpus) if (gpus := count_gpus(bundle, job.phase)) > 1 else "",
    }
    given = [part for option, value in options.items() if value for part in (option, value)]
    return ["pilotage-train", COMMANDS[job.phase], *given]


def _learns_anew(bundle: Bundle, phase: JobPhase) -> bool:
    """Whether `phase` makes weights that may begin with those of an earlier revision."""
    return bundle.policy_critic.backend is not Backend.COUNTS and phase is JobPhase.POLICY


def count_gpus(bundle: Bundle, phase: JobPhase) -> int:
    """GPUs that `phase` learns on, a process on each. Calibration asks the model servers, and needs none."""
    learns = bundle.policy_critic.backend is Backend.TRANSFORMERS and phase is not JobPhase.CALIBRATE
    return bundle.policy_critic.training.gpus if learns else 0


def count_threads(bundle: Bundle, phase: JobPhase) -> int:
    """Threads of each process of `phase`: the whole cores it asks for, shared out; on a CPU one in any case."""
    if bundle.policy_critic.backend is not Backend.TRANSFORMERS:
        return 1
    cpu = bundle.policy_critic.training.cpu
    cores = float(cpu.removesuffix("m")) / (1000 if cpu.endswith("m") else 1)
    return max(1, int(cores) // max(1, count_gpus(bundle, phase)))


def build_train_config(bundle: Bundle, calibration: int = 0) -> str:
    """The trainer's configuration (its JobConfig) as canonical JSON: rules, targets, settings, digests only we know.

    The `calibration`-th attempt to certify gets its share of the gate's δ; nothing else is certified (0).
    """
    gate, made = bundle.gate, bundle.policy_critic
    config: dict[str, Any] = {
        "rules": build_action_rules(bundle.cluster),
        "strata": [{"name": s.name, "target": float(s.precision_target or 0)} for s in gate.strata],
        "precision_target": float(gate.precision_target),
        "delta": float(gate.delta) * (find_attempt_share(calibration) if calibration else 1.0),
        "min_action_accuracy": float(made.evaluation.min_action_accuracy),
        "rolling_window_sessions": bundle.cluster.supervision.rolling_window_sessions,
        "evidence": {
            "actions": digest_actions(bundle.cluster),
            "screens": digest_screens(bundle.screens),
            "serving_image": bundle.serving_image,
        },
        "selection": {
            "policy_development_share": float(made.selection.policy_development_share),
            "critic_development_share": float(made.selection.critic_development_share),
            "certainty": float(made.selection.certainty),
        },
    }
    if gate.finalization.mode is FinalizationMode.AUTO:
        config["session_target"] = float(gate.finalization.session_target)
        config["spoilt_end_wrong"] = float(gate.finalization.spoilt_end_wrong)
    if made.backend is Backend.TRANSFORMERS:
        settings = made.transformers or TransformersSettings()
        config["base_model"] = BASE_MODEL if made.base_model is None else made.base_model
        config["transformers"] = settings.model_dump(mode="json", exclude_defaults=True)
    elif made.backend is Backend.COUNTS:
        counts = made.counts or Counts()
        config["counts"] = {
            "policy": counts.policy.model_dump() | {"strength": float(counts.policy.strength)},
            "critic": counts.critic.model_dump() | {"strength": float(counts.critic.strength)},
        }
    return msgspec.json.encode(config, order="deterministic").decode()


def build_labels(bundle: Bundle, revision: str, phase: JobPhase) -> dict[str, str]:
    """Labels of everything that is made for a process cluster."""
    return {
        "app.kubernetes.io/part-of": "pilotage",
        LABEL_PROCESS_CLUSTER: bundle.name,
        LABEL_REVISION: revision,
        LABEL_PHASE: phase.value,
    }


def build_owner(bundle: Bundle) -> dict[str, Any]:
    """The owner reference to the ProcessCluster: what is made for it goes with it."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ProcessCluster",
        "name": bundle.name,
        "uid": bundle.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def build_job(bundle: Bundle, job: WantedJob, *, image: str, export: str) -> dict[str, Any]:
    """The batch/v1 Job that runs `job`: one pod, whose command starts a process for each of its GPUs.

    `image` is what it runs where the PolicyCritic names none.
    """
    labels = build_labels(bundle, job.revision, job.phase)
    training = bundle.policy_critic.training
    gpus = count_gpus(bundle, job.phase)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job.name,
            "namespace": bundle.namespace,
            "labels": labels | ({QUEUE_LABEL: training.queue} if training.queue else {}),
            "ownerReferences": [build_owner(bundle)],
        },
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": training.deadline_seconds,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "train", "operator": "In", "values": list_final()},
                    },
                    {
                        "action": "Ignore",
                        "onExitCodes": {"containerName": "train", "operator": "In", "values": [int(JobExit.STOPPED)]},
                    },
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": build_pod_security(),
                    **({"terminationGracePeriodSeconds": STOP_SECONDS} if gpus else {}),
                    "containers": [_train_container(bundle, job, training.image or image, export)],
                    "volumes": [build_artefacts_volume(read_only=False), build_token_volume(), *_shared_memory(gpus)],
                },
            },
        },
    }


def _train_container(bundle: Bundle, job: WantedJob, image: str, export: str) -> dict[str, Any]:
    training, gpus = bundle.policy_critic.training, count_gpus(bundle, job.phase)
    # torchrun's agent gives its processes 30 seconds to stop, unless it is told otherwise
    stopping = [{"name": "TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "value": str(STOP_SECONDS - 10)}] if gpus > 1 else []
    return {
        "name": "train",
        "image": image,
        "command": build_train_command(bundle, job, export=export, out=ARTEFACTS_PATH, result="/dev/termination-log"),
        "env": [*build_thread_environment(count_threads(bundle, job.phase)), *stopping, TOKEN_ENVIRONMENT],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {
            "requests": {"cpu": training.cpu, "memory": training.memory},
            **({"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}),
        },
        "securityContext": build_container_security(),
        "volumeMounts": [
            {"name": "artefacts", "mountPath": ARTEFACTS_PATH},
            {"name": "token", "mountPath": TOKEN_PATH, "readOnly": True},
            *({"name": volume["name"], "mountPath": "/dev/shm"} for volume in _shared_memory(gpus)),
        ],
    }


def _shared_memory(gpus: int) -> list[dict[str, Any]]:
    """A /dev/shm that several processes can exchange gradients through: a container's own has 64 MiB."""
    return [{"name": "shm", "emptyDir": {"medium": "Memory"}}] if gpus > 1 else []


def build_thread_environment(threads: int = 1) -> list[dict[str, str]]:
    """`threads` for each process; one where models are small, since the node is shared."""
    values = dict.fromkeys(THREAD_VARIABLES, str(threads)) | PASSIVE_WAITING | {"HOME": "/tmp"}
    return [{"name": name, "value": value} for name, value in values.items()]


def build_token_volume() -> dict[str, Any]:
    """What a gateway is shown: a token that reads the records of this namespace, and nothing at the API server."""
    token = {"path": "export", "audience": EXPORT_AUDIENCE, "expirationSeconds": 3600}
    return {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}}


def build_artefacts_volume(*, read_only: bool) -> dict[str, Any]:
    """The claim that training writes to and serving reads from."""
    return {
        "name": "artefacts",
        "persistentVolumeClaim": {"claimName": ARTEFACTS_CLAIM} | ({"readOnly": True} if read_only else {}),
    }


def build_pod_security() -> dict[str, Any]:
    """What Pod Security's `restricted` asks for. The group may write the artefacts volume."""
    user = {"runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
    return user | {"seccompProfile": {"type": "RuntimeDefault"}}


def build_container_security() -> dict[str, Any]:
    """Nothing a container does not need."""
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
