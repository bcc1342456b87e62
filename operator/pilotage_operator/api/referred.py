"""Status of what ProcessClusters refer to: which of them use a PolicyCritic or a gate, and what came of it there.

Written by the controller alone, and read back by no decision. MOST of them are listed, by name; the counts are of all.
"""

from typing import Annotated

from pydantic import Field

from pilotage_core.stage import Stage
from pilotage_operator.api.fields import StatusModel
from pilotage_operator.api.status import Condition

MOST = 32

Conditions = Annotated[
    tuple[Condition, ...],
    Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class RevisionStatus(StatusModel):
    """One revision of policy and critic, made for one process cluster."""

    process_cluster: str
    """Whose it is."""
    revision: str
    """Its name: r1, r2, and so on."""
    phase: str
    """InService, or what its making is at."""
    state: str = ""
    """How that phase fares."""
    reason: str = ""
    """What it failed with, where it did."""
    policy_digest: str = ""
    """Of the policy's artefact."""
    critic_digest: str = ""
    """Of the critic's."""
    policy_endpoint: str = ""
    """The InferenceService of the policy."""
    critic_endpoint: str = ""
    """That of the critic."""
    metrics: dict[str, str] = Field(default_factory=dict)
    """What its Jobs measured."""


class PolicyCriticStatus(StatusModel):
    """What was made as a PolicyCritic says."""

    observed_generation: int = 0
    """The generation of the spec that this is of."""
    process_clusters: int = 0
    """How many refer to it."""
    serving: str = ""
    """The revision in service; how many there are, where several process clusters refer to it."""
    revisions: Annotated[tuple[RevisionStatus, ...], Field(max_length=2 * MOST)] = ()
    """Revisions in service and in the making."""
    conditions: Conditions = ()
    """Conditions as in Kubernetes."""


class CertifiedStatus(StatusModel):
    """One τ with its certificate, in short."""

    process_cluster: str
    """Where it counts."""
    stratum: str
    """The actions that share it."""
    tau: str
    """The score that a critical action needs."""
    bound: str
    """Lower confidence bound of the precision."""
    target: str
    """The precision it is certified for."""
    labels: int
    """Held-out labels."""
    errors: int
    """Wrong ones of those at or above τ."""
    issued_at: str
    """When it was issued."""
    tightened_to: str = ""
    """The stricter τ that counts since R called for it; `nothing` where there is none."""


class WatchedStatus(StatusModel):
    """One guardrail where it is not Healthy."""

    process_cluster: str
    """Where it is so."""
    name: str
    """The guardrail."""
    verdict: str
    """What it says."""
    since: str = ""
    """Since when."""


class TakenBackStatus(StatusModel):
    """A rollback that is latched."""

    process_cluster: str
    """Where it is so."""
    id: str
    """What `spec.acknowledgedRollback` has to say to lift it."""
    guardrail: str
    """The guardrail that was breached."""
    at: str
    """When it came about."""


class AutomationGateStatus(StatusModel):
    """What came of a gate in the process clusters that refer to it."""

    observed_generation: int = 0
    """The generation of the spec that this is of."""
    process_clusters: int = 0
    """How many refer to it."""
    stages: dict[str, int] = Field(default_factory=dict)
    """How many of them are in each stage."""
    lowest: Stage | None = None
    """The lowest stage that one of them is in."""
    certificates: Annotated[tuple[CertifiedStatus, ...], Field(max_length=8 * MOST)] = ()
    """τ by process cluster and stratum."""
    guardrails: Annotated[tuple[WatchedStatus, ...], Field(max_length=16 * MOST)] = ()
    """Guardrails that are not Healthy."""
    rollbacks: Annotated[tuple[TakenBackStatus, ...], Field(max_length=MOST)] = ()
    """Rollbacks that are latched."""
    conditions: Conditions = ()
    """Conditions as in Kubernetes."""
