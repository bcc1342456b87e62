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
    head_seconds = body_seconds = send_seconds = 1.0
    room = 3


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def refuse(_: Request) -> Response:
    return Response(b"no", 401)


async def tell_much(_: Request) -> Response:
    return Response(b"x" * (4 << 20))


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(
        Starlette(
            routes=[
                Route("/", echo, methods=["POST"]),
                Route("/no", refuse, methods=["POST"]),
                Route("/much", tell_much),
            ]
        ),
        port=0,
        log_config=None,
        http=Hasty,
        lifespan="off",
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
    async with asyncio.timeout(20):
        assert (await reader.readline()).split()[1] == said
    writer.close()


async def test_one_connection_serves_many_requests_also_sent_at_once_and_each_has_its_time(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
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
    async with asyncio.timeout(20):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"\r\nserve")
        assert (await reader.readline()).split()[1] == b"200"
        with suppress(ConnectionError):  # aborted, which is the same to whoever sends nothing
            assert await idle[0][0].read() == b""
    for _, other in (*idle, (reader, writer)):
        other.close()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    with suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_requests_that_are_sent_ahead_are_few(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        writer.write((HEAD + b"\r\nwhole") * 400)
        answers = await read_all(reader)
    assert answers.count(b"HTTP/1.1 200") < 20
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"1\r\n{\r\n0\r\n" + b"x-trailer: %b\r\n" % (b"v" * 1000) * 400,
        b"1\r\n{\r\n0\r\nx-trailer: " + b"v" * (4 << 20),
        b"1\r\nx\r\n" * 600_000,
    ],
    ids=["trailers", "one without an end", "a body in crumbs"],
)
async def test_what_comes_after_a_head_is_counted_too(port, sent):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(30):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + sent)
        answer = await read_all(reader)
    assert answer[:12] in (b"HTTP/1.1 431", b"HTTP/1.1 413", b"HTTP/1.1 400", b"")
    assert b"200" not in answer[:12]
    writer.close()


async def test_who_reads_nothing_goes_and_makes_room(port):
    async with asyncio.timeout(30):
        stuck = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        for reader, writer in stuck:
            writer.transport.pause_reading() if hasattr(writer.transport, "pause_reading") else None
            reader._transport.pause_reading()
            writer.write(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n")
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD + b"\r\nserve")
            with suppress(ConnectionError):
                if (await reader.readline()).split()[1:2] == [b"200"]:
                    break
            writer.close()
            await asyncio.sleep(0.05)
    for _, other in (*stuck, (reader, writer)):
        other.close()


async def test_an_answer_before_the_body_is_the_only_one(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        writer.write(b"POST /no HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n")
        assert (await reader.readuntil(b"no")).startswith(b"HTTP/1.1 401")
        writer.write(b"x" * 200_000 + HEAD + b"\r\nagain")
        assert (await reader.readuntil(b"again")).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("target", [b"*@127.0.0.1:1/x", b"http://127.0.0.1:1/x", b"x"])
async def test_a_target_that_is_no_path_is_refused(port, target):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(20):
        writer.write(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"400"
    writer.close()


async def test_who_reads_slowly_and_steadily_gets_all_of_it(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    writer.write(b"GET /much HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    size = 0
    async with asyncio.timeout(30):
        while chunk := await reader.read(1 << 17):
            size += len(chunk)
            await asyncio.sleep(0.03)
    assert size > 4 << 20
    writer.close()


async def test_a_request_that_comes_behind_a_large_one_is_read(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    large = b"x" * 300_000
    async with asyncio.timeout(20):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + large + HEAD)
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(300_000)
        writer.write(b"\r\nagain")
        assert (await reader.readuntil(b"again")).startswith(b"HTTP/1.1 200")
    writer.close()
