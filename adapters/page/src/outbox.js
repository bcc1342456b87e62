// A session's events on their way to the gateway: numbered, kept until they are taken, sent again where nobody answers.
// Nothing is thrown away but an operator's answer that came too late, and that is told.

import {makeId} from "./keeping.js";
import {TOO_LARGE} from "./screen.js";

const BACKOFF_MS = [200, 500, 1000, 2000, 5000];
const EVENTS_A_POST = 50;
const BYTES_A_POST = 900_000;
const TIMEOUT_MS = 30_000;
const ANSWERS = new Set(["feedback_given", "session_reviewed"]);
const size = value => new TextEncoder().encode(JSON.stringify(value)).length;

/** RFC 3339 with this machine's offset. */
export function writeTime(date = new Date()) {
  const pad = n => String(Math.trunc(Math.abs(n))).padStart(2, "0");
  const offset = -date.getTimezoneOffset();
  const local = new Date(date.getTime() + offset * 60000).toISOString().slice(0, -1);
  return `${local}${offset < 0 ? "-" : "+"}${pad(offset / 60)}:${pad(offset % 60)}`;
}

export class RefusedError extends Error {
  constructor(problem) {
    super(`${problem.title ?? "refused"}: ${problem.detail ?? ""}${problem.where ? ` (${problem.where})` : ""}. ${problem.remedy ?? ""}`);
    this.problem = problem;
  }
}

/**
 * `kept` (keeping.js) holds the session; `url` is where the gateway is reached; `headers` go with each request.
 * `told(error)` hears what a person should know.
 */
export class Outbox {
  constructor(kept, id, url, {headers = {}, source = "page", signal, told = () => {}, state} = {}) {
    Object.assign(this, {kept, id, url: url.replace(/\/$/, ""), headers, source, signal, told});
    this.state = state ?? kept.session(id);
    this.isKept = true;
    this.nonce = "";
    this.nonceMade = this.clock();
    this.failures = 0;
  }
  /** The state version: how many events there were, sent or not. */
  get sequence() {
    return this.state.sequence;
  }
  clock() {
    return {steady: performance.now(), wall: Date.now()};
  }
  /** Milliseconds since the nonce was made; for ever, where the clocks disagree: a machine that slept has no leave. */
  get sinceNonceMs() {
    const now = this.clock();
    const steady = now.steady - this.nonceMade.steady, wall = now.wall - this.nonceMade.wall;
    return Math.abs(steady - wall) <= 500 ? Math.max(steady, wall) : Infinity;
  }
  add(given) {
    const data = JSON.parse(JSON.stringify(given, (_, value) => (typeof value === "string" ? value.toWellFormed() : value)));
    const last = this.state.events.at(-1);
    if (data.type === "screen_shown" && last?.data.type === "screen_shown" && last.sequence > this.state.sent) {
      last.data = data;  // nobody has seen the one before
      last.at = writeTime();
    } else this.state.events.push({id: makeId(), sequence: this.state.sequence++, at: writeTime(), data, source: this.source});
    this.save();
  }
  save() {
    this.state.at = Date.now();
    try {
      this.kept.keep(this.id, this.state);
      this.isKept = true;
    } catch (error) {
      this.isKept = false;
      this.told(new Error(`this browser keeps no more: what is not sent before the page goes is lost (${error.name})`));
    }
  }
  /**
   * Hand over what there is, up to the first order. Gives the gateway's turn; null where no answer can be had now, or
   * nothing was to be sent. Throws RefusedError where it refuses for good; everything stays kept.
   */
  async send() {
    let turn = null;
    while (this.state.events.length && !this.signal?.aborted) {
      const batch = takeBatch(this.state.events);
      const wants_decision = batch.length === this.state.events.length;
      this.nonce = makeId();
      this.nonceMade = this.clock();
      this.state.sent = Math.max(this.state.sent, batch.at(-1).sequence);
      this.save();
      const answer = await this.ask(`/v1/sessions/${encodeURIComponent(this.id)}/events`, {events: batch, nonce: this.nonce, wants_decision});
      if (answer === null) return null;
      if (answer.status === 413) {
        this.failures += 1;
        if (!this.shrink(batch)) return null;
        continue;
      }
      if (answer.status !== 200) {
        if (this.resync(answer.body) || this.drop(answer.body) || this.setAside(answer.body)) continue;
        this.failures += 1;
        throw new RefusedError(answer.body);
      }
      this.failures = 0;
      this.state.events.splice(0, batch.length);
      this.save();
      turn = answer.body;
      if (turn.order) return turn;
    }
    return turn;
  }
  /** The answer to one request; null where there is none, or one that may be another one later. */
  async ask(path, body) {
    const limit = AbortSignal.timeout(TIMEOUT_MS);
    try {
      const reply = await fetch(this.url + path, {
        method: body === undefined ? "GET" : "POST",
        headers: body === undefined ? this.headers : {"content-type": "application/json", ...this.headers},
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: this.signal ? AbortSignal.any([this.signal, limit]) : limit,
        cache: "no-store",
      });
      if (reply.status >= 500 || [401, 403, 404, 408, 429].includes(reply.status)) {
        if (reply.status < 500 && reply.status !== 429) this.told(new Error(`the gateway answers ${reply.status}: it is tried again`));
        throw new TypeError(`answered ${reply.status}`);
      }
      return {status: reply.status, body: await reply.json()};
    } catch (error) {
      if (this.signal?.aborted) return null;
      if (!(error instanceof TypeError || error instanceof SyntaxError || ["TimeoutError", "AbortError"].includes(error.name))) throw error;
      if (body !== undefined) this.failures += 1;
      return null;
    }
  }
  /** How long to wait before the next try, in milliseconds. */
  get patience() {
    return this.failures ? BACKOFF_MS[Math.min(this.failures, BACKOFF_MS.length) - 1] : 0;
  }
  /** Take out the event that `where` names, and number the rest on. */
  take(where) {
    const at = Number(/^events\[(\d+)\]/.exec(where ?? "")?.[1] ?? NaN);
    const [taken] = this.state.events[at] ? this.state.events.splice(at, 1) : [];
    if (taken) {
      this.state.events.slice(at).forEach(each => { each.sequence -= 1; });
      this.state.sequence -= 1;
      this.state.sent = Math.min(this.state.sent, taken.sequence - 1);
    }
    return taken;
  }
  /** Leave out an operator's answer that comes too late, and what comes after the end; say so. */
  drop(problem) {
    const at = Number(/^events\[(\d+)\]/.exec(problem.where ?? "")?.[1] ?? NaN);
    const isOver = /\.session$/.test(problem.where ?? "");
    if (!isOver && !ANSWERS.has(this.state.events[at]?.data.type)) return false;
    if (!this.take(problem.where)) return false;
    if (isOver) this.state.closed = true;
    this.save();
    this.told(new RefusedError(problem));
    return true;
  }
  /** An event that the gateway will never take: kept aside, and told; what comes after goes on. */
  setAside(problem) {
    const at = Number(/^events\[(\d+)\]/.exec(problem.where ?? "")?.[1] ?? NaN);
    if (!this.state.events[at] || this.state.events[at].data.type === "session_opened") return false;
    this.state.aside = [...this.state.aside, this.take(problem.where)].slice(-20);
    this.save();
    this.told(new RefusedError(problem));
    return true;
  }
  /** A post that is too large: a page that nobody can see in the place of one that is. */
  shrink(batch) {
    const screen = batch.find(each => each.data.type === "screen_shown" && each.data.html !== TOO_LARGE);
    if (screen) screen.data.html = TOO_LARGE;
    this.save();
    return Boolean(screen);
  }
  /**
   * The gateway expects another number: of this post it has the events before the one that it names, and never saw the
   * rest, which go on from its number. Another page works this session too, or this one has lost its memory.
   */
  resync(problem) {
    const expected = Number(/sequence (\d+)\s*$/.exec(problem.remedy ?? "")?.[1] ?? NaN);
    const at = Number(/^events\[(\d+)\]\.sequence$/.exec(problem.where ?? "")?.[1] ?? NaN);
    const {events} = this.state, named = events[at];
    if (!Number.isInteger(expected) || named === undefined) return false;
    const isStored = (problem.detail ?? "").startsWith(`event ${named.id} is stored`);
    const left = isStored ? events.toSpliced(at, 1) : events.slice(at).filter(each => !(expected > 0 && each.data.type === "session_opened"));
    if (!isStored && at === 0 && left.length === events.length && expected === named.sequence) return false;
    left.forEach((each, i) => { each.sequence = expected + i; });
    this.state.events = left;
    this.state.sequence = expected + left.length;
    this.state.sent = expected - 1;
    this.save();
    return true;
  }
}

/** The first of `events` that go into one post: an accept is the last of its, an outcome goes ahead of what judges it. */
export function takeBatch(events) {
  let reported = false, bytes = 0;
  for (const [at, event] of events.slice(0, EVENTS_A_POST).entries()) {
    const {data} = event;
    bytes += size(event);
    if (at && bytes > BYTES_A_POST) return events.slice(0, at);
    if (reported && (data.type === "session_reviewed" || data.corrects)) return events.slice(0, at);
    reported ||= data.type === "outcome_reported";
    if (data.type === "feedback_given" && data.verdict === "accept") return events.slice(0, at + 1);
  }
  return events.slice(0, EVENTS_A_POST);
}
