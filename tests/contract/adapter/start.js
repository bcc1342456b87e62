import {attach} from "/pilotage-adapter/adapter.js";
window.problems = [];
window.adapter = attach({
  url: "/pilotage", operator: () => window.who ?? "ann", settleMs: 60,
  session: () => {
    if (window.broken) throw new Error("between two views");
    return {id: window.caseId ?? "case-1"};
  },
  closed: () => window.closedAs ?? "",
  page: {chat: {input: "#reply", send: "#send"}, close: "#close", rules: [{selector: "[data-key]", id: "field:{data-key}"}]},
  messages: {selector: ".customer", author: () => "customer"},
  onProblem: error => window.problems.push(String(error)),
});
