"""A pair tried in closed loop: who does what, what is written down, τ of whole sessions, and what is reported."""

from types import SimpleNamespace

import numpy as np
import pytest
from unit.trainer.scripted import DONE, Scripted

from pilotage_core.actions import Action, ActionRules, Tool
from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.events import (
    Author,
    Closing,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionClosed,
    SessionOpened,
)
from pilotage_core.record import read_labels
from pilotage_core.score import CONFIDENCE_ALONE
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_core.trial import TrialResult
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.sessions.labels import list_moments
from pilotage_trainer.trials.record import build_record
from pilotage_trainer.trials.report import build_report, count_share
from pilotage_trainer.trials.thresholds import Played, certify_sessions
from pilotage_trainer.trials.worker import COPILOT, UNGATED, By, Decided, HeldBack, Pair, PairWorker, Reign

ASK = Action(Tool.SEND_TEXT_TO_CHAT, "ask", text="Which one?")
FILL = Action(Tool.FILL_INPUT, "slot:city", "Metz")
SCREEN = Screen(
    "form",
    controls=(
        Control("slot:city", ControlKind.INPUT, known=True),
        Control("ask", ControlKind.REPLY, value="Which one?", known=True),
    ),
    recognised=True,
)


class Watching:
    """A supervisor who accepts some actions, and would do another."""

    def __init__(self, accepted=(), own=DONE):
        self.accepted, self.own = accepted, own

    def accepts(self, action):
        return action in self.accepted

    def find_action(self):
        return self.own

    def find_seconds(self, action):
        return 5.0


def a_worker(policy, reign=UNGATED, rules=ActionRules()):
    worker = PairWorker(Pair(policy, None, CONFIDENCE_ALONE), rules, reign, "t1")
    worker.see(SessionOpened({}, {}))
    worker.see(ScreenShown(screen=SCREEN))
    worker.see(MessagePosted(Author.CUSTOMER, "to Metz"))
    return worker


@pytest.mark.parametrize(
    ("reply", "reign", "accepted", "done", "by", "held_back"),
    [
        (ASK, UNGATED, (), ASK, By.MODEL, None),
        (ASK, COPILOT, (ASK,), ASK, By.ACCEPTED, HeldBack.COPILOT),
        (ASK, COPILOT, (), DONE, By.OPERATOR, HeldBack.COPILOT),
        (ASK, Reign(taus={"message": 0.7}), (), ASK, By.MODEL, None),
        (ASK, Reign(taus={"message": 0.8}), (), ASK, By.MODEL, None),
        (ASK, Reign(taus={"message": 0.9}), (ASK,), ASK, By.ACCEPTED, HeldBack.BELOW_TAU),
        (ASK, Reign(taus={"message": 0.9}), (), DONE, By.OPERATOR, HeldBack.BELOW_TAU),
        (ASK, Reign(taus={}), (), DONE, By.OPERATOR, HeldBack.NO_TAU),
        (FILL, Reign(taus={}), (), FILL, By.MODEL, None),
        (FILL, COPILOT, (), DONE, By.OPERATOR, HeldBack.COPILOT),
        (None, UNGATED, (), DONE, By.OPERATOR, HeldBack.NOTHING_PROPOSED),
        ('{"tool":"dance"}', UNGATED, (), DONE, By.OPERATOR, HeldBack.FAULT),
        (Action(Tool.FILL_INPUT, "slot:nowhere", "x"), UNGATED, (), DONE, By.OPERATOR, HeldBack.FAULT),
        (Action(Tool.FILL_INPUT, "slot:city", "a\nb"), UNGATED, (), DONE, By.OPERATOR, HeldBack.FAULT),
    ],
)
def test_who_acts_and_why_an_operator_was_asked(reply, reign, accepted, done, by, held_back):
    worker = a_worker(Scripted(reply), reign)
    assert worker.decide(Watching(accepted)) == done
    assert (worker.decided[-1].by, worker.decided[-1].held_back) == (by, held_back)
    assert worker.walk.state.last_action == done


def test_once_an_operator_was_asked_everything_critical_is():
    """What is certified is of sessions that nobody was asked about: of the others it says nothing."""
    policy = Scripted(ASK, FILL, ASK)
    worker = a_worker(policy, Reign(taus={"message": 0.5}))
    policy._confidence = 0.4
    worker.decide(Watching((ASK,)))
    worker.see(MessagePosted(Author.CUSTOMER, "to Metz, I said"))
    policy._confidence = 0.99
    assert worker.decide(Watching((FILL,))) == FILL
    worker.decide(Watching((ASK,)))
    assert [each.held_back for each in worker.decided] == [HeldBack.BELOW_TAU, None, HeldBack.ASKED_BEFORE]
    assert [each.by for each in worker.decided] == [By.ACCEPTED, By.MODEL, By.ACCEPTED]


@pytest.mark.parametrize("confidence", [float("nan"), -0.1, 1.1, None])
def test_what_is_no_score_reaches_no_tau(confidence):
    worker = a_worker(Scripted(ASK, confidence=confidence), Reign(taus={"message": 0.0}))
    worker.decide(Watching((ASK,)))
    assert worker.decided[-1].held_back is HeldBack.BELOW_TAU


def test_the_customer_is_heard_before_anything_more_is_proposed():
    worker = a_worker(Scripted(ASK, ASK))
    worker.decide(Watching())
    assert worker.decide(Watching()) is None
    worker.see(MessagePosted(Author.CUSTOMER, "this one"))
    assert worker.decide(Watching()) == ASK


def test_an_operator_who_waits_leaves_the_customer_to_speak():
    worker = a_worker(Scripted(ASK), COPILOT)
    assert worker.decide(Watching(own=None)) is None
    assert worker.decided[-1].done is None


def test_what_the_bpm_refuses_goes_to_an_operator():
    worker = a_worker(Scripted(DONE, DONE))
    worker.refuse(worker.decide(Watching()), "not now")
    worker.decide(Watching(own=FILL))
    assert (worker.decided[-1].by, worker.decided[-1].held_back) == (By.OPERATOR, HeldBack.REFUSED)


def test_what_cannot_be_done_is_noted_though_the_operator_only_waits():
    worker = a_worker(Scripted(Action(Tool.FILL_INPUT, "slot:nowhere", "x")))
    assert worker.decide(Watching(own=None)) is None
    assert worker.decided[-1].held_back is HeldBack.FAULT


def test_the_same_action_again_and_again_goes_to_an_operator():
    worker = a_worker(Scripted(*[FILL] * 9))
    for _ in range(4):
        worker.decide(Watching())
    assert worker.decided[-1].held_back is HeldBack.LOOP


# --- what is written down ---------------------------------------------------------------------------------------------
TRIAL = SimpleNamespace(trial_id="t1", begins="2019-03-02T00:00:00+00:00", operator="operator-1")


def test_a_copilot_trial_is_a_record_with_an_operators_word_on_each_proposal():
    worker = a_worker(Scripted(FILL, ASK), COPILOT)
    worker.decide(Watching((FILL,)))
    worker.decide(Watching(own=DONE))
    worker.see(SessionClosed(Closing.CLOSED))
    record = build_record(worker, TRIAL, "desk/all")
    assert [(label.tool, label.accepted) for label in read_labels(record)] == [
        ("fill_input", True),
        ("send_text_to_chat", False),
    ]
    assert [point.taken for point in human_points(record, DEFAULT_FORMAT)] == [FILL, DONE]
    moments = list_moments(record, "p", DEFAULT_FORMAT)
    assert [(moment.proposed, moment.accepted) for moment in moments] == [(FILL, True), (ASK, False)]


def test_what_the_bpm_refused_is_not_written_down_as_done():
    worker = a_worker(Scripted(DONE))
    worker.refuse(worker.decide(Watching()), "not now")
    worker.see(SessionClosed(Closing.CLOSED))
    record = build_record(worker, TRIAL, "desk/all")
    outcomes = [event.data.outcome for event in record.events if isinstance(event.data, OutcomeReported)]
    assert outcomes == [Outcome.REFUSED]


def test_what_ran_unasked_is_judged_in_a_review_after_the_end():
    worker = a_worker(Scripted(FILL, ASK))
    worker.decide(Watching((FILL,)))
    worker.decide(Watching())
    worker.see(SessionClosed(Closing.CLOSED))
    record = build_record(worker, TRIAL, "desk/all")
    assert [(label.accepted, label.reviewed) for label in read_labels(record)] == [(True, True), (False, True)]
    assert human_points(record, DEFAULT_FORMAT) == [], "what ran unattended teaches nobody what to do"


# --- τ of whole sessions ----------------------------------------------------------------------------------------------
def decided(score, stratum="message", **changes):
    fields = {
        "proposed": ASK, "done": ASK, "by": By.MODEL, "critical": True, "stratum": stratum, "score": score,
        "confidence": score, "acceptable": True, "held_back": None, "version": 1, "seconds": 0.0,
    }  # fmt: skip
    return Decided(**{**fields, **changes})


def played(number, right, *decisions):
    return Played(str(number), "operator", TrialResult(right, True, 0 if right else 1, 0, "closed"), decisions)


def some_sessions(n, seed, error=0.02):
    """Sessions whose score tells how likely they end right; messages are surer than endings."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(n):
        sure = rng.beta(6, 1.2)
        right = rng.random() < 1 - error - 0.9 * (1 - sure) ** 1.5
        found.append(played(number, right, decided(sure), decided(sure**2, "finalizing")))
    return found


def test_a_session_certificate_holds_on_sessions_it_never_saw():
    certificate = certify_sessions(some_sessions(400, 1), some_sessions(3000, 2), target=0.9, delta=0.05)
    assert certificate.stands
    assert certificate.bound >= 0.9
    assert set(certificate.taus) == {"message", "finalizing"}
    runs = [
        each
        for each in some_sessions(20000, 3)
        if all(least >= certificate.taus[stratum] for stratum, least in each.least_scores.items())
    ]
    assert len(runs) > 5000
    assert sum(each.result.is_right for each in runs) / len(runs) >= 0.9


def test_it_is_seldom_wrong_about_sessions_that_are_never_right_enough():
    """No threshold reaches the target: a certificate that stands is a wrong one."""
    wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        flat = [played(i, bool(rng.random() < 0.9), decided(float(rng.random()))) for i in range(500)]
        wrong += certify_sessions(flat[:100], flat[100:], target=0.9, delta=0.05).stands
    assert wrong <= 20, "δ is 0.05: 10 expected at most, 20 in one of a thousand"


def test_without_enough_sessions_nothing_is_certified_and_it_says_why():
    certificate = certify_sessions([], some_sessions(40, 1), target=0.95, delta=0.05)
    assert (certificate.stands, certificate.reason) == (False, "TooFewLabels")


def test_a_session_that_was_asked_about_or_has_an_unscored_action_never_runs():
    asked = [played(i, True, decided(0.99, held_back=HeldBack.NOTHING_PROPOSED, by=By.OPERATOR)) for i in range(300)]
    unscored = [played(i, True, decided(None)) for i in range(300)]
    nameless = [played(i, True, decided(0.99, stratum="")) for i in range(300)]
    for sessions in (asked, unscored, nameless):
        certificate = certify_sessions(sessions[:100], sessions[100:], target=0.9, delta=0.05)
        assert (certificate.stands, certificate.n) == (False, 0)


def test_what_was_counted_is_what_runs_ties_and_all():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found = []
        for number in range(500):
            first, second = (float(np.round(score, 1)) for score in rng.beta(6, 1.2, 2))
            found.append(played(number, bool(rng.random() < 0.97), decided(first), decided(second, "finalizing")))
        certificate = certify_sessions(found[:150], found[150:], target=0.9, delta=0.05)
        runs = [
            each
            for each in found[150:]
            if all(least >= certificate.taus[stratum] for stratum, least in each.least_scores.items())
        ]
        assert certificate.stands
        assert (len(runs), sum(not each.result.is_right for each in runs)) == (certificate.selected, certificate.errors)


def test_a_transfer_is_never_automation():
    given = Played("1", "o", TrialResult(True, True, 0, 0, "transferred"), (decided(0.9),))
    assert not given.is_unattended
    assert not given.may_run


def test_scores_that_are_none_are_left_out_and_strata_nobody_chose_for_are_no_crash():
    broken = [played(i, True, decided(float("nan"))) for i in range(200)]
    assert certify_sessions(broken[:50], broken[50:], target=0.9, delta=0.05).n == 0
    silent = [played(i, True) for i in range(30)]
    certificate = certify_sessions(silent, some_sessions(400, 4), target=0.5, delta=0.05)
    assert certificate.stands
    assert set(certificate.taus) == {"message", "finalizing"}


# --- figures ----------------------------------------------------------------------------------------------------------
def test_a_loop_is_no_right_ending():
    loop = decided(None, by=By.OPERATOR, held_back=HeldBack.LOOP)
    automatic = [played(0, True, decided(0.9)), played(1, True, decided(0.9), loop)]
    report = build_report(automatic, automatic, [], certify_sessions([], [], target=0.9, delta=0.05))
    assert (report.termination_reliability.share, report.termination_reliability.n) == (0.5, 2)
    assert report.resolution_correctness.human_only.share is None


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (8, 10, 0.4439, 0.9748)]
)
def test_a_share_has_the_exact_interval(hits, n, low, high):
    share = count_share(hits, n)
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_nothing_to_count_is_not_measured():
    assert (count_share(0, 0).share, str(count_share(0, 0))) == (None, "not measured")


def test_only_sessions_nobody_touched_count_as_automated():
    wheel = decided(None, proposed=None, by=By.OPERATOR, critical=False, held_back=HeldBack.NOTHING_PROPOSED, seconds=6)
    automatic = [played(0, True, decided(0.9)), played(1, False, decided(0.9), wheel), played(2, False, decided(0.9))]
    certificate = certify_sessions([], [], target=0.9, delta=0.05)
    report = build_report(automatic, automatic, [(each.result, 10.0) for each in automatic], certificate)
    assert report.automation_rate.share == pytest.approx(2 / 3)
    assert report.resolution_correctness.unattended.share == 0.5
    assert report.resolution_correctness.all.share == pytest.approx(1 / 3)
    assert report.wrong_transactions.share == 0.5
    assert report.termination_reliability.share == 0.5
    assert report.held_back_by == {"nothing proposed: message": 1}
    assert report.operator_seconds.automatic == 2.0
    assert report.operator_seconds.ratio == pytest.approx(0.2)
    assert "2 of" not in str(report)
    assert "66.7%" in str(report)
