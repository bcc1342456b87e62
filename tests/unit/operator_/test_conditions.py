"""Conditions, as those read them that wait for a roll-out: kstatus (Flux), and Argo CD by the Lua in examples."""

from dataclasses import replace

import pytest
from facts import MemoryWorld, climb_to, make_bundle

from pilotage_core.guardrail import Reading
from pilotage_core.job_exit import JobExit
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.decide.lifecycle import decide_faulty
from pilotage_operator.facts import EndpointFact, JobFact, JobState


def read_kstatus(status: dict, generation: int = 1) -> str:
    """What kstatus makes of an object that it has no rule of its own for.

    Source: sigs.k8s.io/cli-utils, pkg/kstatus/status/status.go, checkGenericProperties and checkReadyCondition.
    """
    if status.get("observedGeneration", generation) != generation:
        return "InProgress"
    for condition in status.get("conditions", []):
        if condition["type"] == "Reconciling" and condition["status"] == "True":
            return "InProgress"
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return "Failed"
    for condition in status.get("conditions", []):
        if condition["type"] == "Ready":
            return "Current" if condition["status"] == "True" else "InProgress"
    return "Current"


def begin() -> MemoryWorld:
    world = MemoryWorld(make_bundle())
    world.step()
    return world


def train() -> MemoryWorld:
    world = MemoryWorld(make_bundle())
    world.count(sessions=100, demonstrations=100)
    world.steps(13, jobs={"one-r1-policy": JobFact(JobState.RUNNING)})
    return world


def bring_up(seconds: int) -> MemoryWorld:
    world = train()
    down = EndpointFact(False, "", "no pod", world.now)
    world.step(jobs={}, endpoints={})
    for _ in range(seconds):
        world.step(endpoints={"one-r1-policy": down})
    return world


def fail(code: JobExit) -> MemoryWorld:
    world = MemoryWorld(make_bundle(), exit_code=code)
    world.count(sessions=100, demonstrations=100)
    world.steps(15)
    return world


def refuse() -> MemoryWorld:
    world = MemoryWorld(make_bundle())
    world.count(sessions=100, demonstrations=100)
    world.steps(15, jobs={"one-r1-policy": JobFact(JobState.REFUSED, reason="exceeded quota")})
    return world


def suspend() -> MemoryWorld:
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.bundle = replace(world.bundle, cluster=world.bundle.cluster.model_copy(update={"suspend": True}))
    world.step()
    return world


def lose_authority() -> MemoryWorld:
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.step(authority=False)
    return world


def roll_back() -> MemoryWorld:
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.step(readings={"corrections": Reading(0.5, 40)})
    return world


MADE = [
    (begin, "CollectingEvidence", "Current"),
    (train, "Training", "Current"),
    (lambda: bring_up(20), "CollectingEvidence", "InProgress"),
    (lambda: bring_up(320), "EndpointNotReady", "Failed"),
    (lambda: fail(JobExit.UNREACHABLE), "JobFailed", "InProgress"),
    (lambda: fail(JobExit.USAGE), "JobFailed", "Failed"),
    (refuse, "JobRefused", "Failed"),
    (lambda: climb_to(MemoryWorld(make_bundle()), "Automation"), "InService", "Current"),
    (suspend, "Suspended", "Current"),
    (lose_authority, "NoPermitAuthority", "InProgress"),
    (roll_back, "RolledBack", "Current"),
]
"""How a process cluster came to where it is, the reason of its Ready, and what kstatus makes of it."""


@pytest.mark.parametrize(("made", "reason", "read"), MADE)
def test_only_what_ends_in_minutes_holds_up_a_roll_out_and_only_what_a_person_mends_fails_it(made, reason, read):
    document = made().status.to_json()
    ready = next(c for c in document["conditions"] if c["type"] == "Ready")
    assert ready["reason"] == reason
    assert read_kstatus(document) == read


def test_manifests_that_do_not_go_together_may_be_on_their_way_for_a_moment():
    status, again = decide_faulty(ProcessClusterStatus(), "AutomationGate a is not there", 3, 1000.0)
    assert read_kstatus(status.to_json(), 3) == "InProgress"
    assert again == 1030.0
    status, again = decide_faulty(status, "AutomationGate a is not there", 3, again)
    assert read_kstatus(status.to_json(), 3) == "Failed"
    assert again == float("inf")


def test_what_is_rolled_back_says_by_what_until_it_is_lifted():
    world = roll_back()
    assert world.status.rolled_back_by == "corrections"
    told = replace(
        world.bundle,
        cluster=world.bundle.cluster.model_copy(update={"acknowledged_rollback": world.status.rollback.id}),
    )
    world.bundle = told
    world.steps(40, readings={"corrections": Reading(0.02, 40)})
    assert (world.status.stage, world.status.rolled_back_by) == ("Calibration", "")
