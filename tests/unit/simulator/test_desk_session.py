"""The desk against a gateway: nobody is asked for what it orders, and the books say how it came out."""

import dataclasses
from random import Random

import msgspec
import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.events import (
    FeedbackGiven,
    Grade,
    OutcomeReported,
    ResolutionJudged,
    ScreenShown,
    SessionClosed,
    SessionReviewed,
    Verdict,
)
from pilotage_core.gate import Decision
from pilotage_core.reading import read_screen
from pilotage_core.stage import Stage
from pilotage_core.walk import SessionWalk, is_decision_point
from pilotage_core.wire import BY_PERMIT, Order, PostEvents, ProposalCard, Turn
from pilotage_simulator.adapter import Bpm
from pilotage_simulator.desk.clerk import PERFECT, Clerk
from pilotage_simulator.desk.desk import BOOK, CLOSED, CONFIRM, CONFIRM_TERMS, Desk
from pilotage_simulator.desk.outcome import read_goal_bookings
from pilotage_simulator.desk.screens import SCHEMA
from pilotage_simulator.desk.services import build_services
from pilotage_simulator.desk.session import DeskSession
from pilotage_simulator.desk.sgd import SCHEMA_FILE, LeftOut, read_dialogues, read_schema
from pilotage_simulator.ledger import Ledger, find_unsafe, read_ledger


@pytest.fixture(scope="module")
def world(sgd_path):
    schema = read_schema(sgd_path.with_name(SCHEMA_FILE))
    found = read_dialogues(sgd_path, schema, LeftOut())
    return schema, [next(found) for _ in range(12)]


class Oracle:
    """A gateway whose model knows what an operator would do: `decide` says what becomes of that."""

    def __init__(self, decide) -> None:
        self.decide = decide
        self.session: DeskSession | None = None
        self.walk = SessionWalk(DEFAULT_FORMAT)
        self.events: list[object] = []
        self.actions: dict[str, Action] = {}
        self.made = 0

    async def post(self, session_id: str, post: PostEvents) -> Turn:
        accepted = None
        for event in post.events:
            data = event.data
            if isinstance(data, ScreenShown):
                event = msgspec.structs.replace(event, data=ScreenShown(screen=read_screen(data.html, (SCHEMA,))))
            ordered = self.actions.get(data.proposal_id) if isinstance(data, OutcomeReported) else None
            self.walk.step(event, ordered)
            self.events.append(data)
            if isinstance(data, FeedbackGiven) and data.verdict is Verdict.ACCEPT:
                accepted = data
        if accepted is not None:
            return self._turn(session_id, Decision.EXECUTE, post, accepted.proposal_id, accepted.operator)
        if not is_decision_point(self.walk.state) or not post.wants_decision:
            return self._turn(session_id, Decision.OBSERVE, post)
        assert self.session is not None
        action = self._know()
        if action is None:
            return self._turn(session_id, Decision.OBSERVE, post)
        self.made += 1
        self.actions[f"p{self.made}"] = action
        return self._turn(session_id, self.decide(action), post, f"p{self.made}", BY_PERMIT)

    def _know(self) -> Action | None:
        clerk: Clerk = self.session._clerk
        action = without_chance(clerk).choose()
        if action is not None and action.tool is Tool.SEND_TEXT_TO_CHAT:
            action = msgspec.structs.replace(action, text=clerk.desk.find_text(action.control_id))
        return action

    def _turn(self, session_id, decision, post, proposal_id="", by="") -> Turn:
        version = self.walk.state.version
        action = self.actions.get(proposal_id)
        order = card = None
        if decision == Decision.EXECUTE and action is not None:
            key, epoch = f"execute-{proposal_id}", int(by == BY_PERMIT)
            order = Order(proposal_id, action, key, post.nonce, version, 5000, epoch, by, action.digest)
        elif decision == Decision.PROPOSE and action is not None:
            card = ProposalCard(proposal_id, action)
        return Turn(session_id, "desk/evenings", version, Stage.AUTOMATION, decision, "test", "", card, order)

    def all_of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


def without_chance(clerk: Clerk) -> Clerk:
    """The same clerk without chance: what is asked of it changes nothing."""
    return dataclasses.replace(clerk, manners=PERFECT, chance=Random(0))


async def play(world, tmp_path, number, decide, **given):
    schema, dialogues = world
    gateway = Oracle(decide)
    bpm = Bpm(gateway, Ledger(tmp_path / f"{number}.jsonl"))
    gateway.session = DeskSession(
        bpm,
        f"desk-{number}",
        "desk/evenings",
        dialogues[number],
        schema,
        {"line_of_business": "evenings"},
        "o-1",
        **given,
    )
    ended = await gateway.session.play()
    bpm.ledger.close()
    assert find_unsafe(read_ledger(tmp_path / f"{number}.jsonl")) == []
    return gateway, ended


async def test_a_model_that_knows_runs_whole_sessions_with_nobody_asked(world, tmp_path):
    ended = [(await play(world, tmp_path, number, lambda action: Decision.EXECUTE))[1] for number in range(12)]
    assert all(one.is_unattended for one in ended if one.closing == CLOSED)
    assert sum(one.is_unattended for one in ended) >= 8
    assert all(one.seconds_spent == 0 for one in ended if one.is_unattended)
    assert sum(bool(one.right) for one in ended) >= 10


async def test_what_is_proposed_is_looked_at_and_what_ran_is_reviewed_before_the_end(world, tmp_path):
    def ends_asked(action: Action) -> Decision:
        return Decision.PROPOSE if action.tool is Tool.CLOSE_CHAT else Decision.EXECUTE

    gateway, ended = await play(world, tmp_path, 1, ends_asked)
    reviews, looks = gateway.all_of(SessionReviewed), gateway.all_of(FeedbackGiven)
    assert (len(reviews), len(looks), ended.looks) == (1, 1, 1)
    assert not ended.is_unattended
    assert len(reviews[0].items) == ended.executed_critical > 3
    assert gateway.events.index(reviews[0]) < gateway.events.index(looks[0])
    closed, judged = gateway.events[-2:]
    assert isinstance(closed, SessionClosed)
    assert judged == ResolutionJudged(ended.right, "the desk's books")


async def test_where_nothing_is_decided_the_operator_works_alone(world, tmp_path):
    _, ended = await play(world, tmp_path, 2, lambda action: Decision.OBSERVE)
    assert (ended.looks, ended.executed_critical) == (0, 0)
    assert ended.acts > 5
    assert ended.seconds_spent > 10


async def test_in_the_changed_process_operators_tell_the_terms_and_refuse_a_yes_without_them(world, tmp_path):
    def looks_at_yes(action: Action) -> Decision:
        return Decision.PROPOSE if action.control_id.startswith("say:confirm") else Decision.OBSERVE

    said = set()
    for number in range(12):
        gateway, ended = await play(world, tmp_path, number, looks_at_yes, changed=True)
        said |= {action.control_id for action in gateway.actions.values()}
        assert ended.changed
        assert gateway.session._grade(Action(Tool.SEND_TEXT_TO_CHAT, CONFIRM)) is Grade.MISSING_VERIFICATION
    assert said & {CONFIRM, CONFIRM_TERMS} == {CONFIRM_TERMS}


@pytest.mark.parametrize(("said", "untold"), [((CONFIRM,), 1), ((CONFIRM_TERMS,), 0), ((CONFIRM, CONFIRM_TERMS), 0)])
def test_a_booking_is_not_right_where_the_terms_were_not_told(world, said, untold):
    schema, dialogues = world
    desk, booking = next(
        (Desk(build_services(dialogue, schema), has_terms=True), bookings[0])
        for dialogue in dialogues
        if (bookings := read_goal_bookings(dialogue, schema))
    )
    desk.act(Action(Tool.OPEN_PROCEDURE, f"open:{booking.service}/{booking.intent}"))
    desk.fields |= dict(booking.parameters)
    for control_id in said:
        desk.act(Action(Tool.SEND_TEXT_TO_CHAT, control_id))
    desk.act(Action(Tool.CLICK_CONTROL, BOOK))
    assert (desk.is_booked, desk.untold) == (True, untold)
