"""Which changes of a manifest need the RBAC verb `promote`, for whoever wants to know before the API server says so.

The API server holds it (charts/pilotage/templates/admission.yaml); a test compares the two.
"""

from collections.abc import Iterator
from typing import Any

from pilotage_core.stage import ORDER, Stage

GUARDED: dict[str, tuple[str, ...]] = {
    "ProcessCluster": (
        "acknowledgedRollback", "promotion", "actions", "selector", "priority", "policyCriticRef", "gateRef", "screens",
        "supervision",
    ),
    "AutomationGate": ("strata", "calibration", "finalization", "guardrails", "rollback", "permit"),
    "PolicyCritic": ("backend", "baseModel", "selection"),
}  # fmt: skip
CREATION_IS_GUARDED = frozenset({"AutomationGate", "PolicyCritic"})
Spec = dict[str, Any]


def list_guarded(kind: str, before: Spec | None, after: Spec) -> tuple[str, ...]:
    """The fields of `after` that only who may promote can set, where `before` is there now (None: nothing is).

    Both are whole: with every default, as a model gives them.
    """
    if before is None:
        raised = kind == "ProcessCluster" and _rank(after) > 0
        return ("spec",) if kind in CREATION_IS_GUARDED else ("spec.maxStage",) if raised else ()
    fields = (f"spec.{name}" for name in GUARDED[kind] if before.get(name) != after.get(name))
    return (*fields, *SPECIAL[kind](before, after))


def _of_process_cluster(before: Spec, after: Spec) -> Iterator[str]:
    if _rank(after) > _rank(before):
        yield "spec.maxStage"
    if before.get("suspend") and not after.get("suspend"):
        yield "spec.suspend"


def _of_gate(before: Spec, after: Spec) -> Iterator[str]:
    if float(after["precisionTarget"]) < float(before["precisionTarget"]):
        yield "spec.precisionTarget"
    if float(after["delta"]) > float(before["delta"]):
        yield "spec.delta"


def _of_policy_critic(before: Spec, after: Spec) -> Iterator[str]:
    for part in ("training", "serving"):
        if before[part].get("image") != after[part].get("image"):
            yield f"spec.{part}.image"
    if before["serving"].get("runtime") != after["serving"].get("runtime"):
        yield "spec.serving.runtime"
    if float(after["evaluation"]["minActionAccuracy"]) < float(before["evaluation"]["minActionAccuracy"]):
        yield "spec.evaluation.minActionAccuracy"


SPECIAL = {
    "ProcessCluster": _of_process_cluster,
    "AutomationGate": _of_gate,
    "PolicyCritic": _of_policy_critic,
}


def _rank(spec: Spec) -> int:
    return ORDER.index(Stage(spec.get("maxStage") or Stage.LOGGING))
