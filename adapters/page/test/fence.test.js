import test from "node:test";
import assert from "node:assert/strict";
import {digestAction} from "../src/digest.js";
import {findFenceFault} from "../src/fence.js";

const action = {tool: "click_control", control_id: "book"};
const order = {action, digest: digestAction(action), nonce: "n", state_version: 3, idempotency_key: "k", remaining_ms: 500, epoch: 4, authorised_by: "permit"};
const facts = {nonce: "n", sinceNonceMs: 100, stateVersion: 3, keysUsed: new Set(), highestEpoch: 4};
const cases = [
  ["all is well", {}, {}, null],
  ["another post's order", {nonce: "m"}, {}, "wrong-nonce"],
  ["no nonce", {nonce: ""}, {nonce: ""}, "wrong-nonce"],
  ["other bytes than were scored", {action: {...action, control_id: "delete"}}, {}, "another-action"],
  ["the page has moved on", {}, {stateVersion: 4}, "stale-state"],
  ["it ran before", {}, {keysUsed: new Set(["k"])}, "key-used"],
  ["an older controller's leave", {epoch: 3}, {}, "old-epoch"],
  ["an operator's word has no epoch", {epoch: 0, authorised_by: "ann"}, {}, null],
  ["too late", {}, {sinceNonceMs: 500}, "too-late"],
  ["a clock that gives nothing", {}, {sinceNonceMs: NaN}, "too-late"],
];
for (const [name, ordered, known, fault] of cases) test(name, () => assert.equal(findFenceFault({...facts, ...known}, {...order, ...ordered}), fault));
