"""Labels: live verdicts where this policy proposed, replay where it did not."""

import msgspec
import pytest

from pilotage_core.actions import Action, ActionRules, Tool
from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.events import FeedbackGiven, Grade, ReviewItem, SessionReviewed, Verdict
from pilotage_core.proposal import build_action_schema
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_trainer.backends.counts.schema import allowed_on, allowed_steps
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.sessions.labels import is_same_step, list_moments

SUBMIT = Action(Tool.CLICK_CONTROL, "submit")
HELLO = Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello", text="Hello!")


@pytest.mark.parametrize(
    ("proposed", "taken", "same"),
    [
        (SUBMIT, SUBMIT, True),
        (SUBMIT, Action(Tool.CLICK_CONTROL, "submit:book"), False),
        (HELLO, Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello", text="Hello, Ann!"), True),
        (HELLO, Action(Tool.SEND_TEXT_TO_CHAT, text="Hello!"), False),
        (Action(Tool.SEND_TEXT_TO_CHAT, text="a"), Action(Tool.SEND_TEXT_TO_CHAT, text="b"), False),
        (Action(Tool.FILL_INPUT, "i", value="1"), Action(Tool.FILL_INPUT, "i", value="2"), False),
        (Action(Tool.CLOSE_CHAT), Action(Tool.TRANSFER_CHAT), False),
    ],
)
def test_a_replayed_proposal_is_right_only_if_it_is_what_the_person_did(proposed, taken, same):
    assert is_same_step(proposed, taken) is same


def test_a_session_without_this_policys_proposals_is_replayed(make_sessions):
    record = make_sessions(1, live="other")[0]
    moments = list_moments(record, "this", DEFAULT_FORMAT)
    assert [m.taken for m in moments] == [p.taken for p in human_points(record, DEFAULT_FORMAT)]
    assert not any(m.is_live for m in moments)


def test_live_verdicts_stand_for_what_was_proposed(make_sessions):
    for record in make_sessions(20, live="this"):
        (moment,) = list_moments(record, "this", DEFAULT_FORMAT)
        verdict = next(e.data.verdict for e in record.events if isinstance(e.data, FeedbackGiven))
        assert moment.proposed == SUBMIT
        assert moment.judge(SUBMIT) is (verdict is Verdict.ACCEPT)
        assert moment.prompt.endswith("\n>")
        assert "submit" in moment.prompt


def graded(record, grade):
    """The record with its verdict a rejection of `grade`."""
    events = [
        msgspec.structs.replace(e, data=msgspec.structs.replace(e.data, verdict=Verdict.REJECT, grade=grade))
        if isinstance(e.data, FeedbackGiven)
        else e
        for e in record.events
    ]
    return msgspec.structs.replace(record, events=tuple(events))


@pytest.mark.parametrize(
    ("grade", "weight"),
    [(Grade.ACCEPTABLE, 0.25), (Grade.MINOR_EDITS, 0.5), (Grade.INCORRECT, 1.0), (None, 1.0)],
)
def test_a_grade_weighs_in_training_and_never_makes_an_accept(make_sessions, grade, weight):
    (moment,) = list_moments(graded(make_sessions(1, live="this")[0], grade), "this", DEFAULT_FORMAT)
    assert (moment.accepted, moment.weight) == (False, weight)


def test_a_rare_look_weighs_more_up_to_a_cap(make_sessions):
    record = graded(make_sessions(1, live="this")[0], None)
    for propensity, weight in ((0.5, 2.0), (0.01, 10.0)):
        looked = tuple(msgspec.structs.replace(p, propensity=propensity, audited=True) for p in record.proposals)
        (moment,) = list_moments(msgspec.structs.replace(record, proposals=looked), "this", DEFAULT_FORMAT)
        assert (moment.weight, moment.propensity) == (weight, propensity)


def test_a_later_review_wins(make_sessions):
    record = make_sessions(1, live="this")[0]
    review = SessionReviewed("boss", False, (ReviewItem(record.proposals[0].proposal_id, Verdict.REJECT),))
    closing = record.events[-1]
    events = (
        *record.events[:-1],
        msgspec.structs.replace(closing, id="review", data=review),
        msgspec.structs.replace(closing, sequence=closing.sequence + 1),
    )
    (moment,) = list_moments(msgspec.structs.replace(record, events=events), "this", DEFAULT_FORMAT)
    assert (moment.accepted, moment.operator) == (False, "boss")


def test_the_schema_of_a_request_is_read_back():
    controls = (
        Control("submit", ControlKind.BUTTON),
        Control("gone", ControlKind.BUTTON, visible=False),
        Control("off", ControlKind.BUTTON, enabled=False),
        Control("reply:hello", ControlKind.REPLY),
        Control("input:A", ControlKind.INPUT),
    )
    rules = ActionRules(tools=tuple(tool for tool in Tool if tool is not Tool.TRANSFER_CHAT))
    screen = Screen("s", controls=controls)
    schema = build_action_schema(rules, screen)
    assert allowed_steps(schema) == allowed_on(rules, screen)
    assert allowed_steps(schema) == {"click_control submit", "send_text_to_chat reply:hello", "type", "close_chat"}


@pytest.mark.parametrize("schema", [{}, {"anyOf": 3}, {"anyOf": [{"properties": {"tool": {"const": "dance"}}}]}])
def test_a_schema_of_something_else_is_refused(schema):
    with pytest.raises(ValueError, match=r"schema|dance"):
        allowed_steps(schema)
