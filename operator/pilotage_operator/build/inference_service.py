"""KServe InferenceServices: one model server for the policy, one for the critic of a revision (Standard mode)."""

from typing import Any

from pilotage_operator.build.job import (
    ARTEFACTS_PATH,
    build_artefacts_volume,
    build_container_security,
    build_labels,
    build_owner,
    build_pod_security,
    build_thread_environment,
)
from pilotage_operator.decide.facts import Bundle, WantedEndpoint

PORT = 8080


def build_serve_command(bundle: Bundle, endpoint: WantedEndpoint, *, artefacts: str, listen: str) -> list[str]:
    """`pilotage-serve …` for one artefact of a revision."""
    folder = f"{artefacts}/{bundle.key}/{endpoint.revision}/{endpoint.phase}"
    return ["pilotage-serve", "--artefact", folder, "--listen", listen]


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
    probe = {"httpGet": {"path": "/health", "port": PORT}, "periodSeconds": 1, "timeoutSeconds": 1}
    return {
        "name": "kserve-container",
        "image": image,
        "command": build_serve_command(bundle, endpoint, artefacts=ARTEFACTS_PATH, listen=f"0.0.0.0:{PORT}"),
        "env": build_thread_environment(),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "periodSeconds": 10, "timeoutSeconds": 5, "initialDelaySeconds": 10},
        "resources": {
            "requests": {"cpu": serving.cpu, "memory": serving.memory},
            "limits": {"memory": serving.memory},
        },
        "securityContext": build_container_security(),
        "volumeMounts": [{"name": "artefacts", "mountPath": ARTEFACTS_PATH, "readOnly": True}],
    }
