"""A certificate stands until one digest it rests on changes; a rollout of gateways costs nothing."""

import math

import msgspec
import pytest

from pilotage_core.calibration import CalibrationReason, TauResult, build_certificate
from pilotage_core.certificate import (
    Certificate,
    EvidenceDigests,
    ScoreSource,
    changed_digests,
    find_attempt_share,
    session_precision_bound,
)
from pilotage_core.errors import EvidenceError

DIGESTS = EvidenceDigests(
    data="d1", policy="p1", critic="c1", prompt_format="f1", actions="a1", screens="s1", serving_image="i1"
)
CERTIFIED = TauResult(
    tau=0.62,
    reason=CalibrationReason.CERTIFIED,
    target=0.9,
    delta=0.05,
    n=3000,
    needed=300,
    selected=1200,
    errors=96,
    bound=0.906,
    coverage=0.4,
    design_effect=1.2,
    icc=0.002,
    operators=14,
    grid_tested=70,
)


def certificate(result: TauResult = CERTIFIED, digests: EvidenceDigests = DIGESTS) -> Certificate:
    return build_certificate(
        result,
        process_cluster="support/returns",
        stratum="message",
        labels_from="live",
        score_from=ScoreSource.CRITIC,
        digests=digests,
        median_session_actions=8.0,
        issued_at="2025-03-01T09:00:00Z",
    )


@pytest.mark.parametrize(
    ("current", "formats", "changed"),
    [
        (DIGESTS, set(), ()),
        (msgspec.structs.replace(DIGESTS, policy="p2"), set(), ("policy",)),
        (msgspec.structs.replace(DIGESTS, critic="c2", serving_image="i2"), set(), ("critic", "serving_image")),
        (msgspec.structs.replace(DIGESTS, prompt_format="f2"), set(), ("prompt_format",)),
        (msgspec.structs.replace(DIGESTS, prompt_format="f2"), {"f2", "f1"}, ()),
        (msgspec.structs.replace(DIGESTS, prompt_format="f3"), {"f3", "f2"}, ("prompt_format",)),
        (msgspec.structs.replace(DIGESTS, policy="f1"), {"p1", "f1"}, ("policy",)),
    ],
)
def test_a_certificate_names_what_has_changed_under_it(current, formats, changed):
    assert changed_digests(certificate(), current, prompt_formats=formats) == changed


@pytest.mark.parametrize("name", EvidenceDigests.__struct_fields__)
def test_an_unknown_digest_equals_nothing_not_even_another_unknown_one(name):
    unknown = msgspec.structs.replace(DIGESTS, **{name: ""})
    assert changed_digests(certificate(digests=unknown), unknown, prompt_formats={""}) == (name,)


@pytest.mark.parametrize("source", [*ScoreSource, None])
def test_a_certificate_survives_json(source):
    issued = msgspec.structs.replace(certificate(), score_from=source)
    assert msgspec.json.decode(msgspec.json.encode(issued), type=Certificate) == issued


def test_a_certificate_from_before_there_was_a_score_source_reads_as_not_told_and_stays_as_it_was():
    told = msgspec.to_builtins(certificate())
    del told["score_from"]
    read = msgspec.convert(told, Certificate)
    assert read.score_from is None
    assert msgspec.to_builtins(read) == told  # so the digest of a snapshot that carries it is the same


def test_a_certificate_says_what_it_means_for_a_whole_session():
    assert session_precision_bound(0.9, 8) == pytest.approx(0.43, abs=0.001)
    assert certificate().session_bound == pytest.approx(0.906**8)


def test_without_a_tau_there_is_nothing_to_certify():
    failed = TauResult(None, CalibrationReason.TOO_FEW_LABELS, target=0.9, delta=0.05, n=12, needed=60)
    with pytest.raises(EvidenceError, match="TooFewLabels"):
        certificate(failed)


def test_all_attempts_together_spend_no_more_than_delta():
    shares = [find_attempt_share(number) for number in range(1, 10_001)]
    assert shares == sorted(shares, reverse=True)
    assert math.fsum(shares) < 1.0
    assert shares[:3] == pytest.approx([1 / 2, 1 / 6, 1 / 12])
    with pytest.raises(ValueError, match="from 1"):
        find_attempt_share(0)
