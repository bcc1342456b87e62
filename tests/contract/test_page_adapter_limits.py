"""What the page adapter must not do: claim what it cannot do, let secrets out, lend its credential. In Chromium."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from adapter_world import PAGE, PROGRAM, World, action_json, open_world
from helpdesk_server import INSTALLED
from yarl import URL

from pilotage_core.actions import Action, Tool

pytestmark = pytest.mark.skipif(
    PROGRAM is None or not INSTALLED.exists(), reason="not installed: hack/screens/setup.sh does it"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as world:
        yield world


@pytest.mark.parametrize(
    ("page", "action"),
    [
        ("<fieldset disabled><button data-control-id=b>B</button></fieldset>", Action(Tool.CLICK_CONTROL, "b")),
        ("<label><input type=radio name=r value=x>Refund</label>", Action(Tool.SELECT_RADIO_BUTTON, "r", "No refund")),
        ("<select multiple name=s><option>A<option selected>B</select>",
         Action(Tool.SELECT_ELEMENT_IN_SELECT, "s", "A")),
        ("<button data-control-id=b>B</button><button data-control-id=b>B</button>", Action(Tool.CLICK_CONTROL, "b")),
        ("<button data-control-id=b>B</button><dialog>d</dialog>"
         "<script>document.querySelector('dialog').showModal()</script>", Action(Tool.CLICK_CONTROL, "b")),
        ("<input name=i readonly value=v>", Action(Tool.FILL_INPUT, "i", "w")),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_not_claimed_and_changes_nothing(world, page, action):
    """By the adapter itself: the gate would have stopped most of it."""
    world.pages["/"] = lambda: f"<!doctype html><body>{page}</body>"
    await world.open("/")
    script = f"""import("/pilotage-adapter/perform.js").then(async m => {{
      let clicks = 0;
      document.addEventListener('click', () => clicks++, true);
      const before = document.body.innerHTML;
      const said = await m.perform({json.dumps(action_json(action))}, {{}}).then(() => 'done', e => e.constructor.name);
      return [said, clicks, document.body.innerHTML === before].join();
    }})"""
    assert await world.tab.evaluate(script) == "CannotError,0,true"


async def test_secrets_and_what_is_ignored_never_leave_the_page(world):
    world.pages["/"] = lambda: PAGE.replace(
        "<h1>",
        "<div id=host></div><script>const r = document.querySelector('#host').attachShadow({mode: 'open'});"
        "r.innerHTML = '<p class=theirs>other people</p><button>In the shadow</button>'</script>"
        "<input id=pw type=password value=hunter2><input autocomplete=one-time-code value=998877><h1>",
    )
    await world.open("/")
    await world.until_event("screen_shown")
    await world.tab.evaluate(
        "document.querySelector('#pw').type = 'text', document.querySelector('h1').textContent = 'Shown'"
    )
    html = await world.tab.evaluate(
        "import('/pilotage-adapter/screen.js').then(m => m.takeScreen(document, {ignore: '.theirs'}))"
    )
    assert "In the shadow" in html
    assert not {"hunter2", "998877", "other people", "1234"} & set(html.replace("<", " ").replace('"', " ").split())


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/pilotage/v1/sessions/..%2f..%2fconsole%2fstop", {}, 404),
        ("POST", "/pilotage/v1/sessions/%2e%2e/events", {}, 404),
        ("GET", "/pilotage/v1/status", {}, 404),
        ("GET", "/pilotage/v1/sessions/case-1/events", {}, 404),
        ("POST", "/pilotage/v1/sessions/case-1/events", {"Origin": "https://evil.example"}, 403),
        ("POST", "/pilotage/v1/sessions/case-1/events", {"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_the_front_s_credential_is_for_its_own_pages_and_paths(world, method, path, headers, status):
    async with world.gateway.client.request(
        method, URL(world.address + path, encoded=True), headers=headers, data=b"{}" if method == "POST" else None
    ) as answer:
        assert answer.status == status
