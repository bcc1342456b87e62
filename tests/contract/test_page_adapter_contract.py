"""The page adapter by itself: against the gateway that `pilotage conformance` plays, its fence against the core's."""

import asyncio
import json
import subprocess
from contextlib import AsyncExitStack
from random import Random

import msgspec
import pytest
from adapter_world import ADAPTER, PAGE, PAGES, PROGRAM, Front, serve, visit
from aiohttp import web
from chromium import run_chromium

from pilotage.conformance import PROBES
from pilotage.conformance_server import hear_adapter
from pilotage_core.actions import Action, Tool
from pilotage_core.permit import FenceFacts, FenceFault, find_fence_fault
from pilotage_core.wire import Order


@pytest.mark.skipif(PROGRAM is None, reason="not installed: hack/screens/setup.sh does it")
async def test_the_page_adapter_conforms(tmp_path):
    """`pilotage conformance` plays the gateway: retries, lost answers, orders of which most must not run."""
    addresses: asyncio.Queue[str] = asyncio.Queue()
    hearing = asyncio.create_task(hear_adapter("127.0.0.1", 0, "city", 8.0, addresses.put_nowait))

    async def give(_request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    behind = web.Application()
    behind.router.add_get("/", give)
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(serve(behind))
        front = Front(app, await addresses.get(), PAGES / "start.js").build()
        address = await stack.enter_async_context(serve(front))
        tab = await stack.enter_async_context(run_chromium(str(PROGRAM)))
        await visit(tab, address)
        conductor = await hearing
    assert conductor.findings == []
    assert conductor.passed == [probe.name for probe in PROBES]


def test_the_page_s_fence_is_the_core_s(tmp_path):
    """Random orders and facts: both give the same fault, by the same digest."""
    chance, cases = Random(11), []
    pick = chance.choice
    for _ in range(600):
        action = Action(pick(list(Tool)), *(pick(["", "a", 'ü\n"\\\u2028\x01😀']) for _ in range(3)))
        told = FenceFacts(
            pick(["n", "n", "m", ""]),
            pick([0, 99.5, 100, 1e9]),
            pick([3, 3, 4]),
            pick([set(), {"k"}, {"j"}]),
            pick([0, 2, 3]),
        )
        order = Order(
            "p", action, "k", pick(["n", "n", "m"]), 3, 100, pick([0, 2, 3]), pick(["permit", "ann"]),
            pick([action.digest, action.digest, "0" * 16]),
        )  # fmt: skip
        fault = find_fence_fault(
            told,
            nonce=order.nonce,
            state_version=order.state_version,
            idempotency_key=order.idempotency_key,
            remaining_ms=order.remaining_ms,
            epoch=order.epoch,
            by_permit=order.authorised_by == "permit",
            action=action.digest,
            digest=order.digest,
        )
        facts = {
            "nonce": told.nonce,
            "sinceNonceMs": told.since_nonce_ms,
            "stateVersion": told.state_version,
            "keysUsed": sorted(told.keys_used),
            "highestEpoch": told.highest_epoch,
        }
        cases.append({"facts": facts, "order": msgspec.to_builtins(order), "fault": fault})
    assert {case["fault"] for case in cases} == {None, *FenceFault}
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = ["node", str(PAGES / "fence.mjs"), str(ADAPTER / "fence.js"), str(tmp_path / "cases.json")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_what_the_adapter_promises_by_itself():
    tests = sorted(str(path) for path in (ADAPTER.parent / "test").glob("*.test.js"))
    found = subprocess.run(["node", "--test", *tests], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
