"""The gateway as a process, killed with SIGKILL while posts are under way: nothing acknowledged is lost or repeated."""

import asyncio
import random
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from stubs.gateway import (
    FORM,
    LONG_TAIL,
    RESULT,
    Case,
    Gateway,
    StubController,
    build_leave,
    build_snapshot,
    run_controller,
    run_models,
)

from pilotage_core.events import (
    Author,
    Closing,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionClosed,
    SessionOpened,
)
from pilotage_core.permit import FenceFacts, find_fence_fault
from pilotage_core.record import SessionRecord
from pilotage_core.stage import Stage
from pilotage_core.wire import Order, PostEvents

KILLS = 2
ADAPTERS = 6


class Process:
    """`pilotage-gateway` on one port over one database, started again after each kill."""

    def __init__(self, folder, controller_url):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = [
            *("-m", "pilotage_gateway.main", "--listen", f"127.0.0.1:{self.port}", "--log-level", "error"),
            *("--database", f"sqlite:///{folder}/g.db", "--controller", controller_url, "--keys", f"{folder}/keys"),
        ]
        self.process = None

    async def start(self, gateway: Gateway) -> None:
        self.process = await asyncio.create_subprocess_exec(sys.executable, *self.arguments)
        async with asyncio.timeout(20):
            while True:
                try:
                    status = (await gateway.get("/v1/status"))[1]
                except aiohttp.ClientError:
                    status = {"permit_remaining_ms": 0}
                if status["permit_remaining_ms"] > 0:
                    return
                await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.process.wait()


class Ledger:
    """The BPM's own record: every order is checked by the fence, executed at most once by its key."""

    def __init__(self):
        self.executed: dict[str, str] = {}
        self.acknowledged: dict[str, list[str]] = {}

    def execute(self, order: Order, nonce: str, made: float, version: int) -> Outcome:
        facts = FenceFacts(nonce, (time.monotonic() - made) * 1000, version, set(self.executed), 0)
        fault = find_fence_fault(
            facts,
            nonce=order.nonce,
            state_version=order.state_version,
            idempotency_key=order.idempotency_key,
            remaining_ms=order.remaining_ms,
            epoch=order.epoch,
            by_permit=order.authorised_by == "permit",
        )
        if fault is not None:
            return Outcome.REFUSED
        assert order.proposal_id not in self.executed.values(), "one proposal, two executions"
        self.executed[order.idempotency_key] = order.proposal_id
        return Outcome.DONE


async def _adapt(gateway: Gateway, ledger: Ledger, stop: asyncio.Event) -> None:
    """An adapter: sends each post until it is acknowledged, executes orders, reports outcomes."""
    while not stop.is_set():
        case = Case(gateway)
        acknowledged = ledger.acknowledged.setdefault(case.session_id, [])
        happenings = [SessionOpened(), MessagePosted(Author.CUSTOMER, "Hi"), ScreenShown(screen=FORM)]
        for round_number in range(4):
            events = tuple(case.event(h) for h in happenings)
            turn, nonce, made = await _insist(case, events)
            acknowledged += [event.id for event in events]
            happenings = [ScreenShown(screen=FORM if round_number % 2 else RESULT)]
            if turn.get("order"):
                order = msgspec.convert(turn["order"], Order)
                outcome = ledger.execute(order, nonce, made, case.sequence)
                happenings.insert(0, OutcomeReported(order.proposal_id, order.idempotency_key, outcome))
        closing = tuple(case.event(h) for h in (*happenings[:-1], SessionClosed(Closing.CLOSED)))
        await _insist(case, closing)
        acknowledged += [event.id for event in closing]


async def _insist(case: Case, events):
    for attempt in range(500):
        nonce, made = f"{case.session_id}-{case.sequence}-{attempt}", time.monotonic()
        try:
            status, answer = await case.send(PostEvents(events, nonce))
        except (aiohttp.ClientError, TimeoutError):
            await asyncio.sleep(0.03)
            continue
        assert status in (200, 503), answer
        if status == 200:
            return answer, nonce, made
        await asyncio.sleep(0.03)
    pytest.fail("the gateway never came back")


@asynccontextmanager
async def _everything(folder):
    async with run_models() as models, aiohttp.ClientSession() as client:
        controller = StubController(build_snapshot(build_leave(Stage.CALIBRATION, models.url), LONG_TAIL))
        controller.write_key(folder / "keys")
        async with run_controller(controller) as url:
            process = Process(folder, url)
            yield process, Gateway(process.url, client)


async def test_sigkill_in_the_middle_of_posts_loses_and_repeats_nothing(tmp_path):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance, ledger, stop = random.Random(seed), Ledger(), asyncio.Event()
    async with _everything(tmp_path) as (process, gateway):
        await process.start(gateway)
        adapters = [asyncio.create_task(_adapt(gateway, ledger, stop)) for _ in range(ADAPTERS)]
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            await process.end(signal.SIGKILL)
            await process.start(gateway)
        await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*adapters)

        _, text = await gateway.get("/v1/export", process_cluster="star/bookings")
        records = {
            r.session_id: r for r in (msgspec.json.decode(line, type=SessionRecord) for line in text.splitlines())
        }
        assert len(ledger.executed) > 10
        for session_id, acknowledged in ledger.acknowledged.items():
            stored = records[session_id]
            assert [event.id for event in stored.events] == acknowledged
            assert [event.sequence for event in stored.events] == list(range(len(stored.events)))
        executed = {p.proposal_id for record in records.values() for p in record.proposals if p.executed}
        assert executed == set(ledger.executed.values())
        assert await process.end(signal.SIGTERM) == 0
