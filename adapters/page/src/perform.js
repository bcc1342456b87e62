// An action done on the page, by control_id, as a person would: through the element's own events, so that whatever
// framework the page has hears of it. It says what became of it as far as can be seen here; what cannot is not claimed.

import {labelOf, mapControls} from "./ids.js";

export class CannotError extends Error {}

const wait = ms => new Promise(done => setTimeout(done, ms));

/**
 * Do `action`. `page` is the configuration: rules, chat {input, send}, close, transfer.
 * Throws CannotError where it was not done, with nothing changed; any other error: it is not known.
 */
export async function perform(action, page, doc = document) {
  switch (action.tool) {
    case "send_text_to_chat": return sendText(action, page, doc);
    case "close_chat": return click(one(doc, page.close, "close"));
    case "transfer_chat": return transfer(action, page, doc);
  }
  const elements = (mapControls(doc, page.rules).get(action.control_id) ?? []).filter(each => each.isConnected);
  if (action.tool === "select_radio_button") return chooseRadio(elements, action);
  if (elements.length !== 1) throw new CannotError(`${elements.length} controls are called ${action.control_id}`);
  const [element] = elements;
  check(element, action.control_id);
  switch (action.tool) {
    case "open_procedure":
    case "click_control": return click(element);
    case "fill_input": return fill(element, action.value);
    case "select_element_in_select":
    case "select_element_in_combo_box": return element.localName === "select" ? select(element, action.value) : pick(element, action.value, doc);
  }
  throw new CannotError(`${action.tool} is no tool`);
}

function one(doc, selector, what) {
  if (!selector) throw new CannotError(`the page's configuration names no ${what}`);
  const found = [...doc.querySelectorAll(selector)].filter(each => each.checkVisibility?.() ?? true);
  if (found.length !== 1) throw new CannotError(`${found.length} elements are ${selector}`);
  check(found[0], selector);
  return found[0];
}

function check(element, name) {
  if (!(element.checkVisibility?.({visibilityProperty: true}) ?? true)) throw new CannotError(`${name} is hidden`);
  if (element.disabled || element.closest("[inert]") || element.getAttribute("aria-disabled") === "true") throw new CannotError(`${name} is disabled`);
}

function click(element) {
  element.click();
}

function setValue(element, value) {  // past what frameworks put over the property
  const own = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(element), "value");
  own.set.call(element, value);
  element.dispatchEvent(new InputEvent("input", {bubbles: true, inputType: "insertText", data: value}));
  element.dispatchEvent(new Event("change", {bubbles: true}));
}

function fill(element, value) {
  if (element.readOnly) throw new CannotError("it can only be read");
  element.focus();
  if (element.isContentEditable) {
    element.textContent = value;
    element.dispatchEvent(new InputEvent("input", {bubbles: true, inputType: "insertText", data: value}));
    if (element.textContent !== value) throw new Error("the page holds something else now");
    return;
  }
  const before = element.value;
  setValue(element, value);
  if (element.value !== value && element.value === before) throw new CannotError(`the page does not take ${JSON.stringify(value.slice(0, 40))}`);
  if (element.value !== value) throw new Error(`the page holds ${JSON.stringify(element.value.slice(0, 40))} now`);
}

function select(element, value) {
  const options = [...element.options].filter(each => (each.label || each.text).trim() === value && !each.disabled);
  if (!options.length && !value && element.options.length) {
    const empty = [...element.options].find(each => !each.value);
    if (empty) options.push(empty);
  }
  if (options.length !== 1) throw new CannotError(`${options.length} choices are called ${value}`);
  element.focus();
  options[0].selected = true;
  element.dispatchEvent(new Event("input", {bubbles: true}));
  element.dispatchEvent(new Event("change", {bubbles: true}));
  if (!options[0].selected) throw new Error("the page has chosen something else");
}

async function pick(element, value, doc) {  // a combo box that is made of other elements
  element.focus();
  element.dispatchEvent(new MouseEvent("mousedown", {bubbles: true}));
  element.click();
  for (let tries = 0; tries < 20; tries++) {
    const list = doc.getElementById(element.getAttribute("aria-controls") ?? element.getAttribute("aria-owns") ?? "") ?? doc;
    const options = [...list.querySelectorAll("[role=option]")].filter(each => each.textContent.trim() === value && (each.checkVisibility?.() ?? true));
    if (options.length === 1) {
      options[0].dispatchEvent(new MouseEvent("mousedown", {bubbles: true}));
      options[0].click();
      return;
    }
    if (options.length > 1) throw new Error(`${options.length} choices are called ${value}`);
    await wait(50);
  }
  throw new Error(`no choice is called ${value}, and the list is open`);
}

function chooseRadio(elements, action) {
  const found = elements.filter(each => labelOf(each) === action.value || each.value === action.value || elements.length === 1);
  const chosen = found.find(each => labelOf(each) === action.value) ?? found[0];
  if (!chosen || found.filter(each => labelOf(each) === action.value).length > 1) throw new CannotError(`${action.control_id} has no choice ${action.value}`);
  check(chosen, action.control_id);
  chosen.click();
  if ("checked" in chosen && !chosen.checked) throw new Error("the page has not taken the choice");
}

async function sendText(action, page, doc) {
  const template = action.control_id ? mapControls(doc, page.rules).get(action.control_id) ?? [] : [];
  if (action.control_id && page.chat?.clickTemplates !== false) {
    if (template.length !== 1) throw new CannotError(`${template.length} templates are called ${action.control_id}`);
    check(template[0], action.control_id);
    return click(template[0]);
  }
  const input = one(doc, page.chat?.input, "chat.input");
  fill(input, action.text);
  await wait(0);  // a framework enables the button once it has heard
  const send = one(doc, page.chat?.send, "chat.send");
  click(send);
}

function transfer(action, page, doc) {
  if (action.value && page.transferTo) select(one(doc, page.transferTo, "transferTo"), action.value);
  click(one(doc, page.transfer, "transfer"));
}
