"""Figures as they are read: queries, counts, and everything about an answer that makes a guardrail Missing."""

import json
import math

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from facts import make_bundle

from pilotage_core.guardrail import GuardrailVerdict, Reading, decide_verdict
from pilotage_operator.api.automation_gate import BuiltIn
from pilotage_operator.decide.guardrails import rule_of
from pilotage_operator.facts import MonitorFact
from pilotage_operator.observe.figures import Bounds, Figures, Sample, find_limits, read_counts, select_readings
from pilotage_operator.observe.gateway_metrics import GatewayMetrics, parse_samples
from pilotage_operator.observe.prometheus import (
    Prometheus,
    PrometheusFault,
    build_counts_query,
    build_guardrail_query,
    read_guardrail,
    read_samples,
    read_scrape_seconds,
    read_vector,
)

RATE = BuiltIn.CORRECTIVE_INTERVENTION_RATE
AT = 1_800_000_000.0
ONE = ("star/one", "r1")


def answer(*series: tuple[dict, str], **extra: object) -> bytes:
    result = [{"metric": labels, "value": [AT, value]} for labels, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}} | extra).encode()


def parts(at: float = AT, pair: str = "r1", **values: str) -> list[tuple[dict, str]]:
    labels = {"process_cluster": "star/one", "pair": pair}
    found = [(labels | {"part": part}, value) for part, value in values.items()]
    return [*found, (labels | {"part": "at"}, str(at))]


def read(vector, scrape_seconds: float = 1.0, window_seconds: float = 300.0):
    return read_guardrail(vector, scrape_seconds=scrape_seconds, window_seconds=window_seconds)


def verdict(reading: Reading | None) -> GuardrailVerdict:
    return decide_verdict(rule_of(make_bundle().gate.guardrails[0]), reading, ever_reported=True)[0]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (parts(value="0.1", samples="40"), GuardrailVerdict.HEALTHY),
        (parts(value="0.31", samples="40"), GuardrailVerdict.BREACHED),
        (parts(value="0.31", samples="19"), GuardrailVerdict.INSUFFICIENT),
        (parts(value="NaN", samples="0"), GuardrailVerdict.INSUFFICIENT),
        (parts(value="NaN", samples="40"), GuardrailVerdict.MISSING),
        (parts(value="+Inf", samples="40"), GuardrailVerdict.MISSING),
        (parts(value="-Inf", samples="40"), GuardrailVerdict.MISSING),
        (parts(value="0.1", samples="NaN"), GuardrailVerdict.MISSING),
        (parts(value="0.1", samples="+Inf"), GuardrailVerdict.MISSING),
        (parts(samples="40"), GuardrailVerdict.MISSING),
        (parts(at=AT - 11, value="0.1", samples="40"), GuardrailVerdict.MISSING),
        (parts(at=AT - 9, value="0.1", samples="40"), GuardrailVerdict.HEALTHY),
        (parts(at=math.nan, value="0.1", samples="40"), GuardrailVerdict.MISSING),
        (parts(value="0.1", samples="40")[:2], GuardrailVerdict.MISSING),
        (parts(value="0.1", samples="40") + parts(value="0.2", samples="40"), GuardrailVerdict.MISSING),
        (parts(), GuardrailVerdict.INSUFFICIENT),
        (parts(value="0.1"), GuardrailVerdict.MISSING),
        (parts(value="-0.1", samples="40"), GuardrailVerdict.MISSING),
        (parts(at=AT + 4000, value="0.1", samples="40"), GuardrailVerdict.MISSING),
        (parts(value="0.1", samples="40", resets="0", up="1"), GuardrailVerdict.HEALTHY),
        (parts(value="0.1", samples="40", resets="1"), GuardrailVerdict.MISSING),
        (parts(value="0.1", samples="40", up="0"), GuardrailVerdict.MISSING),
    ],
)
def test_only_one_fresh_finite_number_is_ever_believed(series, expected):
    assert verdict(read(read_vector(answer(*series)))[ONE]) is expected


@pytest.mark.parametrize(
    ("scrape", "age", "believed"),
    [(1, 9, True), (1, 11, False), (5, 14, True), (5, 16, False), (15, 34, True), (15, 36, False), (30, 64, True),
     (30, 66, False), (60, 124, True), (60, 126, False)],
)  # fmt: skip
def test_what_is_stale_goes_by_how_often_is_scraped(scrape, age, believed):
    reading = read(read_vector(answer(*parts(at=AT - age, value="0.1", samples="40"))), scrape)[ONE]
    assert (verdict(reading) is GuardrailVerdict.HEALTHY) is believed


def test_a_window_that_holds_no_two_scrapes_says_how_long_it_has_to_be():
    reading = read(read_vector(answer(*parts(value="0.1", samples="40"))), 30, 30)[ONE]
    assert "60 s or more" in reading.fault


def test_a_series_that_is_gone_is_missing():
    assert read(read_vector(answer())) == {}
    assert verdict(None) is GuardrailVerdict.MISSING


def test_readings_are_kept_apart_by_pair_and_without_a_pair_there_is_none():
    series = parts(value="0.5", samples="40") + parts(pair="r2", value="0.1", samples="40") + parts(pair="", value="1")
    found = read(read_vector(answer(*series)))
    assert {key: reading.value for key, reading in found.items()} == {ONE: 0.5, ("star/one", "r2"): 0.1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"[]",
        b'{"status": "error", "error": "query timed out"}',
        b'{"status": "success"}',
        b'{"status": "success", "data": {"result": [{}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "value": [1, "x"]}]}}',
        answer(*parts(value="0"), warnings=["one store did not answer"]),
        answer(*parts(value="0"), isPartial=True),
        answer(*parts(value="0"), isPartial="true"),
        answer(*parts(value="0"), partialResponse=True),
        answer(*parts(value="0"), errors=["a store is away"]),
        answer(*parts(value="0")).replace(b'"vector"', b'"matrix"'),
        answer(*parts(value="0")).replace(b'"resultType"', b'"isPartial": true, "resultType"'),
        answer(*parts(value="0"), warnings=["PromQL info: fine", "a store is away"]),
        answer(*parts(value="0")).replace(str(AT).encode(), b"1", 1),
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_not_whole_is_a_fault(body):
    with pytest.raises(PrometheusFault):
        read_vector(body)


@pytest.mark.parametrize(
    "extra",
    [
        {"infos": ["PromQL info: metric might not be a counter"]},
        {"warnings": ["PromQL info: metric might not be a counter"]},
        {"isPartial": False},
        {"warnings": []},
    ],
)
def test_a_remark_on_a_query_takes_nothing_from_its_answer(extra):
    assert read_vector(answer(*parts(value="0"), **extra)).samples


def test_how_often_is_scraped_is_the_median_step_of_the_slowest_gateway():
    def series(*at: float) -> dict:
        return {"metric": {}, "values": [[t, "1"] for t in at]}

    def body(*found: dict) -> bytes:
        return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": list(found)}}).encode()

    assert read_scrape_seconds(body(series(0, 15, 30, 60, 75), series(0, 5, 10))) == 15
    assert read_scrape_seconds(body(series(0))) is None
    assert read_scrape_seconds(body()) is None
    with pytest.raises(PrometheusFault):
        read_scrape_seconds(answer())


def test_a_query_asks_once_for_the_whole_fleet():
    query = build_guardrail_query(RATE, 30)
    assert query.count("process_cluster, pair") == 6
    assert "increase(pilotage_corrections_total[30s])" in query
    assert "increase(pilotage_executed_critical_total[30s])" in query
    assert "star" not in query
    assert "max by (__name__, process_cluster, pair, stage)" in build_counts_query()


def test_counts_are_added_up_over_stages_and_pairs():
    samples = [
        Sample("sessions_closed", "star/one", "", "Logging", 100),
        Sample("sessions_closed", "star/one", "r1", "Copilot", 50),
        Sample("sessions_closed", "star/one", "r1", "Calibration", 20),
        Sample("sessions_closed", "star/one", "r1", "Automation", 5),
        Sample("demonstration_sessions", "star/one", "", "", 150),
        Sample("feedback_sessions", "star/one", "r1", "", 48),
        Sample("feedback_sessions", "star/one", "r2", "", 2),
        Sample("executed_critical", "star/one", "r1", "", 30),
        Sample("corrections", "star/one", "r1", "", 3),
        Sample("sessions_closed", "star/two", "", "Logging", 7),
    ]
    counts = read_counts(samples)
    one = counts["star/one"]
    assert (one.sessions, one.demonstrations, one.feedback_sessions) == (175, 150, 50)
    assert (one.pairs["r1"].calibration_sessions, one.pairs["r1"].executed, one.pairs["r1"].corrections) == (25, 30, 3)
    assert counts["star/two"].sessions == 7


def test_counts_come_from_prometheus_by_metric_name():
    labels = {
        "__name__": "pilotage_sessions_closed_total",
        "process_cluster": "star/one",
        "pair": "",
        "stage": "Logging",
    }
    assert list(read_samples(read_vector(answer((labels, "12"), (labels, "NaN"))))) == [
        Sample("sessions_closed", "star/one", "", "Logging", 12.0)
    ]


def test_a_fault_reaches_every_guardrail_and_a_series_that_never_was_reaches_none():
    bundle = make_bundle()
    faulty = select_readings(bundle, "r1", Figures(fault="Prometheus: timeout"), MonitorFact())
    assert verdict(faulty["corrections"]) is GuardrailVerdict.MISSING
    assert select_readings(bundle, "r1", Figures(), MonitorFact()) == {}
    assert select_readings(bundle, "", Figures(fault="x"), None) == {}


def test_the_alarm_is_missing_where_labels_cannot_be_read():
    gate = make_bundle().gate.to_json()
    gate["guardrails"].append({"name": "alarm", "builtin": "PrecisionAlarm", "comparator": ">=", "threshold": "10000"})
    bundle = make_bundle(gate=gate)
    assert select_readings(bundle, "r1", Figures(), None)["alarm"].fault
    assert select_readings(bundle, "r1", Figures(), MonitorFact(r=12.0, labels=80))["alarm"] == Reading(12.0, 80)


TEXT = """# TYPE pilotage_executed_critical_total counter
pilotage_executed_critical_total{process_cluster="star/one",pair="r1"} %d
# TYPE pilotage_corrections_total counter
pilotage_corrections_total{process_cluster="star/one",pair="r1"} %d
# TYPE pilotage_corrections_created gauge
pilotage_corrections_created{process_cluster="star/one",pair="r1"} 1.7e9
# TYPE pilotage_live_sessions gauge
pilotage_live_sessions 3
"""


def test_only_counters_that_are_counted_are_read_from_a_gateway():
    assert {(s.name, s.value) for s in parse_samples(TEXT % (10, 2))} == {("executed_critical", 10), ("corrections", 2)}


@pytest.fixture
async def gateway():
    state = {"text": TEXT % (0, 0), "status": 200}

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(text=state["text"], status=state["status"])

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    async with TestServer(app) as server, ClientSession() as client:
        state["source"] = GatewayMetrics(str(server.make_url("")), client)
        yield state


async def test_a_gateways_increases_are_counted_over_the_window(gateway):
    windows = dict(find_limits(make_bundle().gate))
    assert windows.keys() == {(RATE, 30)}
    await gateway["source"].observe_figures(windows)
    gateway["text"] = TEXT % (40, 10)
    figures = await gateway["source"].observe_figures(windows)
    assert figures.readings[(RATE, 30)][ONE] == Reading(0.25, 40)
    assert figures.counts["star/one"].pairs["r1"].corrections == 10


async def test_a_counter_that_goes_back_is_a_fault_and_one_failed_scrape_is_not(gateway):
    windows = dict(find_limits(make_bundle().gate))
    gateway["text"] = TEXT % (40, 10)
    good = await gateway["source"].observe_figures(windows)
    gateway["status"] = 500
    assert await gateway["source"].observe_figures(windows) == good
    gateway["status"], gateway["text"] = 200, TEXT % (3, 1)
    figures = await gateway["source"].observe_figures(windows)
    assert "went back" in figures.readings[(RATE, 30)][ONE].fault
    gateway["text"] = TEXT % (23, 6)
    figures = await gateway["source"].observe_figures(windows)
    assert figures.readings[(RATE, 30)][ONE] == Reading(0.25, 20), "one look later it counts again, from there"


async def test_a_first_burst_of_a_kind_of_event_counts_whole(gateway):
    """A counter that is there from 0 on shows all of it; one that came with the event would show nothing."""
    text = '# TYPE pilotage_{0}_total counter\npilotage_{0}_total{{process_cluster="star/one",pair="r1"}} {1}\n'
    window = (BuiltIn.INVALID_STATE_RATE, 30)
    gateway["text"] = text.format("decided", 100) + text.format("states_invalid", 0)
    await gateway["source"].observe_figures({window: Bounds()})
    gateway["text"] = text.format("decided", 200) + text.format("states_invalid", 90)
    figures = await gateway["source"].observe_figures({window: Bounds()})
    assert figures.readings[window][ONE] == Reading(0.9, 100)


async def test_a_gateway_that_never_answered_is_a_fault():
    async with ClientSession() as client:
        figures = await GatewayMetrics("http://127.0.0.1:9", client).observe_figures({})
        assert figures.fault
        assert figures.counts is None
        assert (await Prometheus("http://127.0.0.1:9", client).observe_figures({})).fault
