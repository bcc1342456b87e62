"""Who ends sessions: a model once its sessions are certified by how they came out, people else."""

import json
from dataclasses import replace

import pytest
from facts import MemoryWorld, climb_to, make_bundle

from pilotage.explain import explain_process_cluster
from pilotage_operator.manifests.job import build_train_config

WATCH = {"name": "unasked", "builtin": "UnaskedWrongRate", "comparator": ">", "threshold": "0.3"}
AUTO = {"finalization": {"mode": "Auto", "sessionTarget": "0.9", "sessionDelta": "0.05", "reviewShare": "0.2"}}


def automated(gate=AUTO, stage="Automation", **counts) -> MemoryWorld:
    world = climb_to(MemoryWorld(make_bundle(gate=gate)), stage)
    world.count_pair("r1", **counts)
    world.step()
    return world


def test_a_model_ends_sessions_once_they_are_certified():
    world = automated(unasked=200, unasked_wrong=5)
    assert not world.last.leave.finalizing_by_human
    assert world.last.leave.review_share == 0.2
    assert (world.status.ends, world.status.sessions.certified) == ("Model", True)
    assert float(world.status.sessions.bound) >= 0.9


@pytest.mark.parametrize(
    ("gate", "stage", "counts"),
    [
        (AUTO, "Automation", {"unasked": 40, "unasked_wrong": 0}),  # too few
        (AUTO, "Automation", {"unasked": 200, "unasked_wrong": 20}),  # too many wrong
        (AUTO, "Automation", {"unasked": 0}),
        (AUTO, "Automation", {"unasked": 5, "unasked_wrong": 9}),  # impossible counts certify nothing
        (AUTO, "Calibration", {"unasked": 200, "unasked_wrong": 0}),  # another stage
        ({}, "Automation", {"unasked": 200, "unasked_wrong": 0}),  # people did not ask for it
    ],
)
def test_without_a_certificate_or_the_wish_people_end_them(gate, stage, counts):
    world = automated(gate, stage, **counts)
    assert world.last.leave.finalizing_by_human
    assert world.status.ends == "Human"


def test_what_speaks_against_it_later_takes_it_back_and_no_latch_keeps_it():
    world = automated(unasked=200, unasked_wrong=5)
    world.count_pair("r1", unasked=260, unasked_wrong=30)
    assert world.step().leave.finalizing_by_human
    world.count_pair("r1", unasked=2000, unasked_wrong=60)
    assert not world.step().leave.finalizing_by_human


def test_another_certificate_begins_anew_and_an_acknowledged_rollback_does_not():
    world = automated(unasked=200, unasked_wrong=60)
    assert world.status.sessions.unasked == 200
    world.bundle = replace(world.bundle, gate=world.bundle.gate, serving_image="another")
    world.steps(2)
    assert world.status.stage == "Copilot"  # the certificate is void
    world.now += 60.0
    world.steps(8)
    assert (world.status.sessions.unasked, world.status.ends) == (0, "Human")


def test_a_look_that_failed_forgets_nothing_of_them():
    world = automated(unasked=200, unasked_wrong=5)
    world.step(counts=None)
    assert (world.status.sessions.unasked, world.status.ends) == (200, "Model")


def test_only_sessions_since_it_was_certified_count():
    world = MemoryWorld(make_bundle(gate=AUTO))
    world.count_pair("r1", unasked=500, unasked_wrong=0)
    climb_to(world, "Automation")
    assert world.step().leave.finalizing_by_human
    assert world.status.sessions.unasked == 0


def test_each_attempt_has_its_own_share_of_delta():
    world = automated(unasked=55, unasked_wrong=0)
    assert not world.last.leave.finalizing_by_human  # half of δ: 51 without an error
    world.status = world.status.model_copy(
        update={"pipeline": world.status.pipeline.model_copy(update={"calibrations": 3})}
    )
    assert world.step().leave.finalizing_by_human  # a twelfth


def test_the_calibration_job_is_told_what_sessions_have_to_reach_where_models_end_them():
    told = json.loads(build_train_config(make_bundle(gate=AUTO)))
    assert told["session_target"] == 0.9
    assert "session_target" not in json.loads(build_train_config(make_bundle()))


def test_explain_says_who_ends_sessions_and_what_is_known_of_them():
    world = automated(unasked=200, unasked_wrong=5)
    said = explain_process_cluster("star/one", world.bundle.cluster, world.status, world.now)
    assert "the model ends them" in said
    assert "5 of 200 came out wrong" in said
    assert "Whole sessions" not in explain_process_cluster(
        "star/one", world.bundle.cluster, automated(gate={}).status, world.now
    )
