"""Permits and the fence: every way in which leave ends."""

from math import inf, nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.permit import (
    FenceFacts,
    FenceFault,
    Permit,
    PermitFacts,
    PermitFault,
    find_fence_fault,
    find_permit_fault,
    remaining_ms,
    signing_input,
)

PERMIT = Permit(domain="uid/pilotage-system", epoch=5, nonce="n1", validity_ms=10_000, snapshot_digest="d1")
FACTS = PermitFacts(
    now=100.0, nonce="n1", nonce_sent=98.0, highest_epoch=5, snapshot_digest="d1", domain="uid/pilotage-system"
)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"domain": ""}, None),
        ({"highest_epoch": 4}, None),
        ({"domain": "other/pilotage-system"}, PermitFault.WRONG_DOMAIN),
        ({"nonce": "n2"}, PermitFault.WRONG_NONCE),
        ({"highest_epoch": 6}, PermitFault.OLD_EPOCH),
        ({"snapshot_digest": "d2"}, PermitFault.WRONG_SNAPSHOT),
        ({"now": 107.999}, None),
        ({"now": 108.0}, PermitFault.EXPIRED),
        ({"now": 97.0}, PermitFault.EXPIRED),
        ({"now": nan}, PermitFault.EXPIRED),
        ({"now": inf}, PermitFault.EXPIRED),
        ({"drift_seconds": 0.5}, None),
        ({"drift_seconds": -0.51}, PermitFault.CLOCK_DRIFT),
        ({"drift_seconds": nan}, PermitFault.CLOCK_DRIFT),
    ],
)
def test_a_permit_gives_leave_only_while_everything_about_it_is_current(changes, fault):
    assert find_permit_fault(PERMIT, msgspec.structs.replace(FACTS, **changes)) is fault


@given(st.floats(allow_nan=True), st.floats(allow_nan=True))
def test_leave_left_is_never_negative_and_never_more_than_the_validity(sent, now):
    assert 0 <= remaining_ms(PERMIT, sent, now) <= PERMIT.validity_ms


def test_what_is_signed_names_its_purpose_and_every_field():
    inputs = {
        signing_input(msgspec.structs.replace(PERMIT, **change))
        for change in ({}, {"domain": "x"}, {"epoch": 6}, {"nonce": "x"}, {"validity_ms": 1}, {"snapshot_digest": "x"})
    }
    assert len(inputs) == 6
    assert all(i.startswith(b"pilotage.dev/permit/v2\x00") for i in inputs)


ORDER = {
    "nonce": "n",
    "state_version": 3,
    "idempotency_key": "k",
    "remaining_ms": 500,
    "epoch": 5,
    "by_permit": True,
    "action": "a",
    "digest": "a",
}
HELD = FenceFacts(nonce="n", since_nonce_ms=100.0, state_version=3, keys_used=set(), highest_epoch=5)


@pytest.mark.parametrize(
    ("held", "order", "fault"),
    [
        ({}, {}, None),
        ({"since_nonce_ms": 499.9}, {}, None),
        ({"since_nonce_ms": 500.0}, {}, FenceFault.TOO_LATE),
        ({"since_nonce_ms": nan}, {}, FenceFault.TOO_LATE),
        ({"nonce": "other"}, {}, FenceFault.WRONG_NONCE),
        ({"nonce": ""}, {"nonce": ""}, FenceFault.WRONG_NONCE),
        ({}, {"action": "another"}, FenceFault.ANOTHER_ACTION),
        ({"state_version": 4}, {}, FenceFault.STALE_STATE),
        ({"keys_used": {"k"}}, {}, FenceFault.KEY_USED),
        ({"highest_epoch": 6}, {}, FenceFault.OLD_EPOCH),
        ({"highest_epoch": 6}, {"by_permit": False, "epoch": 0}, None),
    ],
)
def test_the_fence_refuses_what_is_late_stale_repeated_or_of_an_old_epoch(held, order, fault):
    assert find_fence_fault(msgspec.structs.replace(HELD, **held), **(ORDER | order)) is fault
