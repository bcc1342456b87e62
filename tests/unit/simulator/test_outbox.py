"""What goes into one post: an accept is its last event, and an outcome goes ahead of what judges it."""

import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.events import (
    ActionTaken,
    Event,
    FeedbackGiven,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionReviewed,
    Verdict,
)
from pilotage_simulator.outbox import take_batch

ACCEPT = FeedbackGiven("p1", Verdict.ACCEPT, "ann")
REJECT = FeedbackGiven("p1", Verdict.REJECT, "ann")
TAKEN = ActionTaken((Action(Tool.CLOSE_CHAT),), "ann")
REPAIRED = ActionTaken((Action(Tool.CLOSE_CHAT),), "ann", corrects="p1")
DONE = OutcomeReported("p1", "k", Outcome.DONE)
SHOWN = ScreenShown(html="<h1>x</h1>")


@pytest.mark.parametrize(
    ("happenings", "taken"),
    [
        ([REJECT, TAKEN, SHOWN], 3),
        ([ACCEPT], 1),
        ([SHOWN, ACCEPT, TAKEN, SHOWN], 2),
        ([DONE, SHOWN, REPAIRED], 2),
        ([DONE, SHOWN, TAKEN], 3),
        ([DONE, SessionReviewed("bob", True)], 1),
    ],
)
def test_a_post_holds_what_belongs_together(happenings, taken):
    events = [Event(str(n), n, "2023-11-14T22:13:20Z", data) for n, data in enumerate(happenings)]
    assert take_batch(events) == tuple(events[:taken])
