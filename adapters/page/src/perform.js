// An action done on the page, by control_id, as a person would: through the element's own events, so that whatever
// framework the page has hears of it. It says what became of it as far as can be seen here; what cannot is not claimed.
// Everything that can be checked is, before anything is changed.

import {labelOf, mapControls} from "./ids.js";

/** It was not done, and nothing has changed. */
export class CannotError extends Error {}

const TYPED = "input:not([type=checkbox],[type=radio],[type=submit],[type=button],[type=reset],[type=image],[type=file],[type=hidden]),textarea";
const wait = ms => new Promise(done => setTimeout(done, ms));
const isShown = element => element.checkVisibility?.({visibilityProperty: true}) ?? true;

/**
 * Do `action`. `page` is the configuration: rules, chat {input, send}, close, transfer, transferTo.
 * Throws CannotError where it was not done, with nothing changed; any other error: it is not known.
 */
export async function perform(action, page, doc = document, isHere = () => true) {
  switch (action.tool) {
    case "send_text_to_chat": return sendText(action, page, doc, isHere);
    case "close_chat": return one(doc, page.close, "close").click();
    case "transfer_chat": return transfer(action, page, doc);
  }
  const elements = (mapControls(doc, page.rules, page.ignore).get(action.control_id) ?? []).filter(each => each.isConnected);
  if (action.tool === "select_radio_button") return chooseRadio(elements, action);
  const element = only(elements, `controls are called ${action.control_id}`);
  switch (action.tool) {
    case "open_procedure":
    case "click_control": return element.click();
    case "fill_input": return fill(element, action.value);
    case "select_element_in_select":
    case "select_element_in_combo_box": return element.localName === "select" ? select(element, action.value) : pick(element, action.value, doc, isHere);
  }
  throw new CannotError(`${action.tool} is no tool`);
}

function only(elements, what) {
  if (elements.length !== 1) throw new CannotError(`${elements.length} ${what}`);
  check(elements[0], what);
  return elements[0];
}

function one(doc, selector, what) {
  if (!selector) throw new CannotError(`the page's configuration names no ${what}`);
  return only([...doc.querySelectorAll(selector)].filter(isShown), `elements are ${selector}`);
}

function check(element, name) {
  const said = element.id || name;
  if (!isShown(element)) throw new CannotError(`${said} is hidden`);
  if (element.matches(":disabled") || element.closest("[inert]") || element.closest("[aria-disabled=true]")) throw new CannotError(`${said} is disabled`);
  const modal = [...element.ownerDocument.querySelectorAll(":modal")].at(-1);
  if (modal && !modal.contains(element)) throw new CannotError(`a dialog is open before ${said}`);
}

function setValue(element, value) {  // past what frameworks put over the property
  Object.getOwnPropertyDescriptor(Object.getPrototypeOf(element), "value").set.call(element, value);
  element.dispatchEvent(new InputEvent("input", {bubbles: true, inputType: "insertText", data: value}));
  element.dispatchEvent(new Event("change", {bubbles: true}));
}

function checkFill(element) {
  if (element.readOnly || element.getAttribute("aria-readonly") === "true") throw new CannotError("it can only be read");
  if (!element.isContentEditable && !element.matches(TYPED)) throw new CannotError("it takes no text");
}

function fill(element, value) {
  checkFill(element);
  element.focus();
  if (element.isContentEditable) {
    element.textContent = value;
    element.dispatchEvent(new InputEvent("input", {bubbles: true, inputType: "insertText", data: value}));
    if (element.textContent !== value) throw new Error("the page holds something else now");
    return;
  }
  const before = element.value;
  setValue(element, value);
  if (element.value === value) return;
  const held = `the page holds ${JSON.stringify(element.value.slice(0, 40))} now`;
  throw element.value === before ? new CannotError(`the page does not take it: ${held}`) : new Error(held);
}

const findChoices = (element, value) => [...element.options].filter(each => (each.label || each.text).trim() === value && !each.disabled);

function select(element, value) {
  if (element.multiple) throw new CannotError("several can be chosen here: that is a person's to do");
  const options = findChoices(element, value);
  if (!options.length && !value) options.push(...[...element.options].filter(each => !each.value).slice(0, 1));
  if (options.length !== 1) throw new CannotError(`${options.length} choices are called ${value}`);
  element.focus();
  options[0].selected = true;
  element.dispatchEvent(new Event("input", {bubbles: true}));
  element.dispatchEvent(new Event("change", {bubbles: true}));
  if (!options[0].selected) throw new Error("the page has chosen something else");
}

async function pick(element, value, doc, isHere) {  // a combo box that is made of other elements
  element.focus();
  element.dispatchEvent(new MouseEvent("mousedown", {bubbles: true}));
  element.click();
  for (let tries = 0; tries < 20; tries++) {
    if (!isHere()) throw new Error("the page shows another session now, and a list was opened");
    const list = doc.getElementById(element.getAttribute("aria-controls") ?? element.getAttribute("aria-owns") ?? "") ?? doc;
    const options = [...list.querySelectorAll("[role=option]")].filter(each => each.textContent.trim() === value && isShown(each));
    if (options.length > 1) throw new Error(`${options.length} choices are called ${value}, and the list is open`);
    if (options.length) {
      options[0].dispatchEvent(new MouseEvent("mousedown", {bubbles: true}));
      options[0].click();
      return;
    }
    await wait(50);
  }
  throw new Error(`no choice is called ${value}, and the list is open`);
}

function chooseRadio(elements, action) {
  const named = elements.filter(each => labelOf(each) === action.value);
  const chosen = only(named.length ? named : elements.filter(each => !labelOf(each) && each.value === action.value), `choices of ${action.control_id} are called ${action.value}`);
  chosen.click();
  if ("checked" in chosen && !chosen.checked) throw new Error("the page has not taken the choice");
}

async function sendText(action, page, doc, isHere) {
  if (action.control_id && page.chat?.clickTemplates !== false) {
    const template = only(mapControls(doc, page.rules, page.ignore).get(action.control_id) ?? [], `templates are called ${action.control_id}`);
    if (template.textContent.trim().replace(/\s+/g, " ") !== action.text.trim().replace(/\s+/g, " ")) throw new CannotError("the template has another text now");
    return template.click();
  }
  const input = one(doc, page.chat?.input, "chat.input");
  checkFill(input);
  if (!doc.querySelector(page.chat?.send || ":not(*)")) throw new CannotError("there is nothing to send it with");
  fill(input, action.text);
  await wait(0);  // a framework enables the button once it has heard
  if (!isHere()) throw new Error("it was typed, and the page shows another session now");
  try {
    one(doc, page.chat.send, "chat.send").click();
  } catch (error) {
    throw new Error(`it is typed, and not sent: ${error.message}`);
  }
}

function transfer(action, page, doc) {
  const button = one(doc, page.transfer, "transfer");
  if (action.value && page.transferTo) {
    select(one(doc, page.transferTo, "transferTo"), action.value);
    if (button.matches(":disabled")) throw new Error("it is chosen, and not transferred");
  }
  button.click();
}
