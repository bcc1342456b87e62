"""One session of STAR, played against a gateway: the script's customer, the operator, and the screens between them.

Here: what is done when, and what becomes of the gateway's answer. Not here: what is right (judge.py), events and orders
(adapter.py). Whatever fails, the session goes on: where no decision can be had the operator works unassisted.
"""

import random

from pilotage_core.actions import ALWAYS_CRITICAL, ALWAYS_FINALIZING, Action, Tool
from pilotage_core.events import Closing, Grade, Outcome, ReviewItem, Verdict
from pilotage_core.gate import Decision
from pilotage_core.wire import Order, ProposalCard, Turn
from pilotage_simulator.adapter import Adapter, Bpm, Judged
from pilotage_simulator.case import Case
from pilotage_simulator.dialogue import CLICK_SECONDS, Script, StepKind
from pilotage_simulator.judge import Judgement, decide_grade, is_submit, judge_action
from pilotage_simulator.ledger import SessionEnded
from pilotage_simulator.screens import Renderer

EXECUTED_WRONGLY = "The last action was made in error; an operator has to put it right."


class Session:
    """One case from opening to closing. `changed`: by the rules of the changed process (`script` is altered)."""

    def __init__(
        self,
        bpm: Bpm,
        session_id: str,
        process_cluster: str,
        script: Script,
        renderer: Renderer,
        changed: bool = False,
    ) -> None:
        self.session_id = session_id
        self.case = Case(script, renderer)
        self._adapter = Adapter(bpm, session_id, process_cluster, script.operator, _is_critical, changed)
        self._bpm = bpm
        self._script = script
        self._procedures = renderer.procedures
        self._draws = 0
        self._unreviewed: list[tuple[str, Judgement]] = []

    async def play(self) -> SessionEnded:
        """Play the whole session. Raises InvalidEventError where the gateway refuses an event for good."""
        self._begin()
        self._settle()
        turn = await self._adapter.open()
        while not self.case.closed:
            await self._work(turn)
            if not self.case.closed:
                self._settle()
                turn = await self._adapter.post()
        closing = self._script.steps[-1].actions[0].tool
        ended = Closing.TRANSFERRED if closing is Tool.TRANSFER_CHAT else Closing.CLOSED
        await self._adapter.close(ended)
        critical = sum(_is_critical(step.actions[0]) for step in self._script.steps)
        return self._adapter.end(ended, self._script.active_seconds, critical)

    # --- the walk: what one answer of the gateway leads to ---

    async def _work(self, turn: Turn | None) -> None:
        if turn is not None and turn.decision == Decision.EXECUTE and turn.order is not None:
            self._execute(turn.order, turn)
        elif turn is not None and turn.decision == Decision.PROPOSE and turn.proposal is not None:
            await self._answer(turn.proposal)
        else:
            self._operator_acts()

    async def _answer(self, card: ProposalCard) -> None:
        """The operator looks at a proposal, and accepts it or does the wizard's step."""
        judgement = judge_action(self.case, card.action)
        if not self._is_accepted(judgement):
            self._adapter.reject(card, decide_grade(self.case, card.action, judgement))
            self._operator_acts()
            return
        ordered = await self._adapter.accept(card)
        if ordered is not None:
            self._execute(*ordered)
        else:
            self._operator_acts()

    def _execute(self, order: Order, turn: Turn) -> None:
        """Put an order before the fence; run it, or refuse it and let the operator go on."""
        judgement = judge_action(self.case, order.action)
        if not self._adapter.admit(order, turn, Judged(judgement.strict, judgement.graded)):
            self._operator_acts()
            return
        if self._adapter.is_unattended(order):
            self._unreviewed.append((order.proposal_id, judgement))
        index = judgement.step if judgement.step is not None else judgement.answer
        step = self.case.tick(index) if index is not None else None
        self.case.apply(order.action, step if judgement.graded else None)
        self._adapter.report(order, Outcome.DONE)
        if step is not None:
            self._show(step.replies)
            return
        self.case.error = EXECUTED_WRONGLY
        self._show(())
        self._adapter.tally.corrections += 1
        self._operator_acts(corrects=order.proposal_id)

    def _operator_acts(self, corrects: str = "") -> None:
        """The operator does the wizard's next step, opening its procedure first where another one is open."""
        index, step = self.case.next_step()
        away = step.procedure != self.case.procedure and step.procedure in self._procedures
        if away and step.kind is not StepKind.OPEN:
            opening = Action(Tool.OPEN_PROCEDURE, control_id=f"procedure:{step.procedure}")
            self._adapter.take((opening,), CLICK_SECONDS, corrects)
            self.case.apply(opening, None)
            self._show(())
            corrects = ""
        if step.kind is StepKind.CLOSE:
            self._review()
        self._adapter.take(step.actions, step.active_seconds, corrects)
        self.case.tick(index)
        for action in step.actions:
            self.case.apply(action, step)
        if not self.case.closed:
            self._show(step.replies)

    def _settle(self) -> None:
        """What happens without anyone being asked: the screen is shown, and reviewed once the customer has left.

        Typing is not among it: the policy is asked when the customer has spoken, before the operator types. A submit
        that it proposes then is wrong unless the form holds the wizard's values already.
        """
        self._show(())
        if self.case.customer_left:
            self._review()

    def _review(self) -> None:
        if not self._unreviewed:
            return
        items = []
        for proposal_id, judgement in self._unreviewed:
            accepted = self._is_accepted(judgement)
            grade = None if accepted else Grade.ACCEPTABLE if judgement.graded else Grade.INCORRECT
            items.append(ReviewItem(proposal_id, Verdict.ACCEPT if accepted else Verdict.REJECT, grade))
        approved = all(judgement.graded for _, judgement in self._unreviewed)
        self._unreviewed = []
        self._adapter.review(items, approved)

    # --- decisions of the BPM's own ---

    def _is_accepted(self, judgement: Judgement) -> bool:
        if judgement.strict or not judgement.graded:
            return judgement.strict
        self._draws += 1
        draw = random.Random(f"{self._bpm.seed}:{self._script.dialogue_id}:{self._draws}").random()
        return draw < self._bpm.accept_later_probability

    # --- events ---

    def _begin(self) -> None:
        script = self._script
        metadata = {
            "domains": ",".join(script.domains),
            "line_of_business": "support",
            "dialogue_id": script.dialogue_id,
        }
        profile = {"segment": script.segment, "customer_id": f"customer-{script.dialogue_id}"}
        self._adapter.begin(script.dialogue_id, script.segment, metadata, profile)
        self._show(script.opening)

    def _show(self, messages: tuple[str, ...]) -> None:
        self._adapter.show(self.case.html(), *messages)


def _is_critical(action: Action) -> bool:
    return action.tool in ALWAYS_CRITICAL or action.tool in ALWAYS_FINALIZING or is_submit(action)
