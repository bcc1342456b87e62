"""The desk on published dialogues: how sessions come out, that pages offer what is done, the records they leave."""

from functools import cached_property
from importlib.metadata import entry_points
from itertools import islice
from random import Random

import msgspec
import pytest
from typer.testing import CliRunner

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import UnavailableError
from pilotage_core.events import SessionClosed, SessionOpened
from pilotage_core.proposal import find_fault
from pilotage_core.reading import read_screen
from pilotage_core.walk import SessionWalk, walk_session
from pilotage_simulator.desk.clerk import GOODBYE, PEOPLE, Clerk, Manners
from pilotage_simulator.desk.desk import TRANSFERRED, Desk
from pilotage_simulator.desk.play import Witness, play, play_at
from pilotage_simulator.desk.recording import LANES, find_lane, read_desk_records
from pilotage_simulator.desk.screens import SCHEMA, build_page
from pilotage_simulator.desk.services import build_services
from pilotage_simulator.desk.sgd import SCHEMA_FILE, LeftOut, read_dialogues, read_schema
from pilotage_simulator.main import app


class Shown(Witness):
    """Holds every action to the page before it, read as a gateway reads it."""

    def __init__(self):
        self.screen = None
        self.faults = []

    def see_desk(self, desk):
        self.screen = read_screen(build_page(desk), (SCHEMA,))
        if self.screen.fault or not self.screen.recognised or self.screen.unknown_controls:
            self.faults.append(self.screen.fault or "not recognised")

    def see_action(self, action):
        if fault := find_fault(action, self.screen):
            self.faults.append(f"{action}: {fault}")


@pytest.fixture(scope="module")
def real(sgd_path):
    """Every 40th dialogue, and the schema."""
    schema = read_schema(sgd_path.with_name(SCHEMA_FILE))
    return list(islice(read_dialogues(sgd_path, schema, LeftOut()), 0, None, 40)), schema


def test_real_sessions_come_out_right(real):
    """The goal's bookings, the answers, the customer's leave: hardly a session misses one of them."""
    dialogues, schema = real
    outcomes = [play(dialogue, schema) for dialogue in dialogues]
    assert len(outcomes) > 200
    assert sum(outcome.is_right for outcome in outcomes) / len(outcomes) > 0.97
    assert sum(outcome.ended == TRANSFERRED for outcome in outcomes) / len(outcomes) < 0.1
    assert {tool for outcome in outcomes for tool in outcome.actions} == set(Tool)


def test_operators_with_haste_and_slips_get_some_wrong_and_the_same_ones_again(real):
    dialogues, schema = real
    outcomes = [play(dialogue, schema, manners=PEOPLE) for dialogue in dialogues]
    assert outcomes == [play(dialogue, schema, manners=PEOPLE) for dialogue in dialogues]
    assert 0.85 < sum(outcome.is_right for outcome in outcomes) / len(outcomes) < 1
    worst = [play(dialogue, schema, manners=Manners(hastes=1, slips=1)) for dialogue in dialogues]
    booking = [outcome for outcome in worst if outcome.goal]
    assert sum(bool(outcome.wrong) for outcome in booking) / len(booking) > 0.9
    assert not any(outcome.is_right for outcome in worst if outcome.wrong)


class Cheat(Clerk):
    """Searches for nothing in a form of no concern, says that it failed until the customer leaves, and closes."""

    def decide(self):
        if self.spoke and self.last != GOODBYE:
            return None
        action = next(self.script)
        self.see(action)
        return action

    @cached_property
    def script(self):
        yield Action(Tool.OPEN_PROCEDURE, "open:Weather_1/GetWeather")
        yield Action(Tool.FILL_INPUT, "slot:city", "nowhere")
        yield Action(Tool.CLICK_CONTROL, "search")
        while not self.done:
            yield Action(Tool.SEND_TEXT_TO_CHAT, "say:failure")
        yield Action(Tool.SEND_TEXT_TO_CHAT, GOODBYE)
        yield Action(Tool.CLOSE_CHAT)


def test_who_only_says_that_nothing_works_serves_nobody(real):
    dialogues, schema = real
    outcomes = []
    for dialogue in dialogues[::4]:
        desk = Desk(build_services(dialogue, schema))
        outcomes.append(play_at(desk, dialogue, Cheat(desk), Witness()))
    assert any(outcome.customer_finished and not outcome.goal for outcome in outcomes)
    assert not any(outcome.is_right for outcome in outcomes)


class Wanderer(Clerk):
    """Takes any acceptable action, not the preferred one."""

    def decide(self):
        if self.spoke and not (self.questions or self.last == GOODBYE):
            return None
        action = self.chance.choice(list(self.list_acceptable()))
        assert self.accepts(action)
        self.see(action)
        return action


def test_whatever_is_acceptable_leads_to_a_right_end(real):
    """The outcome does not hang on the path: any order that schema and goal allow comes out right."""
    dialogues, schema = real
    outcomes = []
    for dialogue in dialogues:
        desk = Desk(build_services(dialogue, schema))
        outcomes.append(play_at(desk, dialogue, Wanderer(desk, chance=Random(dialogue.dialogue_id)), Witness()))
    assert sum(outcome.is_right for outcome in outcomes) / len(outcomes) > 0.95
    assert not any(outcome.wrong for outcome in outcomes)


def test_what_the_clerk_does_is_acceptable_and_what_is_not_offered_now_is_not(real):
    dialogues, schema = real

    class Judging(Witness):
        """A second operator who hears and sees what the first does, and is asked before each action."""

        def __init__(self, desk):
            self.judge, self.judged, self.too_early = Clerk(desk), 0, 0

        def see_action(self, action):
            assert self.judge.accepts(action), action
            self.judged += 1
            early = [Action(Tool.CLOSE_CHAT), Action(Tool.TRANSFER_CHAT), Action(Tool.SEND_TEXT_TO_CHAT, GOODBYE)]
            self.too_early += sum(self.judge.accepts(other) for other in early if other.tool is not action.tool)
            self.judge.see(action)

    for dialogue in dialogues[::8]:
        desk = Desk(build_services(dialogue, schema))
        witness = Judging(desk)

        class Heard(Clerk):
            def hear(self, said, judge=witness.judge):
                judge.hear(said)
                super().hear(said)

        outcome = play_at(desk, dialogue, Heard(desk), witness)
        assert (witness.judged, witness.too_early) == (sum(outcome.actions.values()), 0)


def test_pages_of_real_sessions_are_read_and_offer_what_is_done(real):
    dialogues, schema = real
    for dialogue in dialogues[::6]:
        shown = Shown()
        desk = Desk(build_services(dialogue, schema))
        play_at(desk, dialogue, Clerk(desk), shown)
        assert not shown.faults, dialogue.dialogue_id


def test_an_action_that_a_page_does_not_offer_is_refused_by_the_desk_too(real):
    """The page and the BPM agree on what is enabled, in every state of a few sessions."""
    dialogues, schema = real

    class Agreeing(Shown):
        def see_desk(self, desk):
            super().see_desk(desk)
            shown = {c.control_id for c in self.screen.controls if c.enabled}
            replies = {reply.control_id for reply in desk.replies()}
            assert replies == {control for control in shown if control.startswith("say:")}
            assert (desk.submit in shown) is desk.can_submit
            assert {c for c in shown if c.startswith("slot:")} == {f"slot:{name}" for name in desk.fields}

    for dialogue in dialogues[::20]:
        desk = Desk(build_services(dialogue, schema))
        play_at(desk, dialogue, Clerk(desk), Agreeing())


def test_records_fold_and_part_by_lane(sgd_path):
    parts = (0, 200)
    every = list(read_desk_records(sgd_path, part=parts))
    for record in every[:12]:
        walk = SessionWalk(DEFAULT_FORMAT)
        for event in record.events:
            walk.step(event)
        assert not walk.state.is_open
        assert any(point.operator for point in walk_session(record, DEFAULT_FORMAT))
        assert isinstance(record.events[0].data, SessionOpened)
        assert isinstance(record.events[-1].data, SessionClosed)
        assert [event.at for event in record.events] == sorted(event.at for event in record.events)
    lanes = [record.session_id for lane in sorted(LANES) for record in read_desk_records(sgd_path, lane, parts)]
    assert sorted(lanes) == sorted(record.session_id for record in every)
    assert next(read_desk_records(sgd_path, part=parts)) == every[0]
    assert len({record.closed_at[:10] for record in every}) >= 20
    since, until = every[10].closed_at, every[20].closed_at
    within = list(read_desk_records(sgd_path, part=parts, since=since, until=until))
    assert within in (every[10:20], every[10:21])  # one that closes later may be there


def test_what_an_export_leaves_out_is_logged(sgd_path, tmp_path, caplog):
    (tmp_path / SCHEMA_FILE).write_bytes(sgd_path.with_name(SCHEMA_FILE).read_bytes())
    dialogue = next(read_dialogues(sgd_path, read_schema(tmp_path / SCHEMA_FILE), LeftOut()))
    cut = msgspec.structs.replace(dialogue, turns=dialogue.turns[:3])
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, (cut, dialogue))))
    assert len(list(read_desk_records(path))) == 1
    assert "1 left out" in caplog.text
    assert f"{path}:1" in caplog.text


def test_every_lane_has_work(real):
    dialogues, _ = real
    assert {find_lane(dialogue) for dialogue in dialogues} == LANES


def test_a_missing_schema_is_named(tmp_path):
    with pytest.raises(UnavailableError, match=SCHEMA_FILE):
        read_schema(tmp_path / SCHEMA_FILE)


def test_the_command_names_what_it_cannot_read(tmp_path):
    told = CliRunner().invoke(app, ["desk", "--sgd", str(tmp_path / "none.jsonl")])
    assert told.exit_code == 2
    assert SCHEMA_FILE in told.stderr


def test_the_desk_is_an_export_of_the_trainer():
    assert entry_points(group="pilotage.records")["desk"].load() is read_desk_records
