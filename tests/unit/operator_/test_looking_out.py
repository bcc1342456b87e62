"""Between two looks at everything a breach is seen all the same, and nothing else is asked for."""

import json
import time

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from facts import make_bundle

from pilotage_operator.observe import prometheus as module
from pilotage_operator.observe.figures import Bounds, find_limits, merge_limits
from pilotage_operator.observe.prometheus import Prometheus, build_bounds_query, build_guardrail_query

LIMITS = find_limits(make_bundle().gate)
((WINDOW, BOUNDS),) = LIMITS
KEYS = [f"star/n{n}" for n in range(300)]


class Fake:
    """A Prometheus that knows one figure of each process cluster."""

    def __init__(self) -> None:
        self.values = dict.fromkeys(KEYS, 0.01)
        self.sessions = dict.fromkeys(KEYS, 5)
        self.asked: list[str] = []
        self.gone, self.samples, self.refuses = False, 40, "nothing"

    async def query(self, request: web.Request) -> web.Response:
        query = (await request.post())["query"]
        self.asked.append(query)
        if self.gone or self.refuses in query:
            return web.Response(status=503)
        kind = "matrix" if query.endswith("[10m]") else "vector"
        return web.Response(
            text=json.dumps({"status": "success", "data": {"resultType": kind, "result": list(self._answer(query))}})
        )

    def _answer(self, query: str):
        now = time.time()
        if query.endswith("[10m]"):
            return
        for key, value in self.values.items():
            labels = {"process_cluster": key, "pair": "r1"}
            if "__name__" in query:
                name = {"__name__": "pilotage_sessions_closed_total", "stage": "Automation"}
                yield {"metric": labels | name, "value": [now, str(self.sessions[key])]}
            elif "label_replace" not in query:
                if value >= BOUNDS.upper:
                    yield {"metric": labels, "value": [now, str(value)]}
            elif "process_cluster=~" not in query or key in query:
                for part, said in {
                    "value": value,
                    "samples": self.samples,
                    "at": now - 1,
                    "resets": 0,
                    "up": 1,
                }.items():
                    yield {"metric": labels | {"part": part}, "value": [now, str(said)]}


@pytest.fixture
async def seen():
    """A source that has looked at everything once, and rests for long."""
    fake, app = Fake(), web.Application()
    app.router.add_post("/api/v1/query", fake.query)
    async with TestServer(app) as server, ClientSession() as client:
        source = Prometheus(str(server.make_url("")), client, scrape_seconds=1.0)
        first = await source.observe_figures(dict(LIMITS))
        assert first.changed is None
        assert len(first.readings[WINDOW]) == len(first.counts) == len(KEYS)
        fake.asked.clear()
        source._cost_seconds = 1000.0
        yield fake, source


async def look(source: Prometheus):
    return await source.observe_figures(dict(LIMITS))


async def test_nothing_but_what_is_out_of_bounds_is_asked_for(seen):
    fake, source = seen
    fake.sessions[KEYS[3]] = 99
    found = await look(source)
    assert found.changed == frozenset()
    assert fake.asked == [build_bounds_query(*WINDOW, BOUNDS)]
    assert found.counts[KEYS[3]].sessions == 5, "as it was known last"


async def test_a_breach_is_seen_at_once_and_asked_for_by_name_while_it_moves(seen):
    fake, source = seen
    fake.values[KEYS[7]] = 0.5
    found = await look(source)
    assert found.changed == {KEYS[7]}
    assert found.readings[WINDOW][KEYS[7], "r1"].value == 0.5
    assert found.readings[WINDOW][KEYS[8], "r1"].value == 0.01
    assert fake.asked[-1] == build_guardrail_query(*WINDOW, [KEYS[7]])
    assert (await look(source)).changed == frozenset(), "known already"
    fake.samples = 4000
    assert (await look(source)).changed == {KEYS[7]}, "the same rate, of more"
    fake.values[KEYS[7]] = 0.01
    found = await look(source)
    assert found.changed == {KEYS[7]}, "it has recovered"
    assert found.readings[WINDOW][KEYS[7], "r1"].value == 0.01


async def test_a_window_that_cannot_be_read_costs_no_other_its_readings(seen):
    fake, source = seen
    wide = (WINDOW[0], 86_400)
    wanted = {WINDOW: BOUNDS, wide: BOUNDS}
    fake.refuses = "[86400s]"
    found = await source.observe_figures(wanted)
    assert not found.fault
    assert found.faults.keys() == {wide}
    for _ in range(3):
        found = await source.observe_figures(wanted)
        assert not found.fault
        assert (found.faults.keys(), found.readings.keys()) == ({wide}, {WINDOW})
        assert found.changed == frozenset()


async def test_where_many_are_out_of_bounds_everything_is_looked_at(seen, monkeypatch):
    monkeypatch.setattr(module, "MOST_SUSPECTS", 200)
    fake, source = seen
    fake.values |= dict.fromkeys(KEYS[:250], 0.9)
    found = await look(source)
    assert found.changed == set(KEYS[:250])
    assert any("__name__" in query for query in fake.asked)


@pytest.mark.parametrize("change", ["rested", "another window"])
async def test_everything_is_looked_at_again_after_a_rest_and_where_something_else_is_asked_for(seen, change):
    fake, source = seen
    fake.sessions[KEYS[3]] = 99
    wanted = dict(LIMITS)
    if change == "rested":
        source._cost_seconds = 0.0
    else:
        wanted[WINDOW[0], 77] = BOUNDS
    found = await source.observe_figures(wanted)
    assert KEYS[3] in found.changed
    assert found.readings.keys() == wanted.keys()


async def test_a_prometheus_that_is_gone_is_told_each_time_and_what_comes_back_is_looked_at_whole(seen):
    fake, source = seen
    fake.gone = True
    assert (await look(source)).fault
    assert (await look(source)).fault
    fake.gone = False
    fake.sessions[KEYS[3]] = 99
    source._cost_seconds = 0.0
    assert (await look(source)).counts[KEYS[3]].sessions == 99


def test_bounds_are_the_narrowest_that_any_gate_sets():
    one, other = ((WINDOW, Bounds(upper=0.3)),), ((WINDOW, Bounds(upper=0.2, lower=0.1)),)
    assert merge_limits([one, other, one]) == {WINDOW: Bounds(upper=0.2, lower=0.1)}
    assert build_bounds_query(*WINDOW, Bounds(upper=0.2, lower=0.1)).count(" or ") == 1


def test_a_name_is_no_pattern():
    query = build_guardrail_query(*WINDOW, ["a.b/c"])
    assert 'process_cluster=~"a\\\\.b/c"' in query
