"""Sessions that end by themselves, over the whole way: who is asked at their ending, and what is counted of them."""

import pytest
from tests.stubs.gateway import SUBMIT, Case, build_certificate

from pilotage_core.actions import Action, Tool
from pilotage_core.events import (
    Author,
    Closing,
    MessagePosted,
    ResolutionJudged,
    SessionClosed,
    SessionReviewed,
    Verdict,
)
from pilotage_core.stage import Stage

CERTIFICATES = {stratum: build_certificate(0.8, stratum=stratum) for stratum in ("procedure", "finalizing")}
RIGHT, WRONG = ResolutionJudged(True, "the books"), ResolutionJudged(False, "the books")


async def run_to_ending(world, gateway) -> tuple[Case, object]:
    """A session whose form the model submitted unasked; the turn that speaks of its ending."""
    case = Case(gateway)
    world.models.action = SUBMIT
    turn = await case.begin()
    assert turn.decision == "execute"
    world.models.action = Action(Tool.CLOSE_CHAT)
    return case, await case.report(turn)


async def counts(gateway) -> tuple[float | None, float | None]:
    of = {"process_cluster": "star/bookings", "pair": "r1"}
    return (
        await gateway.metric("pilotage_sessions_unasked_total", **of),
        await gateway.metric("pilotage_sessions_unasked_wrong_total", **of),
    )


async def test_a_session_that_nobody_was_asked_about_counts_by_how_it_came_out_and_once(world):
    world.publish(Stage.AUTOMATION, certificates=CERTIFICATES, finalizing_by_human=False)
    async with world.gateway() as gateway:
        for resolution, expected in ((RIGHT, (1, 0)), (WRONG, (2, 1))):
            case, turn = await run_to_ending(world, gateway)
            assert turn.decision == "execute"
            await case.report(turn, screen=None)
            await case.post(SessionClosed(Closing.CLOSED), wants_decision=False)
            await case.post(resolution, wants_decision=False)
            await case.post(RIGHT, wants_decision=False)  # the first word counts
            assert await counts(gateway) == expected
    async with world.gateway() as gateway:  # restored from the records
        assert await counts(gateway) == (2, 1)


async def test_where_people_end_sessions_the_ending_is_put_to_them_and_its_session_counts_all_the_same(world):
    world.publish(Stage.CALIBRATION, certificates=CERTIFICATES)
    async with world.gateway() as gateway:
        case, turn = await run_to_ending(world, gateway)
        assert (turn.decision, turn.reason) == ("propose", "proposed")
        ordered = await case.answer(turn, Verdict.ACCEPT)
        await case.report(ordered, screen=None)
        await case.post(SessionClosed(Closing.CLOSED), WRONG, wants_decision=False)
        assert await counts(gateway) == (1, 1)


async def test_an_ending_that_an_operator_refuses_counts_as_wrong(world):
    world.publish(Stage.CALIBRATION, certificates=CERTIFICATES)
    async with world.gateway() as gateway:
        case, turn = await run_to_ending(world, gateway)
        await case.answer(turn, Verdict.REJECT)
        await case.act(Action(Tool.SEND_TEXT_TO_CHAT, text="One moment"))
        await case.post(SessionClosed(Closing.CLOSED), RIGHT, wants_decision=False)
        assert await counts(gateway) == (1, 1)


async def test_what_somebody_was_asked_about_is_judged_but_no_evidence_of_sessions_that_run_alone(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        await case.report(await case.answer(turn, Verdict.ACCEPT))
        await case.post(SessionClosed(Closing.CLOSED), RIGHT, wants_decision=False)
        assert await counts(gateway) == (0, 0)
        judged = await gateway.metric("pilotage_sessions_judged_total", process_cluster="star/bookings", right="true")
        assert judged == 1


@pytest.mark.parametrize(("share", "decision"), [(0.0, "execute"), (1.0, "propose")])
async def test_a_share_of_certified_endings_is_reviewed_for_ever_and_nothing_before_them(world, share, decision):
    world.publish(
        Stage.AUTOMATION, certificates=CERTIFICATES, finalizing_by_human=False, audit_share=0.9, review_share=share
    )
    async with world.gateway() as gateway:
        case, turn = await run_to_ending(world, gateway)
        assert turn.decision == decision
        if turn.proposal is not None:
            await case.post(SessionReviewed("o-1", True, ()), wants_decision=False)
            assert (await case.answer(turn, Verdict.ACCEPT)).order is not None
        _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
        looks = {p["action"]["tool"]: p.get("propensity", 1.0) for p in record["proposals"]}
        assert looks["click_control"] == share  # the chance that its ending is reviewed


async def test_a_session_is_judged_only_once_it_is_closed_and_by_somebody(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin()
        status, problem = await case.refused(RIGHT)
        assert (status, problem["remedy"]) == (422, "send session_closed first")
        status, problem = await case.refused(SessionClosed(Closing.CLOSED), ResolutionJudged(True, " "))
        assert (status, problem["where"]) == (422, "events[1].data.by")


@pytest.mark.parametrize("whole", [True, False])
async def test_once_an_operator_was_asked_all_that_is_critical_is_where_leave_is_for_whole_sessions(world, whole):
    certificates = {**CERTIFICATES, "message": build_certificate(0.99, stratum="message")}
    world.publish(Stage.CALIBRATION, certificates=certificates, whole_sessions=whole)
    async with world.gateway() as gateway:
        world.models.action = Action(Tool.SEND_TEXT_TO_CHAT, "hello", text="Hello, how can I help?")
        case = Case(gateway)
        turn = await case.begin()
        assert turn.decision == "propose"  # below τ
        ordered = await case.answer(turn, Verdict.ACCEPT)
        world.models.action = SUBMIT
        await case.report(ordered, screen=None)
        turn = await case.post(MessagePosted(Author.CUSTOMER, "I want to book"))
        assert turn.decision == ("propose" if whole else "execute")
        if whole:
            await case.answer(turn, Verdict.REJECT)
            _, told = await gateway.get(f"/v1/decisions/{turn.proposal.proposal_id}")
            assert told["verdict"]["reason"] == "asked-before"
