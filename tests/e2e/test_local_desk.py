"""Given the desk's manifests, when the local demo runs in closed loop: sessions that run by themselves, by the records.

How far a model gets within minutes differs with the machine: what is asserted holds wherever it stopped.
"""

import pytest
from stubs.local_demo import Demo, processes_of, run_demo

PLAY_SECONDS = 250.0


@pytest.fixture(scope="module")
def demo(sgd, tmp_path_factory) -> Demo:
    return run_demo(tmp_path_factory.mktemp("desk") / "run", "--data", "desk", "--sgd", str(sgd), seconds=PLAY_SECONDS)


def test_it_ends_well_and_leaves_nothing_running(demo):
    assert demo.code == 0, demo.printed
    assert processes_of(demo.folder) == []


def test_a_policy_for_all_nine_actions_is_learned_and_certified_within_it(demo):
    assert demo.stages("evenings")[:3] == ["Logging", "Copilot", "Calibration"], demo.printed
    tools = demo.cluster("evenings")["acceptance"]
    assert {"send_text_to_chat", "open_procedure", "click_control", "fill_input", "close_chat"} <= tools.keys()
    assert all(one["bound"] >= one["target"] for one in demo.cluster("evenings")["certificates"])


def test_nothing_ran_without_leave_or_twice(demo):
    assert demo.figures["unsafe_executions"] == 0, demo.figures["unsafe"]
    assert demo.cluster("evenings")["executed_critical"] > 0


def test_every_session_is_judged_by_the_books_and_sessions_count_as_evidence(demo):
    whole = demo.cluster("evenings")["whole"]
    assert whole["resolution_correctness"]["human_only"]["share"] > 0.85
    certificate = demo.cluster("evenings")["session_certificate"]
    assert certificate["unasked"] >= certificate["wrong"] >= 0
    assert "Sessions over time, by who touched them" in (demo.folder / "report.html").read_text()


def test_a_model_ended_sessions_only_where_they_were_certified(demo):
    whole = demo.cluster("evenings")["whole"]
    ended_alone = (whole["automation_rate"] or {"part": 0})["part"]
    assert not ended_alone or "Automation" in demo.stages("evenings")


def test_the_tails_stay_with_people(demo):
    for name in ("travel", "long-tail"):
        assert demo.cluster(name)["executed_critical"] == 0
        assert demo.stages(name) == ["Logging"]
