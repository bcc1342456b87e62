"""Guardrails against a Prometheus that scrapes seldom: an hour of sweeps, a second each, through its real query API."""

import json

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from facts import make_bundle

from pilotage_core.guardrail import GuardrailVerdict
from pilotage_core.stage import Stage
from pilotage_operator.api.status import GuardrailReading
from pilotage_operator.decide.guardrails import decide_findings, find_breaches, has_missing_data, readings_of
from pilotage_operator.facts import MonitorFact
from pilotage_operator.observe import prometheus as module
from pilotage_operator.observe.figures import find_limits, select_readings
from pilotage_operator.observe.prometheus import Prometheus

START = 1_800_000_000.0


class Fake:
    """A Prometheus whose clock a test turns: scrapes every `scrape` seconds, fails `failing` of them."""

    def __init__(self, scrape: float, rate: float = 0.5) -> None:
        self.scrape, self.rate, self.now = scrape, rate, START
        self.failing = lambda number: False
        self.gone = self.empty = False
        self.knows_ranges = True

    def last_scrape(self) -> float:
        number = int((self.now - START) // self.scrape)
        while number > 0 and self.failing(number):
            number -= 1
        return START + number * self.scrape

    async def query(self, request: web.Request) -> web.Response:
        if self.gone:
            return web.Response(status=503)
        query = (await request.post())["query"]
        if query.endswith("[10m]"):
            if not self.knows_ranges:
                return web.json_response({"status": "error", "error": "bad_data"}, status=400)
            times = [START + n * self.scrape for n in range(int((self.now - START) // self.scrape) + 1)]
            return self._say("matrix", [{"metric": {}, "values": [[t, "1"] for t in times[-40:]]}])
        labels = {"process_cluster": "star/one", "pair": "r1"}
        parts = {"value": self.rate, "samples": 100, "at": self.last_scrape(), "resets": 0, "up": 1}
        if "__name__" in query or self.empty:
            parts = {}
        found = [{"metric": labels | {"part": p}, "value": [self.now, str(v)]} for p, v in parts.items()]
        return self._say("vector", found)

    def _say(self, kind: str, result: list) -> web.Response:
        return web.Response(text=json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}))


@pytest.fixture
async def play(monkeypatch):
    """`await play(fake, for_seconds, until, …)`: sweeps; gives (second, what happened) of the first thing that did."""
    async with ClientSession() as client:
        servers = []

        async def run(fake, for_seconds=0, window=300, sweeps=3600, at=lambda second: None, restart_at=None, grace=60):
            app = web.Application()
            app.router.add_post("/api/v1/query", fake.query)
            server = TestServer(app)
            await server.start_server()
            servers.append(server)
            monkeypatch.setattr(module.time, "time", lambda: fake.now)
            monkeypatch.setattr(module.time, "monotonic", lambda: fake.now)
            source = Prometheus(str(server.make_url("")).rstrip("/"), client)
            guard = {**GUARD, "forSeconds": for_seconds, "windowSeconds": window, "graceSeconds": grace}
            bundle = make_bundle(gate={"guardrails": [guard]})
            status: tuple[GuardrailReading, ...] = ()
            seen = []
            for second in range(sweeps):
                fake.now = START + 600 + second
                at(second)
                if second == restart_at:
                    source = Prometheus(str(server.make_url("")).rstrip("/"), client)
                    status = tuple(GuardrailReading.model_validate(r.to_json()) for r in status)
                figures = await source.observe_figures(dict(find_limits(bundle.gate)))
                readings = select_readings(bundle, "r1", figures, MonitorFact())
                findings = decide_findings(bundle.gate, readings, status, fake.now)
                status = readings_of(bundle.gate, findings)
                seen.append(findings[0].verdict)
                if find_breaches(bundle.gate, findings, Stage.AUTOMATION):
                    return second, "rolled back", seen
                if has_missing_data(bundle.gate, findings, Stage.AUTOMATION) and "capped" not in seen:
                    seen.append("capped")
            return None, "nothing", seen

        yield run
        for server in servers:
            await server.close()


GUARD = {
    "name": "corrections", "builtin": "CorrectiveInterventionRate", "comparator": ">", "threshold": "0.3",
    "minSamples": 20,
}  # fmt: skip


@pytest.mark.parametrize("knows_ranges", [True, False])
@pytest.mark.parametrize("scrape", [5, 15, 30, 60])
@pytest.mark.parametrize("for_seconds", [0, 15, 30])
async def test_a_share_that_stays_breached_rolls_back_however_seldom_is_scraped(
    play, scrape, for_seconds, knows_ranges
):
    fake = Fake(scrape)
    fake.knows_ranges = knows_ranges
    second, what, seen = await play(fake, for_seconds, sweeps=400)
    assert what == "rolled back"
    assert second <= for_seconds + 1
    assert GuardrailVerdict.MISSING not in seen


async def test_every_second_scrape_may_fail(play):
    fake = Fake(15)
    fake.failing = lambda number: number % 2 == 1
    second, what, seen = await play(fake, 30, sweeps=200)
    assert (what, second) == ("rolled back", 30)
    assert GuardrailVerdict.MISSING not in seen


async def test_a_gap_does_not_begin_the_time_anew(play):
    fake = Fake(15)

    def gap(second):
        fake.empty = 20 <= second < 50

    second, what, seen = await play(fake, 30, sweeps=200, at=gap)
    assert (what, second) == ("rolled back", 50)
    assert "capped" not in seen
    assert GuardrailVerdict.MISSING in seen


async def test_a_long_gap_caps_and_lifts_by_itself(play):
    fake = Fake(15, rate=0.1)

    def gone(second):
        fake.gone = 20 <= second < 90

    _, what, seen = await play(fake, 30, sweeps=120, at=gone)
    assert what == "nothing"
    assert "capped" in seen
    assert seen[-1] is GuardrailVerdict.HEALTHY


async def test_one_healthy_reading_begins_the_time_anew(play):
    fake = Fake(15)

    def heal(second):
        fake.rate = 0.1 if second == 20 else 0.5

    second, what, _ = await play(fake, 30, sweeps=200, at=heal)
    assert (what, second) == ("rolled back", 51)


async def test_a_controller_that_restarts_in_between_changes_nothing(play):
    assert (await play(Fake(15), 30, sweeps=200, restart_at=17))[0] == 30


async def test_what_has_reported_before_and_is_gone_is_missing_however_it_went(play):
    fake = Fake(15, rate=0.1)

    def fade(second):
        fake.rate = float("nan") if 20 <= second < 30 else 0.1
        fake.empty = second >= 30

    _, _, seen = await play(fake, 0, sweeps=100, at=fade)
    assert "capped" in seen
    assert seen[-1] is GuardrailVerdict.MISSING


async def test_a_window_that_can_never_measure_is_missing_and_says_so_instead_of_waiting_for_ever(play):
    _, what, seen = await play(Fake(30), 0, window=30, sweeps=100)
    assert what == "nothing"
    assert "capped" in seen
