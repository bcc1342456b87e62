"""Many sessions: lanes, resuming, stopping, a change on the way, and what one refused session does to the others."""

import asyncio
from collections import Counter

import pytest

from pilotage_core.errors import InvalidEventError, InvalidInputError, UnavailableError
from pilotage_core.events import Closing, SessionClosed
from pilotage_core.stage import Stage
from pilotage_core.wire import Pace
from pilotage_simulator import play as play_module
from pilotage_simulator.adapter import Bpm
from pilotage_simulator.ledger import Ledger, SessionBegun, SessionEnded, read_ledger
from pilotage_simulator.pacer import Pacer
from pilotage_simulator.plan import ChangePoint, Lane, Plan, read_plan
from pilotage_simulator.play import Played, Run, deal_cases, describe_assumptions
from pilotage_simulator.star import Star, load_star
from pilotage_simulator.worlds import StarWorld

INFORMATION = Lane("star/information", ("weather", "trivia", "spaceship", "bank"), limit=8)
TAIL = Lane("star/long-tail", limit=4)
PLAN = Plan((INFORMATION, TAIL), concurrency=3)


class ManyGateways:
    """One gateway in memory for each session."""

    def __init__(self, fx):
        self.fx = fx
        self.sessions = {}
        self.refuse = set()

    async def post(self, session_id, post):
        if session_id in self.refuse:
            raise InvalidEventError("422: no")
        gateway = self.sessions.setdefault(session_id, self.fx.FakeGateway(lambda case: None, Stage.LOGGING))
        await asyncio.sleep(0)
        return await gateway.post(session_id, post)


@pytest.fixture
def star(star_path) -> Star:
    return load_star(star_path)


@pytest.fixture
def gateways(fx):
    return ManyGateways(fx)


async def play(star, gateways, path, plan=PLAN, pacer=None, before=lambda run: None):
    played = Played(read_ledger(path))
    scripts, _ = deal_cases(StarWorld(star), plan, played)
    ledger = Ledger(path)
    run = Run(Bpm(gateways, ledger), plan, pacer or Pacer(None), scripts, played)
    before(run)
    await run.play()
    ledger.close()
    return run


async def test_each_lane_plays_its_own_dialogues_up_to_its_limit(star, gateways, tmp_path):
    run = await play(star, gateways, tmp_path / "l.jsonl")
    assert run.ended == {"star/information": 8, "star/long-tail": 4}
    assert all(isinstance(g.events[-1].data, SessionClosed) for g in gateways.sessions.values())
    domains = [g.events[0].data.metadata["domains"].split(",") for g in gateways.sessions.values()]
    assert sum(set(found) <= set(INFORMATION.domains) for found in domains) == 8
    assert "star/information 8/8 Logging" in run.describe()
    assert "star/long-tail 4/4" in run.describe()


async def test_a_dialogue_in_the_ledger_is_not_played_again(star, gateways, tmp_path):
    path = tmp_path / "l.jsonl"
    await play(star, gateways, path, before=lambda run: run.stop())
    assert list(read_ledger(path)) == []
    first = Plan((Lane("star/information", INFORMATION.domains, limit=3),))
    await play(star, gateways, path, first)
    await play(star, gateways, path)
    begun = Counter(entry.dialogue_id for entry in read_ledger(path) if isinstance(entry, SessionBegun))
    assert len(begun) == 12
    assert set(begun.values()) == {1}


async def test_sessions_that_a_killed_run_left_open_are_abandoned_where_their_events_stopped(
    star, gateways, tmp_path, fx
):
    path = tmp_path / "l.jsonl"
    ledger = Ledger(path)
    for name in ("s-open", "s-unknown"):
        ledger.write(SessionBegun("t", name, name, "star/information", "plus"))
    ledger.close()
    gateway = fx.FakeGateway(lambda case: None)
    script = fx.script_of(fx.TWO_FORECASTS)
    bpm = Bpm(gateway, Ledger(tmp_path / "other.jsonl"))
    session = fx.Session(bpm, "s-open", "star/information", script, fx.Renderer(fx.PROCEDURES))
    session._begin()
    await session._adapter.post()
    gateways.sessions["s-open"] = gateway
    gateways.refuse.add("s-unknown")
    played = Played(read_ledger(path))
    assert set(played.left_open) == {"s-open", "s-unknown"}
    again = Ledger(path)
    run = Run(Bpm(gateways, again), PLAN, Pacer(None), {}, played)
    await run.close_abandoned(played.left_open)
    again.close()
    assert gateway.walk.state.closing is Closing.ABANDONED
    assert Played(read_ledger(path)).left_open == {}


async def test_a_refused_session_is_counted_and_the_others_go_on(star, gateways, tmp_path, capsys):
    scripts, _ = deal_cases(StarWorld(star), PLAN, Played([]))
    gateways.refuse = {scripts["star/information"][0].session_id}
    run = await play(star, gateways, tmp_path / "l.jsonl")
    assert (run.ended["star/information"], run.refused["star/information"]) == (7, 1)
    assert "was refused: 422: no" in capsys.readouterr().err


async def test_from_the_change_point_on_sessions_are_of_the_changed_process_also_after_a_restart(
    star, gateways, tmp_path
):
    path = tmp_path / "l.jsonl"
    lane = Lane("star/information", INFORMATION.domains, limit=6, change=ChangePoint(at=4))
    await play(star, gateways, path, Plan((lane,), concurrency=1))
    await play(star, gateways, path, Plan((Lane("star/information", INFORMATION.domains, limit=8),), concurrency=1))
    assert [e.changed for e in read_ledger(path) if isinstance(e, SessionBegun)] == [False] * 3 + [True] * 5
    assert [e.changed for e in read_ledger(path) if isinstance(e, SessionEnded)] == [False] * 3 + [True] * 5


async def test_a_stopped_run_ends_although_no_gateway_takes_the_events(star, gateways, tmp_path, monkeypatch):
    monkeypatch.setattr(play_module, "STOP_SECONDS", 0.05)

    async def post(session_id, post):
        raise UnavailableError("down")

    gateways.post = post
    path = tmp_path / "l.jsonl"
    async with asyncio.timeout(5):
        await play(star, gateways, path, before=lambda run: asyncio.get_running_loop().call_later(0.2, run.stop))
    assert len(Played(read_ledger(path)).left_open) == PLAN.concurrency


class Said:
    """A controller that says what it is told to."""

    def __init__(self, views):
        self.views = views

    async def fetch(self):
        if self.views is None:
            raise UnavailableError("gone")
        return {view.key: view for view in self.views}


async def watched(views):
    pacer = Pacer(Said(views))
    task = asyncio.create_task(pacer.watch())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    return pacer


@pytest.mark.parametrize(
    ("views", "wait", "fault"),
    [
        ([Pace("information", "star", Stage.COPILOT, "", "Feedback", True)], 0.0, ""),
        ([Pace("information", "star", Stage.COPILOT, "", "Feedback", False)], 0.5, ""),
        ([], 0.5, ""),
        (None, 0.5, "gone"),
    ],
)
async def test_sessions_trickle_unless_they_are_known_to_be_wanted(views, wait, fault):
    pacer = await watched(views)
    lane = Lane("star/information", trickle_per_second=2.0)
    pacer._due["star/information"] = 100.0
    assert pacer.seconds_until_due(lane, 100.0) == pytest.approx(wait)
    assert pacer.fault == fault


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        (None, [False, False, False, False]),
        (ChangePoint(at=12), [False, False, True, True]),
        (ChangePoint(after_stage=Stage.AUTOMATION, sessions=2), [False, False, True, True]),
        (ChangePoint(after_stage=Stage.CALIBRATION), [False, False, False, False]),
        (ChangePoint(), [False, False, False, False]),
    ],
)
async def test_a_process_changes_at_a_session_or_so_many_sessions_after_a_stage(change, changed):
    pacer = await watched([Pace("information", "star", Stage.AUTOMATION, "", "Feedback", True)])
    lane = Lane("star/information", change=change)
    assert [pacer.is_changed(lane, number) for number in (10, 11, 12, 13)] == changed


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("lanes: [{process_cluster: a, domians: [b]}]", "domians"),
        ("lanes: [{process_cluster: a, trickle_per_second: 0}]", "not above 0"),
        ("lanes: []\nconcurrency: 0", "concurrency"),
        ("lanes: [", r"plan\.yaml"),
        ("lanes: [{}]", "process_cluster"),
    ],
)
def test_a_wrong_plan_is_an_error_that_says_where(tmp_path, text, error):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=error):
        read_plan(path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_plan(tmp_path / "absent.yaml")


def test_a_plan_is_read_from_yaml_and_its_assumptions_are_said(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(
        "lanes: [{process_cluster: star/x, domains: [bank], change: {at: 5}}]\naccept_later_probability: 0.5"
    )
    plan = read_plan(path)
    assert plan.lanes[0].change == ChangePoint(at=5)
    assert "probability 0.5" in describe_assumptions(plan)
