// The page adapter: one session on one page. What happens becomes events, what the gateway orders is done behind the
// fence, what operators say at the console is carried out. In the page of a BPM:
//
//   import {attach} from "@pilotage/page-adapter";
//   attach({url: "/pilotage", operator: () => "ann", session: () => ({id: "T-7"}), page: {chat: {input: "#reply", send: "#send"}}});
//
// `url` is a path of the BPM's own server that passes on to the gateway and adds the credential: no secret is in a page.

import {BY_PERMIT, findFenceFault} from "./fence.js";
import {Kept, alone} from "./keeping.js";
import {Outbox, RefusedError} from "./outbox.js";
import {CannotError, perform} from "./perform.js";
import {recordActions} from "./record.js";
import {LARGEST, takeScreen} from "./screen.js";

const SETTLE_MS = 200;
const WAIT_SECONDS = 20;

const sleep = (ms, signal) => new Promise(done => {
  const timer = setTimeout(done, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); done(); }, {once: true});
});

/**
 * Work the session of this page. Gives {stop(), working}: true once this tab records and obeys. `config.onProblem(error)` hears what goes wrong (default: console.error).
 *
 * config: url, operator(), session(document) → {id, metadata, profile} or null, page (perform.js, record.js, screen.js),
 * messages: {selector, author(element), key(element)}, closed(document) → closing or "", failed: a selector of errors.
 */
export function attach(config, doc = document) {
  const stopping = new AbortController();
  const told = config.onProblem ?? (error => console.error("pilotage:", error));
  const session = config.session(doc);
  const handle = {working: false, stop: () => stopping.abort()};
  const work = () => new Session(config, doc, session, stopping.signal, told).run(() => { handle.working = true; });
  const end = error => {
    handle.working = false;
    if (error && !stopping.signal.aborted) told(error);
  };
  if (session) alone(session.id, work, stopping.signal).then(() => end(), end);
  return handle;
}

export class Session {
  constructor(config, doc, session, signal, told) {
    Object.assign(this, {config, doc, session, signal, told});
    this.page = config.page ?? {};
    this.kept = new Kept(config.storage ?? doc.defaultView.localStorage);
    this.outbox = new Outbox(this.kept, session.id, config.url, {headers: config.headers, signal, onDropped: told});
    this.performing = false;
    this.after = 0;
    this.moved = true;  // the page may have changed: look
    this.woken = () => {};
  }

  async run(onWorking = () => {}) {
    if (this.outbox.sequence === 0) this.outbox.add({type: "session_opened", metadata: this.session.metadata ?? {}, profile: this.session.profile ?? {}});
    this.takeUp();
    const forget = recordActions(this.doc, this.page, (actions, seconds) => this.took(actions, seconds));
    const watching = new MutationObserver(() => this.wake());
    watching.observe(this.doc, {subtree: true, childList: true, attributes: true, characterData: true});
    const onInput = () => this.wake();
    this.doc.addEventListener("input", onInput, true);
    const answers = this.followAnswers();
    onWorking();
    try {
      while (!this.signal.aborted) await this.step();
    } finally {
      forget();
      watching.disconnect();
      this.doc.removeEventListener("input", onInput, true);
      await answers;
    }
  }

  /** One look: what is new goes out, and what comes back is done. */
  async step() {
    if (this.moved) {
      this.moved = false;
      await sleep(this.config.settleMs ?? SETTLE_MS, this.signal);
      if (this.moved) return;  // it still moves
      this.look();
    }
    const turn = await this.guarded(() => this.outbox.send());
    if (turn?.order) await this.obey(turn.order);
    else if (this.outbox.failures) await sleep(this.outbox.patience, this.signal);
    else if (!this.moved && !this.outbox.state.events.length) await new Promise(done => { this.woken = done; this.signal.addEventListener("abort", done, {once: true}); });
  }
  async guarded(work) {
    try {
      return await work();
    } catch (error) {
      this.told(error);
      if (error instanceof RefusedError) {  // for good: a gap would be worse than an end of recording
        this.outbox.state.events = [];
        this.outbox.save();
        throw error;
      }
      return null;
    }
  }
  wake() {
    this.moved = true;
    this.woken();
  }

  // --- what happens here ---
  /** New messages, the screen if it changed, the end. */
  look() {
    const state = this.outbox.state;
    for (const element of this.config.messages ? this.doc.querySelectorAll(this.config.messages.selector) : []) {
      const author = this.config.messages.author(element);
      const text = element.textContent.trim();
      const key = this.config.messages.key?.(element) ?? `${author}:${text}`;
      if (!text || state.said.includes(key)) continue;
      state.said.push(key);
      if (author === "customer" || author === "bot") this.outbox.add({type: "message_posted", author, text});
    }
    const html = takeScreen(this.doc, this.page);
    if (html.length > LARGEST) return this.told(new Error(`the page is ${html.length} characters, at most ${LARGEST} are sent: ignore more of it`));
    if (html !== state.screen) {
      state.screen = html;
      this.outbox.add({type: "screen_shown", html});
    }
    const closing = this.config.closed?.(this.doc);
    if (closing && !state.closed) {
      state.closed = true;
      this.outbox.add({type: "session_closed", closing});
    }
  }
  took(actions, seconds) {
    if (this.performing || this.outbox.state.closed) return;
    this.outbox.add({type: "action_taken", actions, operator: this.config.operator(), active_seconds: seconds});
    this.wake();
  }

  // --- orders ---
  async obey(order) {
    const facts = {
      nonce: this.outbox.nonce,
      sinceNonceMs: performance.now() - this.outbox.nonceMade,
      stateVersion: this.outbox.sequence,
      keysUsed: this.kept.keysUsed,
      highestEpoch: this.kept.highestEpoch,
    };
    const fault = findFenceFault(facts, order);
    if (order.authorised_by === BY_PERMIT) this.kept.see(order.epoch);
    if (fault) return this.report(order, "refused", `refused by the page's fence: ${fault}`);
    this.kept.use(order, order.authorised_by === BY_PERMIT);
    this.kept.set(`doing:${this.session.id}`, {order, begun: true, done: false});
    const [outcome, error] = await this.carryOut(order.action, () => this.kept.set(`doing:${this.session.id}`, {order, begun: true, done: true}));
    this.report(order, outcome, error);
  }
  /** Do it, and say what became of it. `done` is called once nothing is left to do: a page may go before it is told. */
  async carryOut(action, done = () => {}) {
    this.performing = true;
    try {
      await perform(action, this.page, this.doc);
      done();
      await sleep(this.config.settleMs ?? SETTLE_MS);
      const failed = this.findFailure();
      return failed ? ["failed", failed] : ["done", ""];
    } catch (error) {
      return error instanceof CannotError ? ["failed", error.message] : ["ambiguous", String(error.message ?? error)];
    } finally {
      this.performing = false;
    }
  }
  findFailure() {
    const shown = this.config.failed ? [...this.doc.querySelectorAll(this.config.failed)].filter(each => each.checkVisibility?.() ?? true) : [];
    return shown.map(each => each.textContent.trim()).filter(Boolean).join("; ").slice(0, 500);
  }
  report(order, outcome, error) {
    this.outbox.add({type: "outcome_reported", proposal_id: order.proposal_id, idempotency_key: order.idempotency_key, outcome, error});
    this.kept.delete(`doing:${this.session.id}`);
    this.wake();
  }
  /** What a page before this one was doing when it went: done where it had done it, else nobody knows. */
  takeUp() {
    const doing = this.kept.get(`doing:${this.session.id}`, null);
    if (!doing) return;
    const failed = this.findFailure();
    if (!doing.done) this.report(doing.order, "ambiguous", "the page went away while it was done");
    else this.report(doing.order, failed ? "failed" : "done", failed);
  }

  // --- what operators say at the console ---
  async followAnswers() {
    while (!this.signal.aborted) {
      const asked = `/v1/answers?session_id=${encodeURIComponent(this.session.id)}&after=${this.after}&wait=${WAIT_SECONDS}`;
      const answer = await this.outbox.ask(asked).catch(error => this.told(error));
      if (answer?.status === 200) {
        for (const said of answer.body.answers) await this.carry(said);
        this.after = answer.body.next;
      } else await sleep(answer ? 5000 : this.outbox.patience || 1000, this.signal);
    }
  }
  async carry(said) {
    const {proposal_id, verdict, operator, grade = null, active_seconds = 0} = said;
    if (said.items?.length) this.outbox.add({type: "session_reviewed", operator, approved: verdict === "accept", items: said.items, active_seconds: 0});
    const reviewed = said.items?.length ? 1 : 0;
    if (verdict === "edit" && this.outbox.sequence === said.at_version + reviewed) {
      const [outcome, error] = await this.carryOut(said.action);
      this.outbox.add({type: "feedback_given", proposal_id, verdict, operator, grade, active_seconds});
      if (outcome === "done") this.outbox.add({type: "action_taken", actions: [said.action], operator, active_seconds: 0});
      else this.told(new Error(`what ${operator} wanted was not done: ${error}`));
    } else this.outbox.add({type: "feedback_given", proposal_id, verdict, operator, grade, active_seconds});
    this.wake();
  }
}
