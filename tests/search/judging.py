"""What must hold of an order when it arrives at the BPM: written anew from what was shown, said, signed and published.

Nothing is asked of the gateway.
"""

import json
from collections import Counter
from typing import Any

import msgspec
from search.scene import (
    TEMPLATE,
    Score,
    Truth,
)

from pilotage_core.actions import Tool
from pilotage_core.stage import Stage

FOUND: Counter[str] | None = None
"""None: a violation fails the test. A Counter: it is counted."""
SEEN: Counter[str] = Counter()
"""How often each thing happened: a search that never executes anything would prove nothing."""

UNCRITICAL_TOOLS = {Tool.OPEN_PROCEDURE, Tool.FILL_INPUT}
TAU = 0.8


class Judging:
    """Judges orders by `truth`, `held`, `scores` and the clock of whoever plays."""

    truth: Truth
    held: dict[str, Any]
    scores: list[Score]
    clock: float
    leave_until: float
    stopped: bool

    def violate(self, what: str, detail: object) -> None:
        if FOUND is None:
            raise AssertionError(f"{what}: {detail}")
        FOUND[what] += 1

    def judge(self, order: Any) -> None:
        if self.stopped or self.held.get("suspended", False):
            self.violate("an order while people had said stop", order)
        if order.authorised_by != "permit":
            if self.truth.accepted.get(order.proposal_id) != order.authorised_by or not order.authorised_by.strip():
                self.violate("an order by an operator who did not accept", order)
            return
        page, action = self.truth.page, order.action
        if page is None:
            return
        doubtful = bool(action.control_id) and not page.is_certain(action.control_id)
        if not page.is_sound or doubtful:
            self.violate("ran on a page or control in doubt", (page, action))
            return
        if action.tool in UNCRITICAL_TOOLS:
            SEEN["uncritical ran"] += 1
            return
        SEEN[f"critical ran: {action.tool}"] += 1
        held = self.held
        if held.get("stage", Stage.AUTOMATION) not in (Stage.CALIBRATION, Stage.AUTOMATION):
            self.violate("a critical action in another stage", (held, action))
        if self.clock >= self.leave_until:
            self.violate("a critical action without leave", (self.clock, self.leave_until))
        if action.tool in (Tool.CLOSE_CHAT, Tool.TRANSFER_CHAT) and held.get("finalizing_by_human", True):
            self.violate("an ending that is a human's", action)
        if action.tool is Tool.CLOSE_CHAT and 1.0 in (held.get("audit_share"), held.get("review_share")):
            self.violate("an ending that was to be reviewed", action)
        if action.tool is Tool.TRANSFER_CHAT and action.value:
            self.violate("a transfer to a target that nobody allows", action)
        if action.tool is Tool.CLICK_CONTROL and (action.text or action.value):
            self.violate("an argument that the tool does not take", action)
        if action.tool is Tool.SEND_TEXT_TO_CHAT and action.control_id and action.text != TEMPLATE:
            self.violate("a template's id with other words", action)
        self._check_score(order)

    def _check_score(self, order: Any) -> None:
        tau = self.held.get("tau", TAU)
        if tau is None:
            self.violate("a critical action without certificate", order)
            return
        wanted = {k: v for k, v in msgspec.to_builtins(order.action).items() if v != ""}
        fitting = [
            score
            for score in self.scores
            if json.loads(score.query.rpartition("\n>")[2]) == wanted and tau <= score.answer <= 1
        ]
        if not fitting:
            self.violate("a critical action that was not scored so", (wanted, self.scores[-3:]))
        elif not any(self._tells_newest(score.query) for score in fitting):
            self.violate("scored without the customer's newest message", fitting[-1].query[-300:])

    def _tells_newest(self, query: str) -> bool:
        newest = self.truth.newest
        return newest[:4].strip() in query.replace("\\n", "") and newest[-4:].strip() in query
