"""Given the example's manifests, when the local demo runs on real dialogues: the life cycle, told by its records."""

import pytest
from stubs.local_demo import Demo, processes_of, run_demo

CLIMB = ["Logging", "Copilot", "Calibration", "Automation"]
PLAY_SECONDS = 300.0  # a limit: the demo ends by itself


@pytest.fixture(scope="module")
def demo(star, tmp_path_factory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("demo") / "run", "--star", str(star), seconds=PLAY_SECONDS)


def test_it_ends_well_and_leaves_nothing_running(demo):
    assert demo.code == 0, demo.printed
    assert processes_of(demo.folder) == []


def test_information_reaches_every_stage_in_order(demo):
    assert demo.stages("information")[:4] == CLIMB, demo.printed


def test_a_changed_process_breaches_and_is_back_in_copilot_within_seconds(demo):
    assert demo.stages("information")[4:5] == ["Copilot"], demo.printed
    breach = demo.cluster("information")["breaches"][0]
    assert breach["reason"].startswith("guardrail ")
    assert demo.cluster("information")["breach_to_copilot_seconds"] < 10.0


def test_the_latch_lifts_only_on_a_certificate_newer_than_the_rollback(demo):
    stages = demo.stages("information")
    later = [one for one in stages[5:] if one in ("Calibration", "Automation")]
    certificates = demo.cluster("information")["certificates"]
    fell_at = demo.cluster("information")["stages"][4]["at"]
    assert not later or any(one["issued_at"] > fell_at for one in certificates)


def test_neighbours_are_untouched_by_the_breach(demo):
    for name in ("bookings", "long-tail"):
        assert demo.cluster(name)["breaches"] == []
        assert demo.cluster(name)["executed_critical"] == 0


def test_nothing_ran_without_leave_or_twice(demo):
    assert demo.figures["unsafe_executions"] == 0, demo.figures["unsafe"]


def test_the_report_has_its_figures(demo):
    information = demo.cluster("information")
    assert information["executed_critical"] > 0
    assert 0.0 < information["strict_precision"] <= information["graded_precision"] <= 1.0
    assert 0.0 < information["coverage"] <= 1.0
    assert information["certificates"][0]["bound"] >= information["certificates"][0]["target"]
    assert information["operator_seconds"]["with"] < information["operator_seconds"]["without"]
    assert "click_control" in information["acceptance"]
    page = (demo.folder / "report.html").read_text()
    assert "breach-information-1" in page
    assert "Held-out precision against coverage: procedure" in page


def test_the_long_tail_says_what_it_lacks_with_numbers(demo):
    unmet = demo.cluster("long-tail")["unmet"]
    assert unmet[0]["condition"] in ("Demonstrations", "Feedback")
    assert int(unmet[0]["have"]) < int(unmet[0]["need"].rpartition(" ")[2])
