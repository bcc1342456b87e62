"""The console as people have it: in Chromium, by keyboard alone, in both colours, by the rules of axe-core (WCAG).

hack/screens/setup.sh installs what this needs. SCREENSHOTS=FOLDER keeps pictures of the pages, for docs/console.md.
"""

import asyncio
import base64
import json
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from adapter_world import PROGRAM, poll, visit
from chromium import Tab, run_chromium
from helpdesk_server import INSTALLED
from stubs.gateway import (
    LONG_TAIL,
    Case,
    StubController,
    build_leave,
    build_snapshot,
    run_controller,
    run_gateway,
    run_models,
)

from pilotage_core.actions import Action, Tool
from pilotage_core.events import Author, FeedbackGiven, MessagePosted, ScreenShown, SessionOpened, Verdict
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_core.stage import Stage

AXE = INSTALLED / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(
    PROGRAM is None or not AXE.exists(), reason="not installed: hack/screens/setup.sh does it"
)
HOTEL = Screen(
    name="form",
    title="Hotel booking",
    controls=(
        Control("submit-booking", ControlKind.BUTTON, "Book"),
        Control("city", ControlKind.INPUT, "City", value="Paris", required=True),
        Control("stars", ControlKind.SELECT, "Stars", value="3", options=("2", "3", "4")),
    ),
    facts=(("customer", "A. Example"), ("price", "120 EUR")),
    announcements=("The price has changed.",),
)
HELLO = Action(Tool.SEND_TEXT_TO_CHAT, text="Your room is booked for Friday, two nights.")
WAITS = "(document.querySelector('[data-card]')?.dataset.card ?? '')"


class Console:
    """A person at the console of a running gateway, with cases to answer."""

    def __init__(self, tab: Tab, gateway: Any, models: Any) -> None:
        self.tab, self.gateway, self.models = tab, gateway, models

    async def open(self, path: str) -> None:
        await visit(self.tab, f"{self.gateway.url}/console{path}")

    async def until(self, script: str) -> Any:
        found = await poll(lambda: self.tab.evaluate(script))
        assert found, (script, await self.tab.evaluate("document.body.innerText"))
        return found

    async def key(self, key: str, **modifiers: int) -> None:
        """A key, once the page's scripts can hear it."""
        await self.until("document.readyState === 'complete' && typeof htmx === 'object'")
        text = {"text": key} if len(key) == 1 and not modifiers else {}
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            down = text if kind == "keyDown" else {}
            await self.tab.ask(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **down, **modifiers
            )

    async def look(self) -> None:
        """As long as a person needs to see what has come: before that no key answers it."""
        await self.tab.evaluate("new Promise(done => setTimeout(done, 450))")

    async def case(self, name: str, action: Action | None) -> tuple[Case, Any]:
        self.models.action = action
        case = Case(self.gateway, name)
        said = MessagePosted(Author.CUSTOMER, "Hi, a hotel in Paris please, <b>two nights</b> from Friday 😀 תודה")
        return case, await case.post(SessionOpened({}), said, ScreenShown(screen=HOTEL))

    async def find_faults(self) -> list[str]:
        """What axe-core calls serious or critical on the page as it is."""
        await self.tab.evaluate(AXE.read_text(encoding="utf-8") + ";true")
        found = json.loads(
            await self.tab.evaluate("axe.run().then(r => JSON.stringify([r.violations, r.passes.length]))")
        )
        assert found[1] > 10  # rules that had something to look at
        return [
            f"{each['id']} ({each['impact']}): {node['html'][:160]}"
            for each in found[0]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]

    async def picture(self, name: str) -> None:
        if folder := os.environ.get("SCREENSHOTS"):
            shot = await self.tab.ask("Page.captureScreenshot", format="png")
            await asyncio.to_thread(Path(folder, f"{name}.png").write_bytes, base64.b64decode(shot["data"]))


@pytest.fixture
async def console(tmp_path):
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(run_models())
        leave = build_leave(Stage.COPILOT, models.url)
        controller = StubController(build_snapshot(leave, LONG_TAIL))
        controller.write_key(tmp_path / "keys")
        url = await stack.enter_async_context(run_controller(controller))
        gateway = await stack.enter_async_context(run_gateway(f"sqlite:///{tmp_path}/g.db", url, tmp_path / "keys"))
        await gateway.until_permit()
        tab = await stack.enter_async_context(run_chromium(str(PROGRAM)))
        await tab.ask("Network.setCookie", name="pilotage_operator", value="ann", url=f"{gateway.url}/console/")
        await tab.ask("Emulation.setDeviceMetricsOverride", width=1280, height=760, deviceScaleFactor=1, mobile=False)
        yield Console(tab, gateway, models)


async def test_a_morning_s_work_by_keyboard_alone(console):
    greeting, _ = await console.case("chat-1", HELLO)
    _, second = await console.case("chat-2", Action(Tool.CLICK_CONTROL, "submit-booking"))
    await console.open("/")
    await console.key("n")
    await console.until(f"{WAITS} && location.pathname.endsWith('chat-1')")
    await console.key("e")
    await console.until("document.activeElement.id === 'text'")
    await console.tab.ask("Input.insertText", text="Your room is booked for Friday, three nights.")
    await console.until("document.querySelector('#diff ins')?.textContent.includes('three')")
    await console.picture("edit")
    await console.key("Enter", modifiers=2)
    await console.until("document.querySelector('[data-undo]') !== null")
    await console.key("u")
    await console.until("document.querySelector('#text')?.value.includes('three nights')")
    await console.key("e")
    await console.key("Enter", modifiers=2)
    await console.until("document.querySelector('[data-undo]') !== null")
    console.gateway.app.state.turns.answers.held_seconds = 0.0
    await console.key("n")
    await console.until(f"{WAITS} === '{second.proposal.proposal_id}'")
    await console.look()
    await console.key("r")
    await console.key("3")
    await console.until("document.body.innerText.includes('reject, incorrect')")

    async def fetch() -> dict[str, Any] | None:
        _, page = await console.gateway.get("/v1/answers")
        return {each["session_id"]: each for each in page["answers"]} if len(page["answers"]) == 2 else None

    said = await poll(fetch)
    assert (said["chat-2"]["verdict"], said["chat-2"]["grade"]) == ("reject", "incorrect")
    assert said["chat-1"]["action"]["text"] == "Your room is booked for Friday, three nights."
    await console.key("k")
    await console.until("location.pathname.endsWith('chat-1')")
    await greeting.post(MessagePosted(Author.CUSTOMER, "Are you there?"))
    await console.until("document.querySelector('.chat').innerText.includes('Are you there?')")


async def test_keys_can_be_switched_off_and_never_fire_while_one_types(console):
    _, turn = await console.case("chat-1", HELLO)
    await console.open("/sessions/chat-1")
    await console.key("e")
    await console.tab.ask("Input.insertText", text="aru")
    await console.key("Escape")
    await console.key("?")
    await console.until("document.querySelector('#keys').open")
    await console.tab.evaluate("document.querySelector('#keys-on').click(), document.querySelector('#keys').close()")
    await console.key("a")
    await console.tab.evaluate("new Promise(done => setTimeout(done, 300))")
    assert console.gateway.app.state.turns.answers.find(turn.proposal.proposal_id) is None
    assert await console.tab.evaluate("document.body.classList.contains('keys-off')")


async def test_a_card_that_was_overtaken_while_one_typed_loses_nothing_and_sends_nothing(console):
    case, turn = await console.case("chat-1", HELLO)
    await console.open("/sessions/chat-1")
    await console.key("e")
    await console.tab.ask("Input.insertText", text="Half a sentence")
    await case.post(MessagePosted(Author.CUSTOMER, "Stop!"))
    await console.until("document.querySelector('#problem').innerText.includes('moved on')")
    assert await console.tab.evaluate("document.querySelector('#text').value") == "Half a sentence"
    await console.tab.evaluate("document.querySelector('[data-reload]').click()")
    await console.until("document.querySelector('.chat').innerText.includes('Stop!')")
    await console.until("document.querySelector('#draft textarea')?.value === 'Half a sentence'")
    assert console.gateway.app.state.turns.answers.find(turn.proposal.proposal_id) is None


async def test_a_sign_in_that_ran_out_loses_nothing(console):
    await console.case("chat-1", HELLO)
    await console.open("/sessions/chat-1")
    await console.key("e")
    await console.tab.ask("Input.insertText", text="Hello again")
    await console.tab.ask("Network.clearBrowserCookies")
    await console.key("Enter", modifiers=2)
    await console.until("document.querySelector('#problem').innerText.includes('Nothing you typed is lost')")
    assert await console.tab.evaluate("document.querySelector('#text').value") == "Hello again"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_no_serious_fault_on_any_page_and_pages_are_light(console, scheme):
    await console.tab.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    for number in range(3):
        await console.case(f"chat-{number}", HELLO)
    case, turn = await console.case("chat-9", Action(Tool.CLICK_CONTROL, "submit-booking"))
    await case.post(FeedbackGiven(turn.proposal.proposal_id, Verdict.REJECT, "ann"))
    paths = {
        "sign-in": "/sign-in",
        "queue": "/?queue",
        "session": "/sessions/chat-0",
        "answered": "/sessions/chat-9",
        "decision": f"/decisions/{turn.proposal.proposal_id}",
        "ledger": "/ledger",
        "process-clusters": "/process-clusters",
        "process-cluster": "/process-clusters/star/bookings",
        "unknown": "/sessions/nobody",
    }
    faults: dict[str, list[str]] = {}
    for name, path in paths.items():
        began = time.monotonic()
        await console.open(path)
        assert time.monotonic() - began < 5.0  # on a slow machine
        weight = await console.tab.evaluate(
            "performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))"
            ".reduce((sum, each) => sum + (each.encodedBodySize || 0), 0)"
        )
        assert weight < 200_000, (name, weight)
        faults[name] = await console.find_faults()
        await console.picture(f"{name}-{scheme}")
    assert {name: found for name, found in faults.items() if found} == {}


async def test_on_a_phone_nothing_is_cut_off(console):
    await console.tab.ask("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    await console.case("chat-1", HELLO)
    for path in ("/sessions/chat-1", "/process-clusters", "/process-clusters/star/bookings"):
        await console.open(path)
        assert await console.tab.evaluate("document.documentElement.scrollWidth") <= 390, path
    await console.open("/sessions/chat-1")
    await console.picture("phone")
