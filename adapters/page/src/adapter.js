// The page adapter: one session on one page. What happens becomes events, what the gateway orders is done behind the
// fence, what operators say at the console is carried out. In the page of a BPM:
//
//   import {attach} from "@pilotage/page-adapter";
//   attach({url: "/pilotage", operator: () => "ann", session: () => ({id: "T-7"}), page: {chat: {input: "#reply", send: "#send"}}});
//
// `url` is a path of the BPM's own server that passes on to the gateway and adds the credential: no secret is in a page.

import {BY_PERMIT, findFenceFault} from "./fence.js";
import {Kept, alone, fingerprint} from "./keeping.js";
import {Outbox} from "./outbox.js";
import {CannotError, perform} from "./perform.js";
import {recordActions} from "./record.js";
import {LARGEST, takeScreen} from "./screen.js";

const SETTLE_MS = 200, LONGEST_SETTLE_MS = 2000, LOOK_MS = 300;
const WAIT_SECONDS = 20;
const TOO_LARGE = '<!DOCTYPE html><html><body data-pilotage="too-large"></body></html>';

const sleep = (ms, signal) => new Promise(done => {
  if (signal?.aborted) return done();
  const end = () => { clearTimeout(timer); signal?.removeEventListener("abort", end); done(); };
  const timer = setTimeout(end, ms);
  signal?.addEventListener("abort", end, {once: true});
});

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
  supervise(config, doc, handle, stopping.signal, told).catch(error => stopping.signal.aborted || told(error));
  return handle;
}

async function supervise(config, doc, handle, signal, told) {
  const kept = new Kept(config.storage ?? doc.defaultView.localStorage);
  const here = () => config.session(doc)?.id;
  const telling = new Set();  // what earlier pages, or this one before it went on, have left
  const tellRest = id => {
    telling.add(id);
    const work = () => new Session(config, doc, {id}, signal, told, kept).tell();
    alone(id, work, signal).catch(error => signal.aborted || told(error)).finally(() => telling.delete(id));
  };
  while (!signal.aborted) {
    const session = config.session(doc);
    for (const id of kept.listUntold()) if (id !== session?.id && !telling.has(id)) tellRest(id);
    if (!session) {
      await sleep(10 * LOOK_MS, signal);
      continue;
    }
    handle.waiting = true;
    const moved = new AbortController();  // while another tab works it, this page may go on to another session
    const watch = setInterval(() => here() === session.id || moved.abort(), LOOK_MS);
    try {
      await alone(session.id, async () => {
        clearInterval(watch);
        handle.waiting = false;
        await new Session(config, doc, session, signal, told, kept).run(() => { handle.working = true; });
      }, AbortSignal.any([signal, moved.signal]));
    } catch (error) {
      if (!signal.aborted && !moved.signal.aborted) told(error);
      if (!moved.signal.aborted) await sleep(5000, signal);
    } finally {
      clearInterval(watch);
      handle.working = handle.waiting = false;
    }
  }
}

export class Session {
  constructor(config, doc, session, signal, told, kept) {
    Object.assign(this, {config, doc, session, told, kept});
    this.own = new AbortController();
    signal.addEventListener("abort", () => this.own.abort(), {once: true});
    if (signal.aborted) this.own.abort();
    this.signal = this.own.signal;
    this.page = config.page ?? {};
    this.outbox = new Outbox(kept, session.id, config.url, {headers: config.headers, signal: this.signal, told});
    this.performing = false;
    this.moved = true;  // the page may have changed: look
    this.restless = null;  // since when the page has not come to rest
    this.woken = () => {};
  }
  get state() {
    return this.outbox.state;
  }
  /** Whether this page still shows the session. */
  get isHere() {
    return this.config.session(this.doc)?.id === this.session.id;
  }

  async run(onWorking = () => {}) {
    if (this.outbox.sequence === 0) this.outbox.add({type: "session_opened", metadata: this.session.metadata ?? {}, profile: this.session.profile ?? {}});
    this.takeUp();
    const forget = recordActions(this.doc, this.page, (actions, seconds) => this.took(actions, seconds), () => this.performing);
    const watching = new MutationObserver(records => records.every(each => this.isIgnored(each.target)) || this.wake());
    watching.observe(this.doc, {subtree: true, childList: true, attributes: true, characterData: true});
    const onInput = () => this.wake();
    this.doc.addEventListener("input", onInput, true);
    const answers = this.followAnswers().catch(error => this.signal.aborted || this.told(error));
    onWorking();
    try {
      while (!this.signal.aborted && this.isHere) await this.step();
    } finally {
      this.own.abort();
      forget();
      watching.disconnect();
      this.doc.removeEventListener("input", onInput, true);
      await answers;
      if (this.state.closed && !this.state.events.length) this.kept.forget(this.session.id);
    }
  }
  /** Tell what a page before this one has left of another session. */
  async tell() {
    this.takeUp();
    while (this.state.events.length && !this.signal.aborted) {
      const turn = await this.outbox.send();
      if (turn?.order) this.report(turn.order, "refused", "its page is gone");
      else await sleep(this.outbox.patience, this.signal);
    }
  }
  isIgnored(node) {
    const element = node.nodeType === 1 ? node : node.parentElement;
    return Boolean(this.page.ignore && element?.closest(this.page.ignore));
  }

  /** One look: what is new goes out, and what comes back is done. */
  async step() {
    if (this.moved) {
      const settle = this.config.settleMs ?? SETTLE_MS;
      this.restless ??= performance.now();
      this.moved = false;
      await sleep(settle, this.signal);
      if (!this.moved || performance.now() - this.restless > LONGEST_SETTLE_MS) {
        this.restless = null;
        this.look();
      }
    }
    const turn = await this.outbox.send();
    if (turn?.order) await this.obey(turn.order);
    else if (this.outbox.failures) await sleep(this.outbox.patience, this.signal);
    else if (!this.moved && !this.state.events.length) await Promise.race([new Promise(done => { this.woken = done; }), sleep(LOOK_MS, this.signal)]);
  }
  wake() {
    this.moved = true;
    this.woken();
  }

  // --- what happens here ---
  /** New messages, the screen if it changed, the end. Nothing, where the page shows another session by now. */
  look() {
    if (!this.isHere) return;
    this.hear();
    let html = takeScreen(this.doc, this.page);
    if (html.length > LARGEST) {
      this.told(new Error(`the page is ${html.length} characters, at most ${LARGEST} are sent: ignore more of it`));
      html = TOO_LARGE;  // which no schema knows: nothing runs on a page that nobody can see
    }
    const mark = fingerprint(html);
    if (mark !== this.state.screen) {
      this.state.screen = mark;
      this.outbox.add({type: "screen_shown", html});
    }
    const closing = this.config.closed?.(this.doc);
    if (closing && !this.state.closed) {
      this.state.closed = true;
      this.outbox.add({type: "session_closed", closing});
    }
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
    this.look();  // in the state in which it was done
    this.outbox.add({type: "action_taken", actions, operator: this.config.operator(), active_seconds: seconds});
    this.wake();
  }

  // --- orders ---
  async obey(order) {
    this.look();  // what has changed while a model was asked counts: the order is stale then
    const facts = {
      nonce: this.outbox.nonce,
      sinceNonceMs: this.outbox.sinceNonceMs,
      stateVersion: this.outbox.sequence,
      keysUsed: this.kept.keysUsed,
      highestEpoch: this.kept.highestEpoch,
    };
    const byPermit = order.authorised_by === BY_PERMIT;
    const fault = this.isHere ? findFenceFault(facts, order) : "another-session";
    if (byPermit) this.kept.see(order.epoch);
    if (fault) return this.report(order, "refused", `refused by the page's fence: ${fault}`);
    this.kept.use(order, byPermit);  // kept before it runs, or it does not run
    this.kept.begin(this.session.id, {order, done: false});
    const [outcome, error] = await this.carryOut(order.action, () => this.kept.begin(this.session.id, {order, done: true}));
    this.report(order, outcome, error);
  }
  /** Do it, and say what became of it. `done` is called once nothing is left to do: a page may go before it is told. */
  async carryOut(action, done) {
    const before = this.findFailure();
    this.performing = true;
    try {
      await perform(action, this.page, this.doc);
      done();
    } catch (error) {
      return error instanceof CannotError ? ["failed", error.message] : ["ambiguous", String(error?.message ?? error)];
    } finally {
      this.performing = false;
    }
    await sleep(this.config.settleMs ?? SETTLE_MS);
    const failed = this.findFailure();
    return failed && failed !== before ? ["failed", failed] : ["done", ""];
  }
  findFailure() {
    const shown = this.config.failed ? [...this.doc.querySelectorAll(this.config.failed)].filter(each => each.checkVisibility?.() ?? true) : [];
    return shown.map(each => each.textContent.trim()).filter(Boolean).join("; ").slice(0, 500);
  }
  report(order, outcome, error) {
    this.outbox.add({type: "outcome_reported", proposal_id: order.proposal_id, idempotency_key: order.idempotency_key, outcome, error});
    this.kept.finish(this.session.id);
    this.wake();
  }
  /** What a page before this one was doing when it went: done where it had done it, else nobody knows. */
  takeUp() {
    const doing = this.kept.doing(this.session.id);
    if (!doing) return;
    const failed = this.isHere ? this.findFailure() : "";
    if (doing.said) this.tellEdit(doing.said, doing.done && !failed);
    else if (!doing.done) this.report(doing.order, "ambiguous", "the page went away while it was done");
    else this.report(doing.order, failed ? "failed" : "done", failed);
  }

  // --- what operators say at the console ---
  async followAnswers() {
    while (!this.signal.aborted) {
      const asked = `/v1/answers?session_id=${encodeURIComponent(this.session.id)}&after=${this.state.after}&wait=${WAIT_SECONDS}`;
      const answer = await this.outbox.ask(asked);
      if (answer?.status === 200) {
        for (const said of answer.body.answers) if (!this.signal.aborted && this.isHere) await this.carry(said);
        this.state.after = answer.body.next;
      } else await sleep(answer ? 5000 : 1000, this.signal);
    }
  }
  async carry(said) {
    if (this.state.carried.includes(said.number)) return;
    this.state.carried = [...this.state.carried, said.number].slice(-200);  // once, whatever happens: kept before it is done
    const {proposal_id, verdict, operator, grade = null, active_seconds = 0} = said;
    if (verdict === "edit") {
      this.look();
      const isCurrent = this.outbox.sequence === said.at_version && this.isHere;
      this.kept.begin(this.session.id, {said, done: false});
      this.outbox.save();
      if (!isCurrent) {
        this.told(new Error(`what ${operator} wanted was not done: the session had gone on`));
        return this.tellEdit(said, false);
      }
      const [outcome, error] = await this.carryOut(said.action, () => this.kept.begin(this.session.id, {said, done: true}));
      if (outcome !== "done") this.told(new Error(`what ${operator} wanted was not done: ${error}`));
      return this.tellEdit(said, outcome === "done");
    }
    if (said.items?.length) this.outbox.add({type: "session_reviewed", operator, approved: verdict === "accept", items: said.items, active_seconds: 0});
    this.outbox.add({type: "feedback_given", proposal_id, verdict, operator, grade, active_seconds});
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
