import test from "node:test";
import assert from "node:assert/strict";
import {Kept} from "../src/keeping.js";
import {Outbox, RefusedError, takeBatch, writeTime} from "../src/outbox.js";

class Memory {
  constructor() { this.map = new Map(); }
  getItem(key) { return this.map.get(key) ?? null; }
  setItem(key, value) { this.map.set(key, value); }
  removeItem(key) { this.map.delete(key); }
}
const make = replies => {
  const sent = [];
  globalThis.fetch = async (url, options) => {
    sent.push(JSON.parse(options.body));
    const reply = replies.shift();
    if (reply instanceof Error) throw reply;
    return {status: reply[0], json: async () => reply[1]};
  };
  const kept = new Kept(new Memory());
  return {kept, sent, outbox: new Outbox(kept, "s", "http://x")};
};

test("events are numbered, sent in order, and gone once they are taken", async () => {
  const {kept, sent, outbox} = make([[200, {sequence: 2}]]);
  outbox.add({type: "session_opened"});
  outbox.add({type: "message_posted"});
  assert.deepEqual(await outbox.send(), {sequence: 2});
  assert.deepEqual(sent[0].events.map(each => each.sequence), [0, 1]);
  assert.deepEqual(kept.session("s").events, []);
  assert.equal(new Outbox(kept, "s", "").sequence, 2);
});
test("what nobody took is kept, and sent again as it was", async () => {
  const {kept, sent, outbox} = make([new TypeError("down"), [503, {}], [200, {}]]);
  outbox.add({type: "session_opened"});
  assert.equal(await outbox.send(), null);
  assert.equal(await new Outbox(kept, "s", "http://x").send(), null);
  await new Outbox(kept, "s", "http://x").send();
  assert.deepEqual(sent[0].events, sent[2].events);
  assert.notEqual(sent[0].nonce, sent[2].nonce);
});
test("what the gateway has already is not sent again", async () => {
  const {sent, outbox} = make([[409, {remedy: "the next event of this session has sequence 1"}], [200, {}]]);
  outbox.add({type: "session_opened"});
  outbox.add({type: "message_posted"});
  outbox.state.events[0].data.type = "screen_shown";
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => each.sequence), [1]);
});
test("a page that has lost its memory goes on where the gateway is", async () => {
  const {sent, outbox} = make([[409, {remedy: "the next event of this session has sequence 7"}], [200, {}]]);
  outbox.add({type: "session_opened"});
  outbox.add({type: "screen_shown"});
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => [each.sequence, each.data.type]), [[7, "screen_shown"]]);
  assert.equal(outbox.sequence, 8);
});
test("a gap is an error, not a loop", async () => {
  const {outbox} = make([[409, {detail: "no", remedy: ""}]]);
  outbox.add({type: "screen_shown"});
  await assert.rejects(outbox.send(), RefusedError);
});
test("an accept is the last of its post", () => {
  const accept = {data: {type: "feedback_given", verdict: "accept"}}, other = {data: {type: "screen_shown"}};
  assert.equal(takeBatch([other, accept, other]).length, 2);
});
test("times say their offset", () => assert.match(writeTime(), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$/));
test("an answer that came too late is left out, and the rest goes on", async () => {
  const {sent, outbox} = make([[409, {where: "events[0].data.proposal_id", remedy: "act on what is there now"}], [200, {sequence: 9}]]);
  const dropped = [];
  outbox.onDropped = error => dropped.push(error);
  outbox.add({type: "feedback_given"});
  outbox.add({type: "screen_shown"});
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => [each.sequence, each.data.type]), [[0, "screen_shown"]]);
  assert.equal(outbox.sequence, 1);
  assert.equal(dropped.length, 1);
});
