"""Whatever is wrong with what is sent: a status, the place, nothing stored, and a session that goes on."""

import msgspec
from stubs.gateway import FORM, SUBMIT, Case

from pilotage_core.events import (
    ActionTaken,
    Author,
    Event,
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
from pilotage_core.stage import Stage
from pilotage_core.wire import PostEvents

OPENED = b'{"id":"%s","sequence":0,"at":"2026-01-01T00:00:00Z","data":{"type":"session_opened"}}'


def _event(**changes: object) -> bytes:
    event = {"id": "e1", "sequence": 0, "at": "2026-01-01T00:00:00Z", "data": {"type": "session_opened"}}
    return msgspec.json.encode({"events": [event | changes]})


MESSAGE = {"type": "message_posted", "author": "customer", "text": "hi"}


FIRST_POSTS = (
    (b"{", {}, 400, "body"),
    (b"\xff\xfe", {}, 400, "body"),
    (b"[" * 100_000, {}, 422, "body"),
    (b"[]", {}, 422, "body"),
    (b"{}", {}, 422, "body"),
    (b'{"events":[],"colour":1}', {}, 422, "body"),
    (b"{}", {"content_type": "text/html"}, 415, "Content-Type"),
    (b" " * (1 << 20) + b"{}", {}, 413, "body"),
    (msgspec.json.encode({"events": [{}] * 1}), {}, 422, "events[0]"),
    (_event(sequence="zero"), {}, 422, "events[0].sequence"),
    (_event(data={"type": "dance"}), {}, 422, "events[0].data.type"),
    (_event(data=MESSAGE | {"author": "nobody"}), {}, 422, "events[0].data.author"),
    (_event(data=MESSAGE | {"font": "bold"}), {}, 422, "events[0].data"),
    (_event(at="yesterday"), {}, 422, "events[0].at"),
    (_event(at="2026-01-01T00:00:00"), {}, 422, "events[0].at"),
    (_event(id=""), {}, 422, "events[0].id"),
    (_event(id="x" * 65), {}, 422, "events[0].id"),
    (_event(data=MESSAGE), {}, 422, "events[0].data.type"),
    (_event(sequence=7), {}, 404, "session_id"),
    (b'{"events":[]}', {}, 404, "session_id"),
    (b'{"events":[' + b",".join([OPENED % b"%d"] * 201) + b"]}", {}, 413, "events"),
    (b'{"events":[' + OPENED % b"a" + b"," + OPENED % b"b" + b"]}", {}, 409, "events[1].sequence"),
)


async def test_a_first_post_that_is_wrong_is_refused_by_field_and_leaves_no_session(world, subtests):
    async with world.gateway() as gateway:
        for number, (body, headers, status, where) in enumerate(FIRST_POSTS):
            with subtests.test(where, body=body[:120]):
                path = f"/v1/sessions/s{number}"
                answered, problem = await gateway.post(f"{path}/events", body, **headers)
                assert (answered, problem["where"]) == (status, where), problem
                assert problem["detail"]
                assert (await gateway.get(path))[0] == 404
                assert (await Case(gateway, f"s{number}").begin()).sequence == 3


NEXT_EVENTS = (
    (SessionOpened(), 422, "events[0].data.type"),
    (ScreenShown(), 422, "events[0].data"),
    (MessagePosted(Author.OPERATOR, "hi"), 422, "events[0].data.author"),
    (MessagePosted(Author.MODEL, "hi"), 422, "events[0].data.author"),
    (ActionTaken((), "ann"), 422, "events[0].data.actions"),
    (ActionTaken((SUBMIT,), ""), 422, "events[0].data.operator"),
    (ActionTaken((SUBMIT,), "  "), 422, "events[0].data.operator"),
    (ActionTaken((SUBMIT,), "permit"), 422, "events[0].data.operator"),
    (FeedbackGiven("$proposal", Verdict.ACCEPT, "permit"), 422, "events[0].data.operator"),
    (SessionReviewed("a\nb", True), 422, "events[0].data.operator"),
    (ActionTaken((SUBMIT,), "ann", -1.0), 422, "events[0].data.active_seconds"),
    (ActionTaken((SUBMIT,), "ann", corrects="nothing"), 422, "events[0].data.corrects"),
    (ActionTaken((SUBMIT,), "ann", corrects="$proposal"), 409, "events[0].data.corrects"),
    (FeedbackGiven("nothing", Verdict.ACCEPT, "ann"), 422, "events[0].data.proposal_id"),
    (OutcomeReported("nothing", "k", Outcome.DONE), 422, "events[0].data.proposal_id"),
    (OutcomeReported("$proposal", "k", Outcome.DONE), 422, "events[0].data.proposal_id"),
    (
        SessionReviewed("kim", True, (ReviewItem("nothing", Verdict.ACCEPT),)),
        422,
        "events[0].data.items[0].proposal_id",
    ),
    (
        SessionReviewed("kim", True, (ReviewItem("$proposal", Verdict.ACCEPT),)),
        409,
        "events[0].data.items[0].proposal_id",
    ),
)


async def test_an_event_that_does_not_fit_its_session_is_refused_and_the_session_goes_on(world, subtests):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        for happening, status, where in NEXT_EVENTS:
            with subtests.test(where, happening=str(happening)[:120]):
                case = Case(gateway)
                turn = await case.begin()
                text = msgspec.json.encode(happening).replace(b"$proposal", turn.proposal.proposal_id.encode())
                answered, problem = await case.refused(msgspec.json.decode(text, type=type(happening)))
                assert (answered, problem["where"]) == (status, where), problem
                assert (await case.answer(turn, Verdict.ACCEPT)).decision == "execute"


async def test_orders_of_events_that_cannot_be(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        accept = FeedbackGiven(turn.proposal.proposal_id, Verdict.ACCEPT, "ann")
        message = MessagePosted(Author.CUSTOMER, "hi")

        status, problem = await case.send(PostEvents((Event("late", 9, "2026-01-01T00:00:00Z", message),)))
        assert (status, problem["where"]) == (409, "events[0].sequence")
        assert problem["remedy"] == "the next event of this session has sequence 3"

        status, problem = await case.refused(accept, message)
        assert (status, problem["where"]) == (422, "events[1].data")

        turn = await case.post(accept)
        status, problem = await case.refused(accept)
        assert (status, problem["where"]) == (409, "events[0].data.proposal_id")

        key = OutcomeReported(turn.order.proposal_id, "another-key", Outcome.DONE)
        status, problem = await case.refused(key)
        assert (status, problem["where"]) == (422, "events[0].data.idempotency_key")

        await case.report(turn)
        ours = OutcomeReported(turn.order.proposal_id, turn.order.idempotency_key, Outcome.WITHDRAWN)
        status, problem = await case.refused(ours)
        assert (status, problem["where"]) == (422, "events[0].data.outcome")

        await case.close()
        status, problem = await case.refused(message)
        assert (status, problem["where"]) == (409, "events[0].session")


async def test_event_ids_count_within_their_source_and_session(world):
    async with world.gateway() as gateway:
        body = b'{"events":[' + OPENED % b"36" + b"]}"
        for session in ("s1", "s2"):
            assert (await gateway.post(f"/v1/sessions/{session}/events", body))[0] == 200
        said = {"id": "36", "sequence": 1, "at": "2026-01-01T00:00:00Z", "data": MESSAGE}
        path = "/v1/sessions/s2/events"
        status, problem = await gateway.post(path, {"events": [said]})
        assert (status, problem["where"]) == (409, "events[0].sequence")
        assert (await gateway.post(path, {"events": [said | {"source": "chat"}]}))[0] == 200


async def test_a_known_event_with_other_content_is_refused_also_after_a_restart(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin()
        first = case.last.events
        other = msgspec.structs.replace(first[1], data=MessagePosted(Author.CUSTOMER, "No!"))
    async with world.gateway() as again:
        case.gateway = again
        assert (await case.send(PostEvents(first)))[0] == 200
        status, problem = await case.send(PostEvents((first[0], other)))
        assert (status, problem["where"]) == (409, "events[1].id")
        twice = msgspec.structs.replace(first[0], id="new", sequence=3, data=MessagePosted(Author.CUSTOMER, "Hi"))
        status, problem = await case.send(PostEvents((twice, msgspec.structs.replace(twice, sequence=4))))
        assert (status, problem["where"]) == (422, "events[1].id")


async def test_a_page_over_a_limit_is_handed_off_until_another_one_passes(world):
    async with world.gateway() as gateway:
        for html in ("<p>" * 9000, "<b>" * 7000, "x" * (256 * 1024 + 1)):
            case = Case(gateway)
            await case.begin()
            turn = await case.act(screen=FORM)
            turn = await case.post(ScreenShown(html=html))
            assert turn.decision == "hand_off", turn


async def test_a_known_event_with_another_sequence_is_refused(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin()
        known = msgspec.structs.replace(case.last.events[0], sequence=3)
        status, problem = await case.send(PostEvents((known,)))
        assert (status, problem["where"]) == (409, "events[0].sequence")


QUESTIONS = (
    ("/v1/sessions/none", 404, "session_id"),
    ("/v1/sessions/bad%20id", 404, "session_id"),
    ("/v1/decisions/none", 404, "proposal_id"),
    ("/v1/export", 422, "process_cluster"),
    ("/v1/export?process_cluster=a/b&since=noon", 422, "since"),
    ("/v1/export?process_cluster=a/b&until=2026-01-01T00:00:00", 422, "until"),
    ("/v1/export?process_cluster=a/b&closed=maybe", 422, "closed"),
    ("/v1/labels?process_cluster=a/b&after=-1", 422, "after"),
    ("/v1/labels?process_cluster=a/b&limit=99999", 422, "limit"),
    ("/v1/nothing", 404, "GET /v1/nothing"),
    ("/v1/suspend", 405, "GET /v1/suspend"),
)


async def test_a_question_that_makes_no_sense(world, subtests):
    async with world.gateway(permit=False) as gateway:
        for path, status, where in QUESTIONS:
            with subtests.test(path):
                answered, problem = await gateway.get(path)
                assert (answered, problem["where"]) == (status, where)


SUSPENSIONS = (
    ({"who": " "}, 422, "who"),
    ({"why": ""}, 422, "why"),
    ({"process_cluster": ""}, 422, "process_cluster"),
    ({"suspended": "yes"}, 422, "suspended"),
    ({"suspended": False, "process_cluster": "a/unknown"}, 404, "process_cluster"),
)


async def test_a_suspension_says_which_who_and_why(world, subtests):
    async with world.gateway() as gateway:
        for changes, status, where in SUSPENSIONS:
            with subtests.test(where):
                body = {"process_cluster": "star/bookings", "suspended": True, "who": "kim", "why": "drill"} | changes
                answered, problem = await gateway.post("/v1/suspend", body)
                assert (answered, problem["where"]) == (status, where)


async def test_a_body_that_does_not_say_its_length_is_cut_off_at_the_limit(world):
    async def endless():
        for _ in range(40):
            yield b" " * 65536

    async with world.gateway() as gateway:
        url = f"{gateway.url}/v1/sessions/s1/events"
        headers = {"content-type": "application/json"}
        async with gateway.client.post(url, data=endless(), headers=headers) as response:
            assert response.status == 413


async def test_a_database_that_fails_decides_nothing_and_asks_to_come_back(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin(screen=FORM)
        store = gateway.app.state.turns.store
        asked = len(world.models.prompts)
        await gateway.app.state.turns.store.write(lambda c: c.exec_driver_sql("ALTER TABLE events RENAME TO lost"))
        before = case.sequence
        status, problem = await case.send(PostEvents((case.event(MessagePosted(Author.CUSTOMER, "hi")),)))
        case.sequence = before
        assert (status, problem["title"], problem["retry_after_seconds"]) == (503, "Unavailable", 1.0)
        assert len(world.models.prompts) == asked
        await store.write(lambda c: c.exec_driver_sql("ALTER TABLE lost RENAME TO events"))
        assert (await case.post(MessagePosted(Author.CUSTOMER, "hi"))).sequence == 4
