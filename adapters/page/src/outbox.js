// A session's events on their way to the gateway: numbered, kept until they are taken, sent again where nobody answers.

const BACKOFF_MS = [200, 500, 1000, 2000, 5000];
const EVENTS_A_POST = 50;

/** RFC 3339 with this machine's offset. */
export function writeTime(date = new Date()) {
  const pad = (n, width = 2) => String(Math.trunc(Math.abs(n))).padStart(width, "0");
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

/** `kept` (keeping.js) holds the session; `url` is where the gateway is reached; `headers` go with each request. */
export class Outbox {
  constructor(kept, id, url, {headers = {}, source = "page", signal, onDropped = () => {}} = {}) {
    Object.assign(this, {kept, id, url: url.replace(/\/$/, ""), headers, source, signal, onDropped});
    this.state = kept.session(id);
    this.nonce = "";
    this.nonceMade = 0;
    this.failures = 0;
  }
  /** The state version: how many events there were, sent or not. */
  get sequence() {
    return this.state.sequence;
  }
  add(data) {
    this.state.events.push({id: crypto.randomUUID(), sequence: this.state.sequence++, at: writeTime(), data, source: this.source});
    this.save();
  }
  save() {
    this.kept.keep(this.id, this.state);
  }
  /** Hand over everything. Gives the gateway's turn; null where no answer can be had now, or nothing was to be sent. */
  async send() {
    let turn = null;
    while (this.state.events.length && !this.signal?.aborted) {
      const batch = takeBatch(this.state.events);
      const wants_decision = batch.length === this.state.events.length;
      this.nonce = crypto.randomUUID();
      this.nonceMade = performance.now();
      const answer = await this.ask(`/v1/sessions/${encodeURIComponent(this.id)}/events`, {events: batch, nonce: this.nonce, wants_decision});
      if (answer === null) return null;
      if (answer.status !== 200) {
        if (!this.drop(answer.body)) this.resync(answer.body);
        continue;
      }
      this.failures = 0;
      this.state.events.splice(0, batch.length);
      this.save();
      turn = answer.body;
    }
    return turn;
  }
  async ask(path, body) {
    try {
      const reply = await fetch(this.url + path, {
        method: body === undefined ? "GET" : "POST",
        headers: body === undefined ? this.headers : {"content-type": "application/json", ...this.headers},
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: this.signal,
        cache: "no-store",
      });
      if (reply.status >= 500 || reply.status === 429) throw new TypeError(`answered ${reply.status}`);
      return {status: reply.status, body: await reply.json()};
    } catch (error) {
      if (this.signal?.aborted) return null;
      if (!(error instanceof TypeError || error instanceof SyntaxError)) throw error;
      this.failures += 1;
      return null;  // who asks tries again after `patience`
    }
  }
  /** How long to wait before the next try, in milliseconds. */
  get patience() {
    return this.failures ? BACKOFF_MS[Math.min(this.failures, BACKOFF_MS.length) - 1] : 0;
  }
  /** Leave out the one event that the gateway will not have, and say so: an answer that came too late, mostly. */
  drop(problem) {
    const at = Number(/^events\[(\d+)\]/.exec(problem.where ?? "")?.[1] ?? NaN);
    if (/sequence \d+\s*$/.test(problem.remedy ?? "") || !this.state.events[at]) return false;
    this.state.events.splice(at, 1);
    this.state.events.slice(at).forEach(each => { each.sequence -= 1; });
    this.state.sequence -= 1;
    this.save();
    this.onDropped(new RefusedError(problem));
    return true;
  }
  /** The gateway expects another number: what it has is not sent again, and a memory that was lost begins where it says. */
  resync(problem) {
    const expected = Number(/sequence (\d+)\s*$/.exec(problem.remedy ?? "")?.[1] ?? NaN);
    const before = this.state.events.length;
    const first = this.state.events[0];
    if (!Number.isInteger(expected) || first === undefined) throw new RefusedError(problem);
    if (first.data.type === "session_opened" && expected > 0) this.state.events.shift();  // it is open: another page's memory was lost
    else if (first.sequence < expected) this.state.events = this.state.events.filter(each => each.sequence >= expected);
    else throw new RefusedError(problem);
    if (first.data.type === "session_opened") this.state.events.forEach((each, i) => { each.sequence = expected + i; });
    this.state.sequence = expected + this.state.events.length;
    if (this.state.events.length === before) throw new RefusedError(problem);
    this.save();
  }
}

/** The first of `events` that go into one post: an accept is the last of its, an outcome goes ahead of what judges it. */
export function takeBatch(events) {
  let reported = false;
  for (const [at, {data}] of events.slice(0, EVENTS_A_POST).entries()) {
    if (reported && (data.type === "session_reviewed" || data.corrects)) return events.slice(0, at);
    reported ||= data.type === "outcome_reported";
    if (data.type === "feedback_given" && data.verdict === "accept") return events.slice(0, at + 1);
  }
  return events.slice(0, EVENTS_A_POST);
}
