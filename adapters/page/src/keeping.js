// What has to outlive a page: events that the gateway has not taken, their numbers, used keys, the highest epoch, and what
// was being done. Kept in localStorage, so a reload and other tabs see it; one tab at a time works a session (Web Locks).

const PREFIX = "pilotage:";
const KEYS_KEPT = 2000;

/** A store over localStorage, or over anything with getItem, setItem, removeItem. */
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

  // --- one session ---
  session(id) {
    return this.get(`session:${id}`, {sequence: 0, events: [], said: [], screen: ""});
  }
  keep(id, session) {
    this.set(`session:${id}`, session);
  }
  forget(id) {
    this.delete(`session:${id}`);
    this.delete(`doing:${id}`);
  }
}

/** Run `work` while no other tab works `id`: at once where it is free, else once the other tab is gone. */
export function alone(id, work, signal) {
  if (!navigator.locks) return work();
  return navigator.locks.request(PREFIX + id, signal ? {signal} : {}, work);
}
