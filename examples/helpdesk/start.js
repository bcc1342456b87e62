// How a ticket page of django-helpdesk is a session: nothing in the helpdesk itself was changed for it.
import {attach} from "/pilotage-adapter/adapter.js";

const ENDED = {Resolved: "closed", Closed: "closed", Duplicate: "transferred"};
const status = () => [...document.querySelectorAll("small")].find(each => each.textContent.trim() === "Status")?.nextElementSibling?.textContent.trim() ?? "";
const text = (selector, root = document) => root.querySelector(selector)?.textContent.trim() ?? "";
const page = /^\/tickets\/(\d+)\/$/.exec(location.pathname);

window.pilotageProblems = [];
window.adapter = attach({
  url: "/pilotage",
  operator: () => text("#userDropdown span").toLowerCase() || "unknown",
  session: () => page && {
    id: `ticket-${page[1]}`,
    metadata: {domain: "helpdesk", queue: text(".breadcrumb-item.active").split("-")[0]},
  },
  page: {
    rules: [
      {selector: "#ticket-respond-form select[name=owner]", id: "respond:owner"},
      {selector: "#ticket-respond-form [type=submit]", id: "respond:save"},
      {selector: "#ticket-respond-form [name]:not([type=hidden])", id: "respond:{name}"},
    ],
    ignore: "nav, header.navbar, footer, #layoutSidenav_nav, .modal",
  },
  messages: {
    selector: "h2 ~ p, h2, .card-body > p",
    author: element => element.closest(".card.border-0.mb-3") ? "customer" : null,
    key: element => `${location.pathname}:${element.textContent.trim()}`,
  },
  closed: () => ENDED[status()] ?? "",  // as it was saved, not as it is being chosen
  failed: ".alert-danger, .errorlist",
  onProblem: error => window.pilotageProblems.push(String(error)),
});
