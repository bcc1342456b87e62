"""What is told of a life: each thing once, with a reason of its own."""

from dataclasses import replace

from facts import MemoryWorld, climb_to, healthy, make_bundle

from pilotage_core.guardrail import Reading
from pilotage_core.job_exit import JobExit
from pilotage_operator.decide.telling import Happening, list_happenings
from pilotage_operator.facts import EndpointFact, JobFact, JobState


def tell(world: MemoryWorld, steps: int = 1, **changes: object) -> list[Happening]:
    told = []
    for _ in range(steps):
        before = world.status
        world.step(**changes)
        told += list_happenings(before, world.status)
        changes = {}
    return told


def reasons(told: list[Happening]) -> list[str]:
    return [happening.reason for happening in told]


def test_a_climb_is_told_step_by_step_and_a_quiet_time_not_at_all():
    world = MemoryWorld(make_bundle())
    assert tell(world, 5) == []
    world.count(sessions=100, demonstrations=100)
    told = tell(world, 20)
    assert reasons(told) == ["JobStarted", "Promoted", "PairSwitched"]
    assert told[1].message.startswith("Logging → Copilot: ")
    world.count(sessions=200, feedback_sessions=50)
    assert reasons(tell(world, 12)) == ["JobStarted", "JobStarted", "Promoted", "Certified"]
    assert tell(world, 20) == []


def test_a_breach_is_a_warning_and_so_is_what_it_takes():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    told = tell(world, readings={"corrections": Reading(0.5, 40)})
    assert [(h.reason, h.is_warning) for h in told] == [("RolledBack", True), ("GuardrailBreached", True)]
    assert told[0].message.startswith("Automation → Copilot, ")
    assert "corrections" in told[1].message
    assert tell(world, 5, readings={"corrections": Reading(0.5, 40)}) == []
    acknowledged = world.bundle.cluster.model_copy(update={"acknowledged_rollback": world.status.rollback.id})
    world.bundle = replace(world.bundle, cluster=acknowledged)
    assert reasons(tell(world, 40, readings=healthy())) == ["RollbackAcknowledged", "LatchLifted", "Promoted"]


def test_a_cap_of_its_own_is_told_and_one_of_the_whole_fleet_is_not():
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    assert tell(world, authority=False) == tell(world, authority=True) == []
    down = {name: EndpointFact(False, "", "gone", world.now - 60) for name in world.facts.endpoints}
    up = world.facts.endpoints
    assert reasons(tell(world, endpoints=down)) == ["EndpointDown"]
    assert reasons(tell(world, endpoints=up)) == ["CapLifted"]


def test_a_job_that_fails_is_told_once_a_try_and_one_that_waits_for_room_once():
    world = MemoryWorld(make_bundle(), exit_code=JobExit.UNREACHABLE)
    world.count(sessions=100, demonstrations=100)
    told = reasons(tell(world, 1200))
    assert told.count("JobStarted") == 6
    assert (told.count("JobFailed"), told.count("JobStalled")) == (5, 1)
    world = MemoryWorld(make_bundle())
    world.count(sessions=100, demonstrations=100)
    refused = {"one-r1-policy": JobFact(JobState.REFUSED, reason="exceeded quota")}
    told = tell(world, 30, jobs=refused)
    assert reasons(told).count("JobRefused") == 1


def test_what_is_not_good_enough_says_why():
    world = MemoryWorld(make_bundle(), passes=False)
    world.count(sessions=100, demonstrations=100)
    told = tell(world, 20)
    assert reasons(told) == ["JobStarted", "NotGoodEnough"]
    assert told[1].message.startswith("r1: ")
