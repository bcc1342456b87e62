"""Whole sessions in the report: who touched them, how they came out, what held them back."""

import msgspec
import pytest

from pilotage.report.charts import draw_touches
from pilotage.report.sessions import TOUCHES, count_whole_sessions, find_hold, find_share
from pilotage_core.actions import Action, Tool
from pilotage_core.events import ActionTaken, Author, Event, FeedbackGiven, MessagePosted, Verdict
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.stage import Stage
from pilotage_simulator.ledger import SessionEnded

SAY = Action(Tool.SEND_TEXT_TO_CHAT, "say:request:city", text="City?")


def propose(number: int, decision: str = "execute", reason: str = "certified", outcome: str = "done") -> ProposalRecord:
    return ProposalRecord(
        proposal_id=f"p{number}", at_version=number, action=SAY, pair="r1", policy_digest="p", critic_digest="c",
        stage=Stage.AUTOMATION, decision=decision, reason=reason, critical=True, stratum="message", state_digest="s",
        at="2026-03-01T10:00:00Z", outcome=outcome,
    )  # fmt: skip


def record(name: str, *happened: object, proposals: tuple[ProposalRecord, ...] = ()) -> SessionRecord:
    events = tuple(Event(f"{name}-{n}", n, "2026-03-01T10:00:00+00:00", data) for n, data in enumerate(happened))
    return SessionRecord(name, "desk/evenings", "t", events, proposals, "t")


def ended(name: str, second: int = 0, closing: str = "closed", **given: object) -> SessionEnded:
    at = f"2026-03-01T10:00:{second:02d}+00:00"
    return SessionEnded(at, name, "desk/evenings", closing, 60.0, **{"seconds_spent": 0.0, "right": True} | given)


CUSTOMER = MessagePosted(Author.CUSTOMER, "hi")
ASKED = FeedbackGiven("p2", Verdict.ACCEPT, "o")
WORKED = ActionTaken((SAY,), "o", 3.0)
RAN = (propose(1), propose(2))
SESSIONS = (
    record("alone", CUSTOMER, CUSTOMER, proposals=RAN),
    record("alone-wrong", CUSTOMER, proposals=RAN),
    record("asked", CUSTOMER, CUSTOMER, ASKED, proposals=(propose(1), propose(2, "propose", "below-tau"))),
    record("transferred", CUSTOMER, proposals=RAN),
    record("human", CUSTOMER, WORKED),
)
ENDED = (
    ended("alone", 1),
    ended("alone-wrong", 2, right=False),
    ended("asked", 3, looks=1, seconds_spent=30.0, executed_critical=1),
    ended("transferred", 4, closing="transferred"),
    ended("human", 0, acts=5, seconds_spent=60.0),
)


def stage_of(session: SessionRecord) -> Stage:
    return Stage.AUTOMATION if session.proposals else Stage.LOGGING


def test_sessions_count_as_automation_where_nobody_touched_them_and_none_where_they_were_given_away():
    whole = count_whole_sessions(SESSIONS, ENDED, stage_of)
    assert (whole.automation_rate.part, whole.automation_rate.n) == (2, 4)
    right = whole.resolution_correctness
    assert (right["unattended"].part, right["unattended"].n) == (1, 2)
    assert (right["all"].part, right["human_only"].part) == (3, 1)
    assert (whole.automation_rate_by_turn.part, whole.automation_rate_by_turn.n) == (5, 6)
    assert whole.held_back_by == {"below-tau: say:request": 1, "transferred": 1}
    assert (whole.operator_seconds.automatic, whole.operator_seconds.automatic_alone) == (7.5, 60.0)
    assert [sum(counts) for counts in zip(*(counts for _, counts in whole.touched), strict=True)] == [2, 1, 1, 1]


def test_what_ran_between_a_change_and_being_taken_back_is_told_apart():
    """Under r1 three sessions ended alone, two of the changed process; under r2, which learned that, one."""
    names = ("before", "after", "after-wrong", "again")
    pairs = ("r1", "r1", "r1", "r2")
    sessions = [
        record(name, CUSTOMER, proposals=(msgspec.structs.replace(propose(1), pair=pair),))
        for name, pair in zip(names, pairs, strict=True)
    ]
    told = [ended(name, n, changed=n > 0, right=name != "after-wrong") for n, name in enumerate(names)]
    right = count_whole_sessions(sessions, told, stage_of).resolution_correctness
    assert (right["unattended"].part, right["unattended"].n) == (3, 4)
    assert (right["before_change"].part, right["before_change"].n) == (1, 1)
    assert (right["until_taken_back"].part, right["until_taken_back"].n) == (1, 2)


def test_where_no_outcome_is_known_nothing_is_said_of_whole_sessions():
    unknown = [ended(one.session_id, right=None) for one in ENDED]
    assert count_whole_sessions(SESSIONS, unknown, stage_of) is None


@pytest.mark.parametrize(
    ("proposals", "why"),
    [
        ((propose(1), propose(2, "hand_off", "loop")), "loop: say:request"),
        ((propose(1, outcome="refused"),), "order refused"),
        ((propose(1),), "nothing was proposed"),
    ],
)
def test_what_put_an_operator_to_a_session_is_its_first_cause(proposals, why):
    assert find_hold(record("s", proposals=proposals)) == why


def test_a_share_has_its_interval():
    share = find_share(97, 100)
    assert share.low < 0.97 < share.high
    assert (find_share(0, 5).low, find_share(5, 5).high) == (0.0, 1.0)
    assert find_share(0, 0) is None


def test_the_picture_tells_each_span_and_who_touched_its_sessions():
    drawn = draw_touches([(0.0, (1, 0, 2, 0)), (5.0, (0, 0, 0, 0))], TOUCHES)
    assert "nobody asked: 1 of 3" in drawn
    assert "operators alone: 0" not in drawn
