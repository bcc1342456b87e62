"""When a certificate stands, and what follows where it does not."""

from dataclasses import replace

import pytest
from facts import MemoryWorld, climb_to, healthy, make_bundle, make_certificate

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind
from pilotage_core.guardrail import Reading
from pilotage_core.score import CONFIDENCE_ALONE, ScoreRule
from pilotage_core.stage import Stage


def breach(world: MemoryWorld):
    return world.step(readings={"corrections": Reading(0.5, 40)})


@pytest.mark.parametrize("what", ["image", "actions", "prompt"])
def test_a_certificate_is_void_as_soon_as_a_digest_changes(what):
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    if what == "image":
        world.bundle = replace(world.bundle, serving_image="image@sha256:2")
    elif what == "actions":
        world.bundle = make_bundle({"actions": {"stopTexts": ["refund"]}})
    else:
        other = make_certificate(world.bundle, "r1", world.now)
        digests = {**world.status.certificates[0]["digests"], "prompt_format": "0" * 16}
        assert other.digests.prompt_format != digests["prompt_format"]
        certificate = {**world.status.certificates[0], "digests": digests}
        world.status = world.status.model_copy(update={"certificates": (certificate,)})
    leave = world.step().leave
    assert (world.status.stage, world.status.held_by) == (Stage.COPILOT, "CertificateVoid")
    assert leave.certificates == {}


@pytest.mark.parametrize("dialog", [DEFAULT_FORMAT, DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000)])
def test_a_pair_is_asked_and_certified_in_the_format_it_was_trained_in_and_scored_by_its_rule(dialog):
    rule = ScoreRule(0.5, 1.5, -0.25)
    world = climb_to(MemoryWorld(make_bundle(), dialog=dialog, score=rule), "Automation")
    assert world.status.stage is Stage.AUTOMATION
    leave = world.last.leave
    assert (leave.pair.dialog, leave.pair.score) == (dialog, rule)
    assert leave.certificates["procedure"].digests.prompt_format == leave.pair.dialog.digest
    breach(world)
    world.dialog, world.score = DialogFormat(SnapshotKind.WHOLE), CONFIDENCE_ALONE
    world.count(sessions=420)
    for _ in range(60):
        world.step(readings=healthy())
        pair = world.last.leave.pair
        own = (dialog, rule) if pair.revision == "r1" else (world.dialog, world.score)
        assert (pair.dialog, pair.score) == own, "each pair keeps its own"
    assert pair.revision == "r2"


def test_a_certificate_for_prompts_in_another_format_does_not_stand():
    trained = DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000)
    world = climb_to(MemoryWorld(make_bundle(), dialog=trained, certified_in=DEFAULT_FORMAT), "Automation")
    assert world.status.earned is Stage.COPILOT
    assert world.last.leave.certificates == {}
