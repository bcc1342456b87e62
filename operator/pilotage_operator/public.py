"""What other packages may import of the controller; everything else in it is its own (held by import-linter)."""

from pilotage_operator.api.pipeline import Pipeline
from pilotage_operator.api.process_cluster import ProcessClusterSpec
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
from pilotage_operator.observe.screens import read_schemas
from pilotage_operator.observe.track import Track

__all__ = [
    "GuardrailReading",
    "Pipeline",
    "ProcessClusterSpec",
    "ProcessClusterStatus",
    "SessionsStatus",
    "TauStatus",
    "Track",
    "Transition",
    "UnmetStatus",
    "find_process",
    "read_schemas",
    "read_time",
    "stop_process",
]
