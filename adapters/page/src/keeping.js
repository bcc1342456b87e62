// What has to outlive a page: events that the gateway has not taken, their numbers, used keys, the highest epoch, what was
// being done. Kept in localStorage, so that a reload and other tabs see it; one tab at a time works a session (Web Locks).
// Of pages only a digest is kept, but for those still to be sent.

const PREFIX = "pilotage:", SESSION = "session:";
const KEYS_KEPT = 2000;

export const NEW = {sequence: 0, sent: -1, events: [], aside: [], said: {}, screen: "", after: 0, carried: [], closed: false, at: 0};
const DAYS_KEPT = 7;

/** A store over localStorage, or over anything with getItem, setItem, removeItem, key, length. */
export class Kept {
  constructor(storage = localStorage) {
    this.storage = storage;
  }
  get(name, otherwise) {
    const found = this.storage.getItem(PREFIX + name);
    if (found === null) return otherwise;
    try {
      return JSON.parse(found);
    } catch {
      return otherwise;
    }
  }
  /** Throws QuotaExceededError where there is no room. */
  set(name, value) {
    this.storage.setItem(PREFIX + name, JSON.stringify(value));
  }
  delete(name) {
    this.storage.removeItem(PREFIX + name);
  }

  // --- the fence's memory: of all sessions of this page's origin ---
  get keysUsed() {
    return new Set(this.get("keys", []));
  }
  get highestEpoch() {
    return this.get("epoch", 0);
  }
  /** Take note of an order that runs, before it does. */
  use(order, byPermit) {
    this.set("keys", [...this.get("keys", []), order.idempotency_key].slice(-KEYS_KEPT));
    if (byPermit) this.see(order.epoch);
  }
  see(epoch) {
    if (epoch > this.highestEpoch) this.set("epoch", epoch);
  }

  // --- sessions ---
  session(id) {
    return {...structuredClone(NEW), ...this.get(SESSION + id, {})};
  }
  keep(id, session) {
    this.set(SESSION + id, session);
  }
  doing(id) {
    return this.get(`doing:${id}`, null);
  }
  begin(id, what) {
    this.set(`doing:${id}`, what);
  }
  finish(id) {
    this.delete(`doing:${id}`);
  }
  forget(id) {
    this.delete(SESSION + id);
    this.finish(id);
  }
  /** Ids of sessions with something to tell; what was told is forgotten after some days. */
  listUntold(now = Date.now()) {
    const names = Array.from({length: this.storage.length}, (_, i) => this.storage.key(i)).filter(name => name?.startsWith(PREFIX + SESSION));
    return names.map(name => name.slice((PREFIX + SESSION).length)).filter(id => {
      const session = this.session(id);
      const isTold = !session.events.length && !this.doing(id);
      if (isTold && now - session.at > DAYS_KEPT * 86_400_000) this.forget(id);
      return !isTold;
    });
  }
}

/** Run `work` while no other tab works `id`: at once where it is free, else once the other tab is gone. */
export function alone(id, work, signal) {
  return navigator.locks.request(PREFIX + id, {signal}, work);
}

/** The same where it is free now; nothing, where it is not. */
export function aloneNow(id, work) {
  return navigator.locks.request(PREFIX + id, {ifAvailable: true}, lock => (lock ? work() : undefined));
}

/** A short digest of a text, to tell whether it changed. */
export function fingerprint(given) {
  const text = String(given);
  let a = 0xdeadbeef, b = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    a = Math.imul(a ^ c, 2654435761);
    b = Math.imul(b ^ c, 1597334677);
  }
  return `${text.length}-${(a >>> 0).toString(16)}${(b >>> 0).toString(16)}`;
}

/** A UUIDv7 (RFC 9562): also where a page has no secure context. */
export function makeId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  new DataView(bytes.buffer).setBigUint64(0, (BigInt(Date.now()) << 16n) | BigInt((bytes[6] << 8) | bytes[7]));
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
