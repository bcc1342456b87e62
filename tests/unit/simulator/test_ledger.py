"""Counting unsafe executions from the BPM's own record, as a table; and the record's file."""

import msgspec
import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.errors import InvalidInputError
from pilotage_core.stage import Stage
from pilotage_simulator.ledger import (
    Ledger,
    OrderReceived,
    SessionBegun,
    StageChange,
    count_unsafe,
    find_unsafe,
    mend_ledger,
    read_ledger,
)

GOOD = OrderReceived(
    at="2026-01-01T10:00:30+00:00",
    session_id="s-1",
    process_cluster="star/information",
    proposal_id="p-1",
    idempotency_key="key-1",
    action=Action(Tool.CLOSE_CHAT),
    authorised_by="permit",
    epoch=3,
    remaining_ms=5_000,
    elapsed_ms=20.0,
    ordered_version=7,
    state_version=7,
    fence="",
    executed=True,
    critical=True,
    stage=Stage.AUTOMATION,
    strict=True,
    graded=True,
)
HISTORY = [
    StageChange("star/information", Stage.CALIBRATION, "2026-01-01T10:00:00Z"),
    StageChange("star/information", Stage.AUTOMATION, "2026-01-01T10:00:10Z"),
    StageChange("star/information", Stage.COPILOT, "2026-01-01T10:00:20Z"),
]


def order(**changes):
    return msgspec.structs.replace(GOOD, **changes)


OTHER = {"proposal_id": "p-2", "idempotency_key": "key-2"}


@pytest.mark.parametrize(
    ("entries", "unsafe"),
    [
        ([], 0),
        ([order()], 0),
        ([order(authorised_by="")], 1),
        ([order(elapsed_ms=5_000.0)], 1),
        ([order(state_version=8)], 1),
        ([order(stage=Stage.COPILOT)], 1),
        ([order(stage=Stage.COPILOT, authorised_by="operator-7", epoch=0)], 0),
        ([order(stage=Stage.COPILOT, executed=False)], 0),
        ([order(stage=Stage.COPILOT, critical=False)], 0),
        ([order(), order(**OTHER)], 0),
        ([order(), order(proposal_id="p-2")], 1),  # one key twice
        ([order(), order(idempotency_key="key-2")], 1),  # one proposal twice
        ([order(), order(executed=False)], 0),
        ([order(executed=False), order()], 0),
        ([order(epoch=4), order(**OTHER)], 1),
        ([order(epoch=4, executed=False), order(**OTHER)], 1),  # a refused order's epoch was seen too
        ([order(stage=Stage.COPILOT), order(**OTHER, stage=Stage.LOGGING)], 2),
    ],
)
def test_an_execution_without_leave_or_a_second_one_is_counted(entries, unsafe):
    assert count_unsafe(entries) == unsafe


@pytest.mark.parametrize(
    ("at", "unsafe"),
    [
        ("2026-01-01T09:59:59+00:00", 1),  # before it ever had leave
        ("2026-01-01T10:00:05+00:00", 0),
        ("2026-01-01T10:00:25+00:00", 0),  # within the permit's ttl after the stage fell
        ("2026-01-01T10:00:31+00:00", 1),
        ("2026-01-01T12:00:25+02:00", 0),  # the same moment in another zone
    ],
)
def test_an_unattended_action_long_after_its_stage_fell_is_counted(at, unsafe):
    assert count_unsafe([order(at=at)], HISTORY, lag_seconds=10.0) == unsafe
    assert count_unsafe([order(at=at, authorised_by="operator-7")], HISTORY) == 0
    assert count_unsafe([order(at=at, process_cluster="star/other")], HISTORY) == 0


def test_the_reason_says_what_was_wrong():
    assert [reason for reason, _ in find_unsafe([order(state_version=8)])] == ["in a state that had moved on"]


def test_what_is_written_is_read_back_and_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "deep" / "ledger.jsonl"
    entries = [SessionBegun("t", "s-1", "1", "star/information", "plus"), GOOD]
    ledger = Ledger(path)
    for entry in entries:
        ledger.write(entry)
    ledger.close()
    path.write_bytes(path.read_bytes() + b'{"type":"order","at":"2026')
    assert list(read_ledger(path)) == entries
    mend_ledger(path)
    ledger = Ledger(path)
    ledger.write(GOOD)
    ledger.close()
    assert list(read_ledger(path)) == [*entries, GOOD]


def test_a_damaged_line_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"{}\n" + msgspec.json.encode(GOOD) + b"\n")
    with pytest.raises(InvalidInputError, match=r"ledger\.jsonl:1"):
        list(read_ledger(path))
