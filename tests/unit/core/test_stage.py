"""The stage machine: its table, its caps, its latch, and a search for stages that nothing leaves."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.stage import (
    EDGES,
    ORDER,
    UNATTENDED,
    Breach,
    Cap,
    Need,
    Rollback,
    Stage,
    StageFacts,
    decide_stage,
    find_edge,
    find_unmet,
)

PRODUCED_IN = {
    Need.DEMONSTRATIONS: Stage.LOGGING,
    Need.MINIMUM_CYCLE: Stage.LOGGING,
    Need.POLICY_EVALUATION: Stage.LOGGING,
    Need.POLICY_ENDPOINT: Stage.LOGGING,
    Need.FEEDBACK: Stage.COPILOT,
    Need.CRITIC_EVALUATION: Stage.COPILOT,
    Need.CRITIC_ENDPOINT: Stage.COPILOT,
    Need.CERTIFICATE: Stage.COPILOT,
    Need.FRESH_EVIDENCE: Stage.COPILOT,
    Need.COOLDOWN: Stage.LOGGING,
    Need.FLAP_BUDGET: Stage.LOGGING,
    Need.NO_BREACH: Stage.LOGGING,
    Need.CALIBRATION_SESSIONS: Stage.CALIBRATION,
    Need.FRESH_PRECISION: Stage.CALIBRATION,
    Need.NO_ALARM: Stage.LOGGING,
    Need.FINALIZATION_REJECTION: Stage.CALIBRATION,
    Need.CORRECTIVE_INTERVENTION: Stage.CALIBRATION,
    Need.GUARDRAILS_HEALTHY: Stage.CALIBRATION,
    Need.APPROVAL: Stage.LOGGING,
}
"""The lowest stage in which each need can come about: no edge may ask for what its own stage cannot produce."""

READY = StageFacts(
    now=1_000.0,
    ceiling=Stage.AUTOMATION,
    earned=Stage.LOGGING,
    demonstrations=300,
    min_demonstrations=300,
    cycle_seconds=60,
    min_cycle_seconds=10,
    policy_passed=True,
    policy_ready=True,
    feedback_sessions=500,
    min_feedback=500,
    critic_passed=True,
    critic_ready=True,
    certified_strata=1,
    certified_after=900.0,
    calibration_sessions=60,
    min_calibration_sessions=60,
    finalization_rejection=0.05,
    max_finalization_rejection=0.2,
    corrective_intervention=0.05,
    max_corrective_intervention=0.2,
)
ROLLBACK = Rollback(id="corrective-800", reason="breached", at=800.0, guardrail="corrective")
BREACH = Breach(guardrail="corrective", detail="0.5 > 0.3", value=0.5)


def facts(**changes: object) -> StageFacts:
    return msgspec.structs.replace(READY, **changes)


@pytest.mark.parametrize(
    ("earned", "changes", "then"),
    [
        (Stage.LOGGING, {}, Stage.COPILOT),
        (Stage.LOGGING, {"demonstrations": 299}, Stage.LOGGING),
        (Stage.LOGGING, {"cycle_seconds": 9.0}, Stage.LOGGING),
        (Stage.LOGGING, {"policy_passed": False}, Stage.LOGGING),
        (Stage.LOGGING, {"policy_ready": False}, Stage.LOGGING),
        (Stage.LOGGING, {"approved": frozenset()}, Stage.LOGGING),
        (Stage.COPILOT, {}, Stage.CALIBRATION),
        (Stage.COPILOT, {"feedback_sessions": 499}, Stage.COPILOT),
        (Stage.COPILOT, {"critic_passed": False}, Stage.COPILOT),
        (Stage.COPILOT, {"critic_ready": False}, Stage.COPILOT),
        (Stage.COPILOT, {"certified_strata": 0}, Stage.COPILOT),
        (Stage.COPILOT, {"breaches": (BREACH,)}, Stage.COPILOT),
        (Stage.COPILOT, {"rollback": ROLLBACK, "certified_after": 799.0}, Stage.COPILOT),
        (Stage.COPILOT, {"rollback": ROLLBACK, "certified_after": 799.0, "acknowledged": True}, Stage.CALIBRATION),
        (Stage.COPILOT, {"rollback": ROLLBACK, "certified_after": 801.0}, Stage.CALIBRATION),
        (Stage.COPILOT, {"rollback": ROLLBACK, "cooldown_seconds": 500.0}, Stage.COPILOT),
        (Stage.COPILOT, {"rollback": ROLLBACK, "rollbacks_lately": 4}, Stage.COPILOT),
        (Stage.CALIBRATION, {}, Stage.AUTOMATION),
        (Stage.CALIBRATION, {"calibration_sessions": 59}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"proof": 39.0, "proof_of": "message", "proof_wanted": 40.0}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"proof": 40.0, "proof_of": "message", "proof_wanted": 40.0}, Stage.AUTOMATION),
        (Stage.CALIBRATION, {"alarm": 1_000.0}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"finalization_rejection": None}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"finalization_rejection": 0.21}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"corrective_intervention": 0.21}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"guardrails_not_healthy": ("x",)}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"certified_strata": 0}, Stage.CALIBRATION),
        (Stage.CALIBRATION, {"breaches": (BREACH,)}, Stage.COPILOT),
        (Stage.AUTOMATION, {"breaches": (BREACH,)}, Stage.COPILOT),
        (Stage.AUTOMATION, {}, Stage.AUTOMATION),
    ],
)
def test_each_edge_needs_what_its_row_says(earned, changes, then):
    decision = decide_stage(facts(earned=earned, **changes))
    assert decision.earned is then
    assert decision.moved is (then is not earned)
    assert bool(decision.reason) is decision.moved


@pytest.mark.parametrize("earned", UNATTENDED)
def test_a_breach_latches_copilot_with_what_breached(earned):
    decision = decide_stage(facts(earned=earned, breaches=(BREACH,)))
    assert decision.effective is Stage.COPILOT
    assert decision.rollback == Rollback(
        id="corrective-1000",
        reason="guardrail corrective breached: 0.5 > 0.3",
        at=1_000.0,
        guardrail="corrective",
        value=0.5,
    )


def test_climbing_back_clears_the_latch():
    decision = decide_stage(facts(earned=Stage.COPILOT, rollback=ROLLBACK))
    assert decision.earned is Stage.CALIBRATION
    assert decision.rollback is None


@pytest.mark.parametrize("cap", Cap)
@pytest.mark.parametrize("earned", ORDER)
def test_a_cap_holds_the_effective_stage_and_costs_nothing_earned(cap, earned):
    blocked = facts(earned=earned, caps=(cap,), approved=frozenset())
    decision = decide_stage(blocked)
    lowest = Stage.LOGGING if cap is Cap.SUSPENDED else Stage.COPILOT
    assert decision.earned is earned
    assert decision.effective.rank == min(earned.rank, lowest.rank)
    assert decision.held_by is (cap if earned.rank > lowest.rank else None)
    assert decide_stage(msgspec.structs.replace(blocked, caps=())).effective is earned


@pytest.mark.parametrize("ceiling", ORDER)
@pytest.mark.parametrize("earned", ORDER)
def test_nothing_rises_above_its_ceiling(ceiling, earned):
    assert decide_stage(facts(earned=earned, ceiling=ceiling)).effective.rank <= ceiling.rank


any_facts = st.builds(
    StageFacts,
    now=st.floats(0, 2_000),
    ceiling=st.sampled_from(Stage),
    earned=st.sampled_from(Stage),
    rollback=st.sampled_from([None, ROLLBACK]),
    acknowledged=st.booleans(),
    rollbacks_lately=st.integers(0, 5),
    caps=st.lists(st.sampled_from(Cap), max_size=3).map(tuple),
    breaches=st.sampled_from([(), (BREACH,)]),
    guardrails_not_healthy=st.sampled_from([(), ("x",)]),
    demonstrations=st.integers(0, 2),
    policy_passed=st.booleans(),
    policy_ready=st.booleans(),
    feedback_sessions=st.integers(0, 2),
    critic_passed=st.booleans(),
    critic_ready=st.booleans(),
    certified_strata=st.integers(0, 2),
    certified_after=st.floats(0, 2_000),
    cooldown_seconds=st.floats(0, 2_000),
    calibration_sessions=st.integers(0, 2),
    proof=st.floats(1, 1e5),
    proof_wanted=st.floats(0, 1e5),
    alarm=st.floats(0, 1e5),
    finalization_rejection=st.one_of(st.none(), st.floats(0, 1)),
    corrective_intervention=st.one_of(st.none(), st.floats(0, 1)),
    approved=st.frozensets(st.sampled_from(Stage)),
)


@given(any_facts)
@settings(max_examples=1_000, deadline=None)
def test_no_facts_raise_the_effective_stage_without_its_needs(now):
    decision = decide_stage(now)
    assert decision.effective.rank <= min(now.ceiling.rank, decision.earned.rank)
    if decision.earned.rank > now.earned.rank:
        assert decision.earned.rank == now.earned.rank + 1
        assert find_unmet(now) == ()
    if now.breaches and now.earned in UNATTENDED:
        assert decision.earned is Stage.COPILOT
        assert decision.rollback is not None
    if decision.earned.rank < now.earned.rank:
        assert now.breaches, "only a breach lowers what is earned"
    if decision.moved and decision.earned is Stage.AUTOMATION:
        assert now.proof >= now.proof_wanted
    if decision.effective in UNATTENDED and now.earned not in UNATTENDED:
        assert now.certified_strata >= 1
        assert now.rollback is None or now.acknowledged or now.certified_after >= now.rollback.at


@given(any_facts)
@settings(max_examples=1_000, deadline=None)
def test_every_unmet_need_can_be_met_so_nothing_is_stuck(now):
    """From any facts, meeting what `unmet` names (and nothing else) leads up in at most three steps."""
    earned = now.earned
    for _ in ORDER:
        edge = find_edge(earned)
        if edge is None:
            break
        assert all(PRODUCED_IN[need].rank <= edge.source.rank for need in edge.needs), "asks for what it cannot produce"
        met = msgspec.structs.replace(READY, earned=earned, rollback=now.rollback, certified_after=1_000.0)
        decision = decide_stage(met)
        assert decision.earned is edge.target
        earned = decision.earned
    assert earned is Stage.AUTOMATION


def test_the_edges_lead_from_the_bottom_to_the_top_and_every_need_is_asked_for():
    assert [edge.source for edge in EDGES] + [EDGES[-1].target] == list(ORDER)
    assert {need for edge in EDGES for need in edge.needs} == set(Need) == set(PRODUCED_IN)


def test_what_is_missing_is_named_with_its_numbers():
    unmet = find_unmet(facts(earned=Stage.COPILOT, feedback_sessions=41, certified_strata=0))
    assert [(u.need, u.have, u.wanted) for u in unmet] == [
        (Need.FEEDBACK, "41", "at least 500"),
        (Need.CERTIFICATE, "0", "at least 1"),
    ]
