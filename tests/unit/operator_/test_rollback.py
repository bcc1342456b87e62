"""A breach, what holds a process cluster below what it earned, and the way back."""

import pytest
from facts import MemoryWorld, climb_to, healthy, make_bundle, names

from pilotage_core.guardrail import Reading
from pilotage_core.stage import Stage
from pilotage_operator.api.status import read_time
from pilotage_operator.decide.workloads import RETIREMENT_SECONDS
from pilotage_operator.facts import EndpointFact


def breach(world: MemoryWorld):
    return world.step(readings={"corrections": Reading(0.5, 40)})


@pytest.mark.parametrize("stage", ["Calibration", "Automation"])
def test_a_breach_takes_leave_back_at_once_latched_and_with_its_reading(stage):
    world = climb_to(MemoryWorld(make_bundle()), stage)
    decision = breach(world)
    assert decision.revoked
    assert (decision.leave.stage, decision.leave.certificates) == (Stage.COPILOT, {})
    rollback = world.status.rollback
    assert (rollback.guardrail, rollback.value, rollback.pair, rollback.latched) == ("corrections", "0.5", "r1", True)
    assert "corrections" in world.status.transitions[-1].reason
    world.steps(100, readings=healthy())
    assert world.status.stage is Stage.COPILOT, "latched: a healthy reading changes nothing"


def test_after_a_rollback_a_new_pair_is_made_beside_the_old_one_and_switched_once_certified():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    breach(world)
    rolled_back_at = read_time(world.status.rollback.at)
    world.steps(30, readings=healthy())
    assert len(names(world)) == 3, "no fresh session yet"
    world.count(sessions=420)
    assert not any(job.start_from for job in world.job_log)
    world.certifies = False
    world.steps(4)
    assert world.status.pair.revision == "r1", "the old pair proposes until the new one is certified"
    world.steps(10)
    assert names(world)[3:] == ["one-r2-policy", "one-r2-critic", "one-r2-calibrate"]
    assert world.status.pipeline.revision == "r3", "nothing was certified: the next revision waits for sessions"
    world.certifies = True
    world.count(sessions=440)
    world.steps(14)
    assert world.status.stage is Stage.CALIBRATION
    assert world.status.pair.revision == "r3"
    assert world.status.rollback.latched is False
    for job in world.job_log[3:]:
        assert job.fresh_after == world.job_log[3].fresh_after
        assert job.start_from == "r1", "the pair that is replaced, not one that was never current"
        assert read_time(job.fresh_after) == pytest.approx(rolled_back_at, abs=0.01)
    assert read_time(world.status.certified_after) > rolled_back_at
    assert [t.stage for t in world.status.transitions][-2:] == ["Copilot", "Calibration"]


def test_an_endpoint_outlives_its_pair_for_a_while_and_is_then_retired():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    breach(world)
    world.count(sessions=420)
    world.steps(30, readings={})
    assert world.status.pair.revision == "r2"
    assert {"one-r1-policy", "one-r1-critic"} <= set(world.facts.endpoints)
    world.steps(int(RETIREMENT_SECONDS) + 2)
    assert set(world.facts.endpoints) == {"one-r2-policy", "one-r2-critic"}
    assert world.status.retiring == ()


def test_counts_of_a_new_pair_start_at_zero():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    breach(world)
    world.count(sessions=420)
    world.steps(30, readings={})
    assert world.status.stage is Stage.CALIBRATION
    assert world.status.supervision.calibration_sessions == 0
    world.count_pair("r2", calibration_sessions=29, reviewed=29, executed=60)
    world.steps(3, readings=healthy())
    assert world.status.supervision.calibration_sessions == 29
    assert world.status.stage is Stage.CALIBRATION


def test_an_acknowledged_rollback_climbs_with_the_same_pair_after_its_cooldown_and_gives_up_the_new_one():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    breach(world)
    world.bundle = make_bundle({"acknowledgedRollback": world.status.rollback.id})
    world.steps(5, readings={"corrections": Reading(float("nan"), 0)})
    assert world.status.stage is Stage.COPILOT, "cooldown"
    world.bundle = make_bundle()  # a later revert changes nothing
    world.steps(20)
    assert world.status.stage is Stage.CALIBRATION
    assert world.status.pair.revision == "r1"
    assert world.status.acknowledged == world.status.rollback.id


def test_more_rollbacks_than_the_flap_budget_need_a_person():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    sessions = 400
    for _ in range(3):
        breach(world)
        sessions += 40
        world.count(sessions=sessions)
        world.steps(40, readings={})
    assert world.status.stage is Stage.COPILOT
    assert "FlapBudget" in {u.condition for u in world.status.unmet}
    world.bundle = make_bundle({"acknowledgedRollback": world.status.rollback.id})
    world.steps(2)
    assert world.status.stage is Stage.CALIBRATION


@pytest.mark.parametrize(
    ("change", "cap"),
    [
        ({"authority": False}, "NoPermitAuthority"),
        ({"admission": False}, "NoAdmissionPolicy"),
        ({"clock_skew_seconds": 6.0}, "ClockSkew"),
        ({"endpoints": {}}, "EndpointDown"),
        (
            {"endpoints": {"one-r1-policy": EndpointFact(True, "u"), "one-r1-critic": EndpointFact(False, "u")}},
            "EndpointDown",
        ),
    ],
)
def test_a_cap_holds_at_copilot_and_clears_by_itself(change, cap):
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    before = world.facts
    decision = world.step(**change)
    assert decision.revoked
    assert (world.status.stage, world.status.earned, world.status.held_by) == (Stage.COPILOT, Stage.AUTOMATION, cap)
    assert cap in world.status.transitions[-1].reason
    world.facts = before
    world.steps(2)
    assert (world.status.stage, world.status.held_by) == (Stage.AUTOMATION, "")
    assert world.status.rollback is None


def test_one_late_probe_holds_nobody_back():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    late = dict(world.facts.endpoints) | {"one-r1-critic": EndpointFact(False, "u", "", world.now - 2)}
    assert not world.step(endpoints=late).revoked
    assert world.status.stage is Stage.AUTOMATION


def test_suspend_observes_only_and_costs_nothing_earned():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.bundle = make_bundle({"suspend": True})
    leave = world.step().leave
    assert (leave.stage, leave.suspended, leave.pair) == (Stage.LOGGING, True, None)
    world.bundle = make_bundle()
    assert world.step().leave.stage is Stage.AUTOMATION


def test_missing_data_caps_after_its_grace_and_rolls_back_only_where_asked_to():
    missing = {"corrections": Reading(float("nan"), 0.0, "stale")}
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.steps(15, readings=missing)
    assert world.status.stage is Stage.AUTOMATION
    world.step()
    assert (world.status.stage, world.status.held_by) == (Stage.COPILOT, "GuardrailDataMissing")
    assert world.status.rollback is None
    world.steps(2, readings=healthy())
    assert world.status.stage is Stage.AUTOMATION


def test_missing_data_rolls_back_where_the_gate_says_so():
    gate = make_bundle().gate.to_json()
    gate["guardrails"][0]["onMissingData"] = "Rollback"
    world = climb_to(MemoryWorld(make_bundle(gate=gate)), "Automation")
    world.steps(17, readings={"corrections": Reading(float("nan"), 0.0, "stale")})
    assert world.status.stage is Stage.COPILOT
    assert world.status.rollback.guardrail == "corrections"


def test_a_dry_run_guardrail_tells_and_does_nothing():
    gate = make_bundle().gate.to_json()
    gate["guardrails"][0]["dryRun"] = True
    world = climb_to(MemoryWorld(make_bundle(gate=gate)), "Automation")
    breach(world)
    assert world.status.stage is Stage.AUTOMATION
    assert world.status.guardrails[0].verdict == "Breached"
    assert world.status.guardrails[0].breached_since


def test_what_an_earlier_leader_took_back_and_never_wrote_down_counts_all_the_same():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    unwritten = world.status
    told = breach(world).leave.revoked
    assert (told.guardrail, told.value) == ("corrections", 0.5)
    assert told.at == read_time(world.status.rollback.at)
    world.status = unwritten  # it died before its status was stored, and Prometheus has forgotten too
    decision = world.step(readings=healthy())
    assert decision.leave.stage is Stage.AUTOMATION, "without gateways that remember it would go on"
    decision = world.step(readings=healthy(), reported=told)
    assert (decision.revoked, decision.leave.stage) == (True, Stage.COPILOT)
    rollback = world.status.rollback
    assert (rollback.guardrail, rollback.value, rollback.latched) == ("corrections", "0.5", True)
    assert "as gateways remember" in rollback.reason
    world.steps(20, readings=healthy(), reported=told)
    assert len(world.status.rollbacks) == 1, "it is told of for an hour, and counts once"


def test_what_is_written_down_already_is_no_news_however_often_it_is_told():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    told = breach(world).leave.revoked
    world.count(sessions=420)
    world.steps(30, readings={}, reported=told)
    assert world.status.stage is Stage.CALIBRATION, "it came back on fresh evidence, and stays"
    assert len(world.status.rollbacks) == 1
