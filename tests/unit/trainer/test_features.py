"""The dialog read back: whatever the serialiser wrote, the situation says the same."""

import msgspec
import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT, Dialog, DialogFormat, SnapshotKind
from pilotage_core.walk import SessionWalk
from pilotage_trainer.backends.counts.counts import build_contexts
from pilotage_trainer.backends.counts.features import build_traits, list_candidates
from pilotage_trainer.backends.situation import read_points, read_prompt
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.sessions.steps import OPERATOR_ONLY, name_step, step_action

CASES = [
    (Action(Tool.CLICK_CONTROL, "submit:check"), "click_control submit:check"),
    (Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello", text="Hi!"), "send_text_to_chat reply:hello"),
    (Action(Tool.SEND_TEXT_TO_CHAT, text="Hi!"), "say"),
    (Action(Tool.FILL_INPUT, "input:City", value="Paris"), "type"),
    (Action(Tool.SELECT_RADIO_BUTTON, "input:Day", value="Monday"), "type"),
    (Action(Tool.CLOSE_CHAT), "close_chat"),
]


@pytest.mark.parametrize(("action", "step"), CASES)
def test_an_action_is_one_step_without_its_value_or_text(action, step):
    assert name_step(action) == step


@pytest.mark.parametrize(("action", "step"), [case for case in CASES if case[1] not in OPERATOR_ONLY])
def test_a_step_that_can_be_proposed_names_its_action(action, step):
    assert step_action(step) == msgspec.structs.replace(action, text="", value="")


@pytest.mark.parametrize("snapshot", [SnapshotKind.COMPACT, SnapshotKind.DIFFERENCE])
def test_the_situation_shows_the_screen_that_the_state_has(make_sessions, snapshot):
    for record in make_sessions(5):
        walk = SessionWalk(DialogFormat(snapshot=snapshot))
        for event in record.events:
            walk.step(event)
            situation, screen = read_prompt(walk.dialog.prompt()), walk.state.screen
            assert situation.screen == screen.name
            assert set(situation.controls) == {c.control_id for c in screen.controls if c.visible and c.enabled}
            assert situation.facts == dict(screen.facts)
            assert situation.procedure == walk.state.active_procedure
            inputs = {c.control_id: c.value for c in screen.controls if c.kind == "input"}
            assert situation.fields == inputs


def test_reading_on_is_reading_again(make_sessions):
    for record in make_sessions(5):
        points = human_points(record, DEFAULT_FORMAT)
        seen = [(build_traits(s), build_contexts(s), list_candidates(s)) for _, s in read_points(points)]
        fresh = [read_prompt(point.prompt) for point in points]
        assert seen == [(build_traits(s), build_contexts(s), list_candidates(s)) for s in fresh]


def test_reading_on_starts_again_where_the_dialog_was_trimmed(make_sessions):
    record = make_sessions(1)[0]
    points = human_points(record, DEFAULT_FORMAT)
    cut = msgspec.structs.replace(points[-1], prompt="@ domains=weather\n% other\n>")
    *_, (_, situation) = read_points([*points[:-1], cut])
    assert (situation.screen, situation.done) == ("other", {})


@pytest.mark.parametrize(
    ("line", "control_id", "value", "enabled"),
    [
        ("+ input input:City=New York | North", "input:City", "New York | North", True),
        ("+ input input:City=x disabled", "input:City", "x", False),
        ("+ input input:City=x required | City", "input:City", "x", True),
        ("+ select input:Day disabled required | Day | Mon; Tue", "input:Day", "", False),
        ("+ input input:Sum=a=b", "input:Sum", "a=b", True),
    ],
)
def test_a_control_line_gives_id_value_and_whether_it_is_enabled(line, control_id, value, enabled):
    situation = read_prompt(line)
    if " | North" not in line:
        assert situation.fields == {control_id: value}
    assert (control_id in situation.controls) is enabled


def test_what_changed_is_measured_against_the_last_submit():
    form = "+ input input:A=1\n+ button submit"
    click = '>{"tool":"click_control","control_id":"submit"}'
    assert read_prompt(form).changed == ["input:A"]
    assert read_prompt(f"{form}\n{click}").changed == []
    later = read_prompt(f"{form}\n{click}\n- input input:A=1\n+ input input:A=2\n+ fact Message=Not found 12")
    assert later.changed == ["input:A"]
    assert later.form == "fc-a"
    assert later.outcome == "Message|not found"


def test_a_filled_form_is_one_step_of_history():
    fill = '>{"tool":"fill_input","control_id":"input:A","value":"1"}'
    assert read_prompt(f"< hi\n< there\n{fill}\n{fill}").history == ["C", "type"]


def test_a_damaged_action_line_is_refused():
    with pytest.raises(msgspec.ValidationError):
        read_prompt('>{"tool":"dance"}')


def test_lines_of_unknown_kind_are_passed_over():
    assert read_prompt("! new kind\n\n% s").screen == "s"


def test_an_empty_dialog_still_has_candidates():
    assert list_candidates(read_prompt(Dialog(DEFAULT_FORMAT).prompt())) == ["say", "close_chat", "transfer_chat"]
