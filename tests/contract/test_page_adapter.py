"""The page adapter in a real browser, against a real gateway: what is recorded, what is ordered, and what happens.

Pages: one of the simulator's desk, and one whose ids change on each load. Applications nobody here wrote: form-js, and
django-helpdesk (test_helpdesk.py). hack/screens/setup.sh installs what they need.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from adapter_world import (
    PAGE,
    PAGES,
    PROGRAM,
    World,
    accept,
    action_json,
    open_world,
)
from helpdesk_server import INSTALLED
from stubs.gateway import (
    build_certificate,
    until,
)

from pilotage_core.actions import Action, Tool
from pilotage_core.stage import Stage

pytestmark = pytest.mark.skipif(
    PROGRAM is None or not INSTALLED.exists(), reason="not installed: hack/screens/setup.sh does it"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
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
    left = json.dumps({"order": order, "done": done})
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


async def test_an_edit_is_done_once_however_often_its_page_loads(world):
    world.models.action = Action(Tool.SEND_TEXT_TO_CHAT, text="Hello")
    loads = "sessionStorage.n = 1 + Number(sessionStorage.n ?? 0); setTimeout(() => location.reload(), 30)"
    world.pages["/"] = lambda: PAGE.replace("log('sent '", f"{loads}; log('sent '")
    await world.open("/")
    await world.until_event("screen_shown")
    await accept(world, text="Hello Ann")
    await world.until_event("feedback_given")
    await world.until("window.adapter?.working")
    await world.open("/")
    await world.type("[name=city]", "Rome")
    await world.until_event("action_taken", number=2)
    assert await world.tab.evaluate("sessionStorage.n") == "1"
    kinds = [event["data"]["type"] for event in (await world.record())["events"]]
    assert kinds.count("feedback_given") == 1


async def let_it_run(world: World) -> None:
    """Certified, with nobody asked: from now on what the model proposes is ordered."""
    certificates = {"procedure": build_certificate(0.8, stratum="procedure")}
    world.publish(Stage.AUTOMATION, finalizing_by_human=False, certificates=certificates)
    permits = world.gateway.app.state.turns.permits
    await until(lambda: getattr(permits.leave_of("star/bookings"), "stage", "") == Stage.AUTOMATION)


async def test_what_changes_while_a_model_is_asked_makes_its_order_stale(world):
    world.models.action, world.models.delay = Action(Tool.CLICK_CONTROL, "submit-booking"), 0.6
    await let_it_run(world)
    await world.open("/")
    await until(lambda: bool(world.models.prompts))
    said = "<p class=customer>STOP, do not book!</p>"
    await world.tab.evaluate(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(said)})")
    await until(lambda: len(world.models.prompts) > 1)
    world.models.action = None
    [outcome] = await world.until_event("outcome_reported")
    assert (outcome["outcome"], "stale-state" in outcome["error"]) == ("refused", True)
    assert await world.tab.evaluate("document.querySelectorAll('.done').length") == 0


async def test_an_order_of_one_case_never_runs_in_the_next(world):
    world.models.action, world.models.delay = Action(Tool.SEND_TEXT_TO_CHAT, text="Your PIN is 1"), 0.6
    await let_it_run(world)
    await world.open("/")
    await until(lambda: bool(world.models.prompts))
    await world.tab.evaluate("window.caseId = 'case-2'; document.querySelector('h1').textContent = 'Bob'")
    await until(lambda: len(world.models.prompts) > 1)
    world.models.action = None
    await world.until_event("screen_shown", "case-2")
    [outcome] = await world.until_event("outcome_reported")
    assert outcome["outcome"] == "refused"
    assert await world.tab.evaluate("document.querySelectorAll('.done').length") == 0
    assert "Bob" not in json.dumps((await world.record())["events"])


async def test_a_case_whose_page_is_gone_is_told_by_the_next_page(world):
    await world.open("/")
    await world.until_event("screen_shown")
    world.gateway.app.state.turns.live.forget("case-1")
    world.pages["/list"] = lambda: PAGE.replace("<h1>", "<script>window.caseId = 'case-9'</script><h1>")
    left = {"type": "session_closed", "closing": "closed"}
    event = {"id": "last", "sequence": 99, "at": "2026-03-01T10:00:00+01:00", "data": left, "source": "page"}
    await world.tab.evaluate(
        "(() => {window.adapter.stop(); const k = 'pilotage:session:case-1', s = JSON.parse(localStorage.getItem(k));"
        f"s.events.push({{...{json.dumps(event)}, sequence: s.sequence++}});"
        "localStorage.setItem(k, JSON.stringify(s))})()"
    )
    await world.open("/list")
    await world.until_event("session_closed")


async def test_after_its_end_a_case_s_page_may_change_and_the_next_case_is_recorded(world):
    await world.open("/")
    await world.until_event("screen_shown")
    await world.tab.evaluate("window.closedAs = 'closed', document.querySelector('h1').textContent = 'Over'")
    await world.until_event("session_closed")
    await world.tab.evaluate("document.querySelector('h1').textContent = 'Still over'")
    await world.type("[name=city]", "Rome")
    await world.open("/")
    await world.tab.evaluate("window.closedAs = 'closed', document.querySelector('h1').textContent = 'Over'")
    await world.tab.evaluate("window.closedAs = '', window.caseId = 'case-2'")
    await world.until_event("screen_shown", "case-2")
    events = (await world.record())["events"]
    assert [event["data"]["type"] for event in events][-1] == "session_closed"
    assert "sequence" not in await world.tab.evaluate("JSON.stringify(window.problems)")


async def test_a_page_between_two_views_and_a_refused_event_cost_nothing_else(world):
    await world.open("/")
    await world.until_event("screen_shown")
    await world.tab.evaluate("window.broken = true")
    await world.until("!window.adapter.working")
    await world.tab.evaluate("window.broken = false, window.who = ''")
    await world.until("window.adapter.working")
    await world.type("[name=city]", "Rome")
    await world.until("window.problems.length > 0")
    await world.tab.evaluate("window.who = 'ann'")
    await world.type("[name=city]", "Oslo")
    [taken] = await world.until_event("action_taken")
    assert taken["operator"] == "ann"
    assert "nobody's name" in await world.tab.evaluate("window.problems.join()")


async def test_a_page_that_never_rests_is_recorded_all_the_same(world):
    world.pages["/"] = lambda: PAGE.replace(
        "<script>", "<script>setInterval(() => document.body.dataset.t = Date.now(), 20);"
    )
    await world.open("/")
    await world.until_event("screen_shown")
    await world.type("[name=city]", "Rome")
    await world.until_event("action_taken")


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
    await world.until_event("screen_shown", number=2)  # with what was typed
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
