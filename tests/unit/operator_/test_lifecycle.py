"""The life of a process cluster as decided: each edge, and what it does to Jobs, servers, leave and status."""

from dataclasses import replace

import msgspec
import pytest
from facts import IMAGE, MemoryWorld, climb_to, healthy, make_bundle, names

from pilotage_core.certificate import ScoreSource
from pilotage_core.job_exit import JobExit, Remedy, count_tries, find_remedy
from pilotage_core.stage import Stage
from pilotage_operator.api.certificates import decode_certificates
from pilotage_operator.api.pipeline import Phase, PhaseState
from pilotage_operator.api.status import Baseline, ProcessClusterStatus, read_time
from pilotage_operator.decide.pipeline import start_making
from pilotage_operator.decide.tightening import find_tightened
from pilotage_operator.facts import JobFact, JobState, MonitorFact


def test_it_climbs_from_logging_to_automation_on_good_evidence():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    assert world.stages == ["Logging", "Copilot", "Calibration", "Automation"]
    assert names(world) == ["one-r1-policy", "one-r1-critic", "one-r1-calibrate"]
    assert [t.stage for t in world.status.transitions] == ["Logging", "Copilot", "Calibration", "Automation"]
    assert all(t.reason for t in world.status.transitions)


def test_each_stage_gives_the_leave_it_earned_and_no_more():
    world = MemoryWorld(make_bundle())
    leave = world.step().leave
    assert (leave.stage, leave.pair, leave.certificates) == (Stage.LOGGING, None, {})
    climb_to(world, "Copilot")
    leave = world.step().leave
    assert (leave.stage, leave.pair.policy_url, leave.pair.critic_url) == (Stage.COPILOT, "http://one-r1-policy", "")
    world = climb_to(MemoryWorld(make_bundle()), "Calibration")
    leave = world.step().leave
    assert leave.stage is Stage.CALIBRATION
    assert leave.pair.critic_url == "http://one-r1-critic"
    assert leave.certificates["procedure"].tau == 0.8


@pytest.mark.parametrize(
    ("counts", "condition", "have", "need"),
    [
        ({"sessions": 40, "demonstrations": 40}, "Demonstrations", "40", "at least 100"),
        ({"sessions": 99, "demonstrations": 99}, "Demonstrations", "99", "at least 100"),
    ],
)
def test_too_few_demonstrations_stay_in_logging_and_are_told_with_numbers(counts, condition, have, need):
    world = MemoryWorld(make_bundle())
    world.count(**counts)
    world.steps(20)
    assert world.status.stage is Stage.LOGGING
    assert names(world) == []
    assert (world.status.unmet[0].condition, world.status.unmet[0].have, world.status.unmet[0].need) == (
        condition,
        have,
        need,
    )


def test_the_long_tail_stays_in_copilot_for_want_of_feedback():
    world = climb_to(MemoryWorld(make_bundle()), "Copilot")
    world.count(feedback_sessions=49, sessions=500)
    world.steps(30)
    assert world.status.stage is Stage.COPILOT
    feedback = next(u for u in world.status.unmet if u.condition == "Feedback")
    assert (feedback.have, feedback.need) == ("49", "at least 50")


def test_a_policy_that_fails_its_evaluation_waits_for_fresh_sessions_before_the_next_attempt():
    world = MemoryWorld(make_bundle(), passes=False)
    world.count(sessions=100, demonstrations=100)
    world.steps(15)
    assert names(world) == ["one-r1-policy"]
    assert world.status.pipeline.last_outcome == "not good enough"
    world.passes = True
    world.count(sessions=120, demonstrations=120)
    world.steps(5)
    assert names(world) == ["one-r1-policy", "one-r1-policy-2"]
    assert world.status.stage is Stage.COPILOT


def test_calibration_that_certifies_nothing_stays_in_copilot_and_tries_again_with_more_sessions():
    world = climb_to(MemoryWorld(make_bundle(), certifies=False), "Copilot")
    world.count(sessions=160, feedback_sessions=60)
    world.steps(20)
    assert names(world)[1:] == ["one-r1-critic", "one-r1-calibrate"]
    assert world.status.stage is Stage.COPILOT
    assert world.status.pipeline.phase is Phase.FEEDBACK
    world.certifies = True
    world.count(sessions=179)
    world.steps(5)
    assert len(names(world)) == 3, "one session short of minFresh"
    world.count(sessions=180)
    world.steps(8)
    assert names(world)[3:] == ["one-r1-critic-2", "one-r1-calibrate-2"]
    assert world.status.stage is Stage.CALIBRATION
    assert world.status.pair.critic_endpoint == "one-r1-critic-2"


def find_condition(world: MemoryWorld, kind: str):
    return next((c for c in world.status.conditions if c.type == kind and c.status == "True"), None)


def test_a_job_that_fails_is_retried_under_a_new_name_later_each_time_then_left_to_a_person():
    world = MemoryWorld(make_bundle(), exit_code=JobExit.UNREACHABLE)
    world.count(sessions=100, demonstrations=100)
    world.steps(60)
    assert names(world) == ["one-r1-policy", "one-r1-policy-2", "one-r1-policy-3"], "after 10 and 20 seconds"
    assert find_condition(world, "Reconciling").reason == "JobRetried"
    assert find_condition(world, "Stalled") is None
    world.steps(1000)
    assert len(world.job_log) == count_tries(JobExit.UNREACHABLE) == 6
    stalled = find_condition(world, "Stalled")
    assert stalled.reason == "JobFailed"
    assert "broken" in stalled.message
    assert "6 tries in a row" in stalled.message


@pytest.mark.parametrize("code", [None, *JobExit], ids=str)
def test_every_end_of_a_job_has_a_bound_and_what_only_a_person_mends_is_not_tried_again(code):
    if code is JobExit.DONE:
        return
    world = MemoryWorld(make_bundle(), exit_code=code)
    world.count(sessions=100, demonstrations=100)
    world.steps(4000)
    tries = len(world.job_log)
    match find_remedy(code):
        case Remedy.A_PERSON:
            assert (tries, find_condition(world, "Stalled").reason) == (1, "JobFailed")
        case Remedy.MORE_DATA:
            assert (tries, find_condition(world, "Stalled")) == (1, None)
        case Remedy.ANOTHER_TRY:
            assert (tries, find_condition(world, "Stalled").reason) == (count_tries(code), "JobFailed")
        case Remedy.PREEMPTED:
            assert tries > 50, "nobody's failure: it goes on for as long as it is stopped"
    assert world.status.stage is Stage.LOGGING


@pytest.mark.parametrize("change", ["manifest", "image"])
def test_a_stalled_pipeline_goes_on_as_soon_as_somebody_changes_something(change):
    world = MemoryWorld(make_bundle(), exit_code=JobExit.USAGE)
    world.count(sessions=100, demonstrations=100)
    world.steps(20)
    assert (names(world), world.status.pipeline.state) == (["one-r1-policy"], PhaseState.STALLED)
    world.exit_code = 0
    world.steps(20)
    assert names(world) == ["one-r1-policy"], "nothing has changed"
    if change == "image":
        world.bundle = replace(world.bundle, serving_image="registry.example/serve@sha256:" + "1" * 64)
    else:
        more = world.bundle.policy_critic.training.model_copy(update={"memory": "4Gi"})
        pair = world.bundle.policy_critic.model_copy(update={"training": more})
        world.bundle = replace(world.bundle, policy_critic=pair)
    world.steps(5)
    assert names(world) == ["one-r1-policy", "one-r1-policy-2"]
    assert find_condition(world, "Stalled") is None


def test_a_refused_job_is_told_as_such_and_goes_on_when_it_is_let_in():
    world = MemoryWorld(make_bundle())
    world.count(sessions=100, demonstrations=100)
    refused = JobFact(JobState.REFUSED, reason="the Job is refused: exceeded quota: jobs, requested: 1, used: 3")
    world.steps(15, jobs={"one-r1-policy": refused})
    assert find_condition(world, "Stalled").reason == "JobRefused"
    assert "exceeded quota" in find_condition(world, "Stalled").message
    world.steps(5, jobs={})
    assert find_condition(world, "Stalled") is None
    assert world.status.stage is Stage.COPILOT


def test_a_job_whose_data_does_not_carry_it_waits_for_data_not_for_time():
    world = MemoryWorld(make_bundle(), exit_code=3)
    world.count(sessions=100, demonstrations=100)
    world.steps(200)
    assert names(world) == ["one-r1-policy"]


def test_the_critic_learns_from_copilot_only_and_keeps_the_newest_sessions_out():
    world = climb_to(MemoryWorld(make_bundle()), "Calibration")
    policy, critic, calibrate = world.job_log
    assert policy.since == ""
    assert policy.until
    assert read_time(critic.since) >= read_time(world.status.copilot_since) - 1
    assert critic.held_out_share == "0.5"
    assert calibrate.held_out_after
    assert read_time(calibrate.until) > read_time(calibrate.held_out_after)
    assert (calibrate.policy_url, calibrate.critic_url) == ("http://one-r1-policy", "http://one-r1-critic")


def test_a_ceiling_holds_what_is_earned_and_manual_promotion_waits_for_it():
    world = climb_to(MemoryWorld(make_bundle({"maxStage": "Copilot"})), "Calibration")
    assert (world.status.stage, world.status.earned) == (Stage.COPILOT, Stage.CALIBRATION)
    manual = {"maxStage": "Copilot", "promotion": {"calibration": "Manual"}}
    world = climb_to(MemoryWorld(make_bundle(manual)), "Calibration")
    assert (world.status.earned, world.status.unmet[0].condition) == (Stage.COPILOT, "Approval")
    world.bundle = make_bundle(manual | {"maxStage": "Calibration"})
    world.step()
    assert world.status.stage is Stage.CALIBRATION


def test_an_alarm_in_calibration_blocks_automation():
    world = climb_to(MemoryWorld(make_bundle()), "Calibration")
    world.count_pair("r1", calibration_sessions=200, reviewed=200, executed=400)
    world.steps(3, readings=healthy(), monitor=MonitorFact(r=5.0, r_peak=2000.0))
    assert world.status.stage is Stage.CALIBRATION
    assert "NoAlarm" in {u.condition for u in world.status.unmet}


def test_calibration_certifies_anew_on_its_own_labels_where_the_gate_says_so():
    """Two strata, δ 0.05, the first attempt's half: F of 80 in each that has a certificate."""
    fresh = {"calibration": {"certify": "Fresh"}}
    world = climb_to(MemoryWorld(make_bundle(gate=fresh)), "Calibration")
    world.count_pair("r1", calibration_sessions=200, reviewed=200, executed=400)
    for proofs in ({}, {"procedure": 79.0}):
        world.steps(3, readings=healthy(), monitor=MonitorFact(proofs=proofs))
        assert (world.status.stage, [u.condition for u in world.status.unmet]) == (
            Stage.CALIBRATION,
            ["FreshPrecision"],
        )
    assert world.status.unmet[0].have == "procedure: evidence of 79 from Calibration's own labels"
    alarmed = MonitorFact(r=40.0, r_peak=2000.0, tightened=("procedure",), proofs={"procedure": 200.0})
    world.steps(3, readings=healthy(), monitor=alarmed)
    assert world.status.stage is Stage.CALIBRATION, "a tightened τ is an attempt more: 240 are wanted"
    world.steps(3, readings=healthy(), monitor=replace(alarmed, proofs={"procedure": 241.0}))
    assert world.status.stage is Stage.AUTOMATION, "and its alarm has passed"


def test_without_counts_nothing_is_concluded_and_nothing_is_lost():
    world = climb_to(MemoryWorld(make_bundle()), "Copilot")
    seen = world.status.supervision
    world.steps(5, counts=None, monitor=None)
    assert world.status.supervision == seen
    assert world.status.stage is Stage.COPILOT


def test_what_a_job_waits_for_is_told_until_it_starts():
    world = MemoryWorld(make_bundle())
    world.count(sessions=100, demonstrations=100)
    while not world.job_log:
        world.step()
    name = world.job_log[0].name
    for reason in ("the Job waits in queue gpus", ""):
        world.step(jobs={name: JobFact(JobState.RUNNING, reason=reason)})
        assert (world.status.pipeline.job, world.status.pipeline.reason) == (name, reason)
    world.facts = replace(world.facts, jobs={})
    world.steps(3)
    assert world.status.pipeline.phase is not Phase.POLICY


def test_a_restart_changes_nothing():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    status = world.status
    again = MemoryWorld(world.bundle, status=status, facts=world.facts, now=world.now)
    again.step()
    assert again.status.transitions == status.transitions
    assert again.job_log == []
    assert again.status.to_json() == status.to_json()


def test_audits_are_raised_to_all_while_the_monitor_asks_for_it():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    assert world.step().leave.audit_share == 0.1
    assert world.step(monitor=MonitorFact(r=200.0, audits_all=True)).leave.audit_share == 1.0


@pytest.mark.parametrize(
    ("stricter", "taus", "summary", "said"),
    [
        (0.9, {"procedure": 0.9}, "procedure=0.900 (tightened: procedure)", "0.900"),
        (None, {}, "(tightened: procedure)", "nothing"),  # no stricter τ passed: nothing runs
    ],
)
def test_a_tightened_threshold_stays_so_until_a_new_certificate(stricter, taus, summary, said):
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    if stricter is not None:
        world.status.certificates[0]["tau_tighter"] = stricter
    called = MonitorFact(r=2000.0, r_peak=2000.0, tightened=("procedure",))
    for monitor in (called, None, MonitorFact(r=1.0)):  # nor does a restart or a calm monitor loosen it
        leave = world.step(monitor=monitor).leave
        assert {name: certificate.tau for name, certificate in leave.certificates.items()} == taus
        assert (world.status.tau_summary, world.status.tau["procedure"].tightened_to) == (summary, said)
    assert world.status.stage is Stage.AUTOMATION
    certificates = decode_certificates(world.status.certificates)
    same = replace(start_making(world.now), baseline=world.status.baseline, certificates=certificates)
    later = msgspec.structs.replace(certificates[0], issued_at="2027-01-02T00:00:00Z")
    assert find_tightened(world.status, same, None) == ("procedure",)
    assert find_tightened(world.status, replace(same, certificates=(later,)), called) == ()
    assert find_tightened(world.status, replace(same, baseline=Baseline(label_cursor=7)), called) == ()


def test_status_fits_the_certificate_summary_people_see():
    world = climb_to(MemoryWorld(make_bundle()), "Calibration")
    assert (world.status.tau_summary, world.status.precision, world.status.coverage) == (
        "procedure=0.800",
        "0.930",
        "0.660",
    )
    assert world.status.tau["procedure"].labels == 300
    assert world.status.certificates[0]["digests"]["serving_image"] == IMAGE


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        (ScoreSource.CRITIC, "procedure=0.800"),
        (ScoreSource.CONFIDENCE, "procedure=0.800 (confidence)"),
        (None, "procedure=0.800"),
    ],
)
def test_status_says_what_the_score_is_where_its_certificate_does(source, summary):
    world = climb_to(MemoryWorld(make_bundle(), score_from=source), "Calibration")
    assert world.status.tau_summary == summary
    assert world.status.tau["procedure"].score_from is source
    assert world.status.certificates[0].get("score_from") == source


def test_a_status_from_before_certificates_told_their_score_keeps_what_was_earned():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    stored = world.status.to_json()
    del stored["certificates"][0]["score_from"], stored["tau"]["procedure"]["scoreFrom"]
    world.status = ProcessClusterStatus.model_validate(stored)
    world.steps(3)
    assert (world.status.stage, world.status.held_by) == (Stage.AUTOMATION, "")
    assert world.status.tau["procedure"].score_from is None
    assert world.status.to_json()["tau"] == stored["tau"]


def test_a_void_certificate_is_followed_by_a_new_calibration_and_what_was_earned_comes_back():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.bundle = replace(world.bundle, serving_image="image@sha256:2")
    world.steps(3)
    assert world.status.pipeline.reason == "certificates void: serving_image changed"
    assert len(world.job_log) == 3, "model servers of the new image come up first"
    world.steps(40)
    assert names(world)[3:] == ["one-r1-calibrate-2"]
    assert world.job_log[3].held_out_after == world.job_log[2].held_out_after
    assert (world.status.stage, world.status.held_by) == (Stage.AUTOMATION, "")
    assert world.status.rollback is None


def test_a_change_that_is_taken_back_in_time_costs_no_calibration():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.bundle = make_bundle({"actions": {"stopTexts": ["refund"]}})
    world.steps(5)
    assert world.status.stage is Stage.COPILOT
    world.bundle = make_bundle()
    world.steps(60)
    assert world.status.stage is Stage.AUTOMATION
    assert len(world.job_log) == 3


def test_a_void_certificate_that_is_not_earned_anew_goes_back_to_collecting_feedback():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.certifies = False
    world.bundle = make_bundle({"actions": {"stopTexts": ["refund"]}})
    world.steps(60)
    assert world.status.pipeline.phase is Phase.FEEDBACK
    assert (world.status.stage, world.status.held_by) == (Stage.COPILOT, "CertificateVoid")
