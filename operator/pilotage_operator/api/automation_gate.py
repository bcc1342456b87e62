"""AutomationGate: what evidence leave to act rests on, and what takes it back."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pilotage_core.guardrail import Comparator, OnMissingData
from pilotage_core.stage import Stage
from pilotage_operator.api.fields import (
    MAP_BY_NAME,
    SET,
    ApiModel,
    Decimal,
    InnerShare,
    Name,
    Share,
    Stratum,
    cel,
    cel_extra,
)

KIND = "AutomationGate"
PLURAL = "automationgates"

Target = Annotated[
    str,
    Field(
        max_length=10,
        pattern=r"^0\.[0-9]{1,6}$",
        json_schema_extra=cel_extra(("double(self) >= 0.5", "a precision target below 0.5 is no target")),
    ),
]
Delta = Annotated[
    str,
    Field(
        max_length=10,
        pattern=r"^0\.[0-9]{1,6}$",
        json_schema_extra=cel_extra(("double(self) > 0.0 && double(self) <= 0.2", "must be above 0 and at most 0.2")),
    ),
]


class BuiltIn(StrEnum):
    """Figures the controller knows how to ask for, one vector query each for all process clusters."""

    CORRECTIVE_INTERVENTION_RATE = "CorrectiveInterventionRate"
    FINALIZATION_REJECTION_RATE = "FinalizationRejectionRate"
    UNASKED_WRONG_RATE = "UnaskedWrongRate"
    PRECISION_ALARM = "PrecisionAlarm"
    REJECTION_RATE = "RejectionRate"  # operators' verdicts that are no unedited accept
    DEFERRAL_RATE = "DeferralRate"  # decisions that an operator is asked about, or gets the wheel by
    HAND_OFF_RATE = "HandOffRate"  # decisions that give an operator the wheel
    INVALID_STATE_RATE = "InvalidStateRate"  # decisions in which a screen failed its schema
    LOOP_RATE = "LoopRate"  # decisions that broke a loop off


class GateStratum(ApiModel):
    """A stratum that may be certified; `delta` of the gate is split evenly over all of them."""

    name: Stratum
    """Its name, as `actions.strata` of process clusters have it."""
    precision_target: Target | None = None
    """The precision to certify in it. Left out: the gate's."""


class Certify(StrEnum):
    """Whose labels τ has to hold on before Automation."""

    FRESH = "Fresh"  # Calibration's own too: states that nobody has put right
    COPILOT = "Copilot"  # those it was chosen by


class Calibration(ApiModel):
    """What is held out of supervision, and what Calibration has to show before Automation."""

    held_out_share: InnerShare = "0.5"
    """Newest share of the sessions with feedback that certifies and never trains."""
    min_sessions: Annotated[int, Field(ge=20, le=1_000_000)] = 500
    """Sessions in Calibration before Automation."""
    certify: Certify = Certify.FRESH
    """Fresh: Calibration certifies each stratum's precision anew, on its own labels alone, before Automation. In
    Copilot operators put right what a model's next action is then measured in. Copilot: those labels are enough.
    """
    max_finalization_rejection: Share = "0.1"
    """Highest share of proposed endings that operators reject in Calibration, by an anytime-valid bound."""
    max_corrective_intervention: Share = "0.1"
    """Highest share of executed actions that operators correct in Calibration, by the same."""
    audit_share: InnerShare = "0.1"
    """Share of certified actions that are proposed all the same, blind."""
    always_calibrating: Share = "0.0"
    """Share of sessions that stays in Calibration where the others are in Automation, for ever: each of their endings
    is reviewed, a share of their actions audited before they run, so that evidence never dries up.
    """


class FinalizationMode(StrEnum):
    """Who ends a session."""

    HUMAN = "Human"  # an operator, always
    AUTO = "Auto"  # the model, in Automation, once its sessions are certified


class Finalization(ApiModel):
    """Who ends a session, and what of sessions has to be certified before a model does.

    The evidence is sessions that nobody was asked about before their ending, and how the BPM says they came out. It is
    of one pair, and looked at by an anytime-valid bound.
    """

    mode: FinalizationMode = FinalizationMode.HUMAN
    """Who ends a session. Human: an operator, always. Auto: in Automation the model, while its sessions are certified;
    and once an operator was asked in a session, all that is critical in it is.
    """
    session_target: Target = "0.9"
    """Share of the sessions that run wholly unattended which has to come out right."""
    session_delta: Delta = "0.05"
    """The chance that this certificate is wrong, over all attempts of a process cluster."""
    review_share: InnerShare = "0.1"
    """Share of certified endings that is put to an operator for ever, with all that ran before them."""
    spoilt_end_wrong: Share = "1"
    """Share of the sessions that an error of a model spoils which end wrong for it, as far as is known: τ are chosen by
    it, and nothing is certified by it.
    """


class Guardrail(ApiModel):
    """One figure that is watched."""

    model_config = cel(
        (
            "self.builtin == 'PrecisionAlarm' || double(self.threshold) <= 1.0",
            "a rate is a share: its threshold must be at most 1",
        ),
        (
            "self.builtin != 'PrecisionAlarm' || double(self.threshold) >= 100.0",
            "PrecisionAlarm compares a Shiryaev-Roberts statistic: a threshold below 100 alarms on noise",
        ),
        ("self.comparator in ['>', '>=']", "every built-in figure is worse when it is higher: use > or >="),
    )

    name: Name
    """Its name in status, events and alerts."""
    builtin: BuiltIn
    """The figure that is watched, of each process cluster and pair."""
    stages: Annotated[
        tuple[Stage, ...],
        Field(
            min_length=1,
            max_length=3,
            json_schema_extra=SET
            | cel_extra(("self.all(s, s != 'Logging')", "nothing is watched in Logging: no model acts there")),
        ),
    ] = (Stage.CALIBRATION, Stage.AUTOMATION)
    """The stages it applies in."""
    comparator: Comparator
    """How the figure is held against the threshold: breached where true."""
    threshold: Decimal
    """The limit: a share, or of PrecisionAlarm a Shiryaev-Roberts statistic."""
    window_seconds: Annotated[int, Field(ge=10, le=604_800)] = 3600
    """The time that the figure is of."""
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """With fewer it is Insufficient."""
    for_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    """It must stay breached so long."""
    grace_seconds: Annotated[int, Field(ge=0, le=86_400)] = 60
    """It may be missing so long."""
    on_missing_data: OnMissingData = OnMissingData.CAP
    """What happens after that. Cap: at most Copilot, until it is there again. Rollback: as for a breach."""
    dry_run: bool = False
    """Its verdicts are told, and nothing follows from them."""


class Rollback(ApiModel):
    """How long nothing climbs after a rollback, and after how many of them only a person lets it climb."""

    cooldown_seconds: Annotated[int, Field(ge=0, le=2_592_000)] = 3600
    """Nothing climbs so long after a rollback."""
    flap_budget: Annotated[int, Field(ge=1, le=100)] = 3
    """After so many rollbacks within a day only a person lets it climb."""


class PermitTerms(ApiModel):
    """How long a gateway may act on a permit without hearing from the controller."""

    ttl_seconds: Annotated[int, Field(ge=3, le=60)] = 10
    """The permit lapses so long after it was asked for."""


class AutomationGateSpec(ApiModel):
    """The evidence that leave to act rests on, and what takes it back."""

    model_config = cel(
        (
            "self.guardrails.exists(g, g.builtin == 'CorrectiveInterventionRate' && !g.dryRun)"
            " || self.guardrails.exists(g, g.builtin == 'PrecisionAlarm' && !g.dryRun)",
            "one guardrail on what is executed (CorrectiveInterventionRate, PrecisionAlarm) must not be a dry run",
        ),
        (
            "!has(self.finalization) || !has(self.finalization.mode) || self.finalization.mode != 'Auto'"
            " || self.guardrails.exists(g, g.builtin == 'UnaskedWrongRate' && !g.dryRun)",
            "where a model may end sessions a guardrail UnaskedWrongRate must not be a dry run",
        ),
    )

    precision_target: Target = "0.9"
    """The precision that a τ is certified for: the share of actions that an operator would accept as they are."""
    delta: Delta = "0.05"
    """The chance that any τ of a process cluster is wrong; shared evenly by the strata. Raising it needs the verb
    `promote`.
    """
    strata: Annotated[tuple[GateStratum, ...], Field(min_length=1, max_length=16, json_schema_extra=MAP_BY_NAME)]
    """The strata that may be certified."""
    calibration: Calibration = Calibration()
    """What is held out, and what Calibration has to show."""
    finalization: Finalization = Finalization()
    """Who ends a session."""
    guardrails: Annotated[tuple[Guardrail, ...], Field(min_length=1, max_length=16, json_schema_extra=MAP_BY_NAME)]
    """Figures that send a process cluster back to Copilot."""
    rollback: Rollback = Rollback()
    """What follows a rollback."""
    permit: PermitTerms = PermitTerms()
    """How long a gateway may act without hearing from the controller."""
