"""What counts as a loop: the same action on one screen, whatever is answered; or nothing that moves for long."""

import msgspec
import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.events import ActionTaken, Author, Event, MessagePosted, ScreenShown, SessionOpened
from pilotage_core.screen import Screen
from pilotage_core.state import State, fold_event, is_looping

FORM = Screen(name="form")
ASK = Action(Tool.SEND_TEXT_TO_CHAT, control_id="say:request:city", text="Which city?")
SEARCH = Action(Tool.CLICK_CONTROL, control_id="search")
ASKED = ActionTaken((ASK,), "o")
ANSWERED = MessagePosted(Author.CUSTOMER, "Detroit")


def after(*happened):
    state = State()
    for number, data in enumerate((SessionOpened({}), ScreenShown(screen=FORM), *happened)):
        state = fold_event(state, Event(f"e{number}", number, "2026-03-01T10:00:00+00:00", data), None)
    return state


@pytest.mark.parametrize(
    ("between", "loops"),
    [
        ((), True),
        ((ANSWERED,), True),  # who asks again and again has not understood
        ((ScreenShown(screen=FORM), ANSWERED), True),
        ((ScreenShown(screen=msgspec.structs.replace(FORM, name="other")), ScreenShown(screen=FORM)), False),
        ((ActionTaken((SEARCH,), "o"),), False),
    ],
)
def test_the_same_action_three_times_on_one_screen_is_a_loop_whatever_is_answered(between, loops):
    state = after(ASKED, *between, ASKED, *between, ASKED)
    assert is_looping(state, ASK, 3, 30) is loops
    assert not is_looping(state, SEARCH, 3, 30)


def test_a_customer_who_speaks_is_progress_for_other_actions():
    assert is_looping(after(ASKED, ASKED), SEARCH, 9, 2)
    assert not is_looping(after(ASKED, ASKED, ANSWERED), SEARCH, 9, 2)
