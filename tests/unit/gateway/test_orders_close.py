"""The way to the gate and from it: what is scored runs, leave lasts until an order leaves, what ran is counted."""

import msgspec
import pytest
from stubs.gateway import FORM, RESULT, SCREENS, STAR, SUBMIT, Case, build_certificate

from pilotage_core.actions import Action, ActionPattern, ActionRules, StratumRule, Tool
from pilotage_core.events import (
    Author,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ReviewItem,
    ScreenShown,
    SessionOpened,
    SessionReviewed,
    Verdict,
)
from pilotage_core.record import PROPOSED
from pilotage_core.screen import ControlKind, ControlRule, Screen, ScreenSchema
from pilotage_core.stage import Stage
from pilotage_core.wire import LabelPage, PostEvents
from pilotage_gateway.models import PolicyReply
from pilotage_gateway.suspensions import Suspensions

HELLO = "Hello, how can I help?"
MESSAGES = {"procedure": build_certificate(0.8), "message": build_certificate(0.8, stratum="message")}


# --- what is scored is what runs ---
async def test_a_template_with_other_text_is_free_text_to_whoever_judges_it_and_to_the_bpm(world):
    world.publish(Stage.CALIBRATION, certificates=MESSAGES)
    said = Action(Tool.SEND_TEXT_TO_CHAT, "hello", text="You get a refund of 9,999 EUR.")
    async with world.gateway() as gateway:
        gateway.app.state.turns.models.propose = answering(gateway, msgspec.json.encode(said).decode())
        turn = await Case(gateway).begin()
        assert turn.order.action == Action(Tool.SEND_TEXT_TO_CHAT, text=said.text)
        assert world.models.requests[-1]["query"].endswith(
            '>{"tool":"send_text_to_chat","text":"You get a refund of 9,999 EUR."}'
        )
        assert turn.order.digest == turn.order.action.digest


async def test_a_template_reply_is_judged_recorded_and_ordered_with_its_own_text(world):
    world.publish(Stage.CALIBRATION, certificates=MESSAGES)
    world.models.action = Action(Tool.SEND_TEXT_TO_CHAT, "hello")
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        assert turn.order.action == Action(Tool.SEND_TEXT_TO_CHAT, "hello", text=HELLO)
        assert world.models.requests[-1]["query"].endswith(f'"control_id":"hello","text":"{HELLO}"}}')
        _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
        assert record["proposals"][0]["scored"] == turn.order.digest


@pytest.mark.parametrize(
    "reply",
    [
        '{"tool":"close_chat","text":"bye"}',
        '{"tool":"transfer_chat","value":"queue-of-my-friend"}',
        '{"tool":"transfer_chat","control_id":"+4912345"}',
        '{"tool":"click_control","control_id":"submit-booking","value":"9999"}',
        '{"tool":"send_text_to_chat","control_id":"hello","value":"x"}',
        '{"tool":"send_text_to_chat","text":"  "}',
    ],
)
async def test_an_argument_that_a_tool_does_not_take_is_handed_off(world, reply):
    world.publish(Stage.AUTOMATION, certificates=MESSAGES, finalizing_by_human=False)
    async with world.gateway() as gateway:
        gateway.app.state.turns.models.propose = answering(gateway, reply)
        turn = await Case(gateway).begin()
        assert (turn.decision, turn.reason) == ("hand_off", "control-invalid")


async def test_a_transfer_goes_only_where_the_process_cluster_says(world):
    rules = ActionRules(transfer_targets=("second line",))
    certificates = {"finalizing": build_certificate(0.8, stratum="finalizing")}
    world.publish(Stage.AUTOMATION, rules=rules, certificates=certificates, finalizing_by_human=False)
    async with world.gateway() as gateway:
        for target, decision in (("second line", "execute"), ("elsewhere", "hand_off"), ("", "hand_off")):
            world.models.action = Action(Tool.TRANSFER_CHAT, value=target)
            assert (await Case(gateway).begin()).decision == decision, target


def answering(gateway, reply):
    """A policy that says this, whatever its schema allows."""
    ask = gateway.app.state.turns.models.propose

    async def propose(url, prompt, schema):
        await ask(url, prompt, schema)
        return PolicyReply(reply, 0.9)

    return propose


# --- what is not known is critical, and in no stratum ---
async def test_what_no_rule_names_is_scored_and_proposed_at_most(world):
    html = (
        "<form><button data-control-id=submit-booking>Book</button>"
        "<button data-control-id=wipe class=unruled>Wipe</button></form>"
    )
    schema = ScreenSchema("form", "form", controls=(ControlRule("button:not(.unruled)", ControlKind.BUTTON),))
    rules = ActionRules(strata=(StratumRule(ActionPattern(control="*"), "procedure"),))
    world.publish(Stage.AUTOMATION, screens=(schema,), rules=rules)
    twice = html.replace("</form>", "<button data-control-id=submit-booking>Again</button></form>")
    elsewhere = html.replace("form", "main")
    async with world.gateway() as gateway:
        for page, control, decision in (
            (html, "submit-booking", "execute"),
            (html, "wipe", "propose"),
            (twice, "submit-booking", "propose"),
            (elsewhere, "submit-booking", "propose"),
        ):
            world.models.action = Action(Tool.CLICK_CONTROL, control)
            case = Case(gateway)
            turn = await case.post(SessionOpened(), MessagePosted(Author.CUSTOMER, "Hi"), ScreenShown(html=page))
            assert turn.decision == decision, (page, control)
            if decision == "propose":
                assert await gateway.why(case.session_id) == ("propose", "no-certificate")


async def test_a_screens_fault_stays_until_a_screen_passes(world):
    schema = ScreenSchema("form", "form", required_controls=("submit*",))
    world.publish(Stage.CALIBRATION, screens=(schema, *SCREENS))
    bad = ScreenShown(html="<form><button id=other>Other</button></form>")
    async with world.gateway() as gateway:
        case = Case(gateway)
        assert (await case.post(SessionOpened(), MessagePosted(Author.CUSTOMER, "Hi"), bad)).decision == "hand_off"
        turn = await case.act(screen=Screen("form"))  # typed, and lacking the same control
        assert (turn.decision, turn.reason) == ("hand_off", "state-invalid")
        stop = {"process_cluster": STAR, "suspended": True, "who": "kim", "why": "drill"}
        await gateway.post("/v1/suspend", stop)
        await gateway.post("/v1/suspend", {**stop, "suspended": False})
        assert (await case.post(MessagePosted(Author.CUSTOMER, "Hello?"))).decision != "execute"
    async with world.gateway() as gateway:
        case.gateway = gateway
        assert (await case.again())[1]["decision"] != "execute"
        turn = await case.act(screen=Screen("form"))
        assert (turn.decision, turn.reason) == ("hand_off", "state-invalid")
        assert (await case.act(screen=FORM)).decision == "execute"


# --- leave, until the order leaves ---
@pytest.mark.parametrize("accepted", [False, True])
@pytest.mark.parametrize("how", ["stage", "suspended", "api", "permit"])
async def test_an_order_that_lost_its_leave_while_it_was_written_is_withdrawn_and_recorded(world, how, accepted):
    if how in ("stage", "permit") and accepted:
        return  # an operator's accept rests on neither
    world.publish(Stage.COPILOT if accepted else Stage.CALIBRATION)
    async with world.gateway() as gateway:
        turns = gateway.app.state.turns
        case = Case(gateway)
        card = await case.begin() if accepted else None
        write = turns.store.write

        async def slow_write(job):
            done = await write(job)
            if ("write_post" if accepted else "write_ruling") in repr(job):
                if how == "api":
                    turns.suspended.note(STAR, True)
                elif how == "permit":
                    turns.permits._held = None
                else:
                    change = {"suspended": True} if how == "suspended" else {}
                    world.publish(Stage.COPILOT, **change)
                    digest = world.controller.snapshot.digest
                    await gateway.until(lambda s: s["snapshot_digest"] == digest)
            return done

        turns.store.write = slow_write
        turn = await (case.answer(card, Verdict.ACCEPT) if accepted else case.begin())
        turns.store.write = write
        assert (turn.decision, turn.order) == ("observe", None)
        assert "taken back" in turn.detail or turn.reason == "suspended"
        _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
        (proposal,) = record["proposals"]
        assert proposal["outcome"] == "withdrawn"
        assert not proposal.get("executed")
        assert await gateway.metric("pilotage_outcomes_total", process_cluster=STAR, outcome="withdrawn") == 1.0
        assert (await case.act()).decision in ("observe", "propose", "execute")  # the session goes on, not ambiguous


async def test_spec_suspend_stops_an_accepts_order(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        card = await case.begin()
        world.publish(Stage.COPILOT, suspended=True)
        await gateway.until(lambda status: status["process_clusters"][STAR]["suspended"])
        turn = await case.answer(card, Verdict.ACCEPT)
        assert (turn.decision, turn.reason, turn.order, turn.sequence) == ("observe", "suspended", None, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"certificates": {}},
        {"certificates": {"procedure": build_certificate(0.99)}},
        {"rules": ActionRules(stop_list=(ActionPattern(control="submit*"),))},
        {"rules": ActionRules(strata=())},
        {"suspended": True},
    ],
)
async def test_a_repeated_order_is_judged_anew(world, changes):
    async with world.gateway() as gateway:
        case = Case(gateway)
        assert (await case.begin()).decision == "execute"
        assert (await case.again())[1]["decision"] == "execute"
        world.publish(Stage.CALIBRATION, **changes)
        digest = world.controller.snapshot.digest
        await gateway.until(lambda s: s["snapshot_digest"] == digest)
        _, later = await case.again()
        assert (later["decision"], later["reason"]) == ("hand_off", "ambiguous-outcome")


async def test_a_repeated_order_is_stopped_by_another_gateways_row(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin()
        stop = {"process_cluster": STAR, "suspended": True, "who": "kim", "why": "drill"}
        await gateway.post("/v1/suspend", stop)
        gateway.app.state.turns.suspended = Suspensions()  # as if another gateway had written the row
        assert "order" not in (await case.again())[1]


async def test_without_a_nonce_nothing_is_ordered(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        opened = (SessionOpened(), MessagePosted(Author.CUSTOMER, "Hi"), ScreenShown(screen=FORM))
        status, turn = await case.send(PostEvents(tuple(map(case.event, opened))))
        assert (status, turn["decision"], "order" in turn) == (200, "observe", False)
        assert not world.models.prompts
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        card = await case.begin()
        accept = FeedbackGiven(card.proposal.proposal_id, Verdict.ACCEPT, "ann")
        status, problem = await case.send(PostEvents((case.event(accept),)))
        assert (status, problem["where"]) == (422, "nonce")


# --- audits ---
async def test_until_the_verdict_an_audit_looks_like_every_other_proposal(world):
    seen = []
    async with world.gateway() as gateway:
        below_tau = {"certificates": {"procedure": build_certificate(0.99)}}
        for changes in ({"audit_share": 1.0}, below_tau, {"stage": Stage.COPILOT}):
            world.publish(**{"stage": Stage.CALIBRATION, **changes})
            digest = world.controller.snapshot.digest
            await gateway.until(lambda s, d=digest: s["snapshot_digest"] == d and s["permit_remaining_ms"] > 0)
            case = Case(gateway)
            turn = await case.begin()
            again = (await case.again())[1]
            proposal_id = turn.proposal.proposal_id
            _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
            status, problem = await gateway.get(f"/v1/decisions/{proposal_id}")
            _, export = await gateway.get("/v1/export", process_cluster=STAR, closed="false")
            stored = [p for line in export.splitlines() for p in msgspec.json.decode(line).get("proposals", [])]
            told = [
                msgspec.json.encode(turn), msgspec.json.encode(again), msgspec.json.encode(record["proposals"]),
                msgspec.json.encode([status, problem]),
                msgspec.json.encode([p for p in stored if p["proposal_id"] == proposal_id]),
            ]  # fmt: skip
            strip = (case.session_id, proposal_id, record["proposals"][0]["at"], '"Calibration"', '"Copilot"')
            seen.append([_without(text.decode(), strip) for text in told])
            await case.answer(turn, Verdict.REJECT)
            status, decision = await gateway.get(f"/v1/decisions/{proposal_id}")
            assert (status, "score" in decision["facts"]) == (200, True)  # afterwards they tell
        reasons = await _reasons(gateway)
    assert seen[0] == seen[1] == seen[2]
    assert reasons == {PROPOSED}


def _without(text, words):
    for word in words:
        text = text.replace(word, "·")
    return text


async def _reasons(gateway):
    _, text = await gateway.get("/metrics?name[]=pilotage_decisions_total")
    lines = [line for line in text.splitlines() if 'decision="propose"' in line]
    return {line.partition('reason="')[2].partition('"')[0] for line in lines}


# --- what ran is counted ---
async def _ran(gateway, world):
    case = Case(gateway)
    turn = await case.begin()
    world.models.action = None
    return case, turn.order


def _done(order, outcome=Outcome.DONE):
    return OutcomeReported(order.proposal_id, order.idempotency_key, outcome)


async def test_an_outcome_and_a_review_that_come_after_the_end_are_counted(world):
    async with world.gateway() as gateway:
        case, order = await _ran(gateway, world)
        await case.close()
        key = {"process_cluster": STAR, "pair": "r1"}
        assert await gateway.metric("pilotage_executed_critical_total", **key) == 0.0
        assert await gateway.metric("pilotage_outcomes_total", process_cluster=STAR, outcome="ambiguous") == 1.0
        await case.post(_done(order))
        await case.post(SessionReviewed("kim", False, (ReviewItem(order.proposal_id, Verdict.REJECT),)))
        assert await gateway.metric("pilotage_executed_critical_total", **key) == 1.0
        assert await gateway.metric("pilotage_corrections_total", **key) == 1.0
        assert await gateway.metric("pilotage_finalizations_rejected_total", **key) == 1.0
        page = msgspec.convert((await gateway.get("/v1/labels", process_cluster=STAR))[1], LabelPage)
        assert [(label.accepted, label.reviewed) for label in page.labels] == [(False, True)]
        status, problem = await case.refused(MessagePosted(Author.CUSTOMER, "one more thing"))
        assert (status, problem["where"]) == (409, "events[0].session")
    async with world.gateway() as gateway:
        assert await gateway.metric("pilotage_executed_critical_total", **key) == 1.0
        _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
        assert record["closed_at"]
        assert record["proposals"][0]["executed"] is True


async def test_an_outcome_told_twice_counts_once_and_what_ran_has_run(world):
    async with world.gateway() as gateway:
        case, order = await _ran(gateway, world)
        await case.post(_done(order, Outcome.REFUSED))
        turn = await case.post(_done(order), ScreenShown(screen=RESULT))  # it ran after all
        assert turn.executed == (order.proposal_id,)
        await case.post(_done(order))
        await case.post(_done(order, Outcome.FAILED))
        key = {"process_cluster": STAR, "pair": "r1"}
        assert await gateway.metric("pilotage_executed_critical_total", **key) == 1.0
        item = ReviewItem(order.proposal_id, Verdict.REJECT)
        for _ in range(2):
            await case.post(SessionReviewed("kim", False, (item,)))
        assert await gateway.metric("pilotage_corrections_total", **key) == 1.0
        await case.close()
        _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
        (proposal, *_) = record["proposals"]
        assert (proposal["executed"], proposal["outcome"]) == (True, "done")
    async with world.gateway() as gateway:
        case.gateway = gateway
        await case.post(SessionReviewed("ann", True, (item,)))
        page = msgspec.convert((await gateway.get("/v1/labels", process_cluster=STAR))[1], LabelPage)
        assert [(label.operator, label.accepted) for label in page.labels] == [("kim", False)]


async def test_an_order_that_nobody_ever_told_of_is_a_figure(world):
    async with world.gateway() as gateway:
        await Case(gateway).begin()
        assert await gateway.metric("pilotage_orders_total", process_cluster=STAR, by="permit") == 1.0
        told = [
            await gateway.metric("pilotage_outcomes_total", process_cluster=STAR, outcome=outcome.value)
            for outcome in Outcome
        ]
        assert told == [0.0] * len(Outcome)


# --- prompts ---
async def test_the_newest_customer_message_reaches_policy_and_critic_however_long_it_is(world):
    long = "Where is my parcel? " + "x" * 26_000 + " Do not book anything!"
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.post(SessionOpened(), ScreenShown(screen=FORM), MessagePosted(Author.CUSTOMER, long))
        assert turn.decision == "execute"
        for prompt in (world.models.prompts[-1], world.models.requests[-1]["query"]):
            assert "Where is my parcel?" in prompt
            assert "Do not book anything!" in prompt
            assert "\\cut " in prompt
        _, decision = await gateway.get(f"/v1/decisions/{turn.order.proposal_id}")
        assert decision["cut_chars"] > 15_000


async def test_a_prompt_that_a_model_refuses_costs_no_other_session_its_policy(world):
    async with world.gateway() as gateway:
        world.models.status = 400
        for _ in range(8):
            turn = await Case(gateway).begin()
            assert (turn.decision, turn.reason) == ("hand_off", "state-invalid")
        world.models.status = 200
        world.models.action = SUBMIT
        assert (await Case(gateway).begin()).decision == "execute"
