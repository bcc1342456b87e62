"""What a decision about one process cluster is made of, and what comes out of it. Types only.

The same for Kubernetes and local processes: only observe/ and apply/ know which of the two it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pilotage_core.guardrail import Reading
from pilotage_core.screen import ScreenSchema
from pilotage_core.wire import JobResult, Leave, Revocation
from pilotage_operator.api.automation_gate import AutomationGateSpec
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.status import ProcessClusterStatus


@dataclass(frozen=True, slots=True)
class Bundle:
    """A ProcessCluster with everything it refers to, as people wrote it. `serving_image` is what model servers run.

    `newer_fields` are those of a newer release that were left out (api/reading.py).
    """

    namespace: str
    name: str
    uid: str
    generation: int
    cluster: ProcessClusterSpec
    policy_critic: PolicyCriticSpec
    gate: AutomationGateSpec
    screens: tuple[ScreenSchema, ...] = ()
    serving_image: str = ""
    newer_fields: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """`namespace/name`, the identity in records and metrics."""
        return f"{self.namespace}/{self.name}"


class JobState(StrEnum):
    """How a Job fares."""

    RUNNING = "Running"
    REFUSED = "Refused"  # the API server will not have it: a quota, an admission policy
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class JobFact:
    """One Job. `exit_code` is the trainer's (core/job_exit.py), None where it is unknown."""

    state: JobState
    result: JobResult | None = None
    exit_code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EndpointFact:
    """One model server: whether it answers, where, and since when (seconds since the epoch) it does or does not."""

    ready: bool
    url: str
    reason: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Counts of what happened under one pair: `executed` unattended critical actions, `corrections` of those.

    `unasked` are sessions that nobody was asked about before their ending, `unasked_wrong` those that came out wrong.
    """

    calibration_sessions: int = 0
    reviewed: int = 0
    rejected: int = 0
    executed: int = 0
    corrections: int = 0
    unasked: int = 0
    unasked_wrong: int = 0


@dataclass(frozen=True, slots=True)
class CounterFacts:
    """Counts from the gateway's records; `feedback_sessions` over all pairs, `pairs` by revision."""

    sessions: int = 0
    demonstrations: int = 0
    feedback_sessions: int = 0
    pairs: dict[str, PairCounts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MonitorFact:
    """Shiryaev-Roberts over the labels of the current pair since Calibration began; `cursor` is the newest label's.

    `tightened` names the strata whose R has reached TIGHTEN_AT under the certificates in force; `proofs` is the highest
    F of each that has labels.
    """

    r: float = 0.0
    r_peak: float = 0.0
    labels: int = 0
    k: float = 1.0
    audits_all: bool = False
    tightened: tuple[str, ...] = ()
    proofs: dict[str, float] = field(default_factory=dict)
    cursor: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What was observed. `counts` and `monitor` are None where the gateway could not be asked: nothing is concluded.

    `readings` is keyed by guardrail name; a guardrail without a series is not in it. `authority`: permits may be signed
    above Copilot. `admission`: the policies that guard status and promotion are in force. `reported` is what gateways
    say was taken back.
    """

    counts: CounterFacts | None = None
    readings: dict[str, Reading] = field(default_factory=dict)
    monitor: MonitorFact | None = None
    jobs: Mapping[str, JobFact] = field(default_factory=dict)
    endpoints: Mapping[str, EndpointFact] = field(default_factory=dict)
    authority: bool = True
    admission: bool = True
    clock_skew_seconds: float = 0.0
    permit_epoch: int = 0
    reported: Revocation | None = None


class JobPhase(StrEnum):
    """What Jobs are of, in the order they run; manifests/job.py names the trainer's command of each."""

    POLICY = "policy"
    CRITIC = "critic"
    CALIBRATE = "calibrate"


@dataclass(frozen=True, slots=True)
class WantedJob:
    """A Job that should exist: created once under its name, never changed. Times are RFC 3339, empty for open.

    `start_from` is the revision that a policy is made to replace, `calibration` which attempt to certify it is.
    """

    name: str
    phase: JobPhase
    revision: str
    since: str = ""
    until: str = ""
    fresh_after: str = ""
    start_from: str = ""
    held_out_after: str = ""
    held_out_share: str = ""
    policy_url: str = ""
    critic_url: str = ""
    policy_digest: str = ""
    calibration: int = 1


@dataclass(frozen=True, slots=True)
class WantedEndpoint:
    """A model server that should exist. `phase` is POLICY or CRITIC: which artefact of the revision it serves."""

    name: str
    phase: JobPhase
    revision: str


@dataclass(frozen=True, slots=True)
class LifecycleDecision:
    """What the world should be like. Endpoints neither wanted nor kept are retired, Jobs of other revisions too.

    `revoked`: leave is taken back, which has to be published before anything else is done.
    """

    status: ProcessClusterStatus
    leave: Leave
    jobs: tuple[WantedJob, ...] = ()
    endpoints: tuple[WantedEndpoint, ...] = ()
    kept_endpoints: frozenset[str] = frozenset()
    kept_revisions: frozenset[str] = frozenset()
    kept_jobs: frozenset[str] = frozenset()
    revoked: bool = False
