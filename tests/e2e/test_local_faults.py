"""Given a local run, when controller, gateway and a model server are killed: it goes on, and nothing is unsafe."""

import msgspec
import pytest
from stubs.local_demo import Demo, processes_of, run_demo

PLAY_SECONDS = 300.0  # a limit: the demo ends by itself


@pytest.fixture(scope="module")
def demo(star, tmp_path_factory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("faults") / "run", "--star", str(star), "--faults", seconds=PLAY_SECONDS)


def test_every_part_was_killed_and_came_back(demo):
    faults = msgspec.json.decode((demo.folder / "faults.json").read_bytes())
    assert [fault["part"] for fault in faults] == ["controller", "gateway", "model server"], demo.printed
    assert all(fault["recovered_seconds"] is not None for fault in faults), faults


def test_nothing_ran_without_leave_or_twice(demo):
    assert demo.figures["unsafe_executions"] == 0, demo.figures["unsafe"]


def test_sessions_went_on_and_no_stored_record_was_lost(demo):
    assert demo.code == 0, demo.printed
    ended = [line for line in (demo.folder / "ledger.jsonl").read_text().splitlines() if '"session_ended"' in line]
    stored = {
        msgspec.json.decode(line)["session_id"]
        for path in demo.folder.glob("export.*.ndjson")
        for line in path.read_text().splitlines()
    }
    missing = [one for one in map(msgspec.json.decode, ended) if one["session_id"] not in stored]
    assert len(ended) > 300
    assert missing == []


def test_the_climb_goes_on_after_the_kills(demo):
    assert "Automation" in demo.stages("information"), demo.printed


def test_nothing_is_left_running(demo):
    assert processes_of(demo.folder) == []
