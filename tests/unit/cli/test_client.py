"""`import pilotage`: what a program says and hears, against the real gateway."""

import asyncio
import itertools

import pytest
from aiohttp import web
from stubs.gateway import (
    FORM,
    LONG_TAIL,
    StubController,
    build_leave,
    build_snapshot,
    run_controller,
    run_gateway,
    serve,
)
from stubs.gateway import run_models as run_stub_models
from uuid_utils import uuid7

import pilotage
from pilotage_core.errors import ConflictError, InvalidInputError, UnavailableError
from pilotage_core.events import Author, Closing, Event, MessagePosted, ScreenShown, SessionClosed, SessionOpened
from pilotage_core.stage import Stage

COUNT = itertools.count()


def build_events(first: int, *happenings) -> tuple[Event, ...]:
    return tuple(Event(str(uuid7()), first + n, "2026-03-01T10:00:00+01:00", data) for n, data in enumerate(happenings))


OPENING = (SessionOpened(), MessagePosted(Author.CUSTOMER, "Hi"), ScreenShown(screen=FORM))


@pytest.fixture
async def url(tmp_path):
    async with run_stub_models() as models:
        controller = StubController(build_snapshot(build_leave(Stage.COPILOT, models.url), LONG_TAIL))
        controller.write_key(tmp_path / "keys")
        async with (
            run_controller(controller) as address,
            run_gateway(f"sqlite:///{tmp_path}/g.db", address, tmp_path / "keys") as gateway,
        ):
            await gateway.until_permit()
            yield gateway.url


async def test_a_program_posts_reads_and_lists(url):
    async with pilotage.AsyncClient(url) as client:
        turn = await client.post("s1", build_events(0, *OPENING), "n1")
        assert turn.proposal is not None
        assert [card.proposal_id async for card in client.cards()] == [turn.proposal.proposal_id]
        assert [each.session_id async for each in client.sessions()] == ["s1"]
        assert len((await client.session("s1")).events) == 3
        with pytest.raises(ConflictError, match="next"):
            await client.post("s1", build_events(7, MessagePosted(Author.CUSTOMER, "Hi")), "n2")
        with pytest.raises(ConflictError, match="verdict is not in"):
            await client.decision(turn.proposal.proposal_id)
        with pytest.raises(InvalidInputError, match="unknown"):
            await client.session("nobodys")
        assert (await client.suspend("star/bookings", True, "kim", "drill")).suspended
        assert (await client.status()).suspended == ("star/bookings",)
        await client.post("s1", build_events(3, SessionClosed(Closing.CLOSED)))
        assert (await client.labels()).labels == ()


async def test_the_same_without_an_event_loop(url):
    def work() -> None:
        client = pilotage.Client(url, lambda: "whoever")
        turn = client.post("s1", build_events(0, *OPENING), "n1")
        assert [card.action for card in client.cards()] == [turn.proposal.action]
        client.post("s1", build_events(3, SessionClosed(Closing.CLOSED)))
        assert [each.session_id for each in client.sessions(state="closed")] == ["s1"]
        (record,) = client.export("star/bookings")
        assert record == client.session("s1")
        assert client.decision(turn.proposal.proposal_id).proposal.proposal_id == turn.proposal.proposal_id
        assert client.status().live_sessions == 0
        with pytest.raises(InvalidInputError):
            client.post("bad id", ())

    await asyncio.to_thread(work)


async def test_what_answers_is_no_gateway_or_nobody(tmp_path):
    async def odd(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    async with serve([web.get("/v1/status", odd)]) as url, pilotage.AsyncClient(url) as client:
        with pytest.raises(UnavailableError, match="no GatewayStatus"):
            await client.status()
        with pytest.raises(InvalidInputError, match="404"):
            await client.labels()
    async with pilotage.AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(UnavailableError, match="no answer"):
            await client.status()
    with pytest.raises(AttributeError, match="Nothing"):
        _ = pilotage.Nothing


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
        b"HTTP/1.1 503 No\r\ncontent-length: 500\r\n\r\n{",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{\n",
    ],
    ids=["cut off", "an error cut off", "no HTTP", "no record"],
)
async def test_an_answer_that_is_none_is_one_kind_of_error(answer):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    client = pilotage.Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    for ask in (client.status, lambda: list(client.export("star/bookings"))):
        with pytest.raises(UnavailableError):
            await asyncio.to_thread(ask)
    server.close()
