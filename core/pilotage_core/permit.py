"""Permits and the BPM's fence: the two checks that a dead controller or a paused process cannot outlive. Pure.

Signing and verifying (Ed25519) are the controller's and the gateway's; clocks are theirs too.
"""

from enum import StrEnum

import msgspec

SIGNING_CONTEXT = b"pilotage.dev/permit/v2\x00"
"""Raised whenever a snapshot means more than an older gateway would read in it: such a one then has no leave.

v2: everything is critical unless listed (v1 gateways read a list of what is critical).
"""
MAX_DRIFT_SECONDS = 0.5
"""Wall clock against boot time: a larger drift means that one of them was changed or the machine slept."""


class Permit(msgspec.Struct, frozen=True):
    """Leave for one gateway to run critical actions without asking, for `validity_ms` from when it sent `nonce`.

    `domain` is the Kubernetes cluster's UID and the controller's namespace; `epoch` rises with every controller start.
    `snapshot_digest` binds it to what each process cluster may do (wire.Snapshot).
    """

    domain: str
    epoch: int
    nonce: str
    validity_ms: int
    snapshot_digest: str


def signing_input(permit: Permit) -> bytes:
    """The bytes that are signed: a context, then the canonical JSON."""
    return SIGNING_CONTEXT + msgspec.json.encode(permit)


class PermitFault(StrEnum):
    """Why a permit gives no leave."""

    WRONG_DOMAIN = "wrong-domain"
    WRONG_NONCE = "wrong-nonce"
    OLD_EPOCH = "old-epoch"
    WRONG_SNAPSHOT = "wrong-snapshot"
    EXPIRED = "expired"
    CLOCK_DRIFT = "clock-drift"


class PermitFacts(msgspec.Struct, frozen=True):
    """What the gateway knows when it looks at a permit whose signature it has verified.

    Times are seconds of CLOCK_BOOTTIME; `nonce_sent` was read before the nonce left. `drift_seconds` is how far wall
    clock and boot time have moved apart since then. An empty `domain` accepts the first domain ever seen.
    """

    now: float
    nonce: str
    nonce_sent: float
    highest_epoch: int
    snapshot_digest: str
    domain: str = ""
    drift_seconds: float = 0.0


def remaining_ms(permit: Permit, nonce_sent: float, now: float) -> int:
    """Milliseconds of leave left; never more than the validity, zero once it is over or where time ran backwards."""
    age = (now - nonce_sent) * 1000
    if not 0 <= age < permit.validity_ms:  # NaN fails the comparison too
        return 0
    return int(permit.validity_ms - age)


def find_permit_fault(permit: Permit, facts: PermitFacts) -> PermitFault | None:
    """Why `permit` gives no leave now; None where it does."""
    if facts.domain and permit.domain != facts.domain:
        return PermitFault.WRONG_DOMAIN
    if permit.nonce != facts.nonce:
        return PermitFault.WRONG_NONCE
    if permit.epoch < facts.highest_epoch:
        return PermitFault.OLD_EPOCH
    if permit.snapshot_digest != facts.snapshot_digest:
        return PermitFault.WRONG_SNAPSHOT
    if not abs(facts.drift_seconds) <= MAX_DRIFT_SECONDS:
        return PermitFault.CLOCK_DRIFT
    if remaining_ms(permit, facts.nonce_sent, facts.now) <= 0:
        return PermitFault.EXPIRED
    return None


class FenceFault(StrEnum):
    """Why the BPM refuses an order."""

    STALE_STATE = "stale-state"
    WRONG_NONCE = "wrong-nonce"
    KEY_USED = "key-used"
    OLD_EPOCH = "old-epoch"
    TOO_LATE = "too-late"
    ANOTHER_ACTION = "another-action"


class FenceFacts(msgspec.Struct, frozen=True):
    """What the BPM adapter itself knows when an order reaches the action. `since_nonce_ms` is by its own clock."""

    nonce: str
    since_nonce_ms: float
    state_version: int
    keys_used: frozenset[str] | set[str]
    highest_epoch: int


def find_fence_fault(
    facts: FenceFacts,
    *,
    nonce: str,
    state_version: int,
    idempotency_key: str,
    remaining_ms: int,
    epoch: int,
    by_permit: bool,
    action: str = "",
    digest: str = "",
) -> FenceFault | None:
    """Why an order may not be executed now; None where it may.

    `action` is the digest of the action that arrived, `digest` the one that the order names.
    """
    if not nonce or nonce != facts.nonce:
        return FenceFault.WRONG_NONCE
    if action != digest:
        return FenceFault.ANOTHER_ACTION
    if state_version != facts.state_version:
        return FenceFault.STALE_STATE
    if idempotency_key in facts.keys_used:
        return FenceFault.KEY_USED
    if by_permit and epoch < facts.highest_epoch:
        return FenceFault.OLD_EPOCH
    if not facts.since_nonce_ms < remaining_ms:
        return FenceFault.TOO_LATE
    return None
