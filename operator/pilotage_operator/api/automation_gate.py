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
    PRECISION_ALARM = "PrecisionAlarm"


class GateStratum(ApiModel):
    """A stratum that may be certified; `delta` of the gate is split evenly over all of them."""

    name: Stratum
    precision_target: Target | None = None


class Calibration(ApiModel):
    """Held-out share of supervision, and what Calibration has to show before Automation.

    `alwaysCalibrating`, the share of sessions that stays in Calibration for ever, is not acted on yet.
    """

    held_out_share: InnerShare = "0.5"
    min_sessions: Annotated[int, Field(ge=20, le=1_000_000)] = 500
    max_finalization_rejection: Share = "0.1"
    max_corrective_intervention: Share = "0.1"
    audit_share: InnerShare = "0.1"
    always_calibrating: Share = "0.0"


class FinalizationMode(StrEnum):
    """Who ends a session."""

    HUMAN = "Human"


class Finalization(ApiModel):
    """Who ends a session."""

    mode: FinalizationMode = FinalizationMode.HUMAN


class Guardrail(ApiModel):
    """One figure that is watched: `forSeconds` it must stay breached, `graceSeconds` it may be missing."""

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
    builtin: BuiltIn
    stages: Annotated[
        tuple[Stage, ...],
        Field(
            min_length=1,
            max_length=3,
            json_schema_extra=SET
            | cel_extra(("self.all(s, s != 'Logging')", "nothing is watched in Logging: no model acts there")),
        ),
    ] = (Stage.CALIBRATION, Stage.AUTOMATION)
    comparator: Comparator
    threshold: Decimal
    window_seconds: Annotated[int, Field(ge=10, le=604_800)] = 3600
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    for_seconds: Annotated[int, Field(ge=0, le=86_400)] = 0
    grace_seconds: Annotated[int, Field(ge=0, le=86_400)] = 60
    on_missing_data: OnMissingData = OnMissingData.CAP
    dry_run: bool = False


class Rollback(ApiModel):
    """How long nothing climbs after a rollback, and after how many of them only a person lets it climb."""

    cooldown_seconds: Annotated[int, Field(ge=0, le=2_592_000)] = 3600
    flap_budget: Annotated[int, Field(ge=1, le=100)] = 3


class PermitTerms(ApiModel):
    """How long a gateway may act on a permit without hearing from the controller."""

    ttl_seconds: Annotated[int, Field(ge=3, le=60)] = 10


class AutomationGateSpec(ApiModel):
    """The evidence that leave to act rests on, and what takes it back."""

    model_config = cel(
        (
            "self.guardrails.exists(g, g.builtin == 'CorrectiveInterventionRate' && !g.dryRun)"
            " || self.guardrails.exists(g, g.builtin == 'PrecisionAlarm' && !g.dryRun)",
            "one guardrail on what is executed (CorrectiveInterventionRate, PrecisionAlarm) must not be a dry run",
        )
    )

    precision_target: Target = "0.9"
    delta: Delta = "0.05"
    strata: Annotated[tuple[GateStratum, ...], Field(min_length=1, max_length=16, json_schema_extra=MAP_BY_NAME)]
    calibration: Calibration = Calibration()
    finalization: Finalization = Finalization()
    guardrails: Annotated[tuple[Guardrail, ...], Field(min_length=1, max_length=16, json_schema_extra=MAP_BY_NAME)]
    rollback: Rollback = Rollback()
    permit: PermitTerms = PermitTerms()
