// The page as HTML for the gateway: as people see it, not as it was sent. What was typed and chosen is written into
// attributes, what style sheets hide is marked hidden, every control has its data-control-id. Secrets, scripts and what
// the configuration leaves out are not in it.

import {nameControl, ACTIONABLE} from "./ids.js";

const DROPPED = "script,style,link,meta,noscript,template,svg,canvas,video,audio,iframe,object,embed";
const SECRET = "input[type=password],input[type=hidden],input[type=file],[autocomplete*=password],[autocomplete*=one-time-code],[autocomplete*=cc-]";
/** What is sent in the place of a page that is too large: no schema knows it, so nothing runs there. */
export const TOO_LARGE = '<!DOCTYPE html><html><body data-pilotage="too-large"></body></html>';
/** Bytes of a page that are sent at most. */
export const LARGEST = 600_000;

const secrets = new WeakSet();  // a password that is shown is still one
/** Whether what is in `element` never leaves the page. */
export function isSecret(element) {
  if (element.matches(SECRET)) secrets.add(element);
  return secrets.has(element);
}
const isShown = element => element.checkVisibility?.({visibilityProperty: true}) ?? element.getClientRects().length > 0;

/** HTML of `doc` as it is now. `rules` name controls (ids.js), `ignore` is a selector of what stays here. */
export function takeScreen(doc = document, {rules = [], ignore = ""} = {}) {
  const left = ignore ? `${DROPPED},${ignore}` : DROPPED;
  const inert = doc.implementation.createHTMLDocument("");  // in which nothing is loaded, and no element comes to life
  return `<!DOCTYPE html>${copy(doc.documentElement, {left, rules, ignore, inert}, true)?.outerHTML ?? ""}`;
}

function copy(live, how, parentShown) {
  if (live.matches(how.left)) return null;
  const cloned = how.inert.importNode(live, false);
  const shown = live.localName === "option" || isShown(live);
  writeState(live, cloned);
  if (live.matches(ACTIONABLE)) {
    const id = nameControl(live, how.rules, how.ignore);
    if (id) cloned.setAttribute("data-control-id", id);
  }
  if (parentShown && !shown && live.parentElement && live.localName !== "head") cloned.setAttribute("hidden", "");
  if (live.localName === "textarea") cloned.textContent = isSecret(live) ? "" : live.value;
  else for (const node of [...(live.shadowRoot?.childNodes ?? []), ...live.childNodes]) {
    const child = node.nodeType === 1 ? copy(node, how, shown) : node.nodeType === 3 ? how.inert.importNode(node) : null;
    if (child) cloned.append(child);
  }
  return cloned;
}

function writeState(live, cloned) {
  if (live.localName === "option" && live.closest("select") && isSecret(live.closest("select"))) cloned.removeAttribute("selected");
  else if (live.localName === "option") cloned.toggleAttribute("selected", live.selected);
  else if (live.localName === "details") cloned.toggleAttribute("open", live.open);
  else if (live.localName === "input") {
    if (isSecret(live)) cloned.removeAttribute("value");
    else if (live.type === "checkbox" || live.type === "radio") cloned.toggleAttribute("checked", live.checked);
    else cloned.setAttribute("value", live.value);
  }
  if (live.matches(":disabled")) cloned.setAttribute("disabled", "");
  for (const {name} of [...cloned.attributes]) if (/^on/i.test(name)) name === "onclick" ? cloned.setAttribute(name, "") : cloned.removeAttribute(name);
}
