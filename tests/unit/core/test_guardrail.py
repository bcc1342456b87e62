"""Guardrail verdicts: a share above its limit breaches only with enough samples; nothing unknown is ever Healthy."""

from math import inf, nan

import pytest

from pilotage_core.guardrail import (
    Comparator,
    Finding,
    GuardrailRule,
    GuardrailVerdict,
    Reading,
    decide_finding,
    decide_verdict,
)

RULE = GuardrailRule(name="corrective", comparator=Comparator.ABOVE, threshold=0.3, min_samples=20)


@pytest.mark.parametrize(
    ("reading", "ever_reported", "verdict"),
    [
        (None, False, GuardrailVerdict.INSUFFICIENT),
        (None, True, GuardrailVerdict.MISSING),
        (Reading(0.02, 500, fault="2 series"), True, GuardrailVerdict.MISSING),
        (Reading(nan, 500), True, GuardrailVerdict.MISSING),
        (Reading(inf, 500), True, GuardrailVerdict.MISSING),
        (Reading(-inf, 500), True, GuardrailVerdict.MISSING),
        (Reading(0.02, nan), True, GuardrailVerdict.MISSING),
        (Reading(nan, 0), True, GuardrailVerdict.INSUFFICIENT),
        (Reading(0.9, 19), True, GuardrailVerdict.INSUFFICIENT),
        (Reading(0.02, 20), True, GuardrailVerdict.HEALTHY),
        (Reading(0.30, 20), True, GuardrailVerdict.HEALTHY),
        (Reading(0.31, 20), True, GuardrailVerdict.BREACHED),
    ],
)
def test_a_share_above_its_limit_breaches_only_with_enough_samples(reading, ever_reported, verdict):
    assert decide_verdict(RULE, reading, ever_reported=ever_reported)[0] is verdict


@pytest.mark.parametrize(
    ("comparator", "value", "violated"),
    [
        (Comparator.ABOVE, 1.0, False),
        (Comparator.AT_LEAST, 1.0, True),
        (Comparator.BELOW, 1.0, False),
        (Comparator.AT_MOST, 1.0, True),
        (Comparator.BELOW, 0.9, True),
    ],
)
def test_comparators_mean_what_they_say_at_the_edge(comparator, value, violated):
    assert comparator.is_violated_by(value, 1.0) is violated


def test_a_breach_counts_once_it_has_stood_for_its_time_and_survives_a_restart():
    rule = GuardrailRule(name="slow", comparator=Comparator.ABOVE, threshold=0.3, for_seconds=10)
    bad = Reading(0.5, 100)
    first = decide_finding(rule, bad, None, now=100.0)
    later = decide_finding(rule, bad, first, now=110.0)
    assert not first.breached_for_long_enough
    assert later.breached_for_long_enough
    assert later.since == 100.0
    healthy = decide_finding(rule, Reading(0.1, 100), later, now=111.0)
    assert decide_finding(rule, bad, healthy, now=112.0).since == 112.0


def test_missing_data_waits_its_grace_before_it_holds_anything():
    rule = GuardrailRule(name="m", comparator=Comparator.ABOVE, threshold=0.3, grace_seconds=15)
    seen = Finding("m", GuardrailVerdict.HEALTHY, "", value=0.1, since=0.0)
    gone = decide_finding(rule, None, seen, now=100.0)
    assert gone.verdict is GuardrailVerdict.MISSING
    assert not gone.missing_beyond_grace
    assert decide_finding(rule, None, gone, now=115.0).missing_beyond_grace
