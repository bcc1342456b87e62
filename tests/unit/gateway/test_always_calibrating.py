"""A share of sessions stays in Calibration for ever: the same ones at every replica, and never more leave for it."""

import pytest

from pilotage_core.stage import Stage
from pilotage_core.wire import Leave
from pilotage_gateway.asking import hold_in_calibration

AUTOMATION = Leave("one", "star", Stage.AUTOMATION, finalizing_by_human=False, always_calibrating=0.2)
SESSIONS = [f"session-{number}" for number in range(5000)]


def held(leave: Leave) -> set[str]:
    return {name for name in SESSIONS if hold_in_calibration(leave, name).stage is Stage.CALIBRATION}


def test_it_is_about_that_share_and_the_same_ones_each_time():
    found = held(AUTOMATION)
    assert len(found) / len(SESSIONS) == pytest.approx(0.2, abs=0.03)
    assert found == held(AUTOMATION)
    assert found != held(Leave("two", "star", Stage.AUTOMATION, always_calibrating=0.2)), "each by its own draw"


def test_a_larger_share_holds_those_of_a_smaller_one_too():
    assert held(AUTOMATION) < held(Leave("one", "star", Stage.AUTOMATION, always_calibrating=0.4))


def test_people_end_what_is_held():
    name = min(held(AUTOMATION))
    assert hold_in_calibration(AUTOMATION, name).finalizing_by_human


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.AUTOMATION])
def test_no_other_stage_is_touched(stage):
    leave = Leave("one", "star", stage, always_calibrating=1.0)
    assert all(hold_in_calibration(leave, name) is leave for name in SESSIONS[:50])


def test_none_or_all_of_them():
    assert held(Leave("one", "star", Stage.AUTOMATION)) == set()
    assert held(Leave("one", "star", Stage.AUTOMATION, always_calibrating=1.0)) == set(SESSIONS)
    assert hold_in_calibration(None, "session") is None
