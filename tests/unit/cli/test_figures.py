"""The report's figures on hand-made records, each against a value worked out by hand."""

import msgspec
import pytest
from stubs.run_records import (
    CLOSE,
    FILL,
    KEY,
    SUBMIT,
    at,
    calibration,
    done,
    ended,
    gate,
    order,
    process_cluster,
    proposal,
    reviewed,
    run,
    session,
    taken,
    verdict,
)

from pilotage.report.figures import build_figures
from pilotage.run import Ledger, Run
from pilotage_core.actions import Action, Tool
from pilotage_core.events import Verdict
from pilotage_core.stage import Stage

CLIMB = (
    ("Logging", 0, "begun"),
    ("Copilot", 10, "earned"),
    ("Calibration", 20, "earned"),
    ("Automation", 30, "earned"),
)
FALL = ("Copilot", 60, "guardrail watch breached: 0.5 > 0.3")


def figures_of(made: Run):
    return build_figures(made).process_clusters[0]


@pytest.mark.parametrize(
    ("marks", "strict", "graded"),
    [
        ([], None, None),
        ([(True, True)], 1.0, 1.0),
        ([(True, True), (False, True), (False, False), (False, False)], 0.25, 0.5),
    ],
)
def test_precision_is_of_what_ran_with_nobody_asked(marks, strict, graded):
    names = [f"p{n}" for n in range(len(marks))]
    asked = proposal("asked", stage=Stage.COPILOT, decision="propose", tau=None)
    made = session("s1", 0, (*map(proposal, names), asked), *map(done, names), verdict("asked", Verdict.ACCEPT))
    orders = [order(name, 5, strict=a, graded=b) for name, (a, b) in zip(names, marks, strict=True)]
    orders.append(order("asked", 6, strict=False, by="ann", stage=Stage.COPILOT))
    found = figures_of(run(process_cluster(*CLIMB), (made,), Ledger(orders=tuple(orders))))
    assert (found.executed_critical, found.strict_precision, found.graded_precision) == (len(marks), strict, graded)


def test_what_ran_is_the_bpms_word_not_the_gateways():
    made = session("s1", 0, (proposal("p1"), proposal("p2", executed=False)), done("p1"))
    orders = (order("p1", 5), order("p2", 6, strict=False), order("p3", 7, executed=False, fence="too-late"))
    found = figures_of(run(process_cluster(*CLIMB), (made,), Ledger(orders=orders)))
    assert (found.executed_critical, found.strict_precision) == (2, 0.5)


@pytest.mark.parametrize(
    ("proposals", "coverage"),
    [
        ([], None),
        ([proposal("a", stage=Stage.COPILOT, decision="propose")], None),
        ([proposal("a", tau=None, decision="propose")], None),
        ([proposal("a"), proposal("b", decision="propose", executed=False, score=0.1)], 0.5),
        ([proposal("a"), proposal("b", decision="propose", audited=True)], 1.0),
        ([proposal("a"), proposal("b", critical=False), proposal("c", decision="propose", score=None)], 0.5),
    ],
)
def test_coverage_is_of_critical_proposals_under_a_threshold(proposals, coverage):
    found = figures_of(run(process_cluster(*CLIMB), (session("s1", 0, tuple(proposals)),)))
    assert found.coverage == coverage


ALONE = (proposal("p1"), proposal("end", action=CLOSE, stratum="finalizing", decision="propose"))


@pytest.mark.parametrize(
    ("happenings", "rate"),
    [
        ((done("p1"), verdict("end", Verdict.ACCEPT)), 1.0),
        ((done("p1"), taken(CLOSE)), 1.0),
        ((done("p1"), reviewed(True)), 1.0),
        ((taken(FILL), done("p1"), taken(CLOSE)), 0.0),
        ((verdict("p1", Verdict.ACCEPT), done("p1")), 0.0),
    ],
)
def test_a_session_is_automated_where_nobody_did_anything_but_end_it(happenings, rate):
    found = figures_of(run(process_cluster(*CLIMB), (session("s1", 0, ALONE, *happenings),)))
    assert found.automation_rate == rate


def test_acceptance_counts_unedited_accepts_by_tool():
    message = Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello", text="hello")
    made = session(
        "s1", 0,
        (proposal("a"), proposal("b"), proposal("c"), proposal("d"), proposal("m", action=message)),
        verdict("a", Verdict.ACCEPT), verdict("b", Verdict.ACCEPT), verdict("c", Verdict.EDIT),
        verdict("d", Verdict.REJECT), verdict("m", Verdict.REJECT), verdict("unknown", Verdict.ACCEPT),
    )  # fmt: skip
    found = figures_of(run(process_cluster(*CLIMB), (made,))).acceptance
    assert list(found) == ["click_control", "send_text_to_chat"]
    assert msgspec.to_builtins(found["click_control"]) == {
        "given": 4, "accepted": 2, "edited": 1, "rejected": 1, "share": 0.5,
    }  # fmt: skip
    assert found["send_text_to_chat"].share == 0.0


def test_operator_seconds_are_paired_and_halve_and_double_only_what_is_assumed():
    assisted = session(
        "s1", 0, (proposal("a"),), taken(FILL, seconds=10), verdict("a", Verdict.ACCEPT, 4), reviewed(True)
    )
    logged = session("s2", 0, (), taken(SUBMIT, seconds=50))
    unknown = session("s3", 0, (proposal("z"),), taken(FILL, seconds=99))
    ledger = Ledger(ended=(ended("s1", 30.0), ended("s2", 50.0)))
    found = figures_of(run(process_cluster(*CLIMB), (assisted, logged, unknown), ledger))
    time = found.operator_seconds
    assert (time.with_, time.without, time.asked, time.sessions) == (17.0, 30.0, 7.0, 1)  # 10 + 4 + 3
    assert (time.with_at_half, time.with_at_double) == (13.5, 24.0)
    assert found.operator_seconds_by_stage["Logging"].with_ == 50.0
    assert "with" in msgspec.to_builtins(time)


@pytest.mark.parametrize(
    ("orders", "proposals", "whys"),
    [
        ([order("p1", 5)], (proposal("p1"),), []),
        ([order("p1", 5, fence="too-late", executed=False)], (proposal("p1"),), []),
        ([order("p1", 5), order("p1", 6)], (proposal("p1"),), ["executed twice"]),
        ([order("p9", 5)], (), ["executed, but no such proposal is stored"]),
        (
            [order("p1", 5, by="ann")],
            (proposal("p1", decision="propose"),),
            ["executed, but only proposed and never accepted"],
        ),
        ([order("p1", 5, stage=Stage.COPILOT)], (proposal("p1"),), ["unattended in stage Copilot"]),
    ],
)
def test_an_execution_without_leave_or_twice_is_unsafe(orders, proposals, whys):
    made = build_figures(run(process_cluster(), (session("s1", 0, proposals),), Ledger(orders=tuple(orders))))
    assert [one.why for one in made.unsafe] == whys
    assert made.unsafe_executions == len(whys)


def test_an_unattended_execution_long_after_the_fall_is_unsafe():
    ledger = Ledger(orders=(order("p1", 40), order("p2", 65), order("p3", 75)))
    made = session("s1", 0, (proposal("p1"), proposal("p2"), proposal("p3")), done("p1"), done("p2"), done("p3"))
    found = build_figures(run(process_cluster(*CLIMB, FALL), (made,), ledger))
    assert [(one.proposal_id, one.why) for one in found.unsafe] == [("p3", "executed in a stage that gives no leave")]


def test_stages_are_those_of_the_status_oldest_first():
    found = figures_of(run(process_cluster(*reversed(CLIMB)), ()))
    assert [(one.stage, one.at) for one in found.stages] == [(stage, at(second)) for stage, second, _ in CLIMB]


def test_certificates_come_from_the_calibrations_of_the_same_process_cluster():
    assert [
        one.tau for one in figures_of(run(process_cluster(*CLIMB), (), calibrations=(calibration(),))).certificates
    ] == [0.8]


def breached_sessions():
    """Ten executions at second 40 + n, corrections of those from second 48 on a second later."""
    sessions = []
    for n in range(10):
        name = f"p{n}"
        repairs = (taken(FILL, corrects=name),) if n >= 6 else ()
        sessions.append(session(f"s{n}", 37 + n, (proposal(name, second=40 + n),), done(name), *repairs))
    return tuple(sessions)


def test_a_breach_runs_from_the_label_that_tipped_to_the_flip():
    """Corrections stored at 47, 48, 49, 50; executions at 40 … 49. At 50: 4 of 10 > 0.3; at 49: 3 of 10 is not."""
    found = figures_of(
        run(process_cluster(*CLIMB, FALL), breached_sessions(), gates=(gate("CorrectiveInterventionRate"),))
    )
    assert found.breach_to_copilot_seconds == 10.0
    assert [one.guardrail for one in found.breaches] == ["watch"]
    assert found.breaches[0].recovered_at is None


def test_an_action_after_the_flip_lengthens_the_breach_and_is_counted():
    late = session("late", 58, (proposal("late", second=61),), done("late"))
    made = run(
        process_cluster(*CLIMB, FALL, ("Calibration", 90, "earned")),
        (*breached_sessions(), late),
        Ledger(orders=(order("late", 61.5),)),
        gates=(gate("CorrectiveInterventionRate"),),
    )
    found = figures_of(made).breaches[0]
    assert (found.seconds, found.executed_after) == (11.5, 1)
    assert found.recovered_stage == "Calibration"


def test_a_breach_of_reviews_counts_sessions_in_which_something_ran():
    sessions = [
        session(f"s{n}", 30 + n, (proposal(f"p{n}"),), done(f"p{n}"), reviewed(n % 2 == 0)) for n in range(4)
    ] + [session("none", 30, (), reviewed(False))]
    found = figures_of(
        run(process_cluster(*CLIMB, FALL), tuple(sessions), gates=(gate("FinalizationRejectionRate", least=2),))
    )
    assert found.breach_to_copilot_seconds == 60 - 35  # s0 approved at 34, s1 rejected at 35: 1 of 2


def test_without_its_gate_a_breach_runs_from_the_last_adverse_label():
    found = figures_of(run(process_cluster(*CLIMB, FALL), breached_sessions()))
    assert found.breach_to_copilot_seconds == 10.0


def test_an_alarm_is_when_the_labels_carried_r_past_its_threshold():
    """R from 0 at target 0.9, lambda 1.5: a reject multiplies (R + 1) by 2.35: 2.35, 7.9, 20.9, … 117 at the fifth."""
    audited = tuple(
        session(
            f"s{n}", 30 + n, (proposal(f"p{n}", decision="propose", audited=True),), verdict(f"p{n}", Verdict.REJECT)
        )
        for n in range(8)
    )
    made = run(
        process_cluster(*CLIMB, FALL), audited, gates=(gate("PrecisionAlarm", "100"),), calibrations=(calibration(),)
    )
    assert figures_of(made).breach_to_copilot_seconds == 60 - (30 + 4 + 3)  # the fifth verdict, stored 3 s into s4


def test_a_cap_is_no_breach():
    held = ("Copilot", 60, "held by GuardrailDataMissing")
    assert figures_of(run(process_cluster(*CLIMB, held), breached_sessions())).breaches == ()


def test_evidence_shows_the_state_and_what_the_operator_did_instead():
    ledger = Ledger(orders=tuple(order(f"p{n}", 40 + n, session_id=f"s{n}", strict=n < 6) for n in range(10)))
    found = figures_of(run(process_cluster(*CLIMB, FALL), breached_sessions(), ledger))
    evidence = found.breaches[0].evidence
    assert [one.proposal_id for one in evidence] == ["p6", "p7", "p8", "p9"]
    assert evidence[0].screen.name == "weather_form"
    assert evidence[0].instead == (FILL,)
    assert [message.text for message in evidence[0].messages] == ["Is it <b>warm</b>?"]


def test_the_json_has_the_keys_the_report_promises():
    plain = msgspec.to_builtins(build_figures(run(process_cluster(*CLIMB), ())))
    assert {"process_clusters", "unsafe_executions"} <= set(plain)
    assert {
        "name", "stages", "certificates", "executed_critical", "strict_precision", "graded_precision", "coverage",
        "automation_rate", "acceptance", "operator_seconds", "breach_to_copilot_seconds",
    } <= set(plain["process_clusters"][0])  # fmt: skip
    assert plain["process_clusters"][0]["name"] == KEY.partition("/")[2]
