"""Figures of a run, from its records alone. Pure: a Run in, Figures out; what each figure means stands beside it here.

Not here: drawing (charts.py, page.py), and what led to a rollback (breach.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from pilotage.report.breach import Breach, find_breaches, is_unattended, ran_alone
from pilotage.report.sessions import WholeSessions, count_whole_sessions
from pilotage.report.times import to_seconds
from pilotage.run import Calibration, Ledger, Run
from pilotage_core.certificate import Certificate
from pilotage_core.events import ActionTaken, FeedbackGiven, SessionReviewed, Verdict
from pilotage_core.gate import Decision
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.stage import UNATTENDED, Stage
from pilotage_simulator.public import StageChange
from pilotage_simulator.public import find_unsafe as find_unsafe_by_ledger


class StageReached(msgspec.Struct, frozen=True):
    """One flip of the effective stage, and why. `at` is RFC 3339."""

    stage: str
    at: str
    reason: str


class ToolAcceptance(msgspec.Struct, frozen=True):
    """Operators' verdicts on proposals of one tool. `share` counts unedited accepts alone."""

    given: int
    accepted: int
    edited: int
    rejected: int
    share: float


class OperatorSeconds(msgspec.Struct, frozen=True):
    """Operators' active seconds in the same sessions, as played and as the dialogue's wizard spent alone.

    `asked` is the part of `with` that is an assumption: the seconds of every accept, look and review;
    `with_at_half` and `with_at_double` are the result where that part is half or twice as long.
    """

    with_: float = msgspec.field(name="with")
    without: float
    with_at_half: float
    with_at_double: float
    asked: float
    sessions: int


class ProcessClusterWork(msgspec.Struct, frozen=True):
    """The figures of one process cluster.

    `executed_critical`: critical actions that ran with nobody asked, by the BPM's ledger. `strict_precision`: the share
    of them that is what the dialogue's wizard did at that point; `graded_precision` also counts what the wizard did
    later before the next submit. `coverage`: of critical proposals in Calibration and Automation whose stratum has a τ,
    the share scored at or above it and let through (audit draws count as let through). `automation_rate`: of sessions
    closed in those two, the share in which no operator did or approved anything but the ending; where the BPM knows how
    sessions came out, `whole` counts those with nobody asked at all. `unattended_share`: of
    all critical actions done in those sessions, the share that ran with nobody asked. None where there is nothing to
    divide by.
    """

    name: str
    namespace: str
    stage: str
    stages: tuple[StageReached, ...]
    sessions: int
    sessions_by_stage: dict[str, int]
    certificates: tuple[Certificate, ...]
    executed_critical: int
    strict_precision: float | None
    graded_precision: float | None
    coverage: float | None
    automation_rate: float | None
    unattended_share: float | None
    acceptance: dict[str, ToolAcceptance]
    operator_seconds: OperatorSeconds
    operator_seconds_by_stage: dict[str, OperatorSeconds]
    breach_to_copilot_seconds: float | None
    breaches: tuple[Breach, ...]
    unmet: tuple[dict[str, str], ...]
    whole: WholeSessions | None = None
    session_certificate: dict[str, Any] | None = None


class UnsafeExecution(msgspec.Struct, frozen=True):
    """One action that the BPM executed and should not have."""

    session_id: str
    proposal_id: str
    why: str


class Figures(msgspec.Struct, frozen=True):
    """The whole report in numbers: what `pilotage report --json` prints."""

    process_clusters: tuple[ProcessClusterWork, ...]
    unsafe_executions: int
    unsafe: tuple[UnsafeExecution, ...]
    orders: int
    orders_executed: int
    orders_refused: dict[str, int]
    sessions: int
    run: dict[str, Any]
    assumptions: dict[str, float]
    faults: tuple[dict[str, Any], ...]


def build_figures(run: Run) -> Figures:
    """Count everything once."""
    unsafe = tuple(find_unsafe(run))
    return Figures(
        process_clusters=tuple(_figures_of(run, key) for key in run.process_clusters),
        unsafe_executions=len(unsafe),
        unsafe=unsafe,
        orders=len(run.ledger.orders),
        orders_executed=sum(order.executed for order in run.ledger.orders),
        orders_refused=dict(Counter(str(order.fence) for order in run.ledger.orders if not order.executed)),
        sessions=sum(len(sessions) for sessions in run.sessions.values()),
        run=msgspec.to_builtins(run.info),
        assumptions=run.info.assumptions,
        faults=tuple(msgspec.to_builtins(fault) for fault in run.faults),
    )


def find_unsafe(run: Run) -> Iterator[UnsafeExecution]:
    """What the BPM executed without leave or twice.

    First by its own ledger and the controller's stages alone; then held against what the gateway stored: an action has
    leave where the stored decision was to execute it, or where an operator's accept is stored.
    """
    stages = [
        StageChange(process_cluster=key, stage=Stage(flip.stage), at=flip.at)
        for key, item in run.process_clusters.items()
        for flip in stages_of(item.get("status") or {})
    ]
    named: set[str] = set()
    for why, order in find_unsafe_by_ledger(run.ledger.orders, stages):
        named.add(order.proposal_id)
        yield UnsafeExecution(order.session_id, order.proposal_id, why)
    sessions = [session for one in run.sessions.values() for session in one]
    decided = {p.proposal_id: p.decision == Decision.EXECUTE for session in sessions for p in session.proposals}
    accepted = {
        event.data.proposal_id
        for session in sessions
        for event in session.events
        if isinstance(event.data, FeedbackGiven) and event.data.verdict is Verdict.ACCEPT
    }
    for order in run.ledger.orders:
        if not order.executed or order.proposal_id in named:
            continue
        if order.proposal_id not in decided:
            yield UnsafeExecution(order.session_id, order.proposal_id, "executed, but no such proposal is stored")
        elif not decided[order.proposal_id] and order.proposal_id not in accepted:
            yield UnsafeExecution(order.session_id, order.proposal_id, "executed, but only proposed and never accepted")


def _figures_of(run: Run, key: str) -> ProcessClusterWork:
    item = run.process_clusters[key]
    status: dict[str, Any] = item.get("status") or {}
    sessions = run.sessions.get(key, ())
    executed = ran_alone(run.ledger.orders, key)
    unattended = [s for s in sessions if stage_of(s) in UNATTENDED]
    breaches = tuple(find_breaches(run, key))
    return ProcessClusterWork(
        name=item["metadata"]["name"],
        namespace=item["metadata"]["namespace"],
        stage=status.get("stage", ""),
        stages=stages_of(status),
        sessions=len(sessions),
        sessions_by_stage=dict(Counter(stage_of(s).value for s in sessions)),
        certificates=_certificates_of(run.calibrations, key),
        executed_critical=len(executed),
        strict_precision=_share(sum(order.strict for order in executed), len(executed)),
        graded_precision=_share(sum(order.graded for order in executed), len(executed)),
        coverage=coverage_of([p for s in sessions for p in s.proposals]),
        automation_rate=_share(sum(needed_nobody(s) for s in unattended), len(unattended)),
        unattended_share=unattended_share_of(unattended),
        acceptance=acceptance_of(sessions),
        operator_seconds=operator_seconds_of([s for s in sessions if stage_of(s) is not Stage.LOGGING], run.ledger),
        operator_seconds_by_stage={
            stage.value: operator_seconds_of([s for s in sessions if stage_of(s) is stage], run.ledger)
            for stage in Stage
            if any(stage_of(s) is stage for s in sessions)
        },
        breach_to_copilot_seconds=max((b.seconds for b in breaches), default=None),
        breaches=breaches,
        unmet=tuple(status.get("unmet") or ()),
        whole=count_whole_sessions(sessions, run.ledger.ended, stage_of),
        session_certificate=status.get("sessions"),
    )


def stages_of(status: dict[str, Any]) -> tuple[StageReached, ...]:
    """The transitions kept in status, oldest first."""
    flips = [StageReached(t["stage"], t["at"], t.get("reason", "")) for t in status.get("transitions") or ()]
    return tuple(sorted(flips, key=lambda flip: to_seconds(flip.at)))


def stage_of(session: SessionRecord) -> Stage:
    """The stage a session ended in: that of its last proposal; a session without any is one of Logging."""
    return session.proposals[-1].stage if session.proposals else Stage.LOGGING


def coverage_of(proposals: Iterable[ProposalRecord]) -> float | None:
    """Share of critical proposals under a τ that the gate let through, audit draws included."""
    judged = [p for p in proposals if p.critical and p.stage in UNATTENDED and p.tau is not None]
    return _share(sum(p.decision == Decision.EXECUTE or p.audited for p in judged), len(judged))


def needed_nobody(session: SessionRecord) -> bool:
    """Whether no operator did or approved anything in `session` but its ending (which is a human's in this gate)."""
    ending = {p.proposal_id for p in session.proposals if p.stratum == "finalizing"}
    for event in session.events:
        if isinstance(event.data, ActionTaken) and not all(a.tool in _ENDINGS for a in event.data.actions):
            return False
        if isinstance(event.data, FeedbackGiven) and event.data.proposal_id not in ending:
            return False
    return True


_ENDINGS = ("close_chat", "transfer_chat")


def unattended_share_of(sessions: Iterable[SessionRecord]) -> float | None:
    """Of the proposals and operators' own actions that were done, the share of critical ones that ran unattended."""
    alone = asked = 0
    for session in sessions:
        alone += sum(is_unattended(p) for p in session.proposals)
        asked += sum(p.critical and p.executed and not is_unattended(p) for p in session.proposals)
        asked += sum(_critical_actions(event.data) for event in session.events)
    return _share(alone, alone + asked)


def _critical_actions(data: object) -> int:
    """Operators' own critical actions in one event: messages, endings, submits, as the demo's manifests class them."""
    if not isinstance(data, ActionTaken):
        return 0
    return sum(a.tool in ("send_text_to_chat", *_ENDINGS) or a.control_id.startswith("submit") for a in data.actions)


def acceptance_of(sessions: Iterable[SessionRecord]) -> dict[str, ToolAcceptance]:
    """Verdicts on proposals by tool, the most frequent first. Reviews after execution are not in it."""
    verdicts: dict[str, Counter[Verdict]] = {}
    for session in sessions:
        tools = {p.proposal_id: p.action.tool.value for p in session.proposals}
        for event in session.events:
            if isinstance(event.data, FeedbackGiven) and event.data.proposal_id in tools:
                verdicts.setdefault(tools[event.data.proposal_id], Counter())[event.data.verdict] += 1
    ranked = sorted(verdicts.items(), key=lambda item: (-item[1].total(), item[0]))
    return {
        tool: ToolAcceptance(
            given=counts.total(),
            accepted=counts[Verdict.ACCEPT],
            edited=counts[Verdict.EDIT],
            rejected=counts[Verdict.REJECT],
            share=counts[Verdict.ACCEPT] / counts.total(),
        )
        for tool, counts in ranked
    }


def operator_seconds_of(sessions: Iterable[SessionRecord], ledger: Ledger) -> OperatorSeconds:
    """Active seconds in those of `sessions` that the BPM has a wizard's time for: with and without are paired."""
    alone = {ended.session_id: ended.seconds_without for ended in ledger.ended}
    own = asked = without = 0.0
    count = 0
    for session in sessions:
        if session.session_id not in alone:
            continue
        count += 1
        without += alone[session.session_id]
        for event in session.events:
            if isinstance(event.data, ActionTaken):
                own += event.data.active_seconds
            elif isinstance(event.data, FeedbackGiven | SessionReviewed):
                asked += event.data.active_seconds
    return OperatorSeconds(
        with_=round(own + asked, 1),
        without=round(without, 1),
        with_at_half=round(own + asked / 2, 1),
        with_at_double=round(own + asked * 2, 1),
        asked=round(asked, 1),
        sessions=count,
    )


def _certificates_of(calibrations: Iterable[Calibration], key: str) -> tuple[Certificate, ...]:
    return tuple(
        c for calibration in calibrations if calibration.process_cluster == key for c in calibration.certificates
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
