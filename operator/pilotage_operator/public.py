"""What other packages may import of the controller; everything else in it is its own (held by import-linter)."""

from pilotage_operator.api.automation_gate import AutomationGateSpec
from pilotage_operator.api.fields import KINDS, ApiModel
from pilotage_operator.api.pipeline import Pipeline
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.promotion import list_guarded
from pilotage_operator.api.reading import Object
from pilotage_operator.api.status import (
    GuardrailReading,
    ProcessClusterStatus,
    SessionsStatus,
    TauStatus,
    Transition,
    UnmetStatus,
    read_time,
)
from pilotage_operator.apply.processes import find_process, stop_process
from pilotage_operator.decide.preview import Outlook, find_serving_image, preview
from pilotage_operator.observe.bundle import build_bundle
from pilotage_operator.observe.manifests import read_manifests, read_stream
from pilotage_operator.observe.screens import read_schemas
from pilotage_operator.observe.track import Track

Objects = dict[tuple[str, str, str], Object]
"""By kind, namespace and name."""
SPECS: dict[str, tuple[str, type[ApiModel]]] = {
    "ProcessCluster": (KINDS["ProcessCluster"], ProcessClusterSpec),
    "PolicyCritic": (KINDS["PolicyCritic"], PolicyCriticSpec),
    "AutomationGate": (KINDS["AutomationGate"], AutomationGateSpec),
}
"""The custom resources: kind to plural and spec."""

__all__ = [
    "SPECS",
    "GuardrailReading",
    "Objects",
    "Outlook",
    "Pipeline",
    "ProcessClusterSpec",
    "ProcessClusterStatus",
    "SessionsStatus",
    "TauStatus",
    "Track",
    "Transition",
    "UnmetStatus",
    "build_bundle",
    "find_process",
    "find_serving_image",
    "list_guarded",
    "preview",
    "read_manifests",
    "read_schemas",
    "read_stream",
    "read_time",
    "stop_process",
]
