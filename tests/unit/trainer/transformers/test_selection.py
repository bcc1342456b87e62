"""Which decisions carry loss: sides by session and time, the mix, the balance, the same draw every time."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.errors import InvalidInputError
from pilotage_core.training import Balancing
from pilotage_trainer.backends.transformers.rows.selection import (
    DecisionPoint,
    Mix,
    Split,
    balance_decisions,
    choose_decisions,
    mix_decisions,
    read_mix,
    split_sessions,
)

EPOCH = datetime(2026, 3, 1, tzinfo=UTC)


def decisions_of(logs, rejections, tools=("click",)):
    kinds = [False] * logs + [True] * rejections
    return [
        DecisionPoint(n, 0, 0, tools[n % len(tools)], f"screen-{n % 2}", rejected, f"s:{n}")
        for n, rejected in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("", Mix()),
        ("3:1", Mix(3.0)),
        ("1:2", Mix(0.5)),
        ("2.5", Mix(2.5)),
        ("500", Mix(rejections=500)),
        ("0", Mix()),
    ],
)
def test_a_mix_is_a_ratio_or_a_count(text, mix):
    assert read_mix(text) == mix


@pytest.mark.parametrize("text", ["much", "3:0", "-1:1", "0:1", "1:2:3", "inf", "nan"])
def test_any_other_mix_is_refused(text):
    with pytest.raises(InvalidInputError, match="--mix-rejections"):
        read_mix(text)


@pytest.mark.parametrize(
    ("logs", "rejections", "mix", "expected"),
    [
        (100, 20, Mix(), (100, 20)),
        (100, 20, Mix(logs_per_rejection=2.0), (40, 20)),  # too many logs
        (100, 20, Mix(logs_per_rejection=10.0), (100, 10)),  # too many rejections
        (100, 20, Mix(rejections=5), (100, 5)),
        (100, 20, Mix(rejections=500), (100, 20)),
        (100, 0, Mix(logs_per_rejection=2.0), (100, 0)),  # nothing to mix
        (0, 20, Mix(logs_per_rejection=2.0), (0, 1)),
    ],
)
def test_logs_and_rejections_are_mixed_as_wanted(logs, rejections, mix, expected):
    kept = Counter(d.rejected for d in mix_decisions(decisions_of(logs, rejections), mix, 0))
    assert (kept[False], kept[True]) == expected


def test_by_count_the_newest_rejections_stay():
    kept = mix_decisions(decisions_of(10, 8), Mix(rejections=3), 0)
    assert [d.session for d in kept if d.rejected] == [15, 16, 17]


def test_balancing_gives_no_tool_more_than_an_even_share():
    decisions = decisions_of(90, 0, ("send",) * 7 + ("click",) * 2 + ("close",))
    assert Counter(d.tool for d in balance_decisions(decisions, Balancing.TOOL, 0)) == {
        "send": 30,
        "click": 18,
        "close": 9,
    }
    assert balance_decisions(decisions, Balancing.NATURAL, 0) == decisions
    screens = Counter(d.screen for d in balance_decisions(decisions[:45] + decisions[1::2], Balancing.SCREEN, 0))
    assert max(screens.values()) <= 45


def test_a_draw_is_the_same_again_and_grows_with_the_window():
    decisions = decisions_of(200, 20)
    first = mix_decisions(decisions, Mix(logs_per_rejection=4.0), 1)
    assert first == mix_decisions(decisions, Mix(logs_per_rejection=4.0), 1)
    assert first != mix_decisions(decisions, Mix(logs_per_rejection=4.0), 2)
    assert first == sorted(first, key=lambda d: d.session)
    lax = {d.name for d in mix_decisions(decisions, Mix(logs_per_rejection=6.0), 1)}
    assert {d.name for d in first} <= lax


def test_balancing_comes_after_mixing():
    decisions = decisions_of(60, 20, ("send", "click"))
    mixed = mix_decisions(decisions, Mix(logs_per_rejection=1.0), 0)
    assert choose_decisions(decisions, Mix(logs_per_rejection=1.0), Balancing.TOOL, 0) == balance_decisions(
        mixed, Balancing.TOOL, 0
    )


SHARES = st.floats(0.0, 0.49)


@given(minutes=st.lists(st.integers(0, 60), max_size=60), development=SHARES, held_out=SHARES)
def test_no_moment_is_on_two_sides_and_sides_follow_each_other_in_time(minutes, development, held_out):
    closed = [EPOCH + timedelta(minutes=minute) for minute in minutes]
    sides = split_sessions(closed, development, held_out)
    assert len(sides) == len(closed)
    order = list(Split)
    ranks = [order.index(side) for _, side in sorted(zip(closed, sides, strict=True))]
    assert ranks == sorted(ranks)
    assert len(set(zip(closed, sides, strict=True))) == len(set(closed))
    if not development:
        assert Split.DEVELOPMENT not in sides
    if closed and len(set(closed)) == len(closed):
        assert sides.count(Split.HELD_OUT) == round(len(closed) * held_out)


@pytest.mark.parametrize(("development", "held_out"), [(1.0, 0.0), (-0.1, 0.0), (0.5, 0.5), (0.0, 1.2)])
def test_shares_that_leave_nothing_are_refused(development, held_out):
    with pytest.raises(InvalidInputError):
        split_sessions([EPOCH], development, held_out)
