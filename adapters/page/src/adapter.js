// The page adapter: one session on one page. What happens becomes events, what the gateway orders is done behind the
// fence, what operators say at the console is carried out. In the page of a BPM:
//
//   import {attach} from "@pilotage/page-adapter";
//   attach({url: "/pilotage", operator: () => "ann", session: () => ({id: "T-7"}), page: {chat: {input: "#reply", send: "#send"}}});
//
// `url` is a path of the BPM's own server that passes on to the gateway and adds the credential: no secret is in a page.

import {BY_PERMIT, findFenceFault} from "./fence.js";
import {Kept, alone, aloneNow, fingerprint} from "./keeping.js";
import {Outbox, RefusedError} from "./outbox.js";
import {CannotError, perform} from "./perform.js";
import {recordActions} from "./record.js";
import {LARGEST, TOO_LARGE, takeScreen} from "./screen.js";

const SETTLE_MS = 200, LONGEST_SETTLE_MS = 2000, LOOK_MS = 300, REST_MS = 3000, REFUSED_MS = 5000;
const FOREIGN_MS = 10_000;  // so long after it began, another page leaves what was being done to its own
const WAIT_SECONDS = 20;

const sleep = (ms, signal) => new Promise(done => {
  if (signal?.aborted) return done();
  const end = () => { clearTimeout(timer); signal?.removeEventListener("abort", end); done(); };
  const timer = setTimeout(end, ms);
  signal?.addEventListener("abort", end, {once: true});
});
const bytes = text => new TextEncoder().encode(text).length;

/**
 * Work the sessions of this page, one after the other as `config.session` names them. Gives {stop(), working, waiting}:
 * `working` once this tab records and obeys, `waiting` while another tab does.
 *
 * config: url, operator(), session(document) → {id, metadata, profile} or null, page (perform.js, record.js, screen.js),
 * messages: {selector, author(element), key(element)}, closed(document) → closing or "", failed: a selector of errors,
 * onProblem(error): what a person should know (default: console.error).
 */
export function attach(config, doc = document) {
  const stopping = new AbortController();
  const handle = {working: false, waiting: false, stop: () => stopping.abort()};
  const told = config.onProblem ?? (error => console.error("pilotage:", error));
  const view = doc.defaultView;
  if (view.top !== view) return handle;  // a frame of the page that has the adapter
  if (!view.navigator.locks) {
    told(new Error("this page has no secure context (https): two tabs could work one session, so none does"));
    return handle;
  }
  void supervise(config, doc, handle, stopping.signal, told);
  return handle;
}

/** What the page says of its session; null where it says nothing, or fails to. */
function findSession(config, doc) {
  try {
    const found = config.session(doc);
    return found ? {...found, id: String(found.id)} : null;
  } catch {
    return null;  // between two views there may be nothing to read
  }
}

async function supervise(config, doc, handle, signal, told) {
  const kept = new Kept(config.storage ?? doc.defaultView.localStorage);
  const unkept = new Map();  // states that the browser would not keep
  let isTelling = false;
  const here = () => findSession(config, doc)?.id;
  const tellRest = async () => {  // what earlier pages, or this one before it went on, have left
    if (isTelling) return;
    isTelling = true;
    try {
      for (const id of kept.listUntold()) {
        if (id !== here() && !signal.aborted) await aloneNow(id, () => new Session(config, doc, {id}, signal, told, kept).tell());
      }
    } catch (error) {
      if (!signal.aborted) told(error);
    } finally {
      isTelling = false;
    }
  };
  void tellRest();
  const again = setInterval(() => void tellRest(), REST_MS);
  signal.addEventListener("abort", () => clearInterval(again), {once: true});
  while (!signal.aborted) {
    const session = findSession(config, doc);
    const moved = new AbortController();  // while another tab works it, this page may go on to another session
    const watch = setInterval(() => here() === session?.id || moved.abort(), LOOK_MS);
    let rest = 0;
    try {
      if (session) {
        handle.waiting = true;
        await alone(session.id, async () => {
          clearInterval(watch);
          handle.waiting = false;
          const work = new Session(config, doc, session, signal, told, kept, unkept.get(session.id));
          try {
            await work.run(() => { handle.working = true; });
          } finally {
            work.outbox.isKept ? unkept.delete(session.id) : unkept.set(session.id, work.state);
          }
        }, AbortSignal.any([signal, moved.signal]));
      } else rest = LOOK_MS;
    } catch (error) {
      if (!signal.aborted && !moved.signal.aborted) {
        told(error);
        rest = REFUSED_MS;
      }
    } finally {
      clearInterval(watch);
      handle.working = handle.waiting = false;
    }
    await sleep(rest, signal);
  }
}

export class Session {
  constructor(config, doc, session, signal, told, kept, state) {
    Object.assign(this, {config, doc, session, told, kept});
    this.own = new AbortController();
    signal.addEventListener("abort", () => this.own.abort(), {once: true, signal: this.own.signal});
    if (signal.aborted) this.own.abort();
    this.signal = this.own.signal;
    this.page = config.page ?? {};
    this.settleMs = config.settleMs ?? SETTLE_MS;
    this.outbox = new Outbox(kept, session.id, config.url, {headers: config.headers, signal: this.signal, told, state});
    this.performing = false;
    this.moved = true;  // the page may have changed: look
    this.restless = null;  // since when the page has not come to rest
    this.said = [];  // answers to carry out, in order
    this.woken = () => {};
  }
  get state() {
    return this.outbox.state;
  }
  /** Whether this page still shows the session. */
  get isHere() {
    return findSession(this.config, this.doc)?.id === this.session.id;
  }

  async run(onWorking = () => {}) {
    if (this.outbox.sequence === 0) this.outbox.add({type: "session_opened", metadata: this.session.metadata ?? {}, profile: this.session.profile ?? {}});
    const onTouch = () => { if (this.moved) this.lookSafely(); };
    const forget = recordActions(this.doc, this.page, (actions, seconds) => this.took(actions, seconds), () => this.performing, onTouch);
    const watching = new MutationObserver(records => records.every(each => this.isIgnored(each.target)) || this.wake());
    watching.observe(this.doc, {subtree: true, childList: true, attributes: true, characterData: true});
    const onInput = () => this.wake();
    this.doc.addEventListener("input", onInput, true);
    const answers = this.followAnswers();
    onWorking();
    try {
      if (this.kept.doing(this.session.id)) {
        await sleep(this.settleMs, this.signal);  // a page may take a moment to say what went wrong
        this.takeUp();
      }
      while (!this.signal.aborted && this.isHere) await this.step();
    } finally {
      this.own.abort();
      forget();
      watching.disconnect();
      this.doc.removeEventListener("input", onInput, true);
      await answers;
    }
  }
  /** Tell what a page before this one has left of another session, as far as it goes now. */
  async tell() {
    const doing = this.kept.doing(this.session.id);
    if (doing && Date.now() - doing.at < FOREIGN_MS) return;
    this.takeUp();
    while (this.state.events.length && !this.signal.aborted) {
      const turn = await this.outbox.send();
      if (turn === null) return;
      if (turn.order) this.report(turn.order, "refused", "its page is gone");
    }
  }
  isIgnored(node) {
    const element = node.nodeType === 1 ? node : node.parentElement;
    return Boolean(this.page.ignore && element?.closest(this.page.ignore));
  }

  /** One look: what is new goes out, and what comes back is done. */
  async step() {
    if (this.moved) {
      this.restless ??= performance.now();
      this.moved = false;
      await sleep(this.settleMs, this.signal);
      if (!this.moved || performance.now() - this.restless > LONGEST_SETTLE_MS) {
        this.restless = null;
        this.lookSafely();
      }
    }
    if (this.said.length) await this.carry(this.said.shift());
    let turn = null;
    try {
      turn = await this.outbox.send();
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      this.told(error);  // what happens goes on being recorded
      await sleep(REFUSED_MS, this.signal);
    }
    if (turn?.order) await this.obey(turn.order);
    else if (this.outbox.failures) await sleep(this.outbox.patience, this.signal);
    else if (!this.moved && !this.state.events.length && !this.said.length) await Promise.race([new Promise(done => { this.woken = done; }), sleep(LOOK_MS, this.signal)]);
  }
  wake() {
    this.moved = true;
    this.woken();
  }

  // --- what happens here ---
  lookSafely() {
    try {
      this.look();
      return true;
    } catch (error) {
      this.told(error);  // of the configuration's own functions, mostly
      return false;
    }
  }
  /** New messages, the screen if it changed, the end. Nothing, where it is over or the page shows another session. */
  look() {
    if (this.state.closed) return this.noticeReopened();
    if (!this.isHere) return;
    this.hear();
    let html = takeScreen(this.doc, this.page);
    if (bytes(html) > LARGEST) {
      this.told(new Error(`the page is ${bytes(html)} bytes, at most ${LARGEST} are sent: ignore more of it`));
      html = TOO_LARGE;
    }
    const mark = fingerprint(html);
    if (mark !== this.state.screen) {
      this.state.screen = mark;
      this.outbox.add({type: "screen_shown", html});
    }
    const closing = this.config.closed?.(this.doc);
    if (closing) {
      this.state.closed = true;
      this.outbox.add({type: "session_closed", closing});
    }
  }
  noticeReopened() {
    if (this.noticed || !this.config.closed || this.config.closed(this.doc)) return;
    this.noticed = true;
    this.told(new Error("the case was opened again: name a session of its own for what is done in it now"));
  }
  hear() {
    const {messages} = this.config, seen = {};
    for (const element of messages ? this.doc.querySelectorAll(messages.selector) : []) {
      const author = messages.author(element), text = element.textContent.trim();
      if (!text) continue;
      const same = `${author}:${text}`;
      seen[same] = (seen[same] ?? 0) + 1;
      const key = fingerprint(messages.key?.(element) ?? `${same}:${seen[same]}`);
      if (this.state.said[key]) continue;
      this.state.said[key] = 1;
      if (author === "customer" || author === "bot") this.outbox.add({type: "message_posted", author, text});
    }
  }
  took(actions, seconds) {
    if (this.state.closed || !this.isHere) return;
    this.outbox.add({type: "action_taken", actions, operator: this.config.operator(), active_seconds: seconds});
    this.wake();
  }

  // --- orders ---
  async obey(order) {
    const looked = this.lookSafely();  // what has changed while a model was asked counts: the order is stale then
    const facts = {
      nonce: this.outbox.nonce,
      sinceNonceMs: this.outbox.sinceNonceMs,
      stateVersion: this.outbox.sequence,
      keysUsed: this.kept.keysUsed,
      highestEpoch: this.kept.highestEpoch,
    };
    const byPermit = order.authorised_by === BY_PERMIT;
    const fault = !looked ? "page-not-read" : !this.isHere ? "another-session" : findFenceFault(facts, order);
    if (fault) return this.report(order, "refused", `refused by the page's fence: ${fault}`);
    const doing = {order, before: this.findFailure(), at: Date.now(), done: false};
    try {
      this.kept.use(order, byPermit);  // kept before it runs, or it does not run
      this.kept.begin(this.session.id, doing);
    } catch (error) {
      return this.report(order, "refused", `nothing can be kept in this browser: ${error.name}`);
    }
    const [outcome, error] = await this.carryOut(order.action, doing);
    this.report(order, outcome, error);
  }
  /** Do it, and say what became of it. That it was done is kept at once: a page may go before it is told. */
  async carryOut(action, doing) {
    this.performing = true;
    try {
      await perform(action, this.page, this.doc, () => this.isHere);
      try {
        this.kept.begin(this.session.id, {...doing, done: true});
      } catch {
        // told all the same, if this page stays
      }
    } catch (error) {
      return error instanceof CannotError ? ["failed", error.message] : ["ambiguous", String(error?.message ?? error)];
    } finally {
      this.performing = false;
    }
    await sleep(this.settleMs);
    return this.judge(doing.before);
  }
  /** What the page says now that it is done, against what it said before. */
  judge(before) {
    const failed = this.findFailure();
    if (!failed) return ["done", ""];
    return failed === before ? ["ambiguous", `this was there before too: ${failed}`] : ["failed", failed];
  }
  findFailure() {
    const shown = this.config.failed ? [...this.doc.querySelectorAll(this.config.failed)].filter(each => each.checkVisibility?.() ?? true) : [];
    return shown.map(each => each.textContent.trim()).filter(Boolean).join("; ").slice(0, 500);
  }
  report(order, outcome, error) {
    if (order.authorised_by === BY_PERMIT) try { this.kept.see(order.epoch); } catch { /* what is not kept is asked for again */ }
    this.outbox.add({type: "outcome_reported", proposal_id: order.proposal_id, idempotency_key: order.idempotency_key, outcome, error});
    this.kept.finish(this.session.id);
    this.wake();
  }
  /** What a page before this one was doing when it went: done where it had done it, else nobody knows. */
  takeUp() {
    const doing = this.kept.doing(this.session.id);
    if (!doing) return;
    const [outcome, error] = doing.done ? (this.isHere ? this.judge(doing.before) : ["done", ""]) : ["ambiguous", "the page went away while it was done"];
    if (doing.said) this.tellEdit(doing.said, outcome === "done");
    else this.report(doing.order, outcome, error);
  }

  // --- what operators say at the console ---
  /** Fetch it, for as long as this page works the session; `step` carries it out. */
  async followAnswers() {
    let after = this.state.after, rest = 0;
    while (!this.signal.aborted) {
      const began = performance.now();
      try {
        const answer = await this.outbox.ask(`/v1/answers?session_id=${encodeURIComponent(this.session.id)}&after=${after}&wait=${WAIT_SECONDS}`);
        const found = answer?.status === 200 ? answer.body.answers : null;
        if (found?.length) {
          this.said.push(...found);
          after = answer.body.next;
          rest = 0;
          this.woken();
        } else if (found && performance.now() - began > 1000) rest = 0;
        else rest = Math.min(10_000, rest ? 2 * rest : 1000);
      } catch (error) {
        if (!this.signal.aborted) this.told(error);
        rest = REFUSED_MS;
      }
      if (rest) await sleep(rest, this.signal);
    }
  }
  async carry(said) {
    const {proposal_id, verdict, operator, grade = null, active_seconds = 0} = said;
    if (!this.isHere || this.state.carried.includes(said.number)) return;
    if (verdict !== "edit") {
      if (said.items?.length) this.outbox.add({type: "session_reviewed", operator, approved: verdict === "accept", items: said.items, active_seconds: 0});
      this.outbox.add({type: "feedback_given", proposal_id, verdict, operator, grade, active_seconds});
      return this.carried(said);
    }
    const isCurrent = this.lookSafely() && this.outbox.sequence === said.at_version;
    const doing = {said, before: this.findFailure(), at: Date.now(), done: false};
    try {
      this.kept.begin(this.session.id, doing);  // kept before it is done: once, whatever happens
    } catch (error) {
      return this.told(new Error(`what ${operator} wanted was not done: nothing can be kept in this browser (${error.name})`));
    }
    this.carried(said);
    const [outcome, error] = isCurrent ? await this.carryOut(said.action, doing) : ["refused", "the session had gone on"];
    if (outcome !== "done") this.told(new Error(`what ${operator} wanted was not done: ${error}`));
    this.tellEdit(said, outcome === "done");
  }
  carried(said) {
    this.state.carried = [...this.state.carried, said.number].slice(-200);
    this.state.after = Math.max(this.state.after, said.number);
    this.outbox.save();
    this.wake();
  }
  /** An edit is a word on the proposal, and, where it was done, an operator's own action. */
  tellEdit(said, wasDone) {
    const {proposal_id, verdict, operator, grade = null, active_seconds = 0} = said;
    this.outbox.add({type: "feedback_given", proposal_id, verdict, operator, grade, active_seconds});
    if (wasDone) this.outbox.add({type: "action_taken", actions: [said.action], operator, active_seconds: 0});
    this.kept.finish(this.session.id);
    this.wake();
  }
}
