import {attach} from "/pilotage-adapter/adapter.js";
window.problems = [];
window.adapter = attach({
  url: "/pilotage", operator: () => "ann", settleMs: 60, session: () => ({id: window.caseId ?? "case-1"}),
  page: {chat: {input: "#reply", send: "#send"}, close: "#close", rules: [{selector: "[data-key]", id: "field:{data-key}"}]},
  messages: {selector: ".customer", author: () => "customer"},
  onProblem: error => window.problems.push(String(error)),
});
