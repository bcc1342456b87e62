"""Plain words: every unmet condition with its numbers, and each line of the gate down to the one that decided."""

import pytest

from pilotage.explain import CAPS_IN_WORDS, NEEDS_IN_WORDS, explain_process_cluster
from pilotage_core.actions import Action, ActionClass, Tool
from pilotage_core.explaining import VALUES, explain_decision
from pilotage_core.gate import ACCEPT_RULES, RULES, GateFacts, Reason, decide_gate
from pilotage_core.record import DecisionRecord
from pilotage_core.stage import Cap, Need, Stage
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.status import ProcessClusterStatus

SPEC = ProcessClusterSpec.model_validate(
    {
        "screens": {"configMap": "s"}, "policyCriticRef": {"name": "p"}, "gateRef": {"name": "g"},
        "maxStage": "Automation", "supervision": {"minDemonstrations": 300, "minFeedback": 500},
    }
)  # fmt: skip
NOW = 1_700_000_100.0
SINCE = "2023-11-14T22:13:20Z"  # 1,700,000,000


def explained(**status: object) -> str:
    return explain_process_cluster("star/long-tail", SPEC, ProcessClusterStatus.model_validate(status), NOW)


def test_a_long_tail_says_what_it_wants_with_numbers():
    said = explained(
        stage="Copilot", earned="Copilot", stageSince=SINCE, ceiling="Automation",
        unmet=[{"condition": "Feedback", "have": "59", "need": "at least 500"}],
        transitions=[{"stage": "Copilot", "earned": "Copilot", "at": SINCE, "reason": "it has what Copilot needs"}],
        supervision={"sessions": 400, "demonstrations": 390, "feedbackSessions": 59},
    )  # fmt: skip
    assert "star/long-tail is in Copilot, for 1 min 40 s: the model proposes, operators decide." in said
    assert "✗ Feedback  59; needs at least 500" in said
    assert "Why: it has what Copilot needs." in said
    assert "59 with verdicts on this policy (a critic needs 500)" in said
    assert "none runs by itself" in said


@pytest.mark.parametrize("cap", list(Cap))
def test_what_holds_it_is_said_in_words(cap):
    said = explained(stage="Copilot", earned="Automation", heldBy=cap.value)
    assert f"has earned Automation but is held at Copilot: {CAPS_IN_WORDS[cap]}" in said


def test_a_latch_names_the_acknowledgement_that_lifts_it():
    rollback = {
        "id": "watch-17",
        "reason": "guardrail watch breached",
        "at": SINCE,
        "guardrail": "watch",
        "value": "0.5",
    }
    assert "spec.acknowledgedRollback: watch-17" in explained(stage="Copilot", earned="Copilot", rollback=rollback)
    lifted = rollback | {"latched": False}
    assert "acknowledgedRollback" not in explained(stage="Calibration", earned="Calibration", rollback=lifted)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"scoreFrom": "critic"}, "the critic's"),
        ({"scoreFrom": "confidence"}, "the policy's confidence, which the critic did not beat"),
        ({}, "whether the critic's or the policy's confidence is not told"),
    ],
)
def test_a_certificate_is_put_in_words(told, words):
    tau = {
        "tau": "0.83", "labels": 312, "selected": 280, "errors": 9, "target": "0.9", "delta": "0.025",
        "bound": "0.934", "coverage": "0.9", "labelsFrom": "live", "issuedAt": SINCE, **told,
    }  # fmt: skip
    said = explained(stage="Calibration", earned="Calibration", tau={"procedure": tau})
    assert f"τ of stratum procedure: a score of at least 0.83 ({words})." in said
    assert "With confidence 0.975 at least 93.4% of such actions" in said
    assert "312 held-out labels (live), 280 at or above τ (coverage 90%), 9 of those wrong" in said
    assert "Tightened" not in said
    assert "Days are not covered: the labels do not tell their days" in said
    for days, words in ((1, "from 1 day; it takes 5"), (4, "from 4 days; it takes 5")):
        few = {"procedure": {**tau, "days": days}}
        assert words in explained(stage="Calibration", earned="Calibration", tau=few)
    enough = {"procedure": {**tau, "days": 5}}
    assert "Days are not" not in explained(stage="Calibration", earned="Calibration", tau=enough)
    for tightened_to, what in (("0.9", "only scores of at least 0.9 run"), ("nothing", "nothing runs")):
        tightened = {"procedure": {**tau, "tightenedTo": tightened_to}}
        said = explained(stage="Calibration", earned="Calibration", tau=tightened)
        assert f"so {what} until a new certificate" in said


def test_guardrails_are_listed_with_value_samples_and_limit():
    reading = {
        "name": "watch",
        "verdict": "Breached",
        "value": "0.41",
        "samples": 22,
        "threshold": "> 0.3",
        "since": SINCE,
    }
    said = explained(stage="Automation", earned="Automation", guardrails=[reading])
    assert "✗ watch  Breached, for 1 min 40 s: 0.41 of 22 samples, limit > 0.3" in said


def test_every_need_cap_and_line_of_the_gate_has_words():
    assert set(NEEDS_IN_WORDS) == set(Need)
    assert set(CAPS_IN_WORDS) == set(Cap)
    assert set(VALUES) == {reason for _, _, reason in (*RULES, *ACCEPT_RULES)} == set(Reason)


SUBMIT = Action(Tool.CLICK_CONTROL, "submit")
CRITICAL = ActionClass(critical=True, finalizing=False, stratum="procedure", stopped=False, unattended_in_copilot=False)
LEAVE = {"permit_fresh": True, "tau": 0.8, "score_version": 3, "scored": SUBMIT.digest}


@pytest.mark.parametrize(
    ("facts", "last", "lines"),
    [
        (GateFacts(Stage.LOGGING, 3, None, CRITICAL), "→ stage-logging          stage: Logging  OBSERVE", 3),
        (
            GateFacts(Stage.AUTOMATION, 3, SUBMIT, CRITICAL, score=0.7, **LEAVE),
            "→ below-tau              score 0.7000 against τ 0.8000  PROPOSE",
            18,
        ),
        (
            GateFacts(Stage.AUTOMATION, 3, SUBMIT, CRITICAL, score=0.9, **LEAVE),
            "→ certified              nothing above stopped it  EXECUTE",
            21,
        ),
    ],
)
def test_a_decision_is_explained_down_to_the_line_that_decided(facts, last, lines):
    record = DecisionRecord(
        session_id="s", process_cluster="star/x", at=SINCE, pair="r1", facts=facts, verdict=decide_gate(facts),
        critic=0.75, confidence=0.5,
    )  # fmt: skip
    said = explain_decision(record).splitlines()
    assert "Critic: 0.7500, confidence: 0.5000." in said
    assert said[lines] == last
    assert sum(line.startswith("→") for line in said) == 1
