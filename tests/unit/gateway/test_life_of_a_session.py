"""One session through the gateway: what is proposed, executed, accepted, corrected, handed off, and repeated."""

import msgspec
import pytest
from stubs.gateway import FORM, RESULT, STAR, SUBMIT, Case, StubModels, build_certificate

from pilotage_core.actions import Action, Tool
from pilotage_core.events import (
    Author,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    ReviewItem,
    ScreenShown,
    SessionOpened,
    SessionReviewed,
    Verdict,
)
from pilotage_core.score import CONFIDENCE_ALONE, CRITIC_ALONE, ScoreRule
from pilotage_core.screen import Control, ControlKind, ScreenSchema
from pilotage_core.stage import Stage
from pilotage_core.wire import PairRef
from pilotage_gateway.suspensions import Suspensions


async def test_a_certified_action_runs_unattended_once(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        assert (turn.decision, turn.reason, turn.stage) == ("execute", "certified", Stage.CALIBRATION)
        order = turn.order
        assert order.action == SUBMIT
        assert order.nonce == "n0"
        assert order.state_version == turn.sequence == 3
        assert 0 < order.remaining_ms <= 10_000
        assert (order.epoch, order.authorised_by) == (1, "permit")
        turn = await case.report(turn)
        assert turn.executed == (order.proposal_id,)
        _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
        assert [p.get("executed", False) for p in record["proposals"]] == [True, False]


AUTOMATIC = {
    "stage": Stage.AUTOMATION,
    "finalizing_by_human": False,
    "certificates": {stratum: build_certificate(0.8, stratum=stratum) for stratum in ("procedure", "finalizing")},
}
FIRST_TURNS = (
    ({"stage": Stage.LOGGING}, {}, "observe", "stage-logging"),
    ({"stage": Stage.COPILOT}, {}, "propose", "stage-copilot"),
    ({"suspended": True}, {}, "observe", "suspended"),
    ({"certificates": {}}, {}, "propose", "no-certificate"),
    ({"certificates": {"procedure": build_certificate(0.8, policy="older")}}, {}, "propose", "no-certificate"),
    ({"certificates": {"procedure": build_certificate(0.99)}}, {}, "propose", "below-tau"),
    ({"audit_share": 1.0}, {}, "propose", "audit"),
    ({"pair": None}, {}, "observe", "nothing-proposed"),
    ({}, {"score": 1.5}, "propose", "no-score"),
    ({}, {"score": "high"}, "propose", "no-score"),
    ({}, {"failing": True}, "observe", "nothing-proposed"),
    ({}, {"action": None}, "observe", "nothing-proposed"),
    ({}, {"action": Action(Tool.CLICK_CONTROL, "gone")}, "hand_off", "control-invalid"),
    ({}, {"action": Action(Tool.CLOSE_CHAT)}, "propose", "finalizing-by-human"),
    ({}, {"action": Action(Tool.OPEN_PROCEDURE, "book")}, "execute", "not-critical"),
    ({"stage": Stage.COPILOT}, {"action": Action(Tool.OPEN_PROCEDURE, "book")}, "propose", "not-critical-unlisted"),
    (AUTOMATIC, {"action": Action(Tool.CLOSE_CHAT)}, "execute", "certified"),
    (AUTOMATIC | {"always_calibrating": 1.0}, {"action": Action(Tool.CLOSE_CHAT)}, "propose", "finalizing-by-human"),
    (AUTOMATIC | {"always_calibrating": 1.0}, {}, "execute", "certified"),
)


async def test_what_the_gate_says_of_the_first_proposal(world, subtests):
    async with world.gateway() as gateway:
        for changes, models, decision, reason in FIRST_TURNS:
            world.publish(**{"stage": Stage.CALIBRATION, **changes})
            digest = world.controller.snapshot.digest
            fresh = StubModels(url=world.models.url, **models)
            vars(world.models).update(vars(fresh))
            await gateway.until(lambda s, d=digest: s["snapshot_digest"] == d and s["permit_remaining_ms"] > 0)
            gateway.app.state.turns.models._breakers.clear()
            with subtests.test(reason, changes=str(changes)[:80], models=models):
                case = Case(gateway)
                turn = await case.begin()
                if decision == "propose":
                    assert (turn.decision, turn.reason, turn.detail) == ("propose", "proposed", "")
                    assert await gateway.why(case.session_id) == (decision, reason)
                else:
                    assert (turn.decision, turn.reason) == (decision, reason)
                assert (turn.order is not None) == (decision == "execute")
                assert (turn.proposal is not None) == (decision == "propose")


# rule, critic's answer, confidence; the score, and what becomes of it at τ = 0.8
SCORES = (
    (CRITIC_ALONE, 0.9, 0.1, 0.9, "certified"),
    (CONFIDENCE_ALONE, 0.1, 0.9, 0.9, "certified"),
    (CONFIDENCE_ALONE, 0.9, 0.7, 0.7, "below-tau"),
    (ScoreRule(1.0, 1.0), 0.75, 0.6, 9 / 11, "certified"),  # odds of 3 times 1.5
    (ScoreRule(1.0, 1.0), 0.9, 0.3, 27 / 34, "below-tau"),
    (ScoreRule(1.0, 1.0), 1.5, 0.9, None, "no-score"),
    (ScoreRule(1.0, 1.0), "high", 0.9, None, "no-score"),
)


async def test_a_score_is_what_the_pairs_rule_makes_of_critic_and_confidence(world, subtests):
    async with world.gateway() as gateway:
        for rule, answer, confidence, score, reason in SCORES:
            url = world.models.url
            world.publish(Stage.CALIBRATION, pair=PairRef("r1", "p1", "c1", url, url, score=rule))
            vars(world.models).update(vars(StubModels(url=url, score=answer, confidence=confidence)))
            digest = world.controller.snapshot.digest
            await gateway.until(lambda s, d=digest: s["snapshot_digest"] == d and s["permit_remaining_ms"] > 0)
            gateway.app.state.turns.models._breakers.clear()
            with subtests.test(reason, rule=rule, answer=answer, confidence=confidence):
                case = Case(gateway)
                await case.begin()
                assert (await gateway.why(case.session_id))[1] == reason
                await case.close()
                _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
                (proposal,) = record["proposals"]
                assert proposal.get("score") == (None if score is None else pytest.approx(score))
                assert len(world.models.requests) == (2 if rule.critic else 1)  # a critic that counts for nothing


async def test_the_model_sees_the_serialised_dialog_and_no_id(world):
    async with world.gateway() as gateway:
        await Case(gateway, "secret-session").begin(domain="hotel", customer_id="c-77")
        policy, critic = world.models.requests
        prompt = policy["messages"][0]["content"]
        assert prompt.startswith("@ domain=hotel\n")
        assert critic["query"] == prompt + '{"tool":"click_control","control_id":"submit-booking"}'
        assert not any(word in prompt for word in ("secret-session", "c-77"))
        tools = [
            branch["properties"]["tool"]["const"]
            for branch in policy["response_format"]["json_schema"]["schema"]["anyOf"]
        ]
        assert tools == ["click_control", "open_procedure", "send_text_to_chat", "close_chat", "transfer_chat", ""]


async def test_an_accept_orders_the_proposal_for_its_operator(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        proposed = await case.begin()
        turn = await case.answer(proposed, Verdict.ACCEPT)
        assert (turn.decision, turn.reason) == ("execute", "operator-accepted")
        assert turn.order.authorised_by == "ann"
        assert (turn.order.epoch, turn.order.state_version) == (0, 4)
        done = await case.report(turn)
        assert done.executed == ()  # an operator did it: no review


async def test_a_repeated_post_gets_the_same_order_and_no_second_one(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.answer(await case.begin(), Verdict.ACCEPT)
        status, again = await case.again()
        assert (status, msgspec.convert(again["order"], type(turn.order))) == (200, turn.order)
        again_later = msgspec.structs.replace(case.last, nonce="fresh")
        _, answer = await case.send(again_later)
        assert answer["order"] == {**msgspec.to_builtins(turn.order), "nonce": "fresh"}
        assert len(world.models.prompts) == 1
        await case.report(turn)
        _, decisions = await gateway.get(f"/v1/sessions/{case.session_id}")
        assert len(decisions["proposals"]) == 2


async def test_a_repeated_unattended_order_needs_leave_that_still_stands(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        _, again = await case.again()
        assert again["order"]["idempotency_key"] == turn.order.idempotency_key
        world.publish(Stage.COPILOT)
        await gateway.until(lambda status: status["process_clusters"][STAR]["stage"] == "Copilot")
        _, later = await case.again()
        assert (later["decision"], later["reason"]) == ("hand_off", "ambiguous-outcome")
        assert "order" not in later


async def test_after_a_restart_an_open_order_is_ambiguous_and_stays_with_the_operator(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
    async with world.gateway() as gateway:
        case.gateway = gateway
        status, again = await case.again()
        assert (status, again["decision"], again["reason"]) == (200, "hand_off", "ambiguous-outcome")
        late = await case.report(turn)  # the adapter did execute it, and says so now
        assert (late.decision, late.reason) == ("hand_off", "ambiguous-outcome")
        assert (await case.act()).decision == "hand_off"
        assert len(world.models.prompts) == 1
        assert late.executed == (turn.order.proposal_id,)


async def test_a_post_without_the_outcome_is_ambiguous(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin()
        turn = await case.post(MessagePosted(Author.CUSTOMER, "Hello?"))
        assert (turn.decision, turn.reason) == ("hand_off", "ambiguous-outcome")


async def test_a_handed_off_session_comes_back_when_the_operator_has_acted(world):
    world.models.action = Action(Tool.CLICK_CONTROL, "gone")
    async with world.gateway() as gateway:
        case = Case(gateway)
        assert (await case.begin()).decision == "hand_off"
        asleep = await case.post(MessagePosted(Author.CUSTOMER, "Hello?"))
        assert (asleep.decision, asleep.reason) == ("observe", "handed-off")
        world.models.action = SUBMIT
        assert (await case.act()).decision == "execute"


async def test_after_a_verdict_the_policy_waits_for_the_operator(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.answer(await case.begin(), Verdict.REJECT)
        assert (turn.decision, turn.reason) == ("observe", "nothing-proposed")
        assert len(world.models.prompts) == 1
        assert (await case.act()).decision == "propose"


async def test_an_accept_of_a_state_that_has_moved_on_is_refused_and_nothing_is_stored(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        old = await case.begin()
        await case.post(ScreenShown(screen=RESULT))
        status, problem = await case.refused(FeedbackGiven(old.proposal.proposal_id, Verdict.ACCEPT, "ann"))
        assert (status, problem["where"]) == (409, "events[0].data.proposal_id")
        reject = await case.post(FeedbackGiven(old.proposal.proposal_id, Verdict.REJECT, "ann"))
        assert reject.decision == "propose"  # the card of the state now still stands


async def test_a_refused_order_is_no_execution(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        turn = await case.report(turn, Outcome.REFUSED, screen=None)
        assert turn.executed == ()
        assert turn.decision == "execute"  # a new proposal, with a key of its own
        assert await gateway.metric("pilotage_executed_critical_total", process_cluster=STAR, pair="r1") == 0.0


async def test_suspension_is_looked_at_in_the_transaction_that_writes_the_intent(world):
    async with world.gateway() as gateway:
        stop = {"process_cluster": "*", "suspended": True, "who": "kim", "why": "drill"}
        assert (await gateway.post("/v1/suspend", stop))[0] == 200
        gateway.app.state.turns.suspended = Suspensions()  # as if another gateway had written the row
        turn = await Case(gateway).begin()
        assert (turn.decision, turn.reason, turn.order) == ("observe", "suspended", None)
        assert (await gateway.post("/v1/suspend", {**stop, "suspended": False}))[0] == 200
        assert (await Case(gateway).begin()).decision == "execute"


async def test_an_accept_while_suspended_is_stored_and_orders_nothing(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        await gateway.post("/v1/suspend", {"process_cluster": STAR, "suspended": True, "who": "kim", "why": "drill"})
        turn = await case.answer(turn, Verdict.ACCEPT)
        assert (turn.decision, turn.reason, turn.order, turn.sequence) == ("observe", "suspended", None, 4)


async def test_reviews_and_corrections_are_counted_once_for_each_proposal(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        ran = turn.order.proposal_id
        world.models.action = None
        await case.report(turn)
        await case.act(SUBMIT, corrects=ran)
        rejected = SessionReviewed("kim", False, (ReviewItem(ran, Verdict.REJECT),))
        await case.post(rejected)
        await case.close()
        key = {"process_cluster": STAR, "pair": "r1"}
        assert await gateway.metric("pilotage_corrections_total", **key) == 1.0
        assert await gateway.metric("pilotage_finalizations_rejected_total", **key) == 1.0
        assert await gateway.metric("pilotage_executed_critical_total", **key) == 1.0


async def test_an_open_breaker_spares_a_dead_policy(world):
    world.models.failing = True
    async with world.gateway() as gateway:
        for _ in range(8):
            assert (await Case(gateway).begin()).reason == "nothing-proposed"
        assert len(world.models.prompts) == 5
        failed = await gateway.metric("pilotage_model_errors_total", process_cluster=STAR, pair="r1", model="policy")
        assert failed == 8.0


async def test_a_pair_that_changed_while_it_was_asked_does_not_execute(world):
    async with world.gateway() as gateway:
        turns = gateway.app.state.turns
        ask = turns.models.score

        async def change_the_pair_meanwhile(url: str, critic: str, query: str) -> float:
            score = await ask(url, critic, query)
            world.publish(Stage.CALIBRATION, pair=PairRef("r2", "p1", "c1", world.models.url, world.models.url))
            await gateway.until(lambda status: status["process_clusters"][STAR]["pair"] == "r2")
            return score

        turns.models.score = change_the_pair_meanwhile
        case = Case(gateway)
        assert (await case.begin()).decision == "propose"
        assert await gateway.why(case.session_id) == ("propose", "no-permit")


async def test_a_screen_that_lacks_what_its_schema_requires_is_kept_and_handed_off(world):
    world.publish(Stage.CALIBRATION, screens=(ScreenSchema("form", "form", required_controls=("submit*",)),))
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin(screen=FORM)
        case = Case(gateway)
        turn = await case.post(SessionOpened(), ScreenShown(html="<form><button id=other>Other</button></form>"))
        assert (turn.decision, turn.reason) == ("hand_off", "state-invalid")
        assert "submit*" in turn.detail
        _, record = await gateway.get(f"/v1/sessions/{case.session_id}", html="true")
        assert record["events"][1]["data"]["screen"]["controls"][0]["control_id"] == "other"
        assert record["events"][1]["data"]["html"].startswith("<form>")


async def test_a_value_that_an_operator_has_rejected_is_not_put_to_them_again_until_the_customer_speaks(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        world.models.action = Action(Tool.FILL_INPUT, "city", "Fran")
        city = Control("city", ControlKind.INPUT, "City")
        form = msgspec.structs.replace(FORM, controls=(*FORM.controls, city))
        typed = msgspec.structs.replace(city, value="San Fran")
        filled = msgspec.structs.replace(form, controls=(*FORM.controls, typed))
        turn = await case.begin(screen=form)
        assert turn.decision == "propose"
        await case.answer(turn, Verdict.REJECT)
        turn = await case.act(Action(Tool.FILL_INPUT, "city", "San Fran"), screen=filled)
        assert (turn.decision, turn.reason) == ("observe", "nothing-proposed")
        assert "has just rejected" in turn.detail
        turn = await case.post(MessagePosted(Author.CUSTOMER, "No, Fran"))
        assert turn.decision == "propose"


async def test_sessions_that_left_memory_go_on_where_they_were(world, monkeypatch):
    monkeypatch.setattr("pilotage_gateway.sessions.KEPT_LIVE", 2)
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        cases = [Case(gateway) for _ in range(5)]
        turns = [await case.begin(screen=FORM) for case in cases]
        assert len(gateway.app.state.turns.live) == 2
        for case, turn in zip(cases, turns, strict=True):
            again = await case.post(MessagePosted(Author.CUSTOMER, "Hello?"), wants_decision=False)
            assert again.sequence == case.sequence
            status, _ = await case.refused(FeedbackGiven(turn.proposal.proposal_id, Verdict.ACCEPT, "kim"))
            assert status == 409, "the state has moved on, in memory or not"
        assert len(gateway.app.state.turns.live) == 2
