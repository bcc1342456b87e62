import test from "node:test";
import assert from "node:assert/strict";
import {createHash} from "node:crypto";
import {blake2b, digestAction} from "../src/digest.js";

test("BLAKE2b is that of node's OpenSSL, at every length around a block", () => {
  for (const length of [0, 1, 3, 63, 64, 127, 128, 129, 255, 256, 257, 1000]) {
    const bytes = Uint8Array.from({length}, (_, i) => (i * 7 + length) % 256);
    assert.equal(blake2b(bytes, 64), createHash("blake2b512").update(bytes).digest("hex"));
  }
});
test("what is empty is no part of an action's digest", () => {
  assert.equal(digestAction({tool: "click_control", control_id: "a", value: "", text: ""}), digestAction({tool: "click_control", control_id: "a"}));
});
