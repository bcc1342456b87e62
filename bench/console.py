"""How long until an operator sees a card, with many at work? And how heavy and how quick is a page?

    python bench/console.py [--streams 200] [--sessions 5000] [--seconds 30] [--rate 20] [--output FILE.json]

The real gateway as a process on one core; load, stubs and browsers' part (an HTTP client) on the other. Every session
is open and has a card that waits; every operator works one of them and has a stream. A customer writes in one of these,
the policy proposes anew; timed from before that post leaves until the page that the stream called for holds the new
text and a card. Every page is looked at: what does not show both fails the run.
"""

import argparse
import asyncio
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from provenance import describe_run  # noqa: E402
from stubs.gateway import (  # noqa: E402  # noqa: E402
    LONG_TAIL,
    Case,
    Gateway,
    StubController,
    build_leave,
    build_snapshot,
    run_controller,
    run_models,
)
from stubs.gateway_process import Process  # noqa: E402

from pilotage_core.events import Author, MessagePosted  # noqa: E402
from pilotage_core.stage import Stage  # noqa: E402

AT_ONCE = 16


class Operator:
    """Somebody at the console who works one session: a stream, and the page that it calls for."""

    def __init__(self, gateway: Gateway, number: int, case: Case) -> None:
        self.url, self.client, self.case = f"{gateway.url}/console", gateway.client, case
        self.cookies = {"pilotage_operator": f"operator-{number}"}
        self.headers = {"Origin": gateway.url, "HX-Request": "true"}
        self.moved = asyncio.Event()
        self.ready = asyncio.Event()

    async def follow(self) -> None:
        async with self.client.post(
            f"{self.url}/sessions/{self.case.session_id}/claim", cookies=self.cookies, headers=self.headers
        ) as answer:
            assert answer.status == 204, await answer.text()
        page = await self.look(whole=True)
        seen = re.search(r"seen=([0-9a-f]+-\d+)", page)
        assert seen is not None
        query = {"key": self.case.session_id, "seen": seen[1]}
        async with self.client.get(f"{self.url}/stream", params=query, cookies=self.cookies) as stream:
            assert stream.status == 200
            async for line in stream.content:
                self.ready.set()
                if line.startswith(b"event: moved-"):
                    self.moved.set()

    async def look(self, *, whole: bool = False) -> str:
        headers = {} if whole else self.headers
        url = f"{self.url}/sessions/{self.case.session_id}"
        async with self.client.get(url, cookies=self.cookies, headers=headers) as answer:
            assert answer.status == 200
            return await answer.text()

    async def see(self, text: str) -> float:
        """Milliseconds from before a customer's words leave until they stand beside a new card."""
        self.moved.clear()
        started = time.perf_counter()
        turn = await self.case.post(MessagePosted(Author.CUSTOMER, text))
        assert turn.proposal is not None
        while True:
            await self.moved.wait()
            self.moved.clear()
            page = await self.look()
            if text in page and f'data-card="{turn.proposal.proposal_id}"' in page:
                return (time.perf_counter() - started) * 1000


async def measure(gateway: Gateway, options: argparse.Namespace, memory: Any) -> dict[str, object]:
    cases = [Case(gateway, f"s-{number}") for number in range(options.sessions)]
    room = asyncio.Semaphore(AT_ONCE)

    async def begin(case: Case) -> None:
        async with room:
            assert (await case.begin()).proposal is not None

    await asyncio.gather(*map(begin, cases))
    operators = [Operator(gateway, number, cases[number]) for number in range(options.streams)]
    streams = [asyncio.create_task(operator.follow()) for operator in operators]
    try:
        await asyncio.gather(*(operator.ready.wait() for operator in operators))
        chance, idle, running = random.Random(7), list(operators), set[asyncio.Task[float]]()
        seen: list[float] = []
        cpu, began = memory()[1], time.perf_counter()
        for number in range(round(options.seconds * options.rate)):
            await asyncio.sleep(max(0.0, began + number / options.rate - time.perf_counter()))
            operator = idle.pop(chance.randrange(len(idle)))
            task = asyncio.create_task(operator.see(f"message {number} of the bench"))
            running.add(task)
            task.add_done_callback(lambda task, operator=operator: (idle.append(operator), seen.append(task.result())))
        await asyncio.gather(*running)
        took = time.perf_counter() - began
        used = memory()[1] - cpu
        pages = []
        for _ in range(20):
            started = time.perf_counter()
            page = await operators[0].look(whole=True)
            pages.append((time.perf_counter() - started) * 1000)
    finally:
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
    assert len(seen) == round(options.seconds * options.rate)
    seen.sort()
    return {
        "cards_seen": len(seen),
        "card_on_its_page_ms": {"p50": round(seen[len(seen) // 2], 1), "p99": round(seen[int(len(seen) * 0.99)], 1)},
        "page_ms_p50": round(sorted(pages)[len(pages) // 2], 1),
        "page_bytes": len(page.encode()),
        "gateway_cores": round(used / took, 3),
        "gateway_mb": round(memory()[0]),
    }


async def run(options: argparse.Namespace) -> dict[str, object]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pilotage-bench-")))
        models = await stack.enter_async_context(run_models())
        controller = StubController(build_snapshot(build_leave(Stage.COPILOT, models.url), LONG_TAIL))
        controller.write_key(folder / "keys")
        url = await stack.enter_async_context(run_controller(controller))
        process = Process(folder, url, f"sqlite:///{folder}/g.db")
        connector = aiohttp.TCPConnector(limit=0)
        client = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(None)
            )
        )
        gateway = Gateway(process.url, client)
        await process.start(gateway)
        pid = process.process.pid
        os.sched_setaffinity(pid, {0})

        def memory() -> tuple[float, float]:
            """Resident megabytes, and seconds of CPU so far."""
            rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return rss, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        try:
            return await measure(gateway, options, memory)
        finally:
            await process.end(signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "console.json")
    options = parser.parse_args()
    if len(cores := os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, cores - {0})
    result: dict[str, object] = describe_run("aiohttp", "jinja2", "django-htmx", "starlette", "uvicorn")
    result |= {"streams": options.streams, "open_sessions": options.sessions, "rate": options.rate}
    result |= asyncio.run(run(options))
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
