"""What led to each rollback: the label that tipped, how long until nothing ran unattended, the wrong actions before.

The guardrail's ratio is counted again here from the records, exactly: Prometheus's `increase` extrapolates.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from pilotage.report.times import to_seconds
from pilotage.run import Run
from pilotage_core.actions import Action
from pilotage_core.events import ActionTaken, Event, FeedbackGiven, OutcomeReported, SessionReviewed, Verdict
from pilotage_core.gate import Decision
from pilotage_core.record import Label as GivenLabel
from pilotage_core.record import ProposalRecord, SessionRecord, read_labels
from pilotage_core.screen import Screen
from pilotage_core.stage import UNATTENDED, Stage
from pilotage_core.state import Message, State, fold_event
from pilotage_core.wire import BY_PERMIT
from pilotage_operator.public import Track
from pilotage_simulator.public import OrderReceived

EVIDENCE_KEPT = 12
"""Wrong proposals shown for each breach: the last ones before it."""

Flips = list[dict[str, str]]
"""Transitions as they stand in status, oldest first."""


class Evidence(msgspec.Struct, frozen=True):
    """One wrong proposal: the state it was made in, whether it `ran` unattended, and what the operator did instead."""

    session_id: str
    proposal_id: str
    at: str
    screen: Screen
    messages: tuple[Message, ...]
    proposed: Action
    instead: tuple[Action, ...]
    score: float | None
    tau: float | None
    ran: bool
    word: str


class Breach(msgspec.Struct, frozen=True):
    """One rollback. `seconds` run from when the label that tipped the guardrail was stored to `copilot_at`: the latest
    of the controller's flip, the gateway's first proposal in Copilot, and the last action that ran unattended.
    `executed_after` counts such actions after the flip. Times are seconds since the epoch.
    """

    guardrail: str
    reason: str
    tipped_at: float
    copilot_at: float
    seconds: float
    recovered_at: float | None
    recovered_stage: str
    executed_after: int
    changed_at: float | None = None
    evidence: tuple[Evidence, ...] = ()


class Label(msgspec.Struct, frozen=True):
    """One count of a guardrail's ratio, at the time the gateway stored it."""

    at: float
    adverse: bool
    counted: bool = True


def is_unattended(proposal: ProposalRecord) -> bool:
    """Whether a critical action ran with nobody asked."""
    return proposal.critical and proposal.executed and proposal.decision == Decision.EXECUTE


def ran_alone(orders: Iterable[OrderReceived], key: str) -> list[OrderReceived]:
    """Critical actions of `key` that the BPM executed with nobody asked: its own ledger is the truth of what ran."""
    return [
        o for o in orders if o.executed and o.critical and o.authorised_by == BY_PERMIT and o.process_cluster == key
    ]


def find_breaches(run: Run, key: str) -> Iterator[Breach]:
    """Every latched return to Copilot in the transitions of `key`, oldest first."""
    status = run.process_clusters[key].get("status") or {}
    flips = sorted(status.get("transitions") or (), key=lambda flip: to_seconds(flip["at"]))
    for number in range(1, len(flips)):
        before, flip = flips[number - 1], flips[number]
        fell = Stage(before["stage"]) in UNATTENDED and flip["stage"] == Stage.COPILOT
        if fell and flip.get("reason", "").startswith("guardrail"):
            yield _build_breach(run, key, flips[:number], flip, flips[number + 1 :])


def _build_breach(run: Run, key: str, earlier: Flips, flip: dict[str, str], later: Flips) -> Breach:
    sessions, orders = run.sessions.get(key, ()), ran_alone(run.ledger.orders, key)
    guardrail = flip["reason"].removeprefix("guardrail ").split(" breached", 1)[0]
    again = next((one for one in later if Stage(one["stage"]) in UNATTENDED), None)
    flipped_at = to_seconds(flip["at"])
    until = to_seconds(again["at"]) if again else float("inf")
    after = [at for at in (to_seconds(order.at) for order in orders) if flipped_at < at < until]
    copilot_at = max([flipped_at, find_gateway_in_copilot(sessions, flipped_at, until), *after])
    rule = _find_rule(run, run.process_clusters[key], guardrail)
    if rule.get("builtin") == "PrecisionAlarm":
        climbed_at = max((to_seconds(one["at"]) for one in earlier if one["stage"] == Stage.CALIBRATION), default=0.0)
        tipped_at = find_alarm(run, key, float(rule["threshold"]), climbed_at, copilot_at)
    else:
        tipped_at = find_tipping(list(_labels(sessions, rule)), rule, copilot_at)
    changes = (to_seconds(begun.at) for begun in run.ledger.begun if begun.changed and begun.process_cluster == key)
    return Breach(
        guardrail=guardrail,
        reason=flip["reason"],
        tipped_at=tipped_at,
        copilot_at=copilot_at,
        seconds=round(copilot_at - tipped_at, 3),
        recovered_at=to_seconds(again["at"]) if again else None,
        recovered_stage=again["stage"] if again else "",
        executed_after=len(after),
        changed_at=next(changes, None),
        evidence=tuple(find_evidence(sessions, orders, flipped_at)),
    )


def find_gateway_in_copilot(sessions: Iterable[SessionRecord], flipped_at: float, until: float) -> float:
    """When the gateway was first seen to work in Copilot for good: its first proposal there after the last one it made
    in an unattended stage. The flip itself where it proposed nothing around it.
    """
    made = sorted(
        (to_seconds(proposal.at), proposal.stage)
        for session in sessions
        for proposal in session.proposals
        if flipped_at - 60 < to_seconds(proposal.at) < until
    )
    last = max((at for at, stage in made if stage in UNATTENDED), default=flipped_at)
    return next((at for at, stage in made if at > last and stage is Stage.COPILOT), flipped_at)


def find_tipping(labels: list[Label], rule: dict[str, Any], flipped_at: float) -> float:
    """When the ratio over the rule's window rose past its threshold and stayed there until `flipped_at`.

    Without such a moment (an alarm that is no ratio, or one that only an extrapolated increase saw), the last adverse
    label before the flip; without that, the flip itself.
    """
    window, least = float(rule.get("windowSeconds", 30)), float(rule.get("minSamples", 1))
    threshold = float(rule.get("threshold", "1"))
    before = [label for label in sorted(labels, key=lambda label: label.at) if label.at <= flipped_at]
    tipped: float | None = None
    for end, label in enumerate(before):
        inside = [one for one in before[: end + 1] if one.at > label.at - window]
        count = sum(one.counted for one in inside)
        breached = count >= least and sum(one.adverse for one in inside) > threshold * count
        tipped = (label.at if tipped is None else tipped) if breached else None
    if tipped is None:
        tipped = max((label.at for label in before if label.adverse), default=flipped_at)
    return tipped


def find_alarm(run: Run, key: str, threshold: float, since: float, flipped_at: float) -> float:
    """When Shiryaev-Roberts' R of a stratum reached `threshold`, over labels stored from `since` on; else the flip.

    The same fold as the controller's (pilotage_operator.observe.track.Track), over the same labels.
    """
    labels: list[tuple[float, GivenLabel]] = sorted(
        (
            (stored, label)
            for session in run.sessions.get(key, ())
            for stored, label in _stored_labels(session)
            if since < stored <= flipped_at
        ),
        key=lambda one: one[0],
    )
    pair = labels[-1][1].pair if labels else ""
    certificates = {
        certificate.stratum: certificate
        for calibration in run.calibrations
        if (calibration.process_cluster, calibration.revision) == (key, pair)
        for certificate in calibration.certificates
    }
    track = Track(pair, 0, certificates, 0)
    for stored, together in groupby(labels, key=lambda one: one[0]):
        for each in together:
            if each[1].pair == pair:
                track.take(each[1])
        if track.read().r_peak >= threshold:
            return float(stored)
    return flipped_at


def _stored_labels(session: SessionRecord) -> Iterator[tuple[float, GivenLabel]]:
    stored = {event.at: stored_at(event) for event in session.events}
    for label in read_labels(session):
        yield stored.get(label.at, to_seconds(label.at)), label


def find_evidence(
    sessions: Iterable[SessionRecord], orders: Iterable[OrderReceived], flipped_at: float
) -> list[Evidence]:
    """The last wrong proposals before `flipped_at` that ran, or that only an audit look stopped; oldest first."""
    ran = {order.proposal_id: order for order in orders if not order.strict}
    found: list[tuple[float, SessionRecord, ProposalRecord, OrderReceived | None]] = []
    for session in sessions:
        caught = {
            event.data.proposal_id
            for event in session.events
            if isinstance(event.data, FeedbackGiven) and event.data.verdict is not Verdict.ACCEPT
        }
        for proposal in session.proposals:
            order = ran.get(proposal.proposal_id)
            if order is not None or (proposal.audited and proposal.critical and proposal.proposal_id in caught):
                found.append((to_seconds(order.at if order else proposal.at), session, proposal, order))
    found = sorted((one for one in found if one[0] <= flipped_at), key=lambda one: one[0])
    return [_build_evidence(session, proposal, order) for _, session, proposal, order in found[-EVIDENCE_KEPT:]]


def _build_evidence(session: SessionRecord, proposal: ProposalRecord, order: OrderReceived | None) -> Evidence:
    state = state_at(session, proposal.at_version)
    word = "caught by an audit look" if order is None else "it ran; not what the human did"
    if order is not None and order.graded:
        word = "it ran; what the human did later before the next submit"
    return Evidence(
        session_id=session.session_id,
        proposal_id=proposal.proposal_id,
        at=order.at if order else proposal.at,
        screen=state.screen,
        messages=state.messages,
        proposed=proposal.action,
        instead=_done_instead(session, proposal.proposal_id),
        score=proposal.score,
        tau=proposal.tau,
        ran=order is not None,
        word=word,
    )


def _done_instead(session: SessionRecord, proposal_id: str) -> tuple[Action, ...]:
    """What the operator did about a proposal: the action that corrects it, or the first one after its rejection."""
    rejected = False
    for event in session.events:
        if isinstance(event.data, ActionTaken) and (rejected or event.data.corrects == proposal_id):
            return event.data.actions
        rejected = rejected or (isinstance(event.data, FeedbackGiven) and event.data.proposal_id == proposal_id)
    return ()


def state_at(session: SessionRecord, version: int) -> State:
    """The state of `session` after `version` events."""
    proposals = {p.proposal_id: p.action for p in session.proposals}
    state = State()
    for event in session.events[:version]:
        ordered = proposals.get(event.data.proposal_id) if isinstance(event.data, OutcomeReported) else None
        state = fold_event(state, event, ordered)
    return state


def _find_rule(run: Run, item: dict[str, Any], guardrail: str) -> dict[str, Any]:
    """The guardrail's rule in the process cluster's gate; empty where the gate was not recorded."""
    gate = run.gates.get(f"{item['metadata']['namespace']}/{item['spec'].get('gateRef', {}).get('name', '')}", {})
    rules: list[dict[str, Any]] = gate.get("spec", {}).get("guardrails", [])
    return next((rule for rule in rules if rule["name"] == guardrail), {})


def _labels(sessions: Iterable[SessionRecord], rule: dict[str, Any]) -> Iterator[Label]:
    """What the rule's built-in ratio counts, from the records."""
    for session in sessions:
        alone = {p.proposal_id for p in session.proposals if is_unattended(p)}
        corrected: set[str] = set()
        for event in session.events:
            if rule.get("builtin") == "FinalizationRejectionRate":
                yield from _review_labels(event, bool(alone))
            else:
                yield from _correction_labels(event, alone, corrected)


def _review_labels(event: Event, counts: bool) -> Iterator[Label]:
    if counts and isinstance(event.data, SessionReviewed):
        yield Label(stored_at(event), adverse=not event.data.approved)


def _correction_labels(event: Event, alone: set[str], corrected: set[str]) -> Iterator[Label]:
    """Executions count; a correction or a rejecting review of one is adverse, once for each."""
    at = stored_at(event)
    if isinstance(event.data, OutcomeReported) and event.data.proposal_id in alone:
        yield Label(at, adverse=False)
        return
    named: set[str] = set()
    if isinstance(event.data, ActionTaken):
        named = {event.data.corrects}
    elif isinstance(event.data, SessionReviewed):
        named = {item.proposal_id for item in event.data.items if item.verdict is not Verdict.ACCEPT}
    for proposal_id in sorted((named & alone) - corrected):
        corrected.add(proposal_id)
        yield Label(at, adverse=True, counted=False)


def stored_at(event: Event) -> float:
    """When the gateway stored `event`; the adapter's own time where that was not recorded."""
    return to_seconds(event.received_at or event.at)
