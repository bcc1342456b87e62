"""ProcessCluster's status: everything the controller has to remember, and everything `pilotage explain` needs.

Written by the controller alone (an admission policy sees to it). A restart of the controller reads it back and goes on.
Times are RFC 3339 in UTC; decimals are strings; certificates are core/certificate.py's own JSON.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field

from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, Snapshot
from pilotage_core.guardrail import GuardrailVerdict
from pilotage_core.score import CRITIC_ALONE, ScoreRule
from pilotage_core.stage import Stage
from pilotage_operator.api.fields import MAP_BY_NAME, ApiModel


class StatusModel(ApiModel):
    """A part of a status. What a newer release wrote in it is kept and written back: nothing that is stored is lost."""

    model_config = ConfigDict(**{**ApiModel.model_config, "extra": "allow"})


OPEN: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}


class Phase(StrEnum):
    """What the pipeline of a process cluster is at. The order is that of a climb; a rollback leads to FRESH."""

    DEMONSTRATIONS = "Demonstrations"  # waiting for operators' work
    POLICY = "Policy"  # Job
    POLICY_ENDPOINT = "PolicyEndpoint"
    FEEDBACK = "Feedback"  # waiting for verdicts on proposals
    CRITIC = "Critic"  # Job
    CRITIC_ENDPOINT = "CriticEndpoint"
    CALIBRATE = "Calibrate"  # Job
    CERTIFIED = "Certified"  # nothing to do
    FRESH = "Fresh"  # rolled back, or nothing was certified: waiting for new sessions


class PhaseState(StrEnum):
    """How the phase fares."""

    WAITING = "Waiting"
    RUNNING = "Running"
    REFUSED = "Refused"  # its Job is asked for, and not let in: a quota, an admission policy
    FAILED = "Failed"  # retried after `retryAt`
    STALLED = "Stalled"  # not retried until a manifest or the image changes
    DONE = "Done"


class Transition(StatusModel):
    """One change of the effective stage."""

    stage: Stage
    earned: Stage
    at: str
    reason: str


class RollbackStatus(StatusModel):
    """The last rollback. `latched` until fresh evidence or `spec.acknowledgedRollback` lifts it."""

    id: str
    reason: str
    at: str
    guardrail: str
    value: str | None = None
    pair: str = ""
    latched: bool = True
    acknowledged: bool = False


class SupervisionStatus(StatusModel):
    """Sessions, counted by the gateway from its records; `freshSessions` since a rollback or failed attempt."""

    sessions: int = 0
    demonstrations: int = 0
    feedback_sessions: int = 0
    fresh_sessions: int = 0
    calibration_sessions: int = 0


class Baseline(StatusModel):
    """Counts as they stood when something began, so that what came since is a difference of two counts from records."""

    sessions: int = 0
    calibration_sessions: int = 0
    reviewed: int = 0
    rejected: int = 0
    executed: int = 0
    corrections: int = 0
    label_cursor: int = 0


class DialogStatus(StatusModel):
    """How a pair reads sessions, and gateways write them for it (core/dialog.py)."""

    snapshot: Snapshot = DEFAULT_FORMAT.snapshot
    max_chars: int = DEFAULT_FORMAT.max_chars
    block_chars: int = DEFAULT_FORMAT.block_chars

    @classmethod
    def of(cls, form: DialogFormat) -> Self:
        """`form` as a status holds it."""
        return cls(snapshot=form.snapshot, max_chars=form.max_chars, block_chars=form.block_chars)

    @property
    def form(self) -> DialogFormat:
        """The same for the serialiser. The default is DEFAULT_FORMAT itself: JSON would not leave out an equal one."""
        form = DialogFormat(self.snapshot, self.max_chars, self.block_chars)
        return DEFAULT_FORMAT if form == DEFAULT_FORMAT else form


class ScoreStatus(StatusModel):
    """What a critic's answer and the policy's confidence make of an action (core/score.py); decimals as text."""

    critic: str = "1.0"
    confidence: str = "0.0"
    bias: str = "0.0"

    @classmethod
    def of(cls, rule: ScoreRule) -> Self:
        """`rule` as a status holds it."""
        return cls(critic=repr(rule.critic), confidence=repr(rule.confidence), bias=repr(rule.bias))

    @property
    def rule(self) -> ScoreRule:
        """The same for the gateway. The default is CRITIC_ALONE itself: JSON would not leave out an equal one."""
        rule = ScoreRule(float(self.critic), float(self.confidence), float(self.bias))
        return CRITIC_ALONE if rule == CRITIC_ALONE else rule


class PairStatus(StatusModel):
    """One revision of policy and critic: digests once trained, endpoints and URLs once served."""

    revision: str
    policy_digest: str = ""
    critic_digest: str = ""
    policy_endpoint: str = ""
    critic_endpoint: str = ""
    policy_url: str = ""
    critic_url: str = ""
    dialog: DialogStatus = DialogStatus()
    score: ScoreStatus = ScoreStatus()


class Retiring(StatusModel):
    """An endpoint nothing refers to any more; it stays until gateways with an older snapshot cannot ask it."""

    endpoint: str
    until: str


class Pipeline(StatusModel):
    """Where the making of the next pair stands. `attempt` counts tries of critic and calibration with one policy.

    `reason` is what the phase waits for or failed with; `lastOutcome` why the last attempt was not good enough.
    `job` is the Job of this phase, if it is one. `windowSince` and `windowUntil` bound the sessions it learns from;
    sessions closed after `heldOutAfter` are held out for calibration. `freshAfter` is the rollback's time.
    """

    revision: str
    phase: Phase
    state: PhaseState
    since: str
    attempt: int = 1
    job: str = ""
    window_since: str = ""
    window_until: str = ""
    held_out_after: str = ""
    fresh_after: str = ""
    failures: int = 0
    retry_at: str = ""
    stalled_at: str = ""
    reason: str = ""
    last_outcome: str = ""


class TauStatus(StatusModel):
    """A certificate in short, for people and dashboards. Without `scoreFrom` it is not told.

    `tightenedTo` is the stricter τ in force since R called for it, `nothing` where there is no stricter one.
    """

    tau: str
    labels: int
    selected: int
    errors: int
    target: str
    delta: str
    bound: str
    coverage: str
    labels_from: str
    issued_at: str
    score_from: ScoreSource | None = None
    tightened_to: str = ""


class GuardrailReading(StatusModel):
    """One guardrail now. `since` is when its verdict came about; `value` the last trustworthy one.

    `breachedSince` and `missingSince` are what `for` and grace count from; `reported`: it has ever said anything.
    """

    name: str
    verdict: GuardrailVerdict
    detail: str = ""
    value: str | None = None
    samples: int = 0
    threshold: str = ""
    since: str = ""
    breached_since: str | None = None
    missing_since: str | None = None
    reported: bool = False
    dry_run: bool = False


class UnmetStatus(StatusModel):
    """One thing missing for the next stage, with the number it is at."""

    condition: str
    have: str
    need: str


class Condition(StatusModel):
    """A condition as in Kubernetes."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str


class ProcessClusterStatus(StatusModel):
    """What the controller knows and remembers of one process cluster."""

    stage: Stage = Stage.LOGGING
    earned: Stage = Stage.LOGGING
    stage_since: str = ""
    ceiling: Stage = Stage.LOGGING
    held_by: str = ""
    observed_generation: int = 0
    rollback: RollbackStatus | None = None
    acknowledged: str = ""
    rollbacks: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    supervision: SupervisionStatus = SupervisionStatus()
    baseline: Baseline = Baseline()
    first_seen: str = ""
    copilot_since: str = ""
    pair: PairStatus | None = None
    candidate: PairStatus | None = None
    retiring: Annotated[tuple[Retiring, ...], Field(max_length=16)] = ()
    pipeline: Pipeline | None = None
    certificates: Annotated[
        tuple[Annotated[dict[str, Any], Field(json_schema_extra=OPEN)], ...], Field(max_length=32)
    ] = ()
    certified_after: str = ""
    tau: dict[str, TauStatus] = Field(default_factory=dict)
    tightened: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    tau_summary: str = ""
    precision: str = ""
    coverage: str = ""
    permit_epoch: int = 0
    metrics: dict[str, str] = Field(default_factory=dict)
    transitions: Annotated[tuple[Transition, ...], Field(max_length=20)] = ()
    guardrails: Annotated[tuple[GuardrailReading, ...], Field(max_length=16, json_schema_extra=MAP_BY_NAME)] = ()
    unmet: Annotated[tuple[UnmetStatus, ...], Field(max_length=32)] = ()
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    kopf: Annotated[dict[str, Any] | None, Field(json_schema_extra=OPEN)] = None


def read_time(text: str) -> float:
    """RFC 3339 → seconds since the epoch; 0 for an empty text."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def write_time(seconds: float) -> str:
    """Seconds since the epoch → RFC 3339 in UTC, to the millisecond; empty for 0."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
