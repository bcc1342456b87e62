"""A real gateway process that is flooded: connections that send nothing, half a request, or far too much of one."""

import asyncio
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

WANTED = 10_000
GROWTH_MIB = 120


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def gateway(tmp_path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    free_port = find_port()
    command = [
        str(Path(sys.executable).with_name("pilotage-gateway")), "--listen", f"127.0.0.1:{free_port}",
        "--database", f"sqlite:///{tmp_path}/g.db", "--keys", str(tmp_path), "--log-level", "error",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        yield process, free_port
    finally:
        process.terminate()
        process.wait(20)


async def ask(port: int, sent: bytes = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n") -> bytes:
    """The status line that answers `sent`; empty where the connection is closed without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        return (await reader.read(200)).split(b"\r\n")[0]
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def is_up(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                assert await ask(port)
                return
            except OSError:
                await asyncio.sleep(0.05)


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


async def test_ten_thousand_who_send_nothing_keep_nobody_out(gateway):
    process, port = gateway
    await is_up(port)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = min(WANTED, hard - 500)
    before = resident_mib(process)
    idle, seconds = [], []
    try:
        for number in range(many):
            idle.append((await asyncio.open_connection("127.0.0.1", port))[1])
            if number % 2:
                idle[-1].write(b"GET /healthz HTTP/1.1\r\nx-half")
            if number % 100 == 99:
                started = time.perf_counter()
                assert await ask(port) == b"HTTP/1.1 200 OK"
                seconds.append(time.perf_counter() - started)
        assert len(seconds) == many // 100
        assert statistics.quantiles(seconds, n=100)[98] < 1.0, "others are served while they come"
        assert resident_mib(process) - before < GROWTH_MIB
    finally:
        for writer in idle:
            writer.transport.abort()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 40_000 + b"\r\n\r\n", b"HTTP/1.1 431"),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"HTTP/1.1 414"),
        (b"GET / HTTP/1.1\r\n" + b"x-many: %b\r\n" % (b"v" * 90) * 400 + b"\r\n", b"HTTP/1.1 431"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx-endless: " + b"a" * (38 << 20), b"HTTP/1.1 431"),
        (b"BREW / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400"),
    ],
    ids=["one long header", "a long path", "many headers", "38 MiB without an end", "no method"],
)  # fmt: skip
async def test_a_head_that_is_too_large_is_refused_and_not_kept(gateway, sent, said):
    process, port = gateway
    await is_up(port)
    before = resident_mib(process)
    answer = await ask(port, sent)
    assert answer.startswith(said) or (answer == b"" and len(sent) > 1 << 20), "closed while it was still being sent"
    assert resident_mib(process) - before < 8
    assert await ask(port) == b"HTTP/1.1 200 OK"
