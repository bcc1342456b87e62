"""What an operator says at the console reaches the adapter, which gets its order as for any accept."""

import asyncio
import re
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from stubs.gateway import FORM, RESULT, SUBMIT, Case, Gateway, until

from pilotage_core.actions import Action, Tool
from pilotage_core.events import (
    ActionTaken,
    Author,
    FeedbackGiven,
    Grade,
    MessagePosted,
    ScreenShown,
    SessionReviewed,
    Verdict,
)
from pilotage_core.lists import AnswerPage
from pilotage_core.stage import Stage

HELLO = Action(Tool.SEND_TEXT_TO_CHAT, text="Hello, how are you?")


class Console:
    """A browser without scripts: cookies, forms, and pages as text."""

    def __init__(self, gateway: Gateway, client: aiohttp.ClientSession, name: str = "ann") -> None:
        self.gateway, self.client, self.name = gateway, client, name

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(f"{self.gateway.url}/console{path}", cookies=self.cookies) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, **form: str) -> tuple[int, str]:
        headers = {"Origin": self.gateway.url}
        url = f"{self.gateway.url}/console{path}"
        async with self.client.post(url, data=form, headers=headers, cookies=self.cookies) as answer:
            return answer.status, await answer.text()

    @property
    def cookies(self) -> dict[str, str]:
        return {"pilotage_operator": self.name}

    async def answer(self, case: Case, turn: Any, verdict: str, **form: str) -> tuple[int, str]:
        path = f"/sessions/{case.session_id}/answer"
        return await self.post(path, proposal_id=turn.proposal.proposal_id, verdict=verdict, **form)


@pytest.fixture
async def browser():
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
        yield client


async def fetch(gateway: Gateway, after: int = 0, wait: int = 5, **query: str) -> AnswerPage:
    status, page = await gateway.get("/v1/answers", after=str(after), wait=str(wait), **query)
    assert status == 200, page
    return msgspec.convert(page, AnswerPage)


@pytest.fixture(autouse=True)
def _sent_at_once(world):
    """No second thoughts, where a test is not about them."""
    started = world.gateway

    @asynccontextmanager
    async def gateway(held_seconds: float = 0.0):
        async with started() as running:
            running.app.state.turns.answers.held_seconds = held_seconds
            yield running

    world.gateway = gateway


async def test_an_accept_at_the_console_becomes_an_order_for_the_adapter(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        assert turn.proposal is not None
        status, page = await console.answer(case, turn, "accept")
        assert (status, "On its way" in page or "in a moment" in page) == (200, True)
        [said] = (await fetch(gateway)).answers
        assert (said.session_id, said.verdict, said.operator) == (case.session_id, Verdict.ACCEPT, "ann")
        ordered = await case.post(FeedbackGiven(said.proposal_id, said.verdict, said.operator))
        assert ordered.order is not None
        assert (ordered.order.action, ordered.order.authorised_by) == (SUBMIT, "ann")
        assert (await fetch(gateway, wait=0)).answers == ()


async def test_an_accept_that_the_session_has_overtaken_never_runs(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "accept")
        await fetch(gateway)  # an adapter has it
        await case.post(MessagePosted(Author.CUSTOMER, "No, wait!"))
        status, refused = await case.refused(FeedbackGiven(turn.proposal.proposal_id, Verdict.ACCEPT, "ann"))
        assert (status, refused["where"]) == (409, "events[0].data.proposal_id")
        assert (await fetch(gateway, wait=0)).answers == ()
        assert "came to nothing" in (await console.get("/?queue"))[1]
        status, page = await console.answer(case, turn, "accept")
        assert status == 409
        assert "the customer wrote: No, wait!" in page


async def test_what_an_operator_takes_back_reaches_no_adapter(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway(held_seconds=60.0) as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "reject", grade="incorrect")
        assert (await fetch(gateway, wait=0)).answers == ()
        path = f"/sessions/{case.session_id}/undo"
        assert (await Console(gateway, browser, "bob").post(path, proposal_id=turn.proposal.proposal_id))[0] == 409
        assert (await console.post(path, proposal_id=turn.proposal.proposal_id))[0] == 200
        assert (await fetch(gateway, wait=0)).answers == ()
        assert (await console.answer(case, turn, "accept"))[0] == 200
        assert (await console.post(path, proposal_id=turn.proposal.proposal_id))[0] == 200


async def test_what_an_adapter_has_cannot_be_taken_back(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "accept")
        await fetch(gateway)
        status, page = await console.post(f"/sessions/{case.session_id}/undo", proposal_id=turn.proposal.proposal_id)
        assert (status, "on its way" in page) == (409, True)


async def test_an_edit_is_what_the_operator_does_instead(world, browser):
    world.models.action = HELLO
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "accept", text="Hello Ann,\r\nhow are you? 😀 שלום")
        [said] = (await fetch(gateway)).answers
        edited = Action(Tool.SEND_TEXT_TO_CHAT, text="Hello Ann,\nhow are you? 😀 שלום")
        assert (said.verdict, said.action, said.grade) == (Verdict.EDIT, edited, Grade.MINOR_EDITS)
        told = FeedbackGiven(said.proposal_id, said.verdict, said.operator, said.grade)
        turn = await case.post(told, ActionTaken((edited,), said.operator), ScreenShown(screen=RESULT))
        assert turn.sequence == case.sequence
        assert (await fetch(gateway, wait=0)).answers == ()


async def test_text_that_is_unchanged_is_an_accept(world, browser):
    world.models.action = HELLO
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "edit", text=HELLO.text)
        [said] = (await fetch(gateway)).answers
        assert (said.verdict, said.action) == (Verdict.ACCEPT, None)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"verdict": "maybe"}, "no verdict"),
        ({"verdict": "accept", "text": "x" * 20_001}, "at most 20,000"),
        ({"verdict": "accept", "text": ""}, "cannot be done"),
        ({"verdict": "reject", "note": "n" * 2_001}, "at most 2000"),
        ({"verdict": "accept", "ran:nothing": "accept"}, "reviewed with an ending"),
        ({"verdict": "accept", "proposal_id": "other"}, "no such proposal"),
    ],
)
async def test_what_cannot_be_meant_is_said_and_nothing_is_stored(world, browser, form, says):
    world.models.action = HELLO
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        sent = {"proposal_id": turn.proposal.proposal_id, **form}
        status, page = await console.post(f"/sessions/{case.session_id}/answer", **sent)
        assert (status in (413, 422), says in page) == (True, True), page
        assert (await fetch(gateway, wait=0)).answers == ()


async def test_a_pasted_megabyte_is_refused_before_it_is_read(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        assert (await console.answer(case, turn, "accept", text="y" * (1 << 20)))[0] == 413
        assert (await console.answer(case, turn, "accept"))[0] == 200


async def test_two_operators_on_one_card_answer_it_once(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        said = await asyncio.gather(
            *(Console(gateway, browser, name).answer(case, turn, "accept") for name in ("ann", "bob", "cleo"))
        )
        assert sorted(status for status, _ in said) == [200, 409, 409]
        assert len((await fetch(gateway)).answers) == 1


async def test_an_answer_survives_a_restart_and_cannot_be_taken_back_then(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "reject", grade="wrong_route", note="not theirs")
    async with world.gateway() as gateway:
        case.gateway, console.gateway = gateway, gateway
        path = f"/sessions/{case.session_id}/undo"
        assert (await console.post(path, proposal_id=turn.proposal.proposal_id))[0] == 409
        [said] = (await fetch(gateway)).answers
        assert (said.verdict, said.grade, said.note) == (Verdict.REJECT, Grade.WRONG_ROUTE, "not theirs")
        await case.post(FeedbackGiven(said.proposal_id, said.verdict, said.operator, said.grade))
    async with world.gateway() as gateway:
        assert (await fetch(gateway, wait=0)).answers == ()


async def test_a_rejection_is_told_however_late(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "reject", grade="incorrect")
        await case.post(MessagePosted(Author.CUSTOMER, "And?"))
        [said] = (await fetch(gateway)).answers
        await case.post(FeedbackGiven(said.proposal_id, said.verdict, said.operator, said.grade))
        [label] = (await gateway.get("/v1/labels"))[1]["labels"]
        assert (label["accepted"], label["operator"]) == (False, "ann")


async def test_an_adapter_waits_for_an_answer_and_gets_it_at_once(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        waiting = asyncio.create_task(fetch(gateway, wait=30, session_id=case.session_id))
        await asyncio.sleep(0)
        await console.answer(case, turn, "accept")
        async with asyncio.timeout(10):
            assert len((await waiting).answers) == 1
        assert (await fetch(gateway, wait=0, session_id="another")).answers == ()


async def test_before_the_verdict_a_page_tells_an_audit_from_no_other_card(world, browser):
    pages = []
    for changes in ({"audit_share": 1.0}, {"certificates": {}}):
        world.publish(Stage.CALIBRATION, **changes)
        async with world.gateway() as gateway:
            await until(lambda g=gateway, c=changes: all(
                getattr(leave, name) == value
                for leave in g.app.state.turns.permits.snapshot.leaves if leave.name == "bookings"
                for name, value in c.items()
            ))  # fmt: skip
            case, console = Case(gateway, f"s-{len(pages)}"), Console(gateway, browser)
            turn = await case.begin(FORM)
            assert turn.proposal is not None
            page = (await console.get(f"/sessions/{case.session_id}"))[1]
            pages.append(
                re.sub(r"[0-9a-f-]{36}|\d\d:\d\d:\d\d|datetime=\"[^\"]*\"|seen=[0-9a-f]+-\d+|moved-\w+|s-\d", "", page)
            )
            assert (await console.get(f"/decisions/{turn.proposal.proposal_id}"))[0] == 409
            assert turn.proposal.proposal_id not in (await console.get("/ledger"))[1]
            await case.close()
    assert pages[0] == pages[1]
    assert "0.95" not in pages[0]


async def test_text_that_a_browser_has_normalised_is_no_edit(world, browser):
    world.models.action = Action(Tool.SEND_TEXT_TO_CHAT, text="\nHello,\r\nhow are you?\n" + "x" * 20_000)
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        sent = turn.proposal.action.text.replace("\r\n", "\n")
        assert (await console.answer(case, turn, "accept", text=sent))[0] == 200
        [said] = (await fetch(gateway)).answers
        assert (said.verdict, said.action) == (Verdict.ACCEPT, None)


async def test_a_long_edit_is_told_from_the_original_at_once(world, browser):
    world.models.action = Action(Tool.SEND_TEXT_TO_CHAT, text="a " * 9_000)
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        path = f"/sessions/{case.session_id}/diff"
        async with asyncio.timeout(5):
            status, page = await console.post(path, proposal_id=turn.proposal.proposal_id, text="b a " * 5_000)
        assert (status, "<del>" in page, "<ins>" in page) == (200, True, True)


async def test_what_moves_between_page_and_stream_is_told_when_the_stream_begins(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        await case.begin()
        page = (await console.get(f"/sessions/{case.session_id}"))[1]
        seen = re.search(r"seen=([0-9a-f]+-\d+)", page)[1]
        await case.post(MessagePosted(Author.CUSTOMER, "And?"))
        url = f"{gateway.url}/console/stream?key={case.session_id}&seen={seen}"
        told = b""
        async with asyncio.timeout(10), browser.get(url, cookies=console.cookies) as stream:
            async for line in stream.content:
                told += line
                if b"event: queue" in told:
                    break
        assert b"event: moved-" in told
        assert b"And?" not in told.split(b"event: queue")[0]


async def test_an_accept_that_was_overtaken_does_not_rise_again_after_a_restart(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        turn = await case.begin()
        await console.answer(case, turn, "accept")
        await case.post(MessagePosted(Author.CUSTOMER, "No!"))
    async with world.gateway() as gateway:
        assert (await fetch(gateway, wait=0)).answers == ()


async def test_after_a_restart_the_queue_is_as_it_was(world, browser):
    world.publish(Stage.COPILOT)
    seen = []
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin(due_at="2026-12-01T10:00:00+02:00")
        seen.append(gateway.app.state.board.list_waiting(None))
    async with world.gateway() as gateway:
        seen.append(gateway.app.state.board.list_waiting(None))
    assert seen[0] == seen[1]
    assert seen[0][0].due == "2026-12-01T08:00:00+00:00"


async def test_a_name_in_any_script_is_a_name(world, browser):
    async with world.gateway() as gateway:
        for name in ("Łukasz", "山田 太郎", "O'Neil"):
            headers = {"Origin": gateway.url}
            url = f"{gateway.url}/console/sign-in"
            async with browser.post(url, data={"name": name}, headers=headers, allow_redirects=False) as answer:
                assert answer.status == 303
                cookies = {"pilotage_operator": answer.cookies["pilotage_operator"].value}
            async with browser.get(f"{gateway.url}/console/?queue", cookies=cookies) as answer:
                page = await answer.text()
                assert (answer.status, name.replace("'", "&#39;") in page) == (200, True)


async def test_where_more_wait_than_people_answer_sessions_that_begin_are_left_to_their_operators(world, browser):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        board, turns = gateway.app.state.board, gateway.app.state.turns
        turns.is_full = lambda key: board.count(key) >= 2
        first, second, third = Case(gateway), Case(gateway), Case(gateway)
        assert [(await case.begin()).decision for case in (first, second, third)] == ["propose", "propose", "observe"]
        before = len(world.models.prompts)
        turn = await third.post(MessagePosted(Author.CUSTOMER, "Hello?"))
        assert (turn.decision, "more cards wait" in turn.detail) == ("observe", True)
        assert len(world.models.prompts) == before
        assert (await second.post(MessagePosted(Author.CUSTOMER, "And?"))).decision == "propose"
        await first.close()
        assert (await third.post(MessagePosted(Author.CUSTOMER, "Still there?"))).decision == "propose"


async def test_an_ending_is_let_go_on_once_all_that_ran_was_judged(world, browser):
    world.publish(Stage.CALIBRATION)
    async with world.gateway() as gateway:
        case, console = Case(gateway), Console(gateway, browser)
        ran = await case.begin()
        assert ran.order is not None
        world.models.action = Action(Tool.CLOSE_CHAT)
        turn = await case.report(ran)
        assert turn.proposal is not None
        status, page = await console.get(f"/sessions/{case.session_id}")
        assert f'name="ran:{ran.order.proposal_id}"' in page
        status, page = await console.answer(case, turn, "accept")
        assert (status, "1 of the actions that ran unasked have no verdict" in page) == (422, True)
        await console.answer(case, turn, "accept", **{f"ran:{ran.order.proposal_id}": "reject"})
        [said] = (await fetch(gateway)).answers
        assert [(item.proposal_id, item.verdict) for item in said.items] == [(ran.order.proposal_id, Verdict.REJECT)]
        reviewed = SessionReviewed(said.operator, True, said.items)
        ordered = await case.post(reviewed, FeedbackGiven(said.proposal_id, said.verdict, said.operator))
        assert ordered.order is not None
        assert ordered.order.action.tool is Tool.CLOSE_CHAT
        labels = (await gateway.get("/v1/labels"))[1]["labels"]
        assert [(label["tool"], label["accepted"], label.get("reviewed", False)) for label in labels] == [
            ("click_control", False, True),
            ("close_chat", True, False),
        ]
