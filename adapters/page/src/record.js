// What an operator does on the page, as actions: what was typed once it is left, what was chosen or clicked at once. Only
// what a person did: events that the browser trusts, soon after a key or a pointer.

import {labelOf, nameControl, ACTIONABLE} from "./ids.js";
import {isSecret} from "./screen.js";

const TYPED = "input:not([type=checkbox],[type=radio],[type=submit],[type=button],[type=reset],[type=image],[type=file]),textarea";
const SOON_MS = 1500;
const IDLE_MS = 20_000;

/** Calls `took(actions, seconds)` for what an operator does in `doc`, until the returned function is called. */
export function recordActions(doc, page, took, isPerforming = () => false, onTouch = () => {}, now = () => performance.now()) {
  let active = 0, last = now(), touched = -Infinity, typedAt = null;
  const touch = event => {
    if (!event.isTrusted) return;
    const at = now();
    active += Math.min(at - last, IDLE_MS);
    last = touched = at;
    if (event.type === "pointerdown" || ["Enter", " ", "Tab"].includes(event.key)) onTouch();  // before it changes anything
  };
  const done = actions => {
    const seconds = Math.round(active / 100) / 10;
    active = 0;
    took(actions, seconds);
  };
  const find = event => event.composedPath().find(each => each instanceof doc.defaultView.Element);
  const isWork = (event, element) => event.isTrusted && element && !(page.ignore && element.closest(page.ignore));
  // A script's click on a box is trusted too: a person's comes soon after a key or a pointer.
  const isTheirs = (event, element) => isWork(event, element) && !isPerforming() && now() - touched < SOON_MS;
  const isChat = element => Boolean(page.chat?.input) && element.matches(page.chat.input);
  const onChange = event => {
    const element = find(event);
    const isTyped = element?.matches(`${TYPED},select`);
    if (!(isTyped ? isWork : isTheirs)(event, element) || isChat(element)) return;
    const action = readChange(element, page);
    if (action) done([action]);
  };
  const onClick = event => {
    const element = event.composedPath().find(each => each instanceof doc.defaultView.Element && each.matches(ACTIONABLE));
    if (!isTheirs(event, element)) return;
    const action = readClick(element, page, doc);
    if (action) done([action]);
  };
  const onKey = event => {
    const element = find(event);
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || !isTheirs(event, element) || !isChat(element) || !page.chat.enterSends) return;
    const text = readText(element);
    if (text) done([{tool: "send_text_to_chat", text}]);
  };
  const onFocus = event => {  // text in an editable element, or in a shadow tree, tells of no change
    const element = find(event);
    typedAt = element && isApart(element) ? {element, text: readText(element)} : null;
  };
  const onLeave = event => {
    const element = find(event);
    if (!element || typedAt?.element !== element || !isWork(event, element) || isChat(element)) return;
    const text = readText(element), control_id = nameControl(element, page.rules, page.ignore);
    if (text !== typedAt.text && control_id && !isSecret(element)) done([{tool: "fill_input", control_id, value: text}]);
  };
  const heard = {
    keydown: event => { touch(event); onKey(event); }, pointerdown: touch, pointermove: touch,
    change: onChange, click: onClick, focusin: onFocus, focusout: onLeave,
  };
  for (const [name, hear] of Object.entries(heard)) doc.addEventListener(name, hear, {capture: true, passive: true});
  return () => { for (const [name, hear] of Object.entries(heard)) doc.removeEventListener(name, hear, {capture: true}); };
}

const isApart = element => element.isContentEditable || (element.matches(TYPED) && element.getRootNode() !== element.ownerDocument);
const readText = element => (("value" in element ? element.value : element.textContent) ?? "").trim();

function readChange(element, page) {
  const control_id = nameControl(element, page.rules, page.ignore);
  if (!control_id || isSecret(element)) return null;
  if (element.localName === "select") {
    const value = [...element.selectedOptions].map(each => (each.label || each.text).trim()).join("; ");
    return {tool: element.getAttribute("role") === "combobox" ? "select_element_in_combo_box" : "select_element_in_select", control_id, value};
  }
  if (element.matches("input[type=radio]")) return {tool: "select_radio_button", control_id, value: labelOf(element) || element.value};
  return element.matches(TYPED) ? {tool: "fill_input", control_id, value: element.value} : null;
}

function readClick(element, page, doc) {
  const is = selector => Boolean(selector) && element.matches(selector);
  if (is(page.chat?.send)) {
    const input = doc.querySelector(page.chat.input), text = input ? readText(input) : "";
    return text ? {tool: "send_text_to_chat", text} : null;
  }
  if (is(page.close)) return {tool: "close_chat"};
  if (is(page.transfer)) return {tool: "transfer_chat"};
  if (element.isContentEditable || element.matches(`${TYPED},select,option,input[type=radio],label`)) return null;  // told as it changes
  const control_id = nameControl(element, page.rules, page.ignore);
  if (!control_id) return null;
  if (is(page.templates)) return {tool: "send_text_to_chat", control_id, text: labelOf(element, page.ignore)};
  if (is(page.procedures)) return {tool: "open_procedure", control_id};
  return {tool: "click_control", control_id};
}
