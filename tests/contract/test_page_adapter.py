"""The page adapter in a real browser, against a real gateway: what is recorded, what is ordered, and what happens.

Pages: one of the simulator's desk, and one whose ids change on each load. Applications nobody here wrote: form-js, and
django-helpdesk (test_helpdesk.py). hack/screens/setup.sh installs what they need.
"""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import msgspec
import pytest
from adapter_world import (
    ADAPTER,
    HERE,
    PAGE,
    PAGES,
    PROGRAM,
    Front,
    World,
    accept,
    action_json,
    serve,
    visit,
)
from aiohttp import web
from chromium import run_chromium
from helpdesk_server import INSTALLED
from stubs.gateway import (
    LONG_TAIL,
    StubController,
    build_certificate,
    build_snapshot,
    run_controller,
    run_gateway,
    run_models,
)

from pilotage.conformance import PROBES
from pilotage.conformance_server import hear_adapter
from pilotage_core.actions import Action, Tool
from pilotage_core.permit import FenceFacts, FenceFault, find_fence_fault
from pilotage_core.stage import Stage
from pilotage_core.wire import Order

pytestmark = pytest.mark.skipif(
    PROGRAM is None or not INSTALLED.exists(), reason="not installed: hack/screens/setup.sh does it"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
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


async def test_what_an_operator_does_is_recorded_as_actions(world):
    await world.open("/")
    await world.until_event("screen_shown")
    await world.type("[name=city]", "Zürich 😀")
    await world.press("[name=meal][value=h]")
    await world.press("[name=late]")
    await world.type("#reply", "Done, thanks.")
    await world.press("#send")
    taken = await world.until_event("action_taken", number=4)
    actions = [action for event in taken for action in event["actions"]]
    assert actions == [
        {"tool": "fill_input", "control_id": "city", "value": "Zürich 😀"},
        {"tool": "select_radio_button", "control_id": "meal", "value": "Half board"},
        {"tool": "click_control", "control_id": "late"},
        {"tool": "send_text_to_chat", "text": "Done, thanks."},
    ]
    assert {event["operator"] for event in taken} == {"ann"}
    screen = (await world.until_event("screen_shown"))[0]["screen"]
    told = json.dumps(screen)
    assert "1234" not in told
    delete = next(c for c in screen["controls"] if c["label"] == "Delete account")
    assert delete["visible"] is False


@pytest.mark.parametrize(
    ("action", "shows"),
    [
        (Action(Tool.FILL_INPUT, "city", "Rome"), "document.querySelector('[name=city]').value === 'Rome'"),
        (Action(Tool.SELECT_ELEMENT_IN_SELECT, "stars", "3"), "document.querySelector('select').value === '3'"),
        (Action(Tool.SELECT_RADIO_BUTTON, "meal", "Half board"), "document.querySelector('[value=h]').checked"),
        (Action(Tool.CLICK_CONTROL, "submit-booking"), "document.querySelector('.done')?.textContent === 'booked '"),
        (Action(Tool.SEND_TEXT_TO_CHAT, text="Hi"), "document.querySelector('.done')?.textContent === 'sent Hi'"),
        (Action(Tool.CLOSE_CHAT), "document.querySelector('.done')?.textContent === 'closed'"),
    ],
    ids=lambda value: value.tool.value if isinstance(value, Action) else "",
)
async def test_what_is_certified_happens_in_the_page_once(world, action, shows):
    world.models.action = action
    world.publish(
        Stage.AUTOMATION,
        finalizing_by_human=False,
        certificates={"procedure": build_certificate(0.8, stratum="procedure")},
    )
    await world.open("/")
    await world.until(shows)
    [outcome] = (await world.until_event("outcome_reported"))[:1]
    assert outcome["outcome"] == "done"
    record = await world.record()
    assert record["proposals"][0]["action"] == action_json(action)
    assert not any(e["data"]["type"] == "action_taken" for e in record["events"])


async def test_an_accept_at_the_console_happens_in_the_page(world):
    world.models.action = Action(Tool.CLICK_CONTROL, "submit-booking")
    await world.open("/")
    await world.until_event("screen_shown")
    await accept(world)
    await world.until("document.querySelector('.done')?.textContent === 'booked '")
    [outcome] = await world.until_event("outcome_reported")
    assert outcome["outcome"] == "done"


async def test_an_edit_at_the_console_is_what_happens_in_the_page(world):
    world.models.action = Action(Tool.SEND_TEXT_TO_CHAT, text="Hello")
    await world.open("/")
    await world.until_event("screen_shown")
    await accept(world, text="Hello Ann")
    await world.until("document.querySelector('.done')?.textContent === 'sent Hello Ann'")
    [said] = await world.until_event("feedback_given")
    [taken] = await world.until_event("action_taken")
    assert (said["verdict"], taken["actions"]) == ("edit", [{"tool": "send_text_to_chat", "text": "Hello Ann"}])
    assert await world.tab.evaluate("document.querySelectorAll('.done').length") == 1


async def test_a_reload_and_a_second_tab_number_no_event_twice(world):
    await world.open("/")
    await world.until_event("screen_shown")
    second = await world.tab.evaluate("(() => { window.open('/'); return true })()")
    assert second
    await world.type("[name=city]", "Rome")
    await world.until_event("action_taken")
    await world.open("/")
    await world.type("[name=city]", "Oslo")
    await world.until_event("action_taken", number=2)
    events = (await world.record())["events"]
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert sum(event["data"]["type"] == "session_opened" for event in events) == 1
    assert await world.tab.evaluate("JSON.stringify(window.problems)") == "[]"


async def test_a_page_whose_memory_was_cleared_goes_on_where_the_gateway_is(world):
    await world.open("/")
    await world.until_event("screen_shown")
    await world.tab.evaluate("window.adapter.stop(), localStorage.clear()")
    await world.open("/")
    await world.type("[name=city]", "Rome")
    await world.until_event("action_taken")
    events = (await world.record())["events"]
    assert sum(event["data"]["type"] == "session_opened" for event in events) == 1


@pytest.mark.parametrize(("done", "outcome"), [(False, "ambiguous"), (True, "done")])
async def test_a_page_that_went_while_it_acted_is_told_of_by_the_next(world, done, outcome):
    world.models.action = Action(Tool.CLICK_CONTROL, "submit-booking")
    await world.open("/")
    await world.until_event("screen_shown")
    await accept(world)
    [told] = await world.until_event("outcome_reported")
    order = {"proposal_id": told["proposal_id"], "idempotency_key": told["idempotency_key"]}
    left = json.dumps({"order": order, "begun": True, "done": done})
    await world.tab.evaluate(
        f"window.adapter.stop(), localStorage.setItem('pilotage:doing:case-1', {json.dumps(left)})"
    )
    await world.open("/")
    assert (await world.until_event("outcome_reported", number=2))[1]["outcome"] == outcome


async def test_a_click_that_leads_to_another_page_is_told_there(world):
    world.models.action = Action(Tool.CLICK_CONTROL, "submit-booking")
    moves = "() => { location.assign('/booked') }, () => log('booked '"
    world.pages["/"] = lambda: PAGE.replace("() => log('booked '", moves)
    world.pages["/booked"] = lambda: PAGE.replace("Booking</h1>", "Booked</h1>")
    await world.open("/")
    await world.until_event("screen_shown")
    await accept(world)
    [told] = await world.until_event("outcome_reported")
    assert told["outcome"] == "done"
    assert await world.tab.evaluate("location.pathname") == "/booked"


async def test_generated_ids_are_called_the_same_on_every_load(world):
    chance, page = Random(7), (PAGES / "generated.html").read_text()
    world.pages["/"] = lambda: page.format(chance.randrange(10**8))
    seen = []
    for number in (1, 2):
        await world.open("/")
        await world.type("[aria-label=Note]", f"n{number}")
        await world.until_event("action_taken", number=number)
        shown = (await world.until_event("screen_shown"))[-1]["screen"]
        seen.append({control["control_id"] for control in shown["controls"]})
    assert seen[0] == seen[1] == {"input:order-number", "field:note", "button:save-it"}


async def test_form_js_is_read_recorded_and_filled(world):
    await world.open("/form-js/form.html", settle="window.ready")
    screen = (await world.until_event("screen_shown"))[-1]["screen"]
    can = [c for c in screen["controls"] if c["kind"] == "input" and c.get("visible", True) and c.get("enabled", True)]
    field = next(c for c in can if not c.get("readonly") and c["label"] == "Note")
    world.models.action = Action(Tool.FILL_INPUT, field["control_id"], "by the model")
    await world.type(f"#{await find_id(world, field['label'])}", "by hand")
    [taken] = await world.until_event("action_taken")
    [action] = taken["actions"]
    assert (action["tool"], action["control_id"]) == ("fill_input", field["control_id"])
    assert action["value"].endswith("by hand")
    await accept(world)
    [outcome] = await world.until_event("outcome_reported")
    assert outcome["outcome"] == "done"
    assert (
        await world.tab.evaluate(f"document.querySelector('#{await find_id(world, field['label'])}').value")
        == "by the model"
    )


async def find_id(world: World, label: str) -> str:
    """The id that form-js has made up for a field this time."""
    script = f"[...document.querySelectorAll('label')].find(l => l.textContent.startsWith({json.dumps(label)})).htmlFor"
    return str(await world.tab.evaluate(script))


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
