"""Hand-made records for the report's tests: one process cluster, few sessions, times in whole seconds."""

from datetime import UTC, datetime
from typing import Any

from pilotage.run import Calibration, Curve, CurvePoint, Ledger, Run, RunInfo
from pilotage_core.actions import Action, Tool
from pilotage_core.certificate import Certificate, EvidenceDigests
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    FeedbackGiven,
    Happening,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ReviewItem,
    ScreenShown,
    SessionClosed,
    SessionOpened,
    SessionReviewed,
    Verdict,
)
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_core.stage import Stage
from pilotage_simulator.ledger import OrderReceived, SessionEnded

KEY = "star/information"
SCREEN = Screen(
    "weather_form",
    title="Weather <now>",
    controls=(Control("submit", ControlKind.BUTTON, "Search"), Control("input:City", ControlKind.INPUT, value="Oslo")),
    facts=(("Temperature", "7"),),
)
SUBMIT = Action(Tool.CLICK_CONTROL, "submit")
FILL = Action(Tool.FILL_INPUT, "input:City", value="Bergen")
CLOSE = Action(Tool.CLOSE_CHAT)
START = 1_700_000_000


def at(second: float) -> str:
    """RFC 3339 of a second of the run."""
    return datetime.fromtimestamp(START + second, UTC).isoformat()


def proposal(
    name: str,
    *,
    stage: Stage = Stage.AUTOMATION,
    decision: str = "execute",
    executed: bool = True,
    action: Action = SUBMIT,
    critical: bool = True,
    stratum: str = "procedure",
    tau: float | None = 0.8,
    score: float | None = 0.9,
    audited: bool = False,
    second: float = 0,
) -> ProposalRecord:
    reason = "certified" if decision == "execute" else "audit" if audited else "stage-copilot"
    return ProposalRecord(
        proposal_id=name, at_version=3, action=action, pair="r1", policy_digest="p", critic_digest="c", stage=stage,
        decision=decision, reason=reason, critical=critical, stratum=stratum, state_digest="s", at=at(second),
        score=score, tau=tau, audited=audited, executed=executed,
    )  # fmt: skip


def session(name: str, second: float, proposals: tuple[ProposalRecord, ...], *happenings: Happening) -> SessionRecord:
    """A session that begins with a screen and a message (state version 3); the rest follows a second apart."""
    begun = (
        SessionOpened(metadata={"domains": "weather"}),
        ScreenShown(screen=SCREEN),
        MessagePosted(author=Author.CUSTOMER, text="Is it <b>warm</b>?"),
    )
    data = (*begun, *happenings, SessionClosed(closing=Closing.CLOSED))
    events = tuple(
        Event(f"{name}-{n}", n, at(second + n), one, received_at=at(second + n)) for n, one in enumerate(data)
    )
    return SessionRecord(name, KEY, at(second), events, proposals, at(second + len(data) - 1))


def order(
    proposal_id: str,
    second: float,
    *,
    session_id: str = "s1",
    executed: bool = True,
    strict: bool = True,
    graded: bool | None = None,
    by: str = "permit",
    stage: Stage = Stage.AUTOMATION,
    key: str = "",
    fence: str = "",
    epoch: int = 1,
) -> OrderReceived:
    return OrderReceived(
        at=at(second), session_id=session_id, process_cluster=KEY, proposal_id=proposal_id,
        idempotency_key=key or proposal_id, action=SUBMIT, authorised_by=by, epoch=epoch, remaining_ms=5000,
        elapsed_ms=3.0, ordered_version=3, state_version=3, fence=fence, executed=executed, critical=True, stage=stage,
        strict=strict, graded=strict if graded is None else graded,
    )  # fmt: skip


def ended(session_id: str, without: float) -> SessionEnded:
    return SessionEnded(
        at=at(90), session_id=session_id, process_cluster=KEY, closing="closed", seconds_without=without,
        seconds_spent=0.0,
    )  # fmt: skip


def done(proposal_id: str) -> OutcomeReported:
    return OutcomeReported(proposal_id=proposal_id, idempotency_key=proposal_id, outcome=Outcome.DONE)


def verdict(proposal_id: str, word: Verdict, seconds: float = 2.0) -> FeedbackGiven:
    return FeedbackGiven(proposal_id=proposal_id, verdict=word, operator="ann", active_seconds=seconds)


def taken(*actions: Action, seconds: float = 10.0, corrects: str = "") -> ActionTaken:
    return ActionTaken(actions=actions, operator="ann", active_seconds=seconds, corrects=corrects)


def reviewed(approved: bool, *rejected: str) -> SessionReviewed:
    items = tuple(ReviewItem(proposal_id=name, verdict=Verdict.REJECT) for name in rejected)
    return SessionReviewed(operator="bob", approved=approved, items=items, active_seconds=3.0)


def process_cluster(*flips: tuple[str, float, str]) -> dict[str, Any]:
    """An API object with these transitions (stage, second, reason)."""
    transitions = [
        {"stage": stage, "earned": stage, "at": at(second), "reason": reason} for stage, second, reason in flips
    ]
    namespace, _, name = KEY.partition("/")
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"maxStage": "Automation", "gateRef": {"name": "star"}},
        "status": {"stage": flips[-1][0] if flips else "Logging", "transitions": transitions, "unmet": []},
    }


def gate(builtin: str, threshold: str = "0.3", least: int = 2, window: int = 30) -> dict[str, Any]:
    rule = {"name": "watch", "builtin": builtin, "threshold": threshold, "minSamples": least, "windowSeconds": window}
    return {"metadata": {"name": "star", "namespace": "star"}, "spec": {"guardrails": [rule]}}


def run(
    item: dict[str, Any],
    sessions: tuple[SessionRecord, ...],
    ledger: Ledger | None = None,
    gates: tuple[dict[str, Any], ...] = (),
    calibrations: tuple[Calibration, ...] = (),
) -> Run:
    return Run(
        info=RunInfo(mode="local", started_at=at(0), ended_at=at(120)),
        process_clusters={KEY: item},
        sessions={KEY: sessions},
        ledger=ledger or Ledger(),
        gates={f"star/{one['metadata']['name']}": one for one in gates},
        calibrations=calibrations,
    )


def calibration() -> Calibration:
    digests = EvidenceDigests("d", "p", "c", "f", "a", "s", "i")
    certificate = Certificate(
        process_cluster=KEY, stratum="procedure", tau=0.8, n=200, selected=150, errors=6, target=0.9, delta=0.025,
        bound=0.92, coverage=0.75, design_effect=1.1, icc=0.05, labels_from="replay", digests=digests,
        median_session_actions=3.0, session_bound=0.78, issued_at=at(30),
    )  # fmt: skip
    points = tuple(CurvePoint(tau=1 - n / 10, coverage=n / 10, precision=1 - n / 100) for n in range(1, 11))
    return Calibration(KEY, "r1", {"procedure": Curve(points, tau=0.3, target=0.9)}, (certificate,))
