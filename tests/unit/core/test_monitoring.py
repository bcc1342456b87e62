"""R alarms when precision falls, K grows only when there is room, and shares are certified at any time."""

import math
import random
from functools import reduce

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.errors import InvalidInputError
from pilotage_core.monitoring import (
    AUDIT_ALL_AT,
    AUDIT_SHARE_BELOW,
    ROLL_BACK_AT,
    TIGHTEN_AT,
    Alarm,
    Monitor,
    MonitoredLabel,
    has_earned_looser,
    is_share_within,
    log_evidence_within,
    replay,
    share_bound,
    step,
)

ACCEPT, REJECT = MonitoredLabel(True), MonitoredLabel(False)
FRESH = Monitor(target=0.9)


@st.composite
def labels(draw: st.DrawFn) -> MonitoredLabel:
    propensity = draw(st.floats(0.01, 1.0))
    return MonitoredLabel(
        draw(st.booleans()), propensity, draw(st.floats(0.01, 1.0)) * propensity, below_tau=draw(st.booleans())
    )


@given(st.lists(labels(), max_size=80), st.integers(0, 80))
def test_a_restart_in_the_middle_changes_nothing(sequence, cut):
    whole = replay(FRESH, sequence)
    assert whole == reduce(step, sequence, FRESH)
    stored = msgspec.json.decode(msgspec.json.encode(replay(FRESH, sequence[:cut])), type=Monitor)
    assert replay(stored, sequence[cut:]) == whole


@given(st.lists(labels(), max_size=80))
def test_every_number_stays_finite_and_not_negative_whatever_is_said(sequence):
    for upto in range(len(sequence)):
        monitor = replay(FRESH, sequence[:upto])
        assert 0.0 <= monitor.r <= monitor.r_peak < math.inf
        assert all(0.0 < capital < math.inf for capital in monitor.capitals)


@pytest.mark.parametrize(("label", "count"), [(REJECT, 1000), (ACCEPT, 15_000)])
def test_however_clear_labels_are_r_and_k_are_numbers_in_json(label, count):
    monitor = replay(FRESH, [label] * count)
    said = msgspec.json.decode(msgspec.json.encode((monitor.r, monitor.r_peak, monitor.k, monitor.k_peak)))
    assert all(isinstance(number, float) for number in said)
    assert max(said) > 1e299


def test_one_step_is_the_recursion_of_shiryaev_and_roberts():
    assert step(FRESH, ACCEPT).r == pytest.approx(0.85)
    assert step(FRESH, REJECT).r == pytest.approx(2.35)
    assert step(step(FRESH, REJECT), REJECT).r == pytest.approx((2.35 + 1) * 2.35)


@pytest.mark.parametrize(
    ("rejects", "alarm", "audits_all"),
    [
        (0, Alarm.NONE, False),
        (4, Alarm.NONE, False),  # R = 51
        (5, Alarm.NONE, True),  # R = 123
        (7, Alarm.NONE, True),  # R = 691
        (8, Alarm.TIGHTEN, True),  # R = 1625
        (10, Alarm.TIGHTEN, True),  # R = 8983
        (11, Alarm.ROLL_BACK, True),
    ],
)
def test_a_run_of_rejects_audits_then_tightens_then_rolls_back(rejects, alarm, audits_all):
    monitor = replay(FRESH, [REJECT] * rejects)
    assert (monitor.alarm, monitor.audits_all) == (alarm, audits_all)
    assert monitor.tightenings == (alarm is not Alarm.NONE)


def test_audits_stay_on_until_r_is_well_below_where_they_began():
    monitor = replay(FRESH, [REJECT] * 5)
    seen = []
    while monitor.audits_all:
        monitor = step(monitor, ACCEPT)
        seen.append(monitor.r)
    assert seen[-1] < AUDIT_SHARE_BELOW <= seen[-2] < AUDIT_ALL_AT


def test_a_roll_back_stays_and_a_tightening_ends_once_r_has_fallen():
    tightened = replay(FRESH, [REJECT] * 8)
    assert replay(tightened, [ACCEPT] * 60).alarm is Alarm.NONE
    assert replay(tightened, [ACCEPT] * 60 + [REJECT] * 8).tightenings == 2
    assert replay(FRESH, [REJECT] * 11 + [ACCEPT] * 500).alarm is Alarm.ROLL_BACK
    assert replay(tightened, [ACCEPT] * 60).r_peak >= TIGHTEN_AT


def test_tightening_makes_k_start_again_for_it_speaks_of_another_step():
    earned = replay(FRESH, [ACCEPT] * 200)
    assert has_earned_looser(earned, 0.05)
    tightened = earned
    while tightened.alarm is Alarm.NONE:
        tightened = step(tightened, REJECT)
    assert (tightened.alarm, tightened.k, tightened.k_peak, tightened.f_peak) == (Alarm.TIGHTEN, 1.0, 1.0, 1.0)
    assert not has_earned_looser(tightened, 0.05)


def test_labels_below_tau_speak_for_k_only():
    below = replay(FRESH, [MonitoredLabel(False, below_tau=True)] * 30)
    assert (below.r, below.alarm, below.labels, below.proofs) == (0.0, Alarm.NONE, 30, FRESH.proofs)
    assert below.k < 0.6


def test_audited_labels_under_one_share_count_fully_and_sure_labels_beside_them_by_that_share():
    audited = MonitoredLabel(False, propensity=0.1, least_propensity=0.1)
    sure = MonitoredLabel(False, propensity=1.0, least_propensity=0.1)
    assert step(FRESH, audited).r == step(FRESH, REJECT).r
    assert step(FRESH, sure).r == pytest.approx(1 + 1.5 * 0.1 * 0.9)


@pytest.mark.parametrize(("propensity", "least"), [(0.0, 0.0), (0.5, 0.6), (1.1, 0.5), (math.nan, 0.5), (0.5, 0.0)])
def test_an_impossible_propensity_is_refused(propensity, least):
    with pytest.raises(InvalidInputError, match="needs 0 <"):
        step(FRESH, MonitoredLabel(True, propensity, least))


@given(st.lists(labels(), max_size=40), st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_at_precision_as_promised_k_is_a_fair_bet_and_r_grows_by_one_a_label(sequence, propensity, least):
    before = replay(FRESH, sequence)
    accepted = step(before, MonitoredLabel(True, propensity, least * propensity))
    rejected = step(before, MonitoredLabel(False, propensity, least * propensity))
    assert 0.9 * accepted.r + 0.1 * rejected.r == pytest.approx(before.r + 1.0)
    if rejected.tightenings == before.tightenings:
        assert 0.9 * accepted.k + 0.1 * rejected.k == pytest.approx(before.k)


def test_leave_to_loosen_is_seldom_given_falsely_and_comes_in_time_where_it_is_due():
    draw = random.Random(20250302)

    def loosens_at(precision: float, within: int) -> int:
        monitor = FRESH
        for count in range(within):
            if has_earned_looser(monitor, 0.05):
                return count
            monitor = step(monitor, MonitoredLabel(draw.random() < precision))
        return within

    assert sum(loosens_at(0.9, 400) < 400 for _ in range(200)) <= 10
    assert sorted(loosens_at(0.95, 1000) for _ in range(41))[20] < 350


def test_precision_is_seldom_proven_falsely_and_in_time_where_it_is_above_its_target():
    draw = random.Random(20261130)

    def proven_at(precision: float, within: int) -> int:
        monitor = FRESH
        for count in range(within):
            if monitor.f_peak >= 1 / 0.025:
                return count
            monitor = step(monitor, MonitoredLabel(draw.random() < precision))
        return within

    assert sum(proven_at(0.9, 400) < 400 for _ in range(400)) <= 20  # at most 10 are expected
    assert sorted(proven_at(0.97, 1000) for _ in range(41))[20] < 250


def test_a_real_fall_rolls_back_within_labels_and_precision_as_promised_does_not():
    draw = random.Random(20250301)

    def roll_back_at(precision: float, within: int) -> int | None:
        monitor = FRESH
        for count in range(1, within + 1):
            monitor = step(monitor, MonitoredLabel(draw.random() < precision))
            if monitor.alarm is Alarm.ROLL_BACK:
                return count
        return None

    delays = sorted(roll_back_at(0.7, 2000) or 2000 for _ in range(101))
    assert 36 <= delays[50] <= 56  # 46 from R = 0, in the long run
    assert [roll_back_at(0.93, 1000) for _ in range(40)] == [None] * 40


@given(st.lists(st.booleans(), max_size=60))
def test_r_rises_with_every_reject_and_k_with_every_accept(verdicts):
    monitor = replay(FRESH, [ACCEPT if verdict else REJECT for verdict in verdicts])
    accepted, rejected = step(monitor, ACCEPT), step(monitor, REJECT)
    assert accepted.r < rejected.r
    assert accepted.k > rejected.k or rejected.tightenings > accepted.tightenings


@pytest.mark.parametrize(
    ("limit", "delta", "events", "trials", "within"),
    [
        (0.1, 0.05, 0, 0, False),
        (0.1, 0.05, 0, 40, False),
        (0.1, 0.05, 0, 60, True),
        (0.1, 0.05, 5, 200, True),
        (0.1, 0.05, 10, 200, False),
        (0.1, 0.05, 40, 200, False),
        (0.1, 0.05, 200, 200, False),
        (0.1, 0.05, 20_000, 100_000, False),
        (0.1, 0.05, 9_500, 100_000, True),
        (0.1, 0.001, 7, 200, False),
    ],
)
def test_a_share_is_certified_only_on_enough_evidence(limit, delta, events, trials, within):
    assert is_share_within(limit, delta, events, trials) is within


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0.01, 0.99))
def test_one_more_event_never_helps_and_one_more_quiet_trial_never_hurts(events, others, limit):
    here = log_evidence_within(limit, events, events + others)
    assert log_evidence_within(limit, events + 1, events + others + 1) <= here + 1e-9
    assert log_evidence_within(limit, events, events + others + 1) >= here - 1e-9


@pytest.mark.parametrize("limit", [0.05, 0.1, 0.5])
def test_the_evidence_has_mean_one_at_the_limit_and_less_above_it(limit):
    trials = 40

    def mean(share: float) -> float:
        return sum(
            math.comb(trials, k)
            * share**k
            * (1 - share) ** (trials - k)
            * math.exp(log_evidence_within(limit, k, trials))
            for k in range(trials + 1)
        )

    assert mean(limit) == pytest.approx(1.0, rel=1e-6)
    assert mean(limit * 1.2) < 1.0


def test_looking_after_every_trial_does_not_certify_falsely():
    draw = random.Random(7)
    false_certificates = 0
    for _ in range(200):
        events = 0
        for trials in range(1, 301):
            events += draw.random() < 0.1
            if is_share_within(0.1, 0.05, events, trials):
                false_certificates += 1
                break
    assert false_certificates <= 10


@given(st.integers(0, 200), st.integers(1, 200))
def test_the_bound_of_a_share_is_where_certifying_begins(events, others):
    bound = share_bound(0.05, events, events + others)
    assert bound > events / (events + others)
    if bound < 1.0 - 1e-5:
        assert is_share_within(bound + 1e-5, 0.05, events, events + others)
    assert not is_share_within(bound - 1e-5, 0.05, events, events + others)


@pytest.mark.parametrize(("limit", "events", "trials"), [(0.0, 0, 5), (1.0, 0, 5), (0.1, 6, 5), (0.1, -1, 5)])
def test_impossible_counts_and_limits_are_refused(limit, events, trials):
    with pytest.raises(InvalidInputError):
        log_evidence_within(limit, events, trials)


def test_thresholds_stand_in_their_order():
    assert AUDIT_SHARE_BELOW < AUDIT_ALL_AT < TIGHTEN_AT < ROLL_BACK_AT
