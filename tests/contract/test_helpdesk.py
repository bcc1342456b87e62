"""The page adapter on django-helpdesk, which nobody here wrote: tickets worked in Chromium, and worked on by orders.

Its pages go and come with each save, so what was under way is told by the next page.
"""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from adapter_world import HERE, PROGRAM, RULES, Front, World, accept, serve
from chromium import run_chromium
from helpdesk_server import INSTALLED, run_helpdesk
from stubs.gateway import (
    LONG_TAIL,
    StubController,
    build_leave,
    build_snapshot,
    run_controller,
    run_gateway,
    run_models,
)

from pilotage_core.actions import Action, Tool
from pilotage_core.screen import ControlKind, ControlRule, ScreenSchema
from pilotage_core.stage import Stage

pytestmark = pytest.mark.skipif(
    PROGRAM is None or not INSTALLED.exists(), reason="not installed: hack/screens/setup.sh does it"
)
START = HERE.parents[1] / "examples" / "helpdesk" / "start.js"
SCHEMA = ScreenSchema(
    name="ticket",
    applies="#ticket-respond-form",
    title="h2",
    controls=(
        ControlRule("textarea", ControlKind.INPUT),
        ControlRule("#ticket-respond-form [type=radio]", ControlKind.RADIO),
        ControlRule("#ticket-respond-form select", ControlKind.SELECT),
        ControlRule("#ticket-respond-form [type=submit]", ControlKind.BUTTON),
        ControlRule("#ticketTab button", ControlKind.BUTTON),
    ),
)
SHOWN = "document.querySelector('#respond-tab-pane.show') !== null"
ADAPTS = "window.adapter?.working"


@pytest.fixture
async def world(tmp_path):
    async with AsyncExitStack() as stack:
        helpdesk = await asyncio.to_thread(stack.enter_context, run_helpdesk(tmp_path))
        models = await stack.enter_async_context(run_models())
        models.action = None
        leave = build_leave(Stage.COPILOT, models.url, screens=(SCHEMA,), rules=RULES)
        controller = StubController(build_snapshot(leave, LONG_TAIL))
        controller.write_key(tmp_path / "keys")
        url = await stack.enter_async_context(run_controller(controller))
        gateway = await stack.enter_async_context(run_gateway(f"sqlite:///{tmp_path}/g.db", url, tmp_path / "keys"))
        gateway.app.state.turns.answers.held_seconds = 0.0
        front = Front(helpdesk.address, gateway.url, START).build()
        address = await stack.enter_async_context(serve(front))
        tab = await stack.enter_async_context(run_chromium(str(PROGRAM)))
        await tab.ask("Network.setCookie", name="sessionid", value=helpdesk.cookie, url=address)
        await gateway.until_permit()
        yield World(tab, gateway, models, controller, address, {})


async def test_a_ticket_that_is_worked_is_recorded_over_its_pages(world):
    await world.open("/tickets/1/")
    await world.press("#respond-tab")
    await world.until(SHOWN)
    await world.type("#commentBox", "A new lamp is on its way.")
    await world.press("#st_resolved")
    await world.press("#ticket-respond-form [type=submit]")
    await world.until(f"document.body.textContent.includes('A new lamp is on its way') && {ADAPTS}")
    taken = await world.until_event("action_taken", "ticket-1", 4)
    assert [action for event in taken for action in event["actions"]] == [
        {"tool": "click_control", "control_id": "respond-tab"},
        {"tool": "fill_input", "control_id": "respond:comment", "value": "A new lamp is on its way."},
        {"tool": "select_radio_button", "control_id": "respond:new_status", "value": "Resolved"},
        {"tool": "click_control", "control_id": "respond:save"},
    ]
    assert {event["operator"] for event in taken} == {"staff"}
    await world.until_event("session_closed", "ticket-1")
    events = (await world.record("ticket-1"))["events"]
    assert [event["sequence"] for event in events] == list(range(len(events)))
    said = [event["data"]["text"] for event in events if event["data"]["type"] == "message_posted"]
    assert any("It broke." in text for text in said), said
    told = json.dumps(events)
    assert "csrf" not in told.lower()
    assert await world.tab.evaluate("JSON.stringify(window.pilotageProblems)") == "[]"


async def test_what_is_accepted_at_the_console_happens_in_the_helpdesk(world):
    await world.open("/tickets/2/")
    await world.press("#respond-tab")
    await world.until(SHOWN)
    world.models.action = Action(Tool.FILL_INPUT, "respond:comment", "We are looking for your parcel.")
    await world.press("#st_reopened, #st_open")
    await accept(world, session_id="ticket-2", then=Action(Tool.CLICK_CONTROL, "respond:save"))
    await world.until(SHOWN)
    await world.until_event("outcome_reported", "ticket-2")
    await accept(world, session_id="ticket-2")
    await world.until(
        f"document.querySelector('#followup-list')?.textContent.includes('We are looking for') && {ADAPTS}"
    )
    outcomes = await world.until_event("outcome_reported", "ticket-2", 2)
    assert [outcome["outcome"] for outcome in outcomes] == ["done", "done"]
    assert await world.tab.evaluate("JSON.stringify(window.pilotageProblems)") == "[]"
