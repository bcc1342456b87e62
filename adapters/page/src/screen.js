// The page as HTML for the gateway: as people see it, not as it was sent. What was typed and chosen is written into
// attributes, what is hidden by style sheets is marked hidden, every control has its data-control-id. Secrets, scripts and
// what this adapter's configuration leaves out are not in it.

import {listActionable, nameControl} from "./ids.js";

const DROPPED = "script,style,link,meta,noscript,template,svg,canvas,video,audio,iframe,object,embed";
export const LARGEST = 700_000;

const isShown = element => element.checkVisibility?.({visibilityProperty: true}) ?? element.getClientRects().length > 0;

/** HTML of `document` as it is now. `rules` name controls (ids.js), `ignore` is a selector of what stays here. */
export function takeScreen(doc = document, {rules = [], ignore = ""} = {}) {
  const source = doc.documentElement;
  const copy = source.cloneNode(true);
  const pairs = [[source, copy]];
  const marks = [];
  while (pairs.length) {  // both trees side by side: a copy has no live state of its own
    const [live, cloned] = pairs.pop();
    const children = [...live.children], clones = [...cloned.children];
    children.forEach((child, i) => pairs.push([child, clones[i]]));
    marks.push([live, cloned]);
  }
  const named = new Map();
  for (const element of listActionable(doc)) named.set(element, nameControl(element, rules));
  const gone = [];
  for (const [live, cloned] of marks) {
    if (live.matches(DROPPED) || (ignore && live.matches(ignore))) { gone.push(cloned); continue; }
    writeState(live, cloned);
    const id = named.get(live);
    if (id) cloned.setAttribute("data-control-id", id);
    if (live !== source && live !== doc.body && live.parentElement && isShown(live.parentElement) && !isShown(live) && live.localName !== "option") cloned.setAttribute("hidden", "");
    if (live.shadowRoot) cloned.append(...copyShadow(live.shadowRoot, named));
  }
  gone.forEach(each => each.remove());
  removeComments(copy);
  return `<!DOCTYPE html>${copy.outerHTML}`;
}

function writeState(live, cloned) {
  if (live.localName === "option") cloned.toggleAttribute("selected", live.selected);
  else if (live.localName === "textarea") cloned.textContent = live.value;
  else if (live.localName === "details") cloned.toggleAttribute("open", live.open);
  else if (live.localName === "input") {
    if (live.type === "checkbox" || live.type === "radio") cloned.toggleAttribute("checked", live.checked);
    else if (live.type === "password" || live.type === "hidden" || live.type === "file") cloned.removeAttribute("value");
    else cloned.setAttribute("value", live.value);
  }
  for (const name of [...cloned.attributes].map(each => each.name)) if (/^on/i.test(name) && name !== "onclick") cloned.removeAttribute(name);
}

function copyShadow(root, named) {
  return [...root.children].filter(each => !each.matches(DROPPED)).map(each => {
    const cloned = each.cloneNode(true);
    const live = [each, ...each.querySelectorAll("*")], clones = [cloned, ...cloned.querySelectorAll("*")];
    live.forEach((one, i) => {
      writeState(one, clones[i]);
      if (named.get(one)) clones[i].setAttribute("data-control-id", named.get(one));
      if (!isShown(one)) clones[i].setAttribute("hidden", "");
    });
    return cloned;
  });
}

function removeComments(root) {
  const walker = root.ownerDocument.createTreeWalker(root, NodeFilter.SHOW_COMMENT);
  const found = [];
  while (walker.nextNode()) found.push(walker.currentNode);
  found.forEach(each => each.remove());
}
