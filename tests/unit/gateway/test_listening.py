"""Connections with limits: who is slow is told so, who goes on goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from stubs.gateway import until

from pilotage_gateway.listening import Bounded

HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"


class Hasty(Bounded):
    head_seconds = body_seconds = 0.2
    room = 3


async def echo(request: Request) -> Response:
    return Response(await request.body())


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        Starlette(routes=[Route("/", echo, methods=["POST"])]), port=0, log_config=None, http=Hasty, lifespan="off"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await serving


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", b"408"),
        (HEAD, b"408"),
        (HEAD + b"\r\nhal", b"408"),
        (HEAD + b"\r\nwhole", b"200"),
    ],
    ids=["nothing", "half a head", "half a body", "all of it"],
)
async def test_a_request_has_its_time_to_come(port, sent, said):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    async with asyncio.timeout(5):
        assert (await reader.readline()).split()[1] == said
    writer.close()


async def test_one_connection_serves_many_requests_also_sent_at_once_and_each_has_its_time(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        for text in (b"first", b"again"):
            writer.write(HEAD + b"\r\n" + text)
            assert (await reader.readuntil(text)).startswith(b"HTTP/1.1 200")
        writer.write(HEAD + b"\r\nthree" + HEAD + b"\r\n four")
        assert b"three" in await reader.readuntil(b"three")
        assert b" four" in await reader.readuntil(b" four")
        writer.write(HEAD)
        assert (await reader.readline()).split()[1] == b"408"
    writer.close()


async def test_where_there_is_no_room_who_has_waited_longest_goes(port):
    async with asyncio.timeout(5):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"\r\nserve")
        assert (await reader.readline()).split()[1] == b"200"
        with suppress(ConnectionError):  # aborted, which is the same to whoever sends nothing
            assert await idle[0][0].read() == b""
    for _, other in (*idle, (reader, writer)):
        other.close()
