"""What a BPM's adapter is told to do: an order, made of an intent that is stored."""

from pilotage_core.record import ProposalRecord
from pilotage_core.wire import BY_PERMIT, Order
from pilotage_gateway.sessions import Intent

STANDING_ORDER_MS = 10_000
"""How long an order holds that rests on no permit: an operator's accept, or an action that is not critical."""


def build_order(proposal: ProposalRecord, intent: Intent, nonce: str, remaining_ms: int) -> Order:
    """The order of `intent`, answering `nonce`; `remaining_ms` is what is left of its leave.

    Leave is counted from now, while the adapter counts from its nonce, which was before.
    """
    rests_on_permit = intent.authorised_by == BY_PERMIT and proposal.critical
    return Order(
        proposal_id=proposal.proposal_id,
        action=proposal.action,
        idempotency_key=intent.idempotency_key,
        nonce=nonce,
        state_version=intent.state_version,
        remaining_ms=remaining_ms if rests_on_permit else STANDING_ORDER_MS,
        epoch=intent.epoch,
        authorised_by=intent.authorised_by,
        digest=proposal.action.digest,
    )
