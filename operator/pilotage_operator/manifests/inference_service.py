"""KServe InferenceServices: one model server for the policy, one for the critic of a revision (Standard mode)."""

from typing import Any

from pilotage_operator.api.policy_critic import Runtime
from pilotage_operator.facts import Bundle, WantedEndpoint
from pilotage_operator.manifests.job import (
    ARTEFACTS_PATH,
    build_artefacts_volume,
    build_container_security,
    build_labels,
    build_owner,
    build_pod_security,
    build_thread_environment,
)

PORT = 8080
STARTUP_SECONDS = 1800
"""How long vLLM may load before it counts as dead: tens of gigabytes from a shared volume, then compilation."""

STRUCTURED_OUTPUT = '{"backend":"xgrammar","disable_any_whitespace":true}'
"""JSON as dialogs write it: the trainer's own inference (backends/transformers/asking/grammar.py) is set the same."""


def build_serve_command(bundle: Bundle, endpoint: WantedEndpoint, *, artefacts: str, listen: str) -> list[str]:
    """What serves one artefact of a revision at `listen` (HOST:PORT)."""
    folder = f"{artefacts}/{bundle.key}/{endpoint.revision}/{endpoint.phase}"
    if bundle.policy_critic.serving.runtime is Runtime.VLLM:
        return build_vllm_command(folder, str(endpoint.phase), listen)
    return ["pilotage-serve", "--artefact", folder, "--listen", listen]


def build_vllm_command(folder: str, name: str, listen: str) -> list[str]:
    """`vllm serve …` of the transformer in `folder`, called `name` (policy or critic)."""
    host, _, port = listen.rpartition(":")
    at = ["--served-model-name", name, "--host", host, "--port", port]
    return ["vllm", "serve", folder, *at, "--structured-outputs-config", STRUCTURED_OUTPUT]


def build_inference_service(bundle: Bundle, endpoint: WantedEndpoint, *, image: str) -> dict[str, Any]:
    """The InferenceService of `endpoint`. It spells out its container: a cluster may run KServe without webhooks."""
    labels = build_labels(bundle, endpoint.revision, endpoint.phase)
    scrape = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": endpoint.name,
            "namespace": bundle.namespace,
            "labels": labels,
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "none",
            },
            "ownerReferences": [build_owner(bundle)],
        },
        "spec": {
            "predictor": {
                "labels": labels,
                "annotations": scrape,
                "minReplicas": bundle.policy_critic.serving.replicas,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "securityContext": build_pod_security(),
                "containers": [_serve_container(bundle, endpoint, image)],
                "volumes": [build_artefacts_volume(read_only=True)],
            }
        },
    }


def _serve_container(bundle: Bundle, endpoint: WantedEndpoint, image: str) -> dict[str, Any]:
    serving = bundle.policy_critic.serving
    is_vllm = serving.runtime is Runtime.VLLM
    offline = [{"name": name, "value": "1"} for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS")] if is_vllm else []
    gpus = {"nvidia.com/gpu": str(serving.gpus)} if serving.gpus else {}
    probe = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 1, "timeoutSeconds": 1}
    return {
        "name": "kserve-container",
        "image": image,
        "command": build_serve_command(bundle, endpoint, artefacts=ARTEFACTS_PATH, listen=f"0.0.0.0:{PORT}"),
        "env": [*build_thread_environment(), *offline],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5, "initialDelaySeconds": 10},
        **({"startupProbe": {**probe, "failureThreshold": STARTUP_SECONDS}} if is_vllm else {}),
        "resources": {
            "requests": {"cpu": serving.cpu, "memory": serving.memory},
            "limits": {"memory": serving.memory, **gpus},
        },
        "securityContext": build_container_security(),
        "volumeMounts": [{"name": "artefacts", "mountPath": ARTEFACTS_PATH, "readOnly": True}],
    }
