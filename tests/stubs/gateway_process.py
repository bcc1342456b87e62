"""The gateway as a process, adapters that insist, and the BPM's own ledger: for tests that kill things."""

import asyncio
import signal
import socket
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest

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
from pilotage_core.stage import Stage
from pilotage_core.wire import Order, PostEvents
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


class Process:
    """`pilotage-gateway` on one port over one database, started again after each kill."""

    def __init__(self, folder: Path, controller_url: str, database: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = [
            *("-m", "pilotage_gateway.main", "--listen", f"127.0.0.1:{self.port}", "--log-level", "error"),
            *("--database", database, "--controller", controller_url, "--keys", f"{folder}/keys"),
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
                if status.get("permit_remaining_ms", 0) > 0:
                    return
                await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.process.wait()


class Ledger:
    """The BPM's own record: every order is checked by the fence, executed at most once by its key."""

    def __init__(self) -> None:
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


async def adapt(gateway: Gateway, ledger: Ledger, stop: asyncio.Event) -> None:
    """An adapter: sends each post until it is acknowledged, executes orders, reports outcomes."""
    while not stop.is_set():
        case = Case(gateway)
        acknowledged = ledger.acknowledged.setdefault(case.session_id, [])
        happenings = [SessionOpened(), MessagePosted(Author.CUSTOMER, "Hi"), ScreenShown(screen=FORM)]
        for round_number in range(4):
            events = tuple(case.event(h) for h in happenings)
            turn, nonce, made = await insist(case, events)
            acknowledged += [event.id for event in events]
            happenings = [ScreenShown(screen=FORM if round_number % 2 else RESULT)]
            if turn.get("order"):
                order = msgspec.convert(turn["order"], Order)
                outcome = ledger.execute(order, nonce, made, case.sequence)
                happenings.insert(0, OutcomeReported(order.proposal_id, order.idempotency_key, outcome))
        closing = tuple(case.event(h) for h in (*happenings[:-1], SessionClosed(Closing.CLOSED)))
        await insist(case, closing)
        acknowledged += [event.id for event in closing]


async def insist(case: Case, events):
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
async def run_everything(folder: Path, database: str):
    async with run_models() as models, aiohttp.ClientSession() as client:
        controller = StubController(build_snapshot(build_leave(Stage.CALIBRATION, models.url), LONG_TAIL))
        controller.write_key(folder / "keys")
        async with run_controller(controller) as url:
            process = Process(folder, url, database)
            yield process, Gateway(process.url, client)
