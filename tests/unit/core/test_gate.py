"""The gate: a table that reads like its rules, and a search for a way around them."""

from math import nan

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.actions import Action, ActionClass, Tool
from pilotage_core.gate import RULES, Decision, GateFacts, Reason, decide_accept, decide_gate, find_look
from pilotage_core.stage import Stage

SUBMIT = Action(Tool.CLICK_CONTROL, control_id="submit")
CRITICAL = ActionClass(critical=True, finalizing=False, stratum="procedure", stopped=False, unattended_in_copilot=False)
UNCRITICAL = msgspec.structs.replace(CRITICAL, critical=False)

CLEARED = GateFacts(
    stage=Stage.AUTOMATION,
    state_version=7,
    action=SUBMIT,
    action_class=CRITICAL,
    permit_fresh=True,
    finalizing_by_human=True,
    tau=0.9,
    score=0.95,
    score_version=7,
    scored=SUBMIT.digest,
)


def with_class(**changes: bool) -> ActionClass:
    return msgspec.structs.replace(CRITICAL, **changes)


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ({}, Decision.EXECUTE, Reason.CERTIFIED),
        ({"stage": Stage.CALIBRATION}, Decision.EXECUTE, Reason.CERTIFIED),
        ({"score": 0.9}, Decision.EXECUTE, Reason.CERTIFIED),
        ({"suspended": True}, Decision.OBSERVE, Reason.SUSPENDED),
        ({"handed_off": True}, Decision.OBSERVE, Reason.HANDED_OFF),
        ({"stage": Stage.LOGGING}, Decision.OBSERVE, Reason.STAGE_LOGGING),
        ({"action": None}, Decision.OBSERVE, Reason.NOTHING_PROPOSED),
        ({"state_fault": "no form"}, Decision.HAND_OFF, Reason.STATE_INVALID),
        ({"control_fault": "hidden"}, Decision.HAND_OFF, Reason.CONTROL_INVALID),
        ({"mask_fault": "<NAME_B>"}, Decision.HAND_OFF, Reason.MASK_UNRESOLVED),
        ({"looping": True}, Decision.HAND_OFF, Reason.LOOP),
        ({"legal_next_step": False}, Decision.HAND_OFF, Reason.ILLEGAL_NEXT_STEP),
        ({"action_class": with_class(stopped=True)}, Decision.PROPOSE, Reason.STOP_LIST),
        ({"action_class": UNCRITICAL}, Decision.EXECUTE, Reason.NOT_CRITICAL),
        ({"action_class": UNCRITICAL, "permit_fresh": False}, Decision.PROPOSE, Reason.NOT_CRITICAL_UNLISTED),
        ({"action_class": UNCRITICAL, "stage": Stage.COPILOT}, Decision.PROPOSE, Reason.NOT_CRITICAL_UNLISTED),
        (
            {
                "action_class": with_class(critical=False, unattended_in_copilot=True),
                "stage": Stage.COPILOT,
                "permit_fresh": False,
            },
            Decision.EXECUTE,
            Reason.NOT_CRITICAL,
        ),
        ({"stage": Stage.COPILOT}, Decision.PROPOSE, Reason.STAGE_COPILOT),
        ({"permit_fresh": False}, Decision.PROPOSE, Reason.NO_PERMIT),
        ({"action_class": with_class(finalizing=True)}, Decision.PROPOSE, Reason.FINALIZING_BY_HUMAN),
        (
            {"action_class": with_class(finalizing=True), "finalizing_by_human": False},
            Decision.EXECUTE,
            Reason.CERTIFIED,
        ),
        ({"tau": None}, Decision.PROPOSE, Reason.NO_CERTIFICATE),
        ({"tau": nan}, Decision.PROPOSE, Reason.NO_CERTIFICATE),
        ({"tau": -0.1}, Decision.PROPOSE, Reason.NO_CERTIFICATE),
        ({"score": None}, Decision.PROPOSE, Reason.NO_SCORE),
        ({"score": nan}, Decision.PROPOSE, Reason.NO_SCORE),
        ({"score": 1.2}, Decision.PROPOSE, Reason.NO_SCORE),
        ({"score_version": 6}, Decision.PROPOSE, Reason.NO_SCORE),
        ({"scored": ""}, Decision.PROPOSE, Reason.NO_SCORE),
        ({"scored": Action(Tool.CLICK_CONTROL, "submit", "x").digest}, Decision.PROPOSE, Reason.NO_SCORE),
        ({"score": 0.899}, Decision.PROPOSE, Reason.BELOW_TAU),
        ({"asked_before": True}, Decision.PROPOSE, Reason.ASKED_BEFORE),
        ({"audit": True}, Decision.PROPOSE, Reason.AUDIT),
    ],
)
def test_each_line_of_the_gate_decides_as_it_reads(changes, decision, reason):
    verdict = decide_gate(msgspec.structs.replace(CLEARED, **changes))
    assert (verdict.decision, verdict.reason) == (decision, reason)


def test_every_reason_has_one_line_and_every_line_one_reason():
    reasons = [reason for _, _, reason in RULES]
    assert len(reasons) == len(set(reasons))
    assert {*reasons, Reason.OPERATOR_ACCEPTED} == set(Reason)


@pytest.mark.parametrize(
    ("changes", "decision", "reason"),
    [
        ({}, Decision.EXECUTE, Reason.OPERATOR_ACCEPTED),
        ({"permit_fresh": False, "stage": Stage.COPILOT, "tau": None}, Decision.EXECUTE, Reason.OPERATOR_ACCEPTED),
        ({"action_class": with_class(stopped=True)}, Decision.EXECUTE, Reason.OPERATOR_ACCEPTED),
        ({"suspended": True}, Decision.OBSERVE, Reason.SUSPENDED),
        ({"state_fault": "no form"}, Decision.HAND_OFF, Reason.STATE_INVALID),
        ({"control_fault": "hidden"}, Decision.HAND_OFF, Reason.CONTROL_INVALID),
        ({"mask_fault": "<NAME_B>"}, Decision.HAND_OFF, Reason.MASK_UNRESOLVED),
    ],
)
def test_an_operators_accept_overrules_evidence_but_no_stop_and_nothing_impossible(changes, decision, reason):
    verdict = decide_accept(msgspec.structs.replace(CLEARED, **changes))
    assert (verdict.decision, verdict.reason) == (decision, reason)


any_number = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1))
any_class = st.builds(
    ActionClass,
    critical=st.booleans(),
    finalizing=st.booleans(),
    stratum=st.sampled_from(["message", "procedure", "finalizing"]),
    stopped=st.booleans(),
    unattended_in_copilot=st.booleans(),
)
any_facts = st.builds(
    GateFacts,
    stage=st.sampled_from(Stage),
    state_version=st.integers(0, 3),
    action=st.sampled_from([None, SUBMIT, Action(Tool.CLOSE_CHAT)]),
    action_class=any_class,
    suspended=st.booleans(),
    handed_off=st.booleans(),
    state_fault=st.sampled_from(["", "", "bad"]),
    control_fault=st.sampled_from(["", "", "gone"]),
    mask_fault=st.sampled_from(["", "", "unresolved"]),
    looping=st.booleans(),
    legal_next_step=st.booleans(),
    permit_fresh=st.booleans(),
    finalizing_by_human=st.booleans(),
    tau=any_number,
    score=any_number,
    score_version=st.integers(-1, 3),
    scored=st.sampled_from([SUBMIT.digest, SUBMIT.digest, Action(Tool.CLOSE_CHAT).digest, ""]),
    asked_before=st.booleans(),
    audit=st.booleans(),
)


def has_every_leave(facts: GateFacts) -> bool:
    """Written from what was asked for, not from the gate: what a critical action must have to run unattended."""
    return (
        facts.permit_fresh
        and facts.tau is not None
        and 0 <= facts.tau <= 1
        and facts.score is not None
        and 0 <= facts.score <= 1
        and facts.score >= facts.tau
        and facts.score_version == facts.state_version
        and facts.action is not None
        and facts.scored == facts.action.digest
        and facts.stage in (Stage.CALIBRATION, Stage.AUTOMATION)
        and not facts.suspended
        and not facts.handed_off
        and not (facts.state_fault or facts.control_fault or facts.mask_fault)
        and not facts.looping
        and facts.legal_next_step
        and not facts.action_class.stopped
        and not (facts.action_class.finalizing and facts.finalizing_by_human)
        and not facts.asked_before
        and not facts.audit
    )


@given(any_facts)
@settings(max_examples=1_000, deadline=None)
def test_no_input_executes_a_critical_action_without_every_leave(facts):
    verdict = decide_gate(facts)
    if verdict.decision is Decision.EXECUTE and facts.action_class.critical:
        assert has_every_leave(facts)


@given(any_facts)
@settings(max_examples=500, deadline=None)
def test_a_critical_action_with_every_leave_runs(facts):
    if facts.action is not None and facts.action_class.critical and has_every_leave(facts):
        assert decide_gate(facts).decision is Decision.EXECUTE


@given(any_facts)
@settings(max_examples=500, deadline=None)
def test_in_logging_or_suspended_the_model_is_silent(facts):
    if facts.stage is Stage.LOGGING or facts.suspended:
        assert decide_gate(facts).decision is Decision.OBSERVE


@given(any_facts, st.sampled_from(["suspended", "handed_off", "looping", "asked_before", "audit"]))
@settings(max_examples=500, deadline=None)
def test_one_more_objection_never_makes_a_critical_action_run(facts, objection):
    if facts.action_class.critical and decide_gate(facts).decision is not Decision.EXECUTE:
        worse = msgspec.structs.replace(facts, **{objection: True})
        assert decide_gate(worse).decision is not Decision.EXECUTE


@pytest.mark.parametrize(
    ("stage", "by_human", "finalizing", "audit_share", "look"),
    [
        (Stage.CALIBRATION, True, False, 0.1, (0.1, True)),
        (Stage.CALIBRATION, False, True, 0.1, (0.1, True)),
        (Stage.AUTOMATION, True, False, 0.1, (0.1, True)),
        (Stage.AUTOMATION, False, False, 0.1, (0.3, False)),  # looked at with the ending, if at all
        (Stage.AUTOMATION, False, True, 0.1, (0.3, True)),
        (Stage.AUTOMATION, False, False, 1.0, (1.0, True)),  # all is looked at: before it runs
    ],
)
def test_where_sessions_end_by_themselves_audits_are_drawn_at_their_endings(
    stage, by_human, finalizing, audit_share, look
):
    facts = msgspec.structs.replace(
        CLEARED, stage=stage, finalizing_by_human=by_human, action_class=with_class(finalizing=finalizing)
    )
    assert find_look(facts, audit_share, review_share=0.3) == look
