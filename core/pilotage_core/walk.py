"""A recorded session walked again, state by state: the states and dialogs a model saw or would have seen.

The trainer learns from these points, replay scores them; the gateway's live fold is the same code (state.py,
dialog.py), so training and serving cannot drift apart.
"""

from collections.abc import Collection, Iterator

import msgspec

from pilotage_core.actions import Action
from pilotage_core.dialog import Dialog, DialogFormat
from pilotage_core.errors import EvidenceError, PilotageError
from pilotage_core.events import ActionTaken, Event, FeedbackGiven, Outcome, OutcomeReported, Verdict
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.state import State, fold_event


class Point(msgspec.Struct, frozen=True):
    """One moment in which a policy is asked: the state, the prompt, and what happened next.

    `taken` is the next thing that was really done: the operator's own action or an accepted or executed proposal.
    `later` are the actions done after it until the end of the session, in order. `proposal` and `feedback` are what the
    policy of that time proposed and what the operator said to it.
    """

    session_id: str
    state: State
    prompt: str
    taken: Action
    later: tuple[Action, ...]
    operator: str
    at: str
    proposal: ProposalRecord | None = None
    feedback: FeedbackGiven | None = None


def is_decision_point(state: State) -> bool:
    """Whether a policy is asked in `state`: the session is open, shows a screen that is what it should be, and does not
    wait for the customer.
    """
    return state.is_open and bool(state.screen.name) and not state.screen.fault and not state.awaiting_customer


class SessionWalk:
    """State and dialog of one session, event by event. The gateway holds one per live session."""

    def __init__(self, form: DialogFormat) -> None:
        self.state = State()
        self.dialog = Dialog(form)

    def step(self, event: Event, ordered: Action | None = None) -> State:
        """Fold `event` in and write it to the dialog. Raises what `fold_event` raises, before anything has changed."""
        after = fold_event(self.state, event, ordered)
        if isinstance(event.data, ActionTaken):
            for action in event.data.actions:
                self.dialog.append_action(action)
        elif isinstance(event.data, OutcomeReported) and ordered is not None and len(after.done) > len(self.state.done):
            self.dialog.append_action(ordered)
        self.dialog.append(after)
        self.state = after
        return after

    def step_recorded(self, record: SessionRecord, event: Event, ordered: Action | None = None) -> State:
        """`step` for an event of `record`. Raises EvidenceError where it cannot follow, naming the session."""
        try:
            return self.step(event, ordered)
        except PilotageError as error:
            raise EvidenceError(
                f"cannot be walked again: {error}", where=f"session {record.session_id}", remedy="export it again"
            ) from error


def walk_session(record: SessionRecord, form: DialogFormat) -> Iterator[Point]:
    """Every decision point of `record` at which something was done next, in order; prompts are written in `form`.

    Raises EvidenceError where its events do not follow one another.
    """
    proposals = {p.proposal_id: p for p in record.proposals}
    by_version = {p.at_version: p for p in record.proposals}
    done = list(_actions_done(record, proposals))
    walk = SessionWalk(form)
    feedback = {e.data.proposal_id: e.data for e in record.events if isinstance(e.data, FeedbackGiven)}
    position = 0
    for event in record.events:
        actions = _actions_of(event, proposals, walk.state.done)
        if actions and is_decision_point(walk.state):
            # Feedback events move the version on: the proposal stands at the version before its feedback.
            proposal = by_version.get(walk.state.version) or by_version.get(walk.state.version - 1)
            yield Point(
                session_id=record.session_id,
                state=walk.state,
                prompt=walk.dialog.prompt(),
                taken=actions[0],
                later=tuple(done[position + 1 :]),
                operator=event.data.operator if isinstance(event.data, ActionTaken) else _answerer(event, feedback),
                at=event.at,
                proposal=proposal,
                feedback=feedback.get(proposal.proposal_id) if proposal else None,
            )
        position += len(actions)
        ordered = None
        if isinstance(event.data, OutcomeReported) and event.data.proposal_id in proposals:
            ordered = proposals[event.data.proposal_id].action
        walk.step_recorded(record, event, ordered)


def _actions_of(event: Event, proposals: dict[str, ProposalRecord], done: Collection[str]) -> tuple[Action, ...]:
    """What `event` says was done; nothing where it repeats one of the proposals that were `done` before."""
    if isinstance(event.data, ActionTaken):
        return event.data.actions
    if isinstance(event.data, OutcomeReported) and event.data.outcome is Outcome.DONE:
        proposal = proposals.get(event.data.proposal_id)
        return (proposal.action,) if proposal and proposal.proposal_id not in done else ()
    return ()


def _actions_done(record: SessionRecord, proposals: dict[str, ProposalRecord]) -> Iterator[Action]:
    done: set[str] = set()
    for event in record.events:
        yield from _actions_of(event, proposals, done)
        if isinstance(event.data, OutcomeReported) and event.data.outcome is Outcome.DONE:
            done.add(event.data.proposal_id)


def _answerer(event: Event, feedback: dict[str, FeedbackGiven]) -> str:
    if isinstance(event.data, OutcomeReported):
        given = feedback.get(event.data.proposal_id)
        if given is not None and given.verdict is Verdict.ACCEPT:
            return given.operator
    return ""
