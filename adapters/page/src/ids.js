// Which elements of a page can be acted on, and what each is called: `control_id`, the same on every load, also where a
// page makes up its ids anew. An id of the page's own is used only where it does not look made up.
//
// In this order: data-control-id, a rule of the configuration, the name of a field, a lasting id, what it is labelled.
// Two that are called the same stay so: the gateway then takes neither for known, and nothing runs on either.

export const ACTIONABLE =
  "button,select,textarea,input:not([type=hidden]),a[href],summary,[role=button],[role=link],[role=tab],[role=menuitem]," +
  "[role=checkbox],[role=radio],[role=switch],[role=combobox],[role=option][aria-selected],[contenteditable=''],[contenteditable=true],[onclick],[data-control-id]";
const MADE_UP = /\d{3,}|[0-9a-f]{8,}|^(ember|react|radix|mui|headlessui|:r)|[:_-](?=[a-z]*\d)(?=\d*[a-z])[0-9a-z]{4,}$|^\d|--\d+$/i;

const slug = text => text.normalize("NFKD").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60);

/** Whether an id or name of a page is one it will have on the next load too, by its looks. */
export const looksMadeUp = id => MADE_UP.test(id);

/** The text an element is labelled with. */
export function labelOf(element, ignore = "") {
  const root = element.getRootNode();
  const by = element.getAttribute("aria-labelledby");
  if (by) {
    const found = by.split(/\s+/).map(id => root.getElementById?.(id)?.textContent ?? "").join(" ").trim();
    if (found) return found;
  }
  const aria = element.getAttribute("aria-label");
  if (aria?.trim()) return aria.trim();
  const label = element.labels?.[0];
  if (label) {
    const copy = label.cloneNode(true);
    copy.querySelectorAll("input,select,textarea,button").forEach(each => each.remove());
    if (copy.textContent.trim()) return copy.textContent.trim();
  }
  if (element.matches("input[type=submit],input[type=button],input[type=reset]") && element.value) return element.value;
  if (element.matches("input,select,textarea")) return element.placeholder || element.title || "";
  if (!ignore) return element.textContent.trim() || element.title || "";
  const copy = element.cloneNode(true);
  copy.querySelectorAll(ignore).forEach(each => each.remove());
  return copy.textContent.trim() || element.title || "";
}

const kindOf = element => element.getAttribute("role") || (element.localName === "a" ? "link" : element.localName);

/** The control_id of `element`; `rules` are [{selector, id}], where {name} in an id is that attribute's value. */
export function nameControl(element, rules = [], ignore = "") {
  const own = element.getAttribute("data-control-id");
  if (own) return own;
  for (const rule of rules) {
    if (element.matches(rule.selector)) {
      const id = rule.id.replace(/\{([^}]+)\}/g, (_, name) => (name === "label" ? slug(labelOf(element, ignore)) : element.getAttribute(name) ?? ""));
      if (id) return id;
    }
  }
  const name = element.getAttribute("name");
  if (name && element.matches("input,select,textarea") && !looksMadeUp(name)) {
    const isChoice = element.matches("input[type=checkbox]") && element.form?.elements[name] instanceof RadioNodeList;
    return isChoice ? `${name}=${element.value}` : name;
  }
  if (element.id && !looksMadeUp(element.id)) return element.id;
  const label = slug(labelOf(element, ignore));
  return label ? `${kindOf(element)}:${label}` : "";
}

/** Elements of `root` that can be acted on, open shadow trees too. */
export function* listActionable(root) {
  for (const element of root.querySelectorAll(ACTIONABLE)) yield element;
  for (const element of root.querySelectorAll("*")) if (element.shadowRoot) yield* listActionable(element.shadowRoot);
}

/** control_id → elements of `root` that are called so; radio buttons of a group share theirs. */
export function mapControls(root, rules, ignore) {
  const found = new Map();
  for (const element of listActionable(root)) {
    const id = nameControl(element, rules, ignore);
    if (id) found.set(id, [...(found.get(id) ?? []), element]);
  }
  return found;
}
