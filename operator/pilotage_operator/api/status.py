"""ProcessCluster's status: everything the controller has to remember, and everything `pilotage explain` needs.

Written by the controller alone (an admission policy sees to it). A restart of the controller reads it back and goes on.
Times are RFC 3339 in UTC; decimals are strings; certificates are core/certificate.py's own JSON.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import Field

from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind
from pilotage_core.guardrail import GuardrailVerdict
from pilotage_core.score import CRITIC_ALONE, ScoreRule
from pilotage_core.stage import UNATTENDED, Stage
from pilotage_operator.api.fields import MAP_BY_NAME, OPEN, StatusModel
from pilotage_operator.api.pipeline import Pipeline


class Transition(StatusModel):
    """One change of the effective stage."""

    stage: Stage
    """The stage from then on."""
    earned: Stage
    """The stage it had earned."""
    at: str
    """When it came about."""
    reason: str
    """Why it came about."""


class RollbackStatus(StatusModel):
    """The last rollback."""

    id: str
    """What `spec.acknowledgedRollback` has to say to lift the latch."""
    reason: str
    """Why, in words."""
    at: str
    """When it came about."""
    guardrail: str
    """The guardrail that was breached."""
    value: str | None = None
    """Its figure then."""
    pair: str = ""
    """The pair that was in use."""
    latched: bool = True
    """Whether it still holds."""
    acknowledged: bool = False
    """Whether a person has lifted it."""


class SupervisionStatus(StatusModel):
    """Sessions, counted by the gateway from its records."""

    sessions: int = 0
    """All closed ones."""
    demonstrations: int = 0
    """Those worked by operators."""
    feedback_sessions: int = 0
    """Those with verdicts on proposals."""
    fresh_sessions: int = 0
    """Those since a rollback or a failed attempt."""
    calibration_sessions: int = 0
    """Those in Calibration, under the current pair."""


class Baseline(StatusModel):
    """Counts as they stood when something began, so that what came since is a difference of two counts from records."""

    sessions: int = 0
    """Closed sessions."""
    calibration_sessions: int = 0
    """Sessions in Calibration."""
    reviewed: int = 0
    """Reviewed endings."""
    rejected: int = 0
    """Rejected ones of those."""
    executed: int = 0
    """Critical actions that ran unattended."""
    corrections: int = 0
    """Corrected ones of those."""
    unasked: int = 0
    """Sessions that nobody was asked about before their ending."""
    unasked_wrong: int = 0
    """Those of them that came out wrong."""
    label_cursor: int = 0
    """The number of the newest label."""


class SessionsStatus(StatusModel):
    """Sessions that nobody was asked about before their ending, since this pair was certified."""

    target: str
    """Share of them that has to come out right."""
    unasked: int = 0
    """How many there were of which it is known how they came out."""
    wrong: int = 0
    """Those that came out wrong."""
    bound: str = ""
    """At least this share comes out right, wrong with the gate's δ at most, whenever it is looked at."""
    certified: bool = False
    """Whether the bound reaches the target."""


class DialogStatus(StatusModel):
    """How a pair reads sessions, and gateways write them for it (core/dialog.py)."""

    snapshot: SnapshotKind = DEFAULT_FORMAT.snapshot
    """How a changed screen is written."""
    max_chars: int = DEFAULT_FORMAT.max_chars
    """Beyond that many characters old lines are trimmed."""
    block_chars: int = DEFAULT_FORMAT.block_chars
    """Characters that are trimmed at a time."""

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
    """The weight of the critic's log-odds."""
    confidence: str = "0.0"
    """The weight of the confidence's."""
    bias: str = "0.0"
    """What is added."""

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
    """Its name: r1, r2, and so on."""
    policy_digest: str = ""
    """Of the policy's artefact."""
    critic_digest: str = ""
    """Of the critic's."""
    policy_endpoint: str = ""
    """The InferenceService of the policy."""
    critic_endpoint: str = ""
    """That of the critic."""
    policy_url: str = ""
    """Where gateways ask the policy."""
    critic_url: str = ""
    """Where they ask the critic."""
    dialog: DialogStatus = DialogStatus()
    """How sessions are written for it."""
    score: ScoreStatus = ScoreStatus()
    """What makes its score of critic and confidence."""


class Retiring(StatusModel):
    """An endpoint nothing refers to any more; it stays until gateways with an older snapshot cannot ask it."""

    endpoint: str
    """The InferenceService."""
    until: str
    """It goes then."""


class TauStatus(StatusModel):
    """A certificate in short, for people and dashboards."""

    tau: str
    """The score that a critical action needs."""
    labels: int
    """Held-out labels."""
    selected: int
    """Those at or above τ."""
    errors: int
    """Wrong ones of those."""
    target: str
    """The precision it is certified for."""
    delta: str
    """The chance that it is wrong."""
    bound: str
    """Lower confidence bound of the precision."""
    coverage: str
    """Share of the labels at or above τ."""
    labels_from: str
    """live, replay or both."""
    issued_at: str
    """When it was issued."""
    days: int = 0
    """Effective days that the labels were given on; 0 where they are not told."""
    score_from: ScoreSource | None = None
    """What the score is."""
    tightened_to: str = ""
    """The stricter τ that counts since R called for it; `nothing` where there is none."""


class GuardrailReading(StatusModel):
    """One guardrail now."""

    name: str
    """The guardrail."""
    verdict: GuardrailVerdict
    """What it says now."""
    detail: str = ""
    """Why it says so."""
    value: str | None = None
    """The last trustworthy figure."""
    samples: int = 0
    """What it is made of."""
    threshold: str = ""
    """The limit."""
    since: str = ""
    """When the verdict came about."""
    breached_since: str | None = None
    """What `forSeconds` counts from."""
    missing_since: str | None = None
    """What `graceSeconds` counts from."""
    reported: bool = False
    """Whether it has ever said anything."""
    dry_run: bool = False
    """Whether it only tells."""


class UnmetStatus(StatusModel):
    """One thing missing for the next stage, with the number it is at."""

    condition: str
    """What is missing."""
    have: str
    """What it is at."""
    need: str
    """What it has to reach."""


class Condition(StatusModel):
    """A condition as in Kubernetes."""

    type: str
    """Ready, Reconciling or Stalled."""
    status: str
    """True, False or Unknown."""
    reason: str
    """In one word."""
    message: str = ""
    """In words."""
    last_transition_time: str
    """When the status changed."""


class ProcessClusterStatus(StatusModel):
    """What the controller knows and remembers of one process cluster."""

    stage: Stage = Stage.LOGGING
    """How much the model may do now."""
    earned: Stage = Stage.LOGGING
    """What it has earned; caps hold the stage below it."""
    stage_since: str = ""
    """Since when the stage is what it is."""
    ceiling: Stage = Stage.LOGGING
    """The highest stage that people allow."""
    held_by: str = ""
    """What holds it below what it has earned."""
    rolled_back_by: str = ""
    """The guardrail whose breach holds it at Copilot; empty where nothing is latched."""
    observed_generation: int = 0
    """The generation of the spec that this is of."""
    rollback: RollbackStatus | None = None
    """The last rollback."""
    acknowledged: str = ""
    """The rollback that people have acknowledged."""
    rollbacks: Annotated[tuple[str, ...], Field(max_length=100)] = ()
    """Times of the rollbacks that the flap budget counts."""
    supervision: SupervisionStatus = SupervisionStatus()
    """Sessions, counted by the gateway from its records."""
    baseline: Baseline = Baseline()
    """Counts as they stood when this stage or attempt began."""
    first_seen: str = ""
    """When the controller first saw it."""
    copilot_since: str = ""
    """Since when it has been in Copilot or above."""
    pair: PairStatus | None = None
    """The current pair."""
    candidate: PairStatus | None = None
    """The pair in the making."""
    retiring: Annotated[tuple[Retiring, ...], Field(max_length=16)] = ()
    """Endpoints that nothing refers to any more."""
    pipeline: Pipeline | None = None
    """Where the making of the next pair stands."""
    certificates: Annotated[
        tuple[Annotated[dict[str, Any], Field(json_schema_extra=OPEN)], ...], Field(max_length=32)
    ] = ()
    """The certificates, whole."""
    certified_after: str = ""
    """Labels newer than that were held out."""
    tau: dict[str, TauStatus] = Field(default_factory=dict)
    """Certificates in short, by stratum."""
    tightened: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    """Strata whose τ is a step stricter than certified."""
    tau_summary: str = ""
    """τ by stratum, in one line."""
    precision: str = ""
    """Lower confidence bound of the precision, the lowest of the strata."""
    coverage: str = ""
    """Share of held-out actions at or above τ."""
    permit_epoch: int = 0
    """The epoch of the controller that wrote this."""
    sessions: SessionsStatus | None = None
    """What is certified of sessions that nobody is asked about; left out where people end all sessions."""
    ends: str = ""
    """Who ends sessions now: Human or Model."""
    metrics: dict[str, str] = Field(default_factory=dict)
    """What the Jobs measured."""
    transitions: Annotated[tuple[Transition, ...], Field(max_length=20)] = ()
    """Changes of the stage, newest last."""
    guardrails: Annotated[tuple[GuardrailReading, ...], Field(max_length=16, json_schema_extra=MAP_BY_NAME)] = ()
    """Each guardrail now."""
    unmet: Annotated[tuple[UnmetStatus, ...], Field(max_length=32)] = ()
    """What is missing for the next stage."""
    conditions: Annotated[
        tuple[Condition, ...],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = ()
    """Conditions as in Kubernetes."""
    kopf: Annotated[dict[str, Any] | None, Field(json_schema_extra=OPEN)] = None
    """kopf's own."""


def read_time(text: str) -> float:
    """RFC 3339 → seconds since the epoch; 0 for an empty text."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def write_time(seconds: float) -> str:
    """Seconds since the epoch → RFC 3339 in UTC, to the millisecond; empty for 0."""
    if not seconds:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_status(raw: Mapping[str, object]) -> ProcessClusterStatus:
    """The status as written down. A rollback has a field manager of its own: where a leader was cut off between its two
    writes, it stands beside what had been earned before it, and takes that away.
    """
    status = ProcessClusterStatus.model_validate(raw)
    if status.rollback is not None and status.rollback.latched and status.earned in UNATTENDED:
        stage = min(status.stage, Stage.COPILOT, key=lambda stage: stage.rank)
        return status.model_copy(update={"earned": Stage.COPILOT, "stage": stage})
    return status
