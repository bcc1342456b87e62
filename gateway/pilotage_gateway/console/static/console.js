// What a page of the console needs beside htmx: keys, drafts, how long a card was looked at, and whether the stream
// still comes. All of it can be missing: the pages are plain forms.
"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const store = {
    get: key => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { value === null ? localStorage.removeItem(key) : localStorage.setItem(key, value); } catch { /* private mode */ } },
  };
  const DRAFT = "pilotage-draft:", KEYS = "pilotage-keys";
  const RENEW_MS = 20000, DWELL_MS = 400;

  // --- the card: time, draft ---
  let shown = {card: "", at: 0};
  let sent = "";  // the card that was answered last: taken back, it comes again with what was typed
  const look = () => {
    const card = $("[data-card]");
    if (sent && card && card.dataset.card !== sent) { store.set(DRAFT + sent, null); sent = ""; }
    if ((card?.dataset.card ?? "") !== shown.card) shown = {card: card?.dataset.card ?? "", at: performance.now()};
    const text = $("#text"), kept = card && store.get(DRAFT + card.dataset.card);
    if (text && kept !== null && kept !== text.value && document.activeElement !== text) text.value = kept;
    const accept = $("[data-accept]");
    if (accept) accept.textContent = isDirty() ? "Send the edit" : "Accept";
    for (const time of document.querySelectorAll("time[data-since]")) {
      const seconds = Math.max(0, Math.round((Date.now() - Date.parse(time.dateTime)) / 1000));
      time.textContent = seconds < 90 ? `${seconds} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
    }
  };
  const isTouched = () => {  // anything on the card that a reload would wipe
    const card = $("[data-card]");
    return isDirty() || Boolean($("#note")?.value) || Boolean(card?.querySelector("input[type=radio]:checked"));
  };
  const isDirty = () => { const text = $("#text"); return Boolean(text) && text.value !== text.dataset.before; };
  document.addEventListener("input", event => {
    look();
    if (event.target.id === "text") store.set(DRAFT + $("[data-card]").dataset.card, isDirty() ? event.target.value : null);
  });
  const keepUnsent = card => {  // the card is gone, and what was typed on it was not sent
    const kept = store.get(DRAFT + card), box = $("#draft");
    if (card === sent && shown.card === "") return;
    store.set(DRAFT + card, null);
    if (kept === null || !box || card === sent) return;
    box.hidden = false;
    box.textContent = "";
    const label = document.createElement("label");
    label.textContent = "What you had typed on the card before, unsent:";
    const area = document.createElement("textarea");
    area.readOnly = true;
    area.rows = 3;
    area.value = kept;
    label.append(area);
    box.append(label);
  };

  // --- htmx: what comes, what fails ---
  document.addEventListener("htmx:configRequest", event => {
    const form = event.target.closest?.("[data-card]");
    if (!form) return;
    const seconds = Math.round((performance.now() - shown.at) / 1000);
    if (event.detail.parameters.seconds !== undefined) event.detail.parameters.seconds = String(seconds);
  });
  document.addEventListener("htmx:beforeRequest", event => {  // a session that moved is not swapped in under a pen
    if (event.detail.elt.id === "panel" && isTouched() && event.detail.requestConfig.triggeringEvent?.type !== "reload") {
      event.preventDefault();
      $("#problem").innerHTML = '<div class="problem"><p><b>The session has moved on while you were typing.</b></p><button type="button" data-reload>Show it as it is now</button></div>';
    }
  });
  document.addEventListener("htmx:beforeSwap", event => {
    if (event.detail.isError) event.detail.shouldSwap = Boolean(event.detail.xhr.getResponseHeader("HX-Retarget"));
    const form = event.detail.requestConfig.elt.closest?.("[data-card]");
    if (form && !event.detail.isError && event.detail.requestConfig.path.endsWith("/answer")) sent = form.dataset.card;
  });
  document.addEventListener("htmx:afterSwap", event => {
    if (event.detail.target.id === "panel") {
      $("#problem").textContent = "";
      const before = shown.card;
      look();
      if (before && before !== shown.card) keepUnsent(before);
      const chat = $(".chat");
      if (chat) chat.scrollTop = chat.scrollHeight;
    } else look();
  });
  document.addEventListener("htmx:sseMessage", look);
  document.addEventListener("htmx:responseError", event => {
    if (!event.detail.xhr.getResponseHeader("HX-Retarget") && $("#problem"))
      $("#problem").innerHTML = `<div class="problem"><p><b>The gateway answers ${Number(event.detail.xhr.status)}.</b> Nothing was lost here: try again.</p></div>`;
  });
  document.addEventListener("htmx:sendError", () => document.body.classList.add("lost"));
  document.addEventListener("htmx:sseError", () => document.body.classList.add("lost"));
  document.addEventListener("htmx:sseOpen", () => document.body.classList.remove("lost"));
  document.addEventListener("click", event => {
    if (event.target.closest("[data-reload]")) htmx.trigger("#panel", "reload");
    if (event.target.closest("[data-keys]")) $("#keys").showModal();
    const reject = event.target.closest("[data-reject]");
    if ($("[data-grade]")) $("[data-grade]").value = reject ? reject.dataset.reject : "";
    if (event.target.closest(".who button")) for (const key of Object.keys(localStorage)) if (key.startsWith(DRAFT)) localStorage.removeItem(key);
  }, true);

  // --- working renews the claim ---
  let renewed = 0;
  const renew = () => {
    const panel = $("#panel");
    if (!panel || !$("[data-release]") || Date.now() - renewed < RENEW_MS) return;
    renewed = Date.now();
    fetch(panel.getAttribute("hx-get") + "/claim", {method: "POST", headers: {"HX-Request": "true"}}).catch(() => {});
  };
  for (const kind of ["keydown", "pointerdown", "pointermove"]) document.addEventListener(kind, renew, {passive: true});

  // --- keys: one letter each, off with one switch (WCAG 2.1.4), never while something is typed ---
  const areOn = () => store.get(KEYS) !== "off";
  let rejects = false;
  const press = selector => { const found = $(selector); if (found) found.click(); return Boolean(found); };
  const move = step => {
    const mine = [...document.querySelectorAll("[data-mine]")];
    if (!mine.length) return press(".rows a");
    const at = mine.findIndex(each => each.hasAttribute("aria-current"));
    mine[(at + step + mine.length) % mine.length].click();
    return true;
  };
  document.addEventListener("keydown", event => {
    const text = $("#text");
    if (event.isComposing || event.repeat) return;
    if (event.target === text) {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); press('[data-key="a"]'); }
      if (event.key === "Escape") { text.value = text.dataset.before; text.dispatchEvent(new Event("input", {bubbles: true})); text.blur(); }
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, dialog")) return;
    if (!areOn() || event.key === "Shift") return;
    if (event.key === "?") { $("#keys").showModal(); return; }
    if (performance.now() - shown.at < DWELL_MS && $("[data-card]") && "ar12345".includes(event.key)) return;  // it came under the finger
    if (rejects) {
      rejects = false;
      if ($("[data-pending]")) $("[data-pending]").hidden = true;
      if (/^[1-5]$/.test(event.key) && press(`[data-key="${event.key}"]`)) event.preventDefault();
      return;
    }
    const done = {
      a: () => press('[data-key="a"]'),
      e: () => { if (text) { text.focus(); text.select(); } return Boolean(text); },
      r: () => { rejects = Boolean($("[data-card]")); if (rejects) $("[data-pending]").hidden = false; $("#note")?.closest("fieldset").scrollIntoView({block: "nearest"}); return rejects; },
      u: () => press("[data-undo]"),
      n: () => press("[data-next]"),
      j: () => move(1),
      k: () => move(-1),
    }[event.key];
    if (done?.()) event.preventDefault();
  });
  const showKeys = () => document.body.classList.toggle("keys-off", !areOn());
  document.addEventListener("DOMContentLoaded", () => {
    const box = $("#keys-on");
    box.checked = areOn();
    box.addEventListener("change", () => { store.set(KEYS, box.checked ? null : "off"); showKeys(); });
    showKeys();
    look();
    const chat = $(".chat");
    if (chat) chat.scrollTop = chat.scrollHeight;
    setInterval(look, 1000);
  });
})();
