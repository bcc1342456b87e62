"""What is right, as a table over one small dialogue; and the changed process."""

import pytest

from pilotage_core.actions import Action, Tool
from pilotage_simulator.case import Case
from pilotage_simulator.change import change_script
from pilotage_simulator.dialogue import StepKind
from pilotage_simulator.judge import Judgement, judge_action
from pilotage_simulator.screens import Renderer


def click(control):
    return Action(Tool.CLICK_CONTROL, control_id=control)


def say(label, text=""):
    return Action(Tool.SEND_TEXT_TO_CHAT, control_id=f"reply:{label}" if label else "", text=text)


@pytest.fixture
def case(fx):
    return Case(fx.script_of(fx.TWO_FORECASTS), Renderer(fx.PROCEDURES))


def advance(case, until):
    """Do the script's steps until the next one is of control `until`."""
    while (found := case.next_step())[1].actions[0].control_id != until:
        index, step = found
        case.tick(index)
        for action in step.actions:
            case.apply(action, step)


STRICT = Judgement(strict=True, graded=True)


@pytest.mark.parametrize(
    ("until", "action", "strict", "graded", "answered"),
    [
        ("reply:hello", say("hello"), True, True, False),
        ("reply:hello", say("weather_ask_day"), False, True, False),  # later, before the next submit
        ("reply:hello", say("weather_inform_forecast"), False, False, True),  # after it: a deviation with an answer
        ("reply:hello", say("goodbye_1"), False, False, False),  # nowhere in the dialogue
        ("reply:hello", say("", "Hello, how can I help?"), False, False, False),  # not the template
        ("reply:hello", say("hello", "Hello, how can I help?"), True, True, False),
        ("reply:hello", say("hello", "You get 9,999 EUR."), False, False, False),  # not what the template says
        ("reply:hello", click("submit"), False, False, False),  # not with these values
        ("input:City", click("submit"), False, False, False),  # nothing is typed yet
        ("submit", click("submit"), True, True, False),
        ("submit", click("submit:reviewed"), False, False, False),
        ("submit", say("weather_inform_forecast"), False, False, True),
        ("reply:weather_bye", Action(Tool.CLOSE_CHAT), False, False, False),  # ending is right only when it is next
        ("", Action(Tool.CLOSE_CHAT), True, True, False),
        ("", Action(Tool.TRANSFER_CHAT), False, False, False),
    ],
)
def test_an_action_is_judged_by_what_the_wizard_did(case, until, action, strict, graded, answered):
    advance(case, until)
    found = judge_action(case, action)
    assert (found.strict, found.graded, found.answer is not None) == (strict, graded, answered)


def test_a_submit_done_early_with_the_right_values_takes_its_typing_with_it(fx, case):
    advance(case, "submit")
    case.apply(Action(Tool.FILL_INPUT, control_id="input:Day", value="Friday"), None)
    assert not judge_action(case, click("submit")).graded
    case.apply(Action(Tool.FILL_INPUT, control_id="input:Day", value="Monday"), None)
    assert judge_action(case, click("submit")).strict


def test_after_the_change_the_plus_segment_verifies_submits_otherwise_and_says_something_else(fx):
    scripts = [fx.script_of(fx.TWO_FORECASTS, identity=number) for number in range(1, 30)]
    assert {script.segment for script in scripts} == {"plus", "standard"}
    for script in scripts:
        changed = change_script(script, fx.PROCEDURES)
        if script.segment == "standard":
            assert changed == script
            continue
        controls = [step.actions[0].control_id for step in changed.steps]
        assert "submit" not in controls
        assert controls.count("verify") == controls.count("submit:reviewed") == 2
        position = controls.index("submit:reviewed")
        assert controls[position - 1 : position + 2] == ["verify", "submit:reviewed", "reply:weather_ask_day"]
        assert [s.result for s in changed.steps if s.kind is StepKind.SUBMIT] == [
            s.result for s in script.steps if s.kind is StepKind.SUBMIT
        ]
