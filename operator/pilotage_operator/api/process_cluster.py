"""ProcessCluster: a slice of sessions, how far people let its model go, and what counts as an action of weight in it.

Its status, which only the controller writes, is in api/status.py.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pilotage_core.actions import UNCRITICAL, Tool
from pilotage_core.stage import Stage
from pilotage_operator.api.fields import SET, ApiModel, NameRef, Stratum, cel, cel_extra

KIND = "ProcessCluster"
PLURAL = "processclusters"

Value = Annotated[str, Field(min_length=1, max_length=128)]
Glob = Annotated[str, Field(max_length=128)]


class MatchOperator(StrEnum):
    """How a value of session metadata is compared. AllIn: every item of a comma-separated list is among the values."""

    IN = "In"
    NOT_IN = "NotIn"
    ALL_IN = "AllIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Promotion(StrEnum):
    """Who promotes: the controller by itself, or a person by raising maxStage."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class SelectorTerm(ApiModel):
    """One condition over session metadata."""

    model_config = cel(
        (
            "self.operator in ['In', 'NotIn', 'AllIn'] ? size(self.values) > 0 : size(self.values) == 0",
            "In, NotIn and AllIn need values; Exists and DoesNotExist take none",
        )
    )

    key: Annotated[str, Field(min_length=1, max_length=63)]
    """The field of the session's metadata."""
    operator: MatchOperator
    """How its value is compared. AllIn: every item of a comma-separated list is among the values."""
    values: Annotated[tuple[Value, ...], Field(max_length=64, json_schema_extra=SET)] = ()
    """What it is compared with."""


class Pattern(ApiModel):
    """Which actions a rule speaks of: shell patterns; what is left out matches everything."""

    model_config = cel(
        (
            "self.tool != '' || self.control != '' || self.screen != ''",
            "a pattern names a tool, a control or a screen",
        )
    )

    tool: Annotated[str, Field(max_length=40, pattern=r"^[a-z_*?]*$")] = ""
    """The action's tool; `*` and `?` stand for anything. Empty: any."""
    control: Glob = ""
    """The control's id. Empty: any."""
    screen: Glob = ""
    """The screen's name. Empty: any."""


class StratumMatch(ApiModel):
    """Actions that match share the threshold of one stratum; the first that matches wins."""

    match: Pattern
    """Which actions."""
    stratum: Stratum
    """Their stratum."""


class NextStep(ApiModel):
    """After an action that matches `after`, only what matches one of `allowed` is a legal next step."""

    after: Pattern
    """The last action."""
    allowed: Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=32)]
    """What may follow it."""


CLICKS_ARE_NAMED = (
    "(self.tool != '' && !self.tool.contains('*') && !self.tool.contains('?') && self.tool != 'click_control') "
    "|| (self.control != '' && self.screen != '')",
    "a click is uncritical only by a pattern that names control and screen: submits are clicks too",
)
NO_LAST_WORDS = (
    "!(self.tool in ['send_text_to_chat', 'close_chat', 'transfer_chat'])",
    "what the customer reads and what ends the session is always critical",
)


class UncriticalPattern(Pattern):
    """Actions that only navigate or fill in: they run without a score."""

    model_config = cel(
        ("self.tool != '' || self.control != '' || self.screen != ''", "a pattern names a tool, a control or a screen"),
        CLICKS_ARE_NAMED,
        NO_LAST_WORDS,
    )


Patterns = Annotated[tuple[Pattern, ...], Field(max_length=64)]
StopText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        # matches() of a pattern that is no RE2 expression is an evaluation error, and so a refusal.
        json_schema_extra=cel_extra(("'text'.matches(self) in [true, false]", "must be a regular expression (RE2)")),
    ),
]


class Actions(ApiModel):
    """What may run without a score, what ends a session, what never runs unattended, when operators get the wheel.

    Everything is critical that `uncritical` does not list, or whose control or screen no schema knows.
    """

    model_config = cel(
        (
            "!has(self.critical) || size(self.critical) == 0",
            "critical is no more: every action is critical unless spec.actions.uncritical lists it",
        )
    )

    critical: Annotated[Patterns, Field(description="No more: list what is not critical in uncritical.")] = ()
    uncritical: Annotated[tuple[UncriticalPattern, ...], Field(max_length=64)] = tuple(
        UncriticalPattern(tool=pattern.tool) for pattern in UNCRITICAL
    )
    """Actions that run without a score: they only navigate or fill in."""
    finalizing: Patterns = ()
    """Actions that end a session, beside close_chat and transfer_chat."""
    strata: Annotated[tuple[StratumMatch, ...], Field(max_length=32)] = ()
    """Which actions share one τ; the first that matches wins."""
    unattended_in_copilot: Patterns = ()
    """Uncritical actions that run in Copilot too, where everything else is proposed."""
    stop_list: Patterns = ()
    """Actions that never run unattended."""
    stop_texts: Annotated[tuple[StopText, ...], Field(max_length=64)] = ()
    """Regular expressions (RE2): a message that matches never leaves unattended."""
    next_steps: Annotated[tuple[NextStep, ...], Field(max_length=32)] = ()
    """The only legal steps after an action; where no rule speaks of it, all are."""
    tools: Annotated[tuple[Tool, ...], Field(max_length=9, json_schema_extra=SET)] = ()
    """The tools that may be proposed. Empty: all nine."""
    transfer_targets: Annotated[tuple[Value, ...], Field(max_length=64, json_schema_extra=SET)] = ()
    """Where transfer_chat may go."""
    same_action_limit: Annotated[int, Field(ge=2, le=100)] = 3
    """The same action that often in a row, without a change, is a loop: the operator takes over."""
    no_progress_limit: Annotated[int, Field(ge=2, le=1000)] = 30
    """That many actions without a change are a loop."""


class Supervision(ApiModel):
    """How much of people's work has to be seen before a model is made of it."""

    model_config = cel(
        (
            "self.rollingWindowSessions >= self.minDemonstrations",
            "rollingWindowSessions must be at least minDemonstrations",
        )
    )

    min_demonstrations: Annotated[int, Field(ge=20, le=10_000_000)] = 1000
    """Sessions worked by operators before a policy is trained."""
    min_feedback: Annotated[int, Field(ge=20, le=10_000_000)] = 1000
    """Sessions with verdicts on proposals before a critic is trained."""
    minimum_cycle_seconds: Annotated[int, Field(ge=0, le=31_536_000)] = 86_400
    """The least time in Logging."""
    rolling_window_sessions: Annotated[int, Field(ge=20, le=10_000_000)] = 100_000
    """A policy learns from the newest that many sessions."""
    min_fresh: Annotated[int, Field(ge=20, le=10_000_000)] = 500
    """Sessions after a rollback, or a failed attempt, before the next one."""


class Promotions(ApiModel):
    """Who promotes into each stage."""

    copilot: Promotion = Promotion.AUTOMATIC
    """Into Copilot: Automatic, or Manual by raising maxStage."""
    calibration: Promotion = Promotion.AUTOMATIC
    """Into Calibration: Automatic, or Manual by raising maxStage."""
    automation: Promotion = Promotion.AUTOMATIC
    """Into Automation: Automatic, or Manual by raising maxStage."""


class ScreensRef(ApiModel):
    """A ConfigMap of the same namespace whose values list screen schemas (core/pilotage_core/screen.py)."""

    config_map: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
    """The ConfigMap's name."""


class ProcessClusterSpec(ApiModel):
    """A process cluster as people want it. An empty selector takes every session that no other one takes."""

    selector: Annotated[tuple[SelectorTerm, ...], Field(max_length=16)] = ()
    """Conditions that a session's metadata must all satisfy. Empty: every session. Of several process clusters that
    match, the highest priority takes it.
    """
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Of several that match, the highest takes the session."""
    max_stage: Stage = Stage.LOGGING
    """The highest stage that people allow. Raising it needs the verb `promote`."""
    suspend: bool = False
    """Nothing is proposed or executed; nothing earned is lost. Lifting it needs the verb `promote`."""
    promotion: Promotions = Promotions()
    """Who promotes into each stage."""
    actions: Actions = Actions()
    """What may run without a score, what ends a session, what never runs unattended."""
    supervision: Supervision = Supervision()
    """How much of people's work has to be seen before a model is made of it."""
    screens: ScreensRef
    """The screen schemas."""
    policy_critic_ref: NameRef
    """The PolicyCritic that says how its pair is made."""
    gate_ref: NameRef
    """The AutomationGate that says what evidence it has to bring."""
    acknowledged_rollback: Annotated[str, Field(max_length=63, pattern=r"^[-a-z0-9]*$")] = ""
    """The id of a rollback that someone has understood: lifts the latch. Needs the verb `promote`."""
