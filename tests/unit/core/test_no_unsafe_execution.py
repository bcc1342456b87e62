"""One search through permit, gate and fence together: is there any world in which a critical action runs without leave?

The world is drawn whole (clocks, epochs, digests, stage, scores); what must hold is written anew, not taken from code.
"""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.actions import Action, ActionClass, Tool
from pilotage_core.gate import Decision, GateFacts, decide_gate
from pilotage_core.permit import FenceFacts, Permit, PermitFacts, find_fence_fault, find_permit_fault, remaining_ms
from pilotage_core.stage import Stage

SUBMIT = Action(Tool.CLICK_CONTROL, control_id="submit")
CRITICAL = ActionClass(critical=True, finalizing=False, stratum="procedure", stopped=False, unattended_in_copilot=True)
few = st.integers(1, 2)
names = st.sampled_from(["a", "a", "b"])


class World(msgspec.Struct, frozen=True):
    """Everything that differs between a safe and an unsafe world. Times in seconds of one boot clock."""

    stage: Stage
    permit_domain: str
    permit_nonce: str
    permit_digest: str
    permit_epoch: int
    validity_ms: int
    highest_epoch_at_gateway: int
    highest_epoch_at_bpm: int
    poll_age: float
    drift: float
    pause_before_action: float
    order_nonce: str
    version_scored: int
    scored_this: bool
    version_decided: int
    version_at_bpm: int
    key_used: bool
    tau: float | None
    score: float | None


worlds = st.builds(
    World,
    stage=st.sampled_from(Stage),
    permit_domain=names,
    permit_nonce=names,
    permit_digest=names,
    permit_epoch=few,
    validity_ms=st.sampled_from([0, 1_000, 10_000]),
    highest_epoch_at_gateway=few,
    highest_epoch_at_bpm=few,
    poll_age=st.floats(0, 12),
    drift=st.sampled_from([0.0, 0.0, 2.0]),
    pause_before_action=st.floats(0, 12),
    order_nonce=names,
    version_scored=few,
    scored_this=st.sampled_from([True, True, False]),
    version_decided=few,
    version_at_bpm=few,
    key_used=st.booleans(),
    tau=st.one_of(st.none(), st.floats(0, 1)),
    score=st.one_of(st.none(), st.floats(allow_nan=True)),
)


def runs(world: World) -> bool:
    """Whether the action is executed, through the same three functions that gateway and BPM call."""
    permit = Permit(world.permit_domain, world.permit_epoch, world.permit_nonce, world.validity_ms, world.permit_digest)
    now = 100.0
    fault = find_permit_fault(
        permit,
        PermitFacts(
            now=now,
            nonce="a",
            nonce_sent=now - world.poll_age,
            highest_epoch=world.highest_epoch_at_gateway,
            snapshot_digest="a",
            domain="a",
            drift_seconds=world.drift,
        ),
    )
    verdict = decide_gate(
        GateFacts(
            stage=world.stage,
            state_version=world.version_decided,
            action=SUBMIT,
            action_class=msgspec.structs.replace(CRITICAL, unattended_in_copilot=False),
            permit_fresh=fault is None,
            tau=world.tau,
            score=world.score,
            score_version=world.version_scored,
            scored=SUBMIT.digest if world.scored_this else Action(Tool.CLOSE_CHAT).digest,
        )
    )
    if verdict.decision is not Decision.EXECUTE:
        return False
    refused = find_fence_fault(
        FenceFacts(
            nonce="a",
            since_nonce_ms=world.pause_before_action * 1_000,
            state_version=world.version_at_bpm,
            keys_used={"k"} if world.key_used else set(),
            highest_epoch=world.highest_epoch_at_bpm,
        ),
        nonce=world.order_nonce,
        state_version=world.version_decided,
        idempotency_key="k",
        remaining_ms=remaining_ms(permit, now - world.poll_age, now),
        epoch=permit.epoch,
        by_permit=True,
    )
    return refused is None


@given(worlds)
@settings(max_examples=1_500, deadline=None)
def test_no_world_executes_a_critical_action_without_leave(world):
    if not runs(world):
        return
    assert world.stage in (Stage.CALIBRATION, Stage.AUTOMATION)
    assert world.permit_domain == world.permit_nonce == world.permit_digest == world.order_nonce == "a"
    assert world.permit_epoch >= max(world.highest_epoch_at_gateway, world.highest_epoch_at_bpm)
    assert world.poll_age + world.pause_before_action < world.validity_ms / 1_000 + 1e-3
    assert world.drift == 0
    assert world.version_scored == world.version_decided == world.version_at_bpm
    assert world.scored_this
    assert not world.key_used
    assert world.tau is not None
    assert world.score is not None
    assert 1 >= world.score >= world.tau


def test_the_search_can_find_an_execution():
    """Otherwise the property above would hold of a gate that never opens."""
    world = World(Stage.AUTOMATION, "a", "a", "a", 2, 10_000, 2, 2, 1.0, 0.0, 0.1, "a", 2, True, 2, 2, False, 0.5, 0.9)
    assert runs(world)
    for change in (
        {"stage": Stage.COPILOT},
        {"permit_epoch": 1},
        {"permit_nonce": "b"},
        {"pause_before_action": 9.5},
        {"version_at_bpm": 1},
        {"key_used": True},
        {"score": 0.4},
        {"scored_this": False},
    ):
        assert not runs(msgspec.structs.replace(world, **change))
