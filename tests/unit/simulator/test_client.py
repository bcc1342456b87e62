"""The gateway over HTTP: what each kind of answer means to a session; and the example's screens."""

import json

import aiohttp
import msgspec
import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner

from pilotage_core.errors import InvalidEventError, UnavailableError
from pilotage_core.problem import describe_problem
from pilotage_core.screen import ScreenSchema
from pilotage_core.stage import Stage
from pilotage_core.wire import Pace, PostEvents, Turn
from pilotage_simulator.client import HttpGateway, SequenceConflict
from pilotage_simulator.desk.screens import SCHEMA as DESK_SCHEMA
from pilotage_simulator.main import app
from pilotage_simulator.pacer import ControllerWishes
from pilotage_simulator.screens import SCHEMAS
from pilotage_simulator.star import CHECKOUT

TURN = Turn("s-1", "star/information", 3, Stage.LOGGING, "observe", "stage-logging")


@pytest.fixture
async def serve():
    """`url, http = await serve(status, body)`."""
    closing = []

    async def _serve(status, body):
        async def answer(request):
            return web.Response(status=status, body=body, content_type="application/json")

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        http = aiohttp.ClientSession()
        closing.extend([http.close, runner.cleanup])
        return f"http://127.0.0.1:{runner.addresses[0][1]}", http

    yield _serve
    for close in closing:
        await close()


async def test_a_turn_is_read(serve):
    url, http = await serve(200, msgspec.json.encode(TURN))
    assert await HttpGateway(url, http).post("s-1", PostEvents(())) == TURN


@pytest.mark.parametrize(
    ("status", "problem", "error"),
    [
        (
            409,
            describe_problem("ConflictError", 400, "x", "sequence", "the next event has sequence 12"),
            SequenceConflict,
        ),
        (422, describe_problem("InvalidEventError", 400, "no such field", "events[0]"), InvalidEventError),
        (413, describe_problem("TooLarge", 400, "too large"), InvalidEventError),
        (503, describe_problem("UnavailableError", 400, "later"), UnavailableError),
        (500, describe_problem("InternalError", 400, "a fault"), UnavailableError),
        (429, describe_problem("Busy", 400, "later"), UnavailableError),
    ],
)
async def test_a_problem_is_an_error_of_its_kind(serve, status, problem, error):
    url, http = await serve(status, msgspec.json.encode(problem))
    with pytest.raises(error, match=problem.detail) as raised:
        await HttpGateway(url, http).post("s-1", PostEvents(()))
    if isinstance(raised.value, SequenceConflict):
        assert raised.value.expected == 12


@pytest.mark.parametrize(("status", "body"), [(200, b"<html>"), (502, b"Bad gateway")])
async def test_an_answer_that_is_none_is_unavailability(serve, status, body):
    url, http = await serve(status, body)
    with pytest.raises(UnavailableError):
        await HttpGateway(url, http).post("s-1", PostEvents(()))


async def test_nobody_listening_is_unavailability():
    async with aiohttp.ClientSession() as http:
        with pytest.raises(UnavailableError):
            await HttpGateway("http://127.0.0.1:9", http).post("s-1", PostEvents(()))
        with pytest.raises(UnavailableError):
            await ControllerWishes("http://127.0.0.1:9", http).fetch()


async def test_the_controllers_list_is_read_by_key(serve):
    listed = [Pace("information", "star", Stage.COPILOT, "", "Critic", False)]
    url, http = await serve(200, msgspec.json.encode(listed))
    found = await ControllerWishes(url, http).fetch()
    assert not found["star/information"].wants_sessions


async def test_a_list_without_what_is_wanted_is_no_list(serve):
    item = msgspec.to_builtins(Pace("information", "star", Stage.COPILOT, "", "Critic", False))
    del item["wants_sessions"]
    url, http = await serve(200, json.dumps([item]).encode())
    with pytest.raises(UnavailableError, match="wants_sessions"):
        await ControllerWishes(url, http).fetch()


@pytest.mark.parametrize(
    ("example", "schemas", "options"), [("star", SCHEMAS, ()), ("desk", (DESK_SCHEMA,), ("--desk",))]
)
def test_the_examples_screens_are_those_of_the_simulator(example, schemas, options):
    manifest = yaml.safe_load((CHECKOUT / "examples" / example / "screens.yaml").read_text())
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("ConfigMap", f"{example}-screens")
    assert msgspec.json.decode(manifest["data"]["schemas.json"], type=tuple[ScreenSchema, ...]) == schemas
    printed = CliRunner().invoke(app, ["schemas", *options])
    assert json.loads(printed.stdout) == json.loads(manifest["data"]["schemas.json"])


def test_a_mistake_of_the_user_is_said_in_one_line(tmp_path):
    shown = CliRunner().invoke(
        app, ["run", "--gateway", "http://x", "--plan", str(tmp_path / "p.yaml"), "--ledger", str(tmp_path / "l")]
    )
    assert shown.exit_code == 2
    assert "cannot be read" in shown.output
