"""One session against a gateway in memory: what each decision leads to, and what becomes of it when things fail."""

import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.events import FeedbackGiven, Grade, Outcome, OutcomeReported, SessionClosed, Verdict
from pilotage_core.gate import Decision
from pilotage_core.permit import FenceFault
from pilotage_core.stage import Stage
from pilotage_simulator import adapter as adapter_module
from pilotage_simulator import outbox as outbox_module
from pilotage_simulator.ledger import count_unsafe, read_ledger
from pilotage_simulator.star import COMMON_REPLIES

SUBMIT = Action(Tool.CLICK_CONTROL, control_id="submit")
CLOSE = Action(Tool.CLOSE_CHAT)


def say(label):
    text = {"weather_ask_day": "For what day?", "weather_bye": "Bye.", **COMMON_REPLIES}[label]
    return Action(Tool.SEND_TEXT_TO_CHAT, control_id=f"reply:{label}", text=text)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(outbox_module, "BACKOFF_SECONDS", (0.0,))


@pytest.fixture
def script(fx):
    return fx.script_of(fx.TWO_FORECASTS)


def controls(gateway):
    return [action.control_id or action.tool.value for taken in gateway.taken for action in taken.actions]


WIZARD = [
    "procedure:weather",
    "reply:hello",
    "reply:weather_ask_day",
    "input:City",
    "input:Day",
    "submit",
    "reply:weather_inform_forecast",
    "input:Day",
    "submit",
    "reply:weather_inform_forecast",
    "reply:weather_bye",
    "close_chat",
]


@pytest.mark.parametrize("decision", [None, Decision.HAND_OFF])
async def test_where_nothing_is_proposed_the_operator_does_what_the_wizard_did(fx, script, play, decision):
    policy = (lambda case: None) if decision is None else (lambda case: (decision, fx.next_action(case)))
    gateway = fx.FakeGateway(policy, Stage.LOGGING)
    played = await play(script, gateway)
    assert controls(gateway) == WIZARD
    assert gateway.walk.state.closing == "closed"
    assert played.orders == []
    assert sum(taken.active_seconds for taken in gateway.taken) == pytest.approx(script.active_seconds)


async def test_a_proposal_that_the_wizard_did_next_is_accepted_and_executed_once(fx, script, play):
    gateway = fx.FakeGateway(fx.follow(Decision.PROPOSE))
    played = await play(script, gateway)
    feedback = gateway.all_of(FeedbackGiven)
    assert {given.verdict for given in feedback} == {Verdict.ACCEPT}
    assert len(played.orders) == len(feedback) == gateway.outcomes.count(Outcome.DONE)
    assert all(order.strict and order.executed and order.authorised_by == "w-1" for order in played.orders)
    assert [control for control in controls(gateway) if not control.startswith("input:")] == []
    assert gateway.reviews == []
    assert (
        gateway.all_of(FeedbackGiven)[0].active_seconds == adapter_module.LOOK_SECONDS + adapter_module.ACCEPT_SECONDS
    )


async def test_a_wrong_proposal_is_rejected_and_the_wizards_action_done(fx, script, play):
    gateway = fx.FakeGateway(lambda case: (Decision.PROPOSE, say("out_of_scope")))
    await play(script, gateway)
    assert controls(gateway) == WIZARD
    assert {(given.verdict, given.grade) for given in gateway.all_of(FeedbackGiven)} == {
        (Verdict.REJECT, Grade.INCORRECT)
    }


async def test_closing_before_the_customer_has_left_is_the_wrong_route(fx, script, play):
    gateway = fx.FakeGateway(lambda case: (Decision.PROPOSE, CLOSE))
    await play(script, gateway)
    grades = [given.grade for given in gateway.all_of(FeedbackGiven)]
    assert grades[:-1] == [Grade.WRONG_ROUTE] * (len(grades) - 1)
    assert grades[-1] is None


@pytest.mark.parametrize(("probability", "verdict"), [(1.0, Verdict.ACCEPT), (0.0, Verdict.REJECT)])
async def test_what_the_wizard_did_later_before_the_next_submit_is_accepted_with_a_probability(
    fx, script, play, probability, verdict
):
    def policy(case):
        if fx.next_action(case).control_id == "reply:hello":
            return Decision.PROPOSE, say("weather_ask_day")
        return None

    gateway = fx.FakeGateway(policy)
    played = await play(script, gateway, accept_later_probability=probability)
    first = gateway.all_of(FeedbackGiven)[0]
    assert (first.verdict, first.grade) == (verdict, None if probability else Grade.ACCEPTABLE)
    assert controls(gateway).count("reply:weather_ask_day") == (0 if probability else 1)
    assert all((order.strict, order.graded) == (False, True) for order in played.orders)


async def test_a_submit_without_the_wizards_values_is_rejected_as_missing_verification(fx, script, play):
    def policy(case):
        return (Decision.PROPOSE, SUBMIT) if fx.next_action(case) != SUBMIT and case.procedure else None

    gateway = fx.FakeGateway(policy)
    await play(script, gateway)
    first = gateway.all_of(FeedbackGiven)[0]
    assert (first.verdict, first.grade) == (Verdict.REJECT, Grade.MISSING_VERIFICATION)


async def test_what_is_executed_unattended_is_reviewed_once_the_customer_has_left(fx, script, play):
    gateway = fx.FakeGateway(fx.follow(Decision.EXECUTE), Stage.AUTOMATION)
    played = await play(script, gateway)
    assert all(order.strict and order.executed for order in played.orders)
    (review,) = gateway.reviews
    assert review.approved
    assert len(review.items) == 7  # five messages and two submits; opening is not critical, closing comes after
    assert controls(gateway) == ["input:City", "input:Day", "input:Day"]
    assert count_unsafe(read_ledger(played.ledger)) == 0


async def test_a_wrong_submit_is_corrected_by_the_operator_and_fails_the_review(fx, script, play):
    fired = []

    def policy(case):
        if case.procedure and not fired:
            fired.append(1)
            return Decision.EXECUTE, SUBMIT
        return None

    gateway = fx.FakeGateway(policy, Stage.AUTOMATION)
    played = await play(script, gateway)
    assert [taken.corrects for taken in gateway.taken if taken.corrects] == ["p-0"]
    assert controls(gateway) == WIZARD
    (order,) = played.orders
    assert (order.executed, order.strict, order.graded) == (True, False, False)
    (review,) = gateway.reviews
    assert not review.approved
    assert (review.items[0].verdict, review.items[0].grade) == (Verdict.REJECT, Grade.INCORRECT)


async def test_a_message_out_of_turn_is_answered_with_what_the_customer_said_to_it_later(fx, script, play):
    def policy(case):
        return (Decision.EXECUTE, say("weather_bye")) if fx.next_action(case).control_id == "reply:hello" else None

    bye_answered = [*fx.TWO_FORECASTS, fx.user("Bye bye.", 330)]
    gateway = fx.FakeGateway(policy, Stage.AUTOMATION)
    await play(fx.script_of(bye_answered), gateway)
    texts = [message.text for message in gateway.walk.state.messages]
    assert texts.index("Bye bye.") == texts.index("Bye.") + 1
    assert "reply:weather_bye" not in controls(gateway)
    assert not gateway.reviews[0].approved


async def test_a_message_that_nobody_answers_derails_the_session_into_an_operators_hands(fx, script, play):
    def policy(case):
        return (Decision.EXECUTE, say("out_of_scope")) if fx.next_action(case).control_id == "reply:hello" else None

    gateway = fx.FakeGateway(policy, Stage.AUTOMATION)
    await play(script, gateway)
    assert [taken.corrects for taken in gateway.taken if taken.corrects] == ["p-0"]
    assert controls(gateway) == WIZARD


async def test_after_a_wrong_procedure_the_operator_opens_the_right_one_again(fx, script, play):
    fired = []

    def policy(case):
        if case.procedure == "weather" and not fired:
            fired.append(1)
            return Decision.EXECUTE, Action(Tool.OPEN_PROCEDURE, control_id="procedure:hotel_book")
        return None

    gateway = fx.FakeGateway(policy, Stage.AUTOMATION)
    await play(script, gateway)
    assert controls(gateway) == [WIZARD[0], "procedure:weather", *WIZARD[1:]]
    assert gateway.taken[1].corrects == "p-0"


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ({"remaining_ms": 0}, FenceFault.TOO_LATE),
        ({"version_error": -1}, FenceFault.STALE_STATE),
        ({"nonce": "another"}, FenceFault.WRONG_NONCE),
    ],
)
async def test_what_the_fence_refuses_is_reported_and_done_by_the_operator(fx, script, play, shape, fault):
    gateway = fx.FakeGateway(lambda case: (Decision.EXECUTE, fx.next_action(case)), Stage.AUTOMATION)
    for name, value in shape.items():
        setattr(gateway, name, value)
    played = await play(script, gateway)
    assert {order.fence for order in played.orders} == {fault}
    assert not any(order.executed for order in played.orders)
    assert set(gateway.outcomes) == {Outcome.REFUSED}
    assert controls(gateway) == WIZARD


async def test_a_key_runs_once_however_often_it_is_ordered(fx, script, play):
    gateway = fx.FakeGateway(lambda case: (Decision.EXECUTE, fx.next_action(case)), Stage.AUTOMATION)
    gateway.key = "always-the-same"
    played = await play(script, gateway)
    assert sum(order.executed for order in played.orders) == 1
    assert gateway.outcomes[1:] == [Outcome.REFUSED] * (len(gateway.outcomes) - 1)


@pytest.mark.parametrize("failure", ["down", "lose_answers"])
async def test_without_a_gateway_the_operator_goes_on_and_every_event_arrives_once_and_in_order(
    fx, script, play, failure, monkeypatch
):
    monkeypatch.setattr(adapter_module, "PATIENCE_POSTS", 0)
    gateway = fx.FakeGateway(lambda case: None, Stage.LOGGING)
    setattr(gateway, failure, 6)
    played = await play(script, gateway)
    assert controls(gateway) == WIZARD
    assert [event.sequence for event in gateway.events] == list(range(len(gateway.events)))
    assert isinstance(gateway.events[-1].data, SessionClosed)
    (ended,) = [entry for entry in read_ledger(played.ledger) if type(entry).__name__ == "SessionEnded"]
    assert ended.unassisted == 4


async def test_a_lost_order_is_not_executed_and_not_reported(fx, script, play):
    gateway = fx.FakeGateway(lambda case: (Decision.EXECUTE, fx.next_action(case)), Stage.AUTOMATION)
    gateway.lose_answers = 1
    played = await play(script, gateway)
    reported = {outcome.proposal_id for outcome in gateway.all_of(OutcomeReported)}
    assert "p-0" not in reported or played.orders[0].proposal_id == "p-0"
    assert count_unsafe(read_ledger(played.ledger)) == 0


async def test_the_policy_is_asked_before_the_operator_types_and_a_submit_then_is_wrong(fx, script, play):
    submit = next(step for step in script.steps if step.kind is fx.StepKind.SUBMIT).actions[0]

    def policy(case):
        step = case.next_step()[1]
        types_here = step.kind is fx.StepKind.FILL and step.procedure == case.procedure
        return (Decision.PROPOSE, submit) if types_here else None

    gateway = fx.FakeGateway(policy)
    await play(script, gateway)
    feedback = gateway.all_of(FeedbackGiven)
    assert feedback
    assert {(given.verdict, given.grade) for given in feedback} == {(Verdict.REJECT, Grade.MISSING_VERIFICATION)}
