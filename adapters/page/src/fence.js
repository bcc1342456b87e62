// The BPM's fence: the last look before an order runs, by what this page itself knows. The same checks in the same order
// as find_fence_fault in core/pilotage_core/permit.py; tests/contract/test_page_adapter.py holds the two together.
// Pure: who keeps keys and epochs over reloads and tabs is keeping.js.

import {digestAction} from "./digest.js";

export const BY_PERMIT = "permit";

/**
 * Why `order` may not run now; null where it may.
 * facts: {nonce, sinceNonceMs, stateVersion, keysUsed: Set, highestEpoch}
 */
export function findFenceFault(facts, order) {
  if (!order.nonce || order.nonce !== facts.nonce) return "wrong-nonce";
  if (digestAction(order.action) !== order.digest) return "another-action";
  if (order.state_version !== facts.stateVersion) return "stale-state";
  if (facts.keysUsed.has(order.idempotency_key)) return "key-used";
  if (order.authorised_by === BY_PERMIT && order.epoch < facts.highestEpoch) return "old-epoch";
  if (!(facts.sinceNonceMs < order.remaining_ms)) return "too-late";
  return null;
}
