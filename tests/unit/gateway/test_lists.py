"""Lists of sessions and cards: whole, in order, page by page, blind, and only what one may see; and the surface as a
document.
"""

import json

import msgspec
import pytest
from stubs.gateway import FORM, Case

from pilotage_core.events import ActionTaken, Author, FeedbackGiven, MessagePosted, ScreenShown, Verdict
from pilotage_core.lists import CardPage, SessionPage
from pilotage_core.stage import Stage
from pilotage_gateway.access import Caller, Held, Role
from pilotage_gateway.lists import read_sessions
from pilotage_gateway.openapi import describe_api
from pilotage_gateway.routes import ENDPOINTS


async def read_all(gateway, path: str, kind: type, field: str, **query: object) -> list:
    found, after, pages = [], "", 0
    while True:
        status, answer = await gateway.get(path, **{**query, "after": after} if after else query)
        assert status == 200, answer
        page = msgspec.convert(answer, kind)
        found += getattr(page, field)
        pages += 1
        if not (after := page.next):
            return [pages, *found]


@pytest.fixture
async def gateway(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as made:
        yield made


async def test_sessions_are_listed_oldest_first_page_by_page(gateway):
    cases = [Case(gateway) for _ in range(7)]
    for case in cases:
        await case.begin(screen=FORM)
    await cases[2].close()
    pages, *found = await read_all(gateway, "/v1/sessions", SessionPage, "sessions", limit=2)
    assert [each.session_id for each in found] == [c.session_id for c in cases if c is not cases[2]]
    assert pages == 3
    _, *closed = await read_all(gateway, "/v1/sessions", SessionPage, "sessions", state="closed")
    assert [each.session_id for each in closed] == [cases[2].session_id]
    assert closed[0].closed_at
    _, *none = await read_all(gateway, "/v1/sessions", SessionPage, "sessions", process_cluster="star/else")
    assert none == []


async def test_a_card_waits_until_it_is_answered_or_the_state_moves_on_and_tells_nothing(gateway):
    cases = [Case(gateway) for _ in range(5)]
    turns = [await case.begin(screen=FORM) for case in cases]
    _, *found = await read_all(gateway, "/v1/cards", CardPage, "cards", limit=2)
    assert [each.proposal_id for each in found] == [turn.proposal.proposal_id for turn in turns]
    assert [each.session_id for each in found] == [case.session_id for case in cases]
    _, raw = await gateway.get("/v1/cards")
    assert set(raw["cards"][0]) == {"proposal_id", "session_id", "process_cluster", "at", "action"}
    await cases[0].post(FeedbackGiven(turns[0].proposal.proposal_id, Verdict.REJECT, "kim"))
    await cases[1].post(FeedbackGiven(turns[1].proposal.proposal_id, Verdict.ACCEPT, "kim"))
    await cases[2].post(MessagePosted(Author.CUSTOMER, "Wait!"), wants_decision=False)
    await cases[3].close()
    _, *left = await read_all(gateway, "/v1/cards", CardPage, "cards")
    assert [each.session_id for each in left] == [cases[4].session_id]


async def test_one_sees_what_is_in_ones_namespaces(gateway, world):
    class Asks:
        knows_anybody = open_metrics = True

        def __init__(self, caller):
            self.caller = caller

        async def identify(self, _):
            return self.caller

    await Case(gateway).begin(screen=FORM)
    scopes = [(("star",), 1), (("*",), 1), (("sta", "star2"), 0), (("shop", "star"), 1), (("%",), 0), (("STAR",), 0)]
    for namespaces, seen in scopes:
        gateway.app.state.callers = Asks(Caller("kim", None, (Held(Role.OPERATOR, namespaces),)))
        for path, kind, field in (("/v1/sessions", SessionPage, "sessions"), ("/v1/cards", CardPage, "cards")):
            assert len((await read_all(gateway, path, kind, field))[1:]) == seen, namespaces
    assert (await gateway.get("/v1/sessions", process_cluster="star/bookings"))[0] == 403
    gateway.app.state.callers = Asks(Caller("job", None, (Held(Role.READER, ("star",)),)))
    assert (await gateway.get("/v1/cards"))[0] == 403


@pytest.mark.parametrize(
    ("path", "query", "where"),
    [
        ("/v1/sessions", {"after": "x"}, "after"),
        ("/v1/sessions", {"state": "all"}, "state"),
        ("/v1/sessions", {"limit": "-1"}, "limit"),
        ("/v1/cards", {"limit": "many"}, "limit"),
    ],
)
async def test_what_is_no_page_is_told_by_its_field(gateway, path, query, where):
    status, problem = await gateway.get(path, **query)
    assert (status, problem["where"], problem["status"]) == (422, where, 422)
    assert problem["type"] == "urn:pilotage:problem:invalid-input"
    assert problem["title"] == "Invalid input"


async def test_the_surface_is_a_document_that_names_every_endpoint_and_type(gateway):
    status, document = await gateway.get("/v1/openapi.json")
    assert status == 200
    assert document == json.loads(msgspec.json.encode(describe_api(ENDPOINTS)))
    assert set(document["paths"]) == {each.path for each in ENDPOINTS}
    text = json.dumps(document)
    named = {each.split('"')[0] for each in text.split("#/components/schemas/")[1:]}
    assert named <= set(document["components"]["schemas"])
    assert {"Turn", "PostEvents", "Problem", "SessionRecord", "CardPage"} <= named
    post = document["paths"]["/v1/sessions/{session_id}/events"]["post"]
    assert post["security"] == [{"bearer": []}]
    assert {"200", "401", "403", "409", "413", "415", "422", "503"} <= set(post["responses"])
    assert "security" not in document["paths"]["/healthz"]["get"]


async def test_an_operators_own_action_takes_the_card_away(gateway):
    case = Case(gateway)
    turn = await case.begin(screen=FORM)
    await case.post(ActionTaken((turn.proposal.action,), "kim"), ScreenShown(screen=FORM), wants_decision=False)
    _, *left = await read_all(gateway, "/v1/cards", CardPage, "cards")
    assert left == []


async def test_who_may_nowhere_sees_nothing(gateway):
    await Case(gateway).begin(screen=FORM)
    read = gateway.app.state.turns.store.read
    for within, seen in ((frozenset(), 0), (None, 1), ("star/bookings", 1)):
        page = await read(lambda c, within=within: read_sessions(c, within, False, None, 10))
        assert len(page.sessions) == seen
