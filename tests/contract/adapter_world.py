"""Where the page adapter is tried: a browser, a gateway with its neighbours, pages through examples/helpdesk."""

import asyncio
import contextlib
import importlib
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from chromium import Tab, find_chromium, run_chromium
from helpdesk_server import INSTALLED
from stubs.gateway import (
    LONG_TAIL,
    Gateway,
    StubController,
    StubModels,
    build_leave,
    build_snapshot,
    run_controller,
    run_gateway,
    run_models,
)

from pilotage_core.actions import Action, ActionPattern, ActionRules, StratumRule
from pilotage_core.screen import ControlKind, ControlRule, ScreenSchema
from pilotage_core.stage import Stage

HERE = Path(__file__).parent
ADAPTER = HERE.parents[1] / "adapters" / "page" / "src"
PROGRAM = find_chromium()
sys.path.insert(0, str(HERE.parents[1] / "examples" / "helpdesk"))
Front = importlib.import_module("front").Front

PAGES = HERE / "adapter"
PAGE = (PAGES / "booking.html").read_text()
SCHEMA = ScreenSchema(
    name="page",
    applies="body",
    controls=(
        ControlRule("input[name=city]", ControlKind.INPUT),
        ControlRule("select", ControlKind.SELECT),
        ControlRule("input[type=radio]", ControlKind.RADIO),
        ControlRule("button", ControlKind.BUTTON),
    ),
)
RULES = ActionRules(strata=(StratumRule(ActionPattern(), "procedure"),))


@dataclass
class World:
    """A browser's tab, a gateway with its models and controller, and pages served through the front."""

    tab: Tab
    gateway: Gateway
    models: StubModels
    controller: StubController
    address: str
    pages: dict[str, Callable[[], str]]

    def publish(self, stage: Stage, **changes: Any) -> None:
        leave = build_leave(stage, self.models.url, screens=(SCHEMA,), rules=RULES, **changes)
        self.controller.publish(build_snapshot(leave, LONG_TAIL))

    async def open(self, path: str, *, settle: str = "") -> None:
        await visit(self.tab, self.address + path)
        if settle:
            await self.tab.evaluate(settle)
        await self.until("window.adapter?.working")

    async def until(self, script: str) -> Any:
        """Wait until `script` gives something true in the page; between two pages there is nothing to ask."""

        async def look() -> Any:
            try:
                return await self.tab.evaluate(script)
            except RuntimeError:
                return None

        found = await poll(look)
        assert found, (script, await self.tab.evaluate("JSON.stringify(window.problems ?? [])"))
        return found

    async def record(self, session_id: str = "case-1") -> dict[str, Any]:
        return (await self.gateway.get(f"/v1/sessions/{session_id}"))[1]

    async def until_event(self, kind: str, session_id: str = "case-1", number: int = 1) -> list[dict[str, Any]]:
        """Wait until the records have so many events of a kind."""

        async def look() -> list[dict[str, Any]] | None:
            events = (await self.record(session_id)).get("events", [])
            found = [event["data"] for event in events if event["data"]["type"] == kind]
            return found if len(found) >= number else None

        found = await poll(look)
        assert found is not None, (await self.record(session_id), await self.tab.evaluate("window.problems"))
        return found

    async def press(self, selector: str) -> None:
        """A person's click: through the browser, so that the page can tell it from a script's."""
        box = await self.tab.evaluate(
            f"(() => {{const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'}); const b = e.getBoundingClientRect();"
            "return {x: b.x + b.width / 2, y: b.y + b.height / 2}})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.tab.ask("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **box)

    async def type(self, selector: str, text: str) -> None:
        await self.press(selector)
        await self.tab.ask("Input.insertText", text=text)
        await self.tab.evaluate("document.activeElement.blur()")


async def poll(look: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> Any:
    """What `look` gives once that is something; None where it never is."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while True:
                if found := await look():
                    return found
                await asyncio.sleep(0.05)
    return None


async def visit(tab: Tab, url: str) -> None:
    tab.events.clear()
    await tab.ask("Page.navigate", url=url)
    while "Page.loadEventFired" not in tab.events:
        tab.events.append((await tab.socket.receive_json(timeout=60)).get("method", ""))


@asynccontextmanager
async def serve(application: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


async def accept(world: World, session_id: str = "case-1", then: Action | None = None, **form: str) -> None:
    """Answer the card that waits, once there is one; from then on models propose `then`."""

    async def look() -> str | None:
        session = await world.gateway.app.state.turns.find(session_id)
        waiting = [p for p in session.proposals.values() if session.is_waiting(p)] if session is not None else []
        current = [p for p in waiting if p.at_version >= session.moved_version]
        return current[-1].proposal_id if current else None

    proposal_id = await poll(look)
    assert proposal_id, await world.record(session_id)
    world.models.action = then
    async with world.gateway.client.post(
        f"{world.gateway.url}/console/sessions/{session_id}/answer",
        data={"proposal_id": proposal_id, "verdict": "accept", **form},
        headers={"Origin": world.gateway.url},
        cookies={"pilotage_operator": "ann"},
    ) as answer:
        assert answer.status == 200, await answer.text()


def action_json(action: Action) -> dict[str, str]:
    """`action` as it travels."""
    told = {"tool": action.tool.value, "control_id": action.control_id, "value": action.value, "text": action.text}
    return {name: value for name, value in told.items() if value}


@asynccontextmanager
async def open_world(tmp_path: Path) -> AsyncIterator[World]:
    """All of it, running."""
    async with AsyncExitStack() as stack:
        models = await stack.enter_async_context(run_models())
        controller = StubController(build_snapshot(LONG_TAIL))
        controller.write_key(tmp_path / "keys")
        url = await stack.enter_async_context(run_controller(controller))
        gateway = await stack.enter_async_context(run_gateway(f"sqlite:///{tmp_path}/g.db", url, tmp_path / "keys"))
        gateway.app.state.turns.answers.held_seconds = 0.0
        pages: dict[str, Callable[[], str]] = {"/": lambda: PAGE}

        async def give(request: web.Request) -> web.Response:
            if request.path not in pages:
                raise web.HTTPNotFound
            return web.Response(text=pages[request.path](), content_type="text/html")

        app = web.Application()
        form = shutil.copytree(HERE / "form_js", tmp_path / "form_js")
        (form / "node_modules").symlink_to(INSTALLED / "node_modules")
        app.router.add_static("/form-js/", form, follow_symlinks=True)
        app.router.add_get("/{path:.*}", give)
        behind = await stack.enter_async_context(serve(app))
        front = Front(behind, gateway.url, PAGES / "start.js").build()
        address = await stack.enter_async_context(serve(front))
        tab = await stack.enter_async_context(run_chromium(str(PROGRAM)))
        world = World(tab, gateway, models, controller, address, pages)
        models.action = None
        world.publish(Stage.COPILOT)
        await gateway.until_permit()
        yield world
