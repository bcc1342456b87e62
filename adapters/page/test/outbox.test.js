import test from "node:test";
import assert from "node:assert/strict";
import {Kept, makeId} from "../src/keeping.js";
import {Outbox, RefusedError, takeBatch, writeTime} from "../src/outbox.js";

class Memory {
  constructor() { this.map = new Map(); }
  getItem(key) { return this.map.get(key) ?? null; }
  setItem(key, value) { this.map.set(key, value); }
  removeItem(key) { this.map.delete(key); }
  key(at) { return [...this.map.keys()][at]; }
  get length() { return this.map.size; }
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
const NEXT = n => `the next event of this session has sequence ${n}`;
test("what the gateway has already is not sent again", async () => {
  const {sent, outbox} = make([[409, {where: "events[1].sequence", remedy: NEXT(1)}], [200, {}]]);
  outbox.add({type: "action_taken"});
  outbox.add({type: "message_posted"});
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => [each.sequence, each.data.type]), [[1, "message_posted"]]);
});
test("a page that has lost its memory goes on where the gateway is", async () => {
  const {sent, outbox} = make([[409, {where: "events[0].sequence", remedy: NEXT(7)}], [200, {}]]);
  outbox.add({type: "session_opened"});
  outbox.add({type: "screen_shown"});
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => [each.sequence, each.data.type]), [[7, "screen_shown"]]);
  assert.equal(outbox.sequence, 8);
});
test("what another page has numbered is no reason to lose ours", async () => {
  const {sent, outbox} = make([[409, {where: "events[0].sequence", remedy: NEXT(2)}], [200, {}]]);
  outbox.add({type: "action_taken"});
  outbox.add({type: "message_posted"});
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => [each.sequence, each.data.type]), [[2, "action_taken"], [3, "message_posted"]]);
});
for (const status of [401, 403, 404, 408, 429, 503]) {
  test(`${status} loses nothing`, async () => {
    const {kept, outbox} = make([[status, {}]]);
    outbox.add({type: "action_taken"});
    assert.equal(await outbox.send(), null);
    assert.equal(kept.session("s").events.length, 1);
  });
}
test("an order ends a sending: what comes after waits until it was obeyed", async () => {
  const {sent, outbox} = make([[200, {order: {}}]]);
  outbox.add({type: "feedback_given", verdict: "accept"});
  outbox.add({type: "screen_shown"});
  assert.ok((await outbox.send()).order);
  assert.equal(sent.length, 1);
  assert.equal(outbox.state.events.length, 1);
});
test("of screens that nobody has seen the newest is sent", async () => {
  const {sent, outbox} = make([[200, {}]]);
  outbox.add({type: "screen_shown", html: "a"});
  outbox.add({type: "screen_shown", html: "b"});
  await outbox.send();
  assert.deepEqual(sent[0].events.map(each => each.data.html), ["b"]);
});
test("a post has fewer bytes than a gateway takes", () => {
  const events = Array.from({length: 5}, () => ({data: {type: "screen_shown", html: "é".repeat(200_000)}}));
  assert.equal(takeBatch(events).length, 2);
});
test("an opening that is refused is kept, and is an error", async () => {
  const {kept, outbox} = make([[422, {where: "events[0].data.metadata"}]]);
  outbox.add({type: "session_opened"});
  await assert.rejects(outbox.send(), RefusedError);
  assert.equal(kept.session("s").events.length, 1);
});
test("a store that is full is told of, and the page goes on", async () => {
  const {kept, outbox, sent} = make([[200, {}]]);
  const told = [];
  outbox.told = error => told.push(error);
  kept.storage.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
  outbox.add({type: "action_taken"});
  await outbox.send();
  assert.equal(sent[0].events.length, 1);
  assert.ok(told.length > 0);
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
  outbox.told = error => dropped.push(error);
  outbox.add({type: "feedback_given"});
  outbox.add({type: "screen_shown"});
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => [each.sequence, each.data.type]), [[0, "screen_shown"]]);
  assert.equal(outbox.sequence, 1);
  assert.equal(dropped.length, 1);
});
test("ids are UUIDs of version 7, in the order of time", () => {
  assert.match(makeId(), /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
test("of events that another page's numbers met none is taken for known", async () => {
  const {sent, outbox} = make([new TypeError("down"), [409, {where: "events[0].sequence", remedy: NEXT(4)}], [200, {}]]);
  outbox.add({type: "action_taken"});
  outbox.add({type: "message_posted"});
  await outbox.send();
  await outbox.send();
  assert.deepEqual(sent[2].events.map(each => each.sequence), [4, 5]);
});
test("an event that is stored already is left out, wherever it stands", async () => {
  const {sent, outbox} = make([]);
  outbox.add({type: "action_taken"});
  outbox.add({type: "message_posted"});
  const detail = `event ${outbox.state.events[1].id} is stored with sequence 9`;
  assert.equal(outbox.resync({detail, where: "events[1].sequence", remedy: NEXT(10)}), true);
  assert.deepEqual(outbox.state.events.map(each => [each.sequence, each.data.type]), [[10, "action_taken"]]);
  assert.equal(outbox.sequence, 11);
});
test("what comes after the end is left out, and no more is sent", async () => {
  const {sent, outbox} = make([[409, {where: "events[0].session", detail: "the session is closed"}]]);
  outbox.add({type: "screen_shown"});
  await outbox.send();
  assert.deepEqual([outbox.state.events.length, outbox.state.closed, sent.length], [0, true, 1]);
});
test("an event that will never be taken is kept aside, and the rest goes on", async () => {
  const {sent, outbox} = make([[422, {where: "events[0].data.operator"}], [200, {}]]);
  outbox.add({type: "action_taken", operator: ""});
  outbox.add({type: "screen_shown"});
  await outbox.send();
  assert.deepEqual(sent[1].events.map(each => [each.sequence, each.data.type]), [[0, "screen_shown"]]);
  assert.equal(outbox.state.aside.length, 1);
});
test("a screen that is too large for a post becomes one that nobody can see", async () => {
  const {sent, outbox} = make([[413, {}], [200, {}]]);
  outbox.add({type: "screen_shown", html: "x"});
  await outbox.send();
  assert.match(sent[1].events[0].data.html, /too-large/);
});
test("half an emoji is no reason to refuse a post", async () => {
  const {outbox} = make([]);
  outbox.add({type: "outcome_reported", error: "\ud83d"});
  assert.equal(outbox.state.events[0].data.error, "\ufffd");
});
