"""What one post means: for the records (`plan_post`), for memory (`apply_post`), for metrics (`count_post`). No I/O."""

from collections.abc import Sequence

import msgspec

from pilotage_core.events import (
    ActionTaken,
    Event,
    FeedbackGiven,
    Outcome,
    OutcomeReported,
    ResolutionJudged,
    SessionClosed,
    SessionReviewed,
    Verdict,
)
from pilotage_core.gate import Decision
from pilotage_core.record import ProposalRecord
from pilotage_core.resolution import Resolution, judge_resolution
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave
from pilotage_gateway.metrics import Metrics
from pilotage_gateway.sessions import VERDICTS, Intent, LiveSession, key_of
from pilotage_gateway.writes import NewLabel, PostWrite, Review

AMBIGUOUS = "ambiguous-outcome"
"""Why a session stays with its operator: an order whose outcome nobody knows."""


def plan_post(session: LiveSession, events: Sequence[Event], at: str, leave: Leave | None, stage: Stage) -> PostWrite:
    """Everything that `events`, which were checked, add to the records. `stage` is the one worked in now."""
    post = PostWrite(
        session_id=session.session_id,
        process_cluster=session.process_cluster,
        opened_at=session.opened_at,
        received_at=at,
        opens=session.state.version == 0,
        events=events,
    )
    reported = [event.data for event in events if isinstance(event.data, OutcomeReported)]
    post.outcomes = _settle(session, reported)
    post.newly_done = tuple(
        outcome.proposal_id
        for outcome in post.outcomes
        if outcome.outcome is Outcome.DONE and not session.proposals[outcome.proposal_id].executed
    )
    post.ambiguous = _find_ambiguous(session, reported)
    post.corrections = _find_corrections(session, events)
    post.reviews = _find_reviews(session, events)
    post.accepted = _find_accepted(session, events, post)
    _plan_session(session, events, post, leave, stage)
    post.resolution = _find_resolution(session, events)
    post.labels = _find_labels(session, events, str(post.session_changes.get("closed_at", session.closed_at)))
    return post


def _settle(session: LiveSession, reported: Sequence[OutcomeReported]) -> list[OutcomeReported]:
    """One word on each order that these reports change: an order that ran has run, whatever is said of it later."""
    known = {outcome.proposal_id: session.intents[outcome.proposal_id].outcome for outcome in reported}
    settled: dict[str, OutcomeReported] = {}
    for outcome in reported:
        if known[outcome.proposal_id] is not Outcome.DONE:
            known[outcome.proposal_id] = outcome.outcome
            settled[outcome.proposal_id] = outcome
    return list(settled.values())


def _find_ambiguous(session: LiveSession, outcomes: Sequence[OutcomeReported]) -> Intent | None:
    """The order that this post should have told the outcome of, and did not."""
    intent = session.open_intent()
    if intent is None or any(reported.proposal_id == intent.proposal_id for reported in outcomes):
        return None
    return intent


def _done(events: Sequence[Event]) -> set[str]:
    """Proposals that these events report done: their outcome and what repairs them often come in one post."""
    reported = [event.data for event in events if isinstance(event.data, OutcomeReported)]
    return {outcome.proposal_id for outcome in reported if outcome.outcome is Outcome.DONE}


def _find_corrections(session: LiveSession, events: Sequence[Event]) -> list[ProposalRecord]:
    unattended = set(session.executed_unattended(done=_done(events)))
    named = [event.data.corrects for event in events if isinstance(event.data, ActionTaken)]
    for event in events:
        if isinstance(event.data, SessionReviewed):
            named += [item.proposal_id for item in event.data.items if item.verdict is not Verdict.ACCEPT]
    wanted = [p for p in dict.fromkeys(named) if p in unattended and p not in session.corrected]
    return [session.proposals[proposal_id] for proposal_id in wanted]


def _find_reviews(session: LiveSession, events: Sequence[Event]) -> list[Review]:
    unattended = session.executed_unattended(done=_done(events))
    if not unattended:
        return []
    pair = session.proposals[unattended[-1]].pair
    return [Review(e.sequence, pair, e.data.approved) for e in events if isinstance(e.data, SessionReviewed)]


def _find_accepted(session: LiveSession, events: Sequence[Event], post: PostWrite) -> Intent | None:
    """The order that an operator's accept asks for: only as the last event, and only where nothing is unclear."""
    last = events[-1]
    if not isinstance(last.data, FeedbackGiven) or last.data.verdict is not Verdict.ACCEPT:
        return None
    if post.ambiguous is not None or session.handed_off == AMBIGUOUS:
        return None
    return Intent(
        proposal_id=last.data.proposal_id,
        idempotency_key=build_key(last.data.proposal_id),
        state_version=last.sequence + 1,
        authorised_by=last.data.operator,
        epoch=0,
    )


def build_key(proposal_id: str) -> str:
    """The idempotency key of the one execution a proposal can have."""
    return f"execute-{proposal_id}"


def _plan_session(
    session: LiveSession, events: Sequence[Event], post: PostWrite, leave: Leave | None, stage: Stage
) -> None:
    changes = post.session_changes
    acted = any(isinstance(event.data, ActionTaken) for event in events)
    if acted and not session.demonstrated:
        changes["demonstrated"] = True
    unclear = any(outcome.outcome is Outcome.AMBIGUOUS for outcome in post.outcomes)
    if post.ambiguous is not None or unclear:
        changes["handed_off"] = AMBIGUOUS
    elif acted and session.handed_off not in ("", AMBIGUOUS):
        changes["handed_off"] = ""  # the operator took the wheel and has acted: the model may look again
    if any(isinstance(event.data, SessionClosed) for event in events):
        pair = (
            leave.pair.revision if leave is not None and leave.pair is not None and stage is not Stage.LOGGING else ""
        )
        changes.update(closed_at=post.received_at, closed_stage=stage.value, closed_pair=pair)


def _find_resolution(session: LiveSession, events: Sequence[Event]) -> Resolution | None:
    """How the case came out, where these events are the first to tell."""
    told = next((event.data for event in events if isinstance(event.data, ResolutionJudged)), None)
    if told is None or session.state.resolved is not None:
        return None
    given = (event.data for event in (*session.verdicts, *events) if isinstance(event.data, FeedbackGiven))
    acts = (event.sequence for event in events if isinstance(event.data, ActionTaken))
    closings = (event.data.closing for event in events if isinstance(event.data, SessionClosed))
    done = _done(events)
    made = session.proposals.values()
    return judge_resolution(
        [msgspec.structs.replace(p, executed=True) if p.proposal_id in done else p for p in made],
        {feedback.proposal_id: feedback.verdict for feedback in given},
        first_act=session.first_act if session.first_act is not None else next(acts, None),
        closing=session.state.closing or next(closings, None),
        right=told.right,
    )


def _find_labels(session: LiveSession, events: Sequence[Event], closed_at: str) -> list[NewLabel]:
    verdicts = [*session.verdicts, *(event for event in events if isinstance(event.data, VERDICTS))]
    said: dict[tuple[str, bool], Verdict] = {}
    for event in verdicts:
        if isinstance(event.data, FeedbackGiven):
            said[event.data.proposal_id, False] = event.data.verdict
        elif isinstance(event.data, SessionReviewed):
            said = {(item.proposal_id, True): item.verdict for item in event.data.items} | said
    found = session.labels_of(verdicts, closed_at)
    new = [label for label in found if (label.proposal_id, label.reviewed) not in session.labelled]
    return [NewLabel(label, said.get((label.proposal_id, label.reviewed), "")) for label in new]


def apply_post(session: LiveSession, post: PostWrite, allowed: bool = False) -> None:
    """Take a post into memory; `allowed`: so is the order that it accepts."""
    changes = post.session_changes
    if post.ambiguous is not None:
        post.ambiguous.outcome = Outcome.AMBIGUOUS
    for event, digest in zip(post.events, post.digests, strict=True):
        session.apply(event)
        session.event_ids[key_of(event)] = (event.sequence, digest)
    session.labelled.update((new.label.proposal_id, new.label.reviewed) for new in post.labels)
    session.corrected.update(proposal.proposal_id for proposal in post.corrections)
    session.handed_off = str(changes.get("handed_off", session.handed_off))
    session.closed_at = str(changes.get("closed_at", session.closed_at))
    if post.accepted is not None and allowed:
        session.intents[post.accepted.proposal_id] = post.accepted


def count_post(session: LiveSession, post: PostWrite, metrics: Metrics, allowed: bool = False) -> None:
    """Take a post that is stored into the counters."""
    if post.accepted is not None and allowed:
        metrics.count("orders", process_cluster=post.process_cluster, by="operator")
    key = {"process_cluster": post.process_cluster}
    for new in post.labels:
        label = new.label
        pair = {**key, "pair": label.pair}
        metrics.count("labels", **pair, stratum=label.stratum, accepted=str(label.accepted).lower())
        if new.verdict and not label.reviewed:
            metrics.count("feedback", **pair, tool=label.tool, verdict=new.verdict)
    for reported in post.outcomes:
        metrics.count("outcomes", **key, outcome=reported.outcome.value)
    if post.ambiguous is not None:
        metrics.count("outcomes", **key, outcome=Outcome.AMBIGUOUS.value)
    for proposal in (session.proposals[proposal_id] for proposal_id in post.newly_done):
        if proposal.decision == Decision.EXECUTE:
            pair = {**key, "pair": proposal.pair}
            metrics.count("executed", **pair, tool=proposal.action.tool, critical=str(proposal.critical).lower())
            if proposal.critical:
                metrics.count("executed_critical", **pair)
    for proposal in post.corrections:
        metrics.count("corrections", **key, pair=proposal.pair)
    for review in post.reviews:
        metrics.count("finalizations_reviewed", **key, pair=review.pair)
        if not review.approved:
            metrics.count("finalizations_rejected", **key, pair=review.pair)
    if post.resolution is not None:
        _count_resolution(key, post.resolution, metrics)
    if "closed_at" in post.session_changes:
        _count_closed(session, post, metrics)


def _count_resolution(key: dict[str, str], resolution: Resolution, metrics: Metrics) -> None:
    metrics.count("sessions_judged", **key, right=str(resolution.right).lower())
    if resolution.unasked:
        metrics.count("sessions_unasked", **key, pair=resolution.pair)
        if not resolution.right:
            metrics.count("sessions_unasked_wrong", **key, pair=resolution.pair)


def _count_closed(session: LiveSession, post: PostWrite, metrics: Metrics) -> None:
    key = {"process_cluster": post.process_cluster}
    changes = post.session_changes
    metrics.count("sessions_closed", **key, pair=str(changes["closed_pair"]), stage=str(changes["closed_stage"]))
    if session.demonstrated:
        metrics.count("demonstration_sessions", **key)
    answered = (session.proposals[proposal_id] for proposal_id in session.answered)
    for pair in {proposal.pair for proposal in answered if proposal.stage is Stage.COPILOT}:
        metrics.count("feedback_sessions", **key, pair=pair)
