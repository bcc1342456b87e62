// What an operator does on the page, as actions: what was typed once it is left, what was chosen or clicked at once. Only
// what a person did (isTrusted): what the adapter itself does is told as an outcome.

import {labelOf, nameControl, ACTIONABLE} from "./ids.js";

const TYPED = "input:not([type=checkbox],[type=radio],[type=submit],[type=button],[type=reset],[type=image],[type=file],[type=password],[type=hidden]),textarea";

/** Calls `took(actions, seconds)` for what an operator does in `doc`, until the returned function is called. */
export function recordActions(doc, page, took, now = () => performance.now()) {
  let since = now();
  const done = actions => {
    const seconds = Math.min(600, Math.round((now() - since) / 100) / 10);
    since = now();
    took(actions, seconds);
  };
  const isOurs = element => !page.ignore || !element.closest(page.ignore);
  const onChange = event => {
    const element = event.target;
    if (!event.isTrusted || !(element instanceof Element) || !isOurs(element) || element.matches(page.chat?.input || ":not(*)")) return;
    const action = readChange(element, page);
    if (action) done([action]);
  };
  const onClick = event => {
    if (!event.isTrusted || !(event.target instanceof Element)) return;
    const element = event.composedPath().find(each => each instanceof Element && each.matches(ACTIONABLE));
    if (!element || !isOurs(element)) return;
    const action = readClick(element, page, doc);
    if (action) done([action]);
  };
  doc.addEventListener("change", onChange, true);
  doc.addEventListener("click", onClick, true);
  return () => {
    doc.removeEventListener("change", onChange, true);
    doc.removeEventListener("click", onClick, true);
  };
}

function readChange(element, page) {
  const control_id = nameControl(element, page.rules);
  if (!control_id) return null;
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
    const text = (doc.querySelector(page.chat.input)?.value ?? "").trim();
    return text ? {tool: "send_text_to_chat", text} : null;
  }
  if (is(page.close)) return {tool: "close_chat"};
  if (is(page.transfer)) return {tool: "transfer_chat"};
  if (element.matches(`${TYPED},select,option,input[type=radio],label`)) return null;  // told as it changes
  const control_id = nameControl(element, page.rules);
  if (!control_id) return null;
  if (is(page.templates)) return {tool: "send_text_to_chat", control_id, text: element.textContent.trim()};
  if (is(page.procedures)) return {tool: "open_procedure", control_id};
  return {tool: "click_control", control_id};
}
