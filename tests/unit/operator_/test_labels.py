"""Labels into monitors: which count, from where on, and what a restart or a new pair means."""

import asyncio
import time

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from facts import START, make_bundle, make_certificate

from pilotage_core.monitoring import Monitor, MonitoredLabel, replay
from pilotage_core.record import Label
from pilotage_core.stage import Stage
from pilotage_core.wire import LabelPage
from pilotage_operator.api.certificates import encode_certificates
from pilotage_operator.api.status import Baseline, PairStatus, ProcessClusterStatus
from pilotage_operator.facts import MonitorFact
from pilotage_operator.observe.labels import LabelFollower
from pilotage_operator.observe.track import Track


def label(
    accepted: bool, score: float | None = 0.9, critical: bool = True, stratum: str = "procedure", **fields: str
) -> Label:
    return Label("s", "p", "star/one", "r1", stratum, critical, accepted, "o", "t", score, propensity=0.3, **fields)


def status(earned: Stage = Stage.AUTOMATION, revision: str = "r1", cursor: int = 0) -> ProcessClusterStatus:
    certificates = encode_certificates((make_certificate(make_bundle(), revision, START),))
    return ProcessClusterStatus(
        earned=earned,
        pair=PairStatus(revision=revision),
        certificates=certificates,
        baseline=Baseline(label_cursor=cursor),
    )


@pytest.fixture
async def gateway():
    """A gateway whose labels are a list; its place in the list is its cursor."""
    state = {"labels": [], "status": 200, "asked": [], "hangs": ()}

    async def labels(request: web.Request) -> web.Response:
        after = int(request.query["after"])
        if request.query.get("process_cluster", "") in state["hangs"]:
            await asyncio.sleep(60)
        state["asked"].append((request.query.get("pair", ""), after))
        found = state["labels"][after : after + int(request.query["limit"])]
        numbers = tuple(range(after + 1, after + len(found) + 1))
        page = LabelPage(after + len(found), tuple(found), numbers, len(state["labels"]))
        return web.Response(body=msgspec.json.encode(page), status=state["status"])

    app = web.Application()
    app.router.add_get("/v1/labels", labels)
    async with TestServer(app) as server, ClientSession() as client:
        state["follower"] = LabelFollower(str(server.make_url("")), client)
        state["again"] = lambda: LabelFollower(str(server.make_url("")), client)
        yield state


async def look(follower: LabelFollower, status: ProcessClusterStatus) -> MonitorFact | None:
    follower.follow("star/one", status)
    await follower.listen()
    return follower.read("star/one")


async def test_wrong_actions_raise_the_alarm_and_right_ones_calm_it(gateway):
    gateway["labels"] = [label(True)] * 50
    calm = await look(gateway["follower"], status())
    gateway["labels"] += [label(False)] * 15
    alarmed = await look(gateway["follower"], status())
    assert calm.r < 100 < 10_000 < alarmed.r == alarmed.r_peak
    assert (alarmed.labels, alarmed.cursor, alarmed.audits_all) == (65, 65, True)
    gateway["labels"] += [label(True)] * 100
    later = await look(gateway["follower"], status())
    assert later.r == later.r_peak, "an alarm that was raised stays"


@pytest.mark.parametrize(
    "ignored",
    [
        label(False, score=0.79),
        label(False, score=None),
        label(False, critical=False),
        label(False, stratum="message"),
        label(False, stage="Copilot"),
        label(False, stage="Calibration", reason="stop-list"),
        label(False, stage="Automation", reason="asked-before"),
    ],
)
async def test_only_critical_labels_at_or_above_the_threshold_in_force_count(gateway, ignored):
    gateway["labels"] = [ignored] * 100
    fact = await look(gateway["follower"], status())
    assert (fact.r, fact.labels, fact.cursor) == (0.0, 0, 100)


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_a_proposal_below_the_threshold_counts_by_the_audit_share_of_what_is_executed_beside_it(share):
    certificate = msgspec.structs.replace(make_certificate(make_bundle(), "r1", START), tau_looser=0.7)
    track = Track("r1", 0, {"procedure": certificate}, cursor=0)
    executed, proposed = label(True), label(True, score=0.75)
    for one in (msgspec.structs.replace(executed, propensity=share), msgspec.structs.replace(proposed, propensity=1.0)):
        track.take(one)
    wanted = replay(
        Monitor(target=certificate.target),
        [MonitoredLabel(True, share, share), MonitoredLabel(True, 1.0, share, below_tau=True)],
    )
    assert track.monitors["procedure"] == wanted


@pytest.mark.parametrize("stricter", [0.85, None])
async def test_after_a_tightening_only_what_the_stricter_threshold_lets_run_raises_r(gateway, stricter):
    certificate = msgspec.structs.replace(make_certificate(make_bundle(), "r1", START), tau_tighter=stricter)
    track = Track("r1", 0, {"procedure": certificate}, cursor=0)
    while not track.read().tightened:
        track.take(label(False, score=0.81))
    at_call = track.read()
    assert 1000 <= at_call.r < 10_000
    track.take(label(False, score=0.81))
    assert (track.read().r > at_call.r) == (stricter is None)  # without a stricter one, the old one is watched on
    track.take(label(False, score=0.86))
    assert track.read().r > at_call.r
    assert track.read().tightened == ("procedure",)


def reviewed(session: str, *accepted: bool) -> list[Label]:
    return [msgspec.structs.replace(label(each), session_id=session, reviewed=True) for each in accepted]


def test_what_one_review_says_of_a_stratum_is_one_label(gateway):
    """After the first error of a session that nobody repairs the next ones follow: they are no ten labels."""
    certificate = make_certificate(make_bundle(), "r1", START)
    track = Track("r1", 0, {"procedure": certificate}, cursor=0)
    for one in [*reviewed("s-1", *[False] * 9, True), *reviewed("s-2", True), label(False)]:
        track.take(one)
    wanted = replay(
        Monitor(target=certificate.target),
        [MonitoredLabel(0.1, 0.3, 0.3, labels=10), MonitoredLabel(1.0, 0.3, 0.3), MonitoredLabel(0.0, 0.3, 0.3)],
    )
    assert track.monitors["procedure"] == wanted
    assert track.read().labels == 12


async def test_copilots_labels_are_followed_but_never_pooled_with_those_of_automation(gateway):
    gateway["labels"] = [label(False)] * 30
    fact = await look(gateway["follower"], status(Stage.COPILOT))
    assert (fact.r, fact.cursor) == (0.0, 30)
    gateway["labels"] += [label(True)] * 5
    fact = await look(gateway["follower"], status(Stage.CALIBRATION, cursor=30))
    assert fact.labels == 5


async def test_a_restart_replays_from_where_calibration_began_to_the_same_numbers(gateway):
    gateway["labels"] = [label(False)] * 30 + [label(n % 7 != 0) for n in range(60)]
    before = await look(gateway["follower"], status(cursor=30))
    assert await look(gateway["again"](), status(cursor=30)) == before
    assert ("r1", 30) in gateway["asked"]


async def test_a_new_pair_starts_a_new_monitor(gateway):
    gateway["labels"] = [label(False)] * 30
    await look(gateway["follower"], status())
    fact = await look(gateway["follower"], status(revision="r2", cursor=30))
    assert (fact.r, fact.labels) == (0.0, 0)


async def test_many_pages_are_read_in_one_look(gateway):
    gateway["labels"] = [label(True)] * 4500
    assert (await look(gateway["follower"], status())).labels == 4500


async def test_a_gateway_that_does_not_answer_gives_nothing_rather_than_calm(gateway):
    gateway["status"] = 500
    assert await look(gateway["follower"], status()) is None
    gateway["status"], gateway["labels"] = 200, [label(True)]
    assert (await look(gateway["follower"], status())).labels == 1


async def test_without_a_pair_nothing_is_known_to_be_wrong(gateway):
    assert (await look(gateway["follower"], ProcessClusterStatus())).labels == 0


async def test_the_fleet_costs_one_request_a_look_and_only_what_changed_is_told(gateway):
    follower = gateway["follower"]
    for n in range(50):
        follower.follow(f"star/{n}", status())
    follower.follow("star/one", status())
    await follower.listen()
    gateway["asked"].clear()
    gateway["labels"] = [label(False)] * 3
    assert await follower.listen() == {"star/one"}
    assert len(gateway["asked"]) == 1
    assert [follower.read(key).labels for key in ("star/one", "star/7")] == [3, 0]


@pytest.mark.parametrize("cut", [0, 1, 5, 40])
async def test_what_came_before_one_listens_and_after_is_taken_once_and_in_order(gateway, cut):
    labels = [label(n % 3 != 0) for n in range(60)]
    gateway["labels"] = labels[:cut]
    follower = gateway["follower"]
    await follower.listen()
    gateway["labels"] = labels
    follower.follow("star/one", status())
    await follower.listen()
    whole = await look(gateway["again"](), status())
    assert follower.read("star/one") == whole
    assert whole.labels == 60


async def test_one_look_may_fail_and_after_ten_seconds_nothing_is_known_of_any(gateway):
    follower, now = gateway["follower"], [0.0]
    follower._clock = lambda: now[0]
    await look(follower, status())
    gateway["status"], now[0] = 500, 9.0
    assert await follower.listen() == set()
    assert follower.read("star/one") is not None
    now[0] = 20.0
    assert await follower.listen() == {"star/one"}
    assert follower.read("star/one") is None
    gateway["status"] = 200
    assert await follower.listen() == {"star/one"}
    assert follower.read("star/one") is not None


@pytest.mark.parametrize("hangs", ["", "star/7"])
async def test_a_gateway_that_hangs_costs_a_sweep_half_a_second_and_what_is_not_known_is_not_told_as_calm(
    gateway, hangs
):
    follower = gateway["follower"]
    await follower.listen()
    gateway["labels"], gateway["hangs"] = [label(False)] * 3, (hangs,)
    follower.follow("star/7", status(cursor=2))
    began = time.monotonic()
    await follower.listen()
    assert time.monotonic() - began < 2.0
    assert hangs == "" or follower.read("star/7") is None
    await follower.close()


async def test_what_was_read_before_a_page_failed_is_told(gateway):
    follower = gateway["follower"]
    await look(follower, status())
    real, pages = follower._read_page, iter([True, False])

    async def read_page(**query):
        if not next(pages, True):
            raise TimeoutError
        return await real(**query)

    gateway["labels"] = [label(True)] * 2500
    follower._read_page = read_page
    assert await follower.listen() == {"star/one"}
    assert follower.read("star/one").labels == 2000


def hold_up(follower: LabelFollower, waits: asyncio.Event) -> None:
    """Have what is caught up with come late: read at once, told once `waits` is set."""
    real = follower._read_page

    async def read_page(**query):
        page = await real(**query)
        if "process_cluster" in query:
            await waits.wait()
        return page

    follower._read_page = read_page


async def test_catching_up_with_what_is_not_followed_any_more_makes_nothing_of_what_is(gateway):
    follower, waits = gateway["follower"], asyncio.Event()
    await follower.listen()
    gateway["labels"] = [label(False)] * 20
    await follower.listen()
    hold_up(follower, waits)
    follower.follow("star/one", status(cursor=0))
    listening = asyncio.create_task(follower.listen())
    await asyncio.sleep(0.1)
    follower.follow("star/one", status(cursor=5))
    waits.set()
    await listening
    while follower.read("star/one") is None:
        await follower.listen()
    assert follower.read("star/one").labels == 15


async def test_where_other_records_are_there_nothing_is_known_rather_than_calm(gateway):
    follower = gateway["follower"]
    gateway["labels"] = [label(True)] * 50
    assert (await look(follower, status(cursor=40))).labels == 10
    gateway["labels"] = [label(False)] * 5
    assert await follower.listen() == {"star/one"}
    assert follower.read("star/one") is None


async def test_a_label_that_the_stream_passes_while_one_catches_up_is_not_lost(gateway):
    follower, waits = gateway["follower"], asyncio.Event()
    gateway["labels"] = [label(True)] * 20
    await follower.listen()
    hold_up(follower, waits)
    follower.follow("star/one", status())
    catching = asyncio.create_task(follower.listen())
    await asyncio.sleep(0.1)
    gateway["labels"] = gateway["labels"] + [label(False)] * 5
    await catching
    await follower.listen()  # the stream has them, and passes them over
    waits.set()
    while follower.read("star/one") is None:
        await follower.listen()
    assert follower.read("star/one").labels == 25


async def test_nobody_catches_up_before_it_is_known_where_the_stream_stands(gateway):
    follower = gateway["follower"]
    gateway["labels"], gateway["status"] = [label(True)] * 20, 500
    follower.follow("star/one", status())
    await follower.listen()
    gateway["status"] = 200
    gateway["labels"] = [label(True)] * 30
    while follower.read("star/one") is None:
        await follower.listen()
    assert follower.read("star/one").labels == 30


async def test_records_that_went_back_are_read_from_their_beginning(gateway):
    follower = gateway["follower"]
    gateway["labels"] = [label(True)] * 50
    assert (await look(follower, status(cursor=10))).labels == 40
    gateway["labels"] = [label(True)] * 30
    await follower.listen()
    gateway["labels"] = [label(True)] * 30 + [label(False)] * 6
    await follower.listen()
    while follower.read("star/one") is None:
        await follower.listen()
    fact = follower.read("star/one")
    assert (fact.labels, fact.r > 0) == (26, True)
