"""The BPM's fence: the last check before an order runs, by the BPM's own clock and counts (DESIGN, section 7).

Pure. A gateway can be paused between any check of its own and the action; what it believed then does not count.
"""

from collections.abc import Set
from enum import StrEnum

import msgspec

from pilotage_core.wire import Order

BY_PERMIT = "permit"


class FenceVerdict(StrEnum):
    """What the fence says to an order."""

    PASSED = "passed"
    WRONG_NONCE = "wrong-nonce"
    EXPIRED = "expired"
    STALE_STATE = "stale-state"
    REPEATED_KEY = "repeated-key"
    OLD_EPOCH = "old-epoch"


class FenceFacts(msgspec.Struct, frozen=True):
    """What the BPM itself knows: its nonce and the time since it made it, the state version, keys used, the epoch."""

    nonce: str
    elapsed_ms: float
    state_version: int
    highest_epoch: int


def decide_fence(order: Order, facts: FenceFacts, used_keys: Set[str]) -> FenceVerdict:
    """Whether `order` may run now. An operator's accept needs no permit, so no epoch."""
    if not order.nonce or order.nonce != facts.nonce:
        return FenceVerdict.WRONG_NONCE
    if not facts.elapsed_ms < order.remaining_ms:
        return FenceVerdict.EXPIRED
    if order.state_version != facts.state_version:
        return FenceVerdict.STALE_STATE
    if order.idempotency_key in used_keys:
        return FenceVerdict.REPEATED_KEY
    if order.authorised_by == BY_PERMIT and order.epoch < max(1, facts.highest_epoch):
        return FenceVerdict.OLD_EPOCH
    return FenceVerdict.PASSED
