"""One session of the BPM, played against a gateway: the customer, the operator, and the adapter between the two.

Here: what is posted when, and what becomes of the gateway's answer. Not here: what is right (judge.py), whether an
order may run (core's fence, permit.py), HTTP (client.py). Whatever fails, the session goes on: where no
decision can be had the operator works unassisted, and the events wait in order (outbox.py).
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pilotage_core.actions import ALWAYS_CRITICAL, ALWAYS_FINALIZING, Action, Tool
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    FeedbackGiven,
    Grade,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ReviewItem,
    ScreenShown,
    SessionClosed,
    SessionOpened,
    SessionReviewed,
    Verdict,
)
from pilotage_core.gate import Decision
from pilotage_core.permit import FenceFacts, FenceFault, find_fence_fault
from pilotage_core.wire import BY_PERMIT, Order, ProposalCard, Turn
from pilotage_simulator.case import Case
from pilotage_simulator.client import Gateway
from pilotage_simulator.dialogue import CLICK_SECONDS, Script, StepKind
from pilotage_simulator.judge import Judgement, decide_grade, is_submit, judge_action
from pilotage_simulator.ledger import Ledger, OrderReceived, SessionBegun, SessionEnded
from pilotage_simulator.outbox import Outbox
from pilotage_simulator.screens import Renderer
from pilotage_simulator.star import Procedure

LOOK_SECONDS = 2.0
ACCEPT_SECONDS = 1.0
ACCEPT_LATER_PROBABILITY = 0.7
PATIENCE_POSTS = 30
EXECUTED_WRONGLY = "The last action was made in error; an operator has to put it right."


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="microseconds")


@dataclass
class Bpm:
    """What all sessions share: the gateway, the record, the fence's memory, and the operators' costs (assumptions)."""

    gateway: Gateway
    ledger: Ledger
    procedures: Mapping[str, Procedure]
    seed: int = 7
    accept_later_probability: float = ACCEPT_LATER_PROBABILITY
    look_seconds: float = LOOK_SECONDS
    accept_seconds: float = ACCEPT_SECONDS
    used_keys: set[str] = field(default_factory=set)
    highest_epoch: int = 0
    now: Callable[[], str] = _now
    monotonic: Callable[[], float] = time.monotonic
    on_stage: Callable[[Turn], None] = lambda turn: None

    def __post_init__(self) -> None:
        self.renderer = Renderer(self.procedures)


@dataclass
class _Tally:
    """What a session cost and what happened in it."""

    spent: float = 0.0
    looks: int = 0
    accepts: int = 0
    reviews: int = 0
    corrections: int = 0
    executed_critical: int = 0


class Session:
    """One case from opening to closing. `changed`: by the rules of the changed process (`script` is altered)."""

    def __init__(self, bpm: Bpm, session_id: str, process_cluster: str, script: Script, changed: bool = False) -> None:
        self.session_id = session_id
        self.case = Case(script, bpm.renderer)
        self._bpm = bpm
        self._script = script
        self._process_cluster = process_cluster
        self._changed = changed
        self._outbox = Outbox(bpm.gateway, session_id, bpm.now, bpm.monotonic)
        self._html = ""
        self._draws = 0
        self._unreviewed: list[tuple[str, Judgement]] = []
        self._tally = _Tally()

    async def play(self) -> SessionEnded:
        """Play the whole session. Raises InvalidEventError where the gateway refuses an event for good."""
        self._begin()
        turn = await self._ask()
        for _ in range(PATIENCE_POSTS):  # nothing has begun for anyone yet: a new case can wait for a gateway
            if turn is not None:
                break
            turn = await self._post()
        while not self.case.closed:
            await self._work(turn)
            if not self.case.closed:
                turn = await self._ask()
        closing = self._script.steps[-1].actions[0].tool
        ended = Closing.TRANSFERRED if closing is Tool.TRANSFER_CHAT else Closing.CLOSED
        self._outbox.add(SessionClosed(ended))
        while not self._outbox.is_empty:
            await self._outbox.post(wants_decision=False)
        return self._end(ended)

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
        self._tally.looks += 1
        seconds = self._bpm.look_seconds
        if not self._is_accepted(judgement):
            grade = decide_grade(self.case, card.action, judgement)
            self._spend(seconds)
            self._outbox.add(FeedbackGiven(card.proposal_id, Verdict.REJECT, self._script.operator, grade, seconds))
            self._operator_acts()
            return
        self._tally.accepts += 1
        seconds += self._bpm.accept_seconds
        self._spend(seconds)
        self._outbox.add(FeedbackGiven(card.proposal_id, Verdict.ACCEPT, self._script.operator, None, seconds))
        turn = await self._post()
        if turn is not None and turn.order is not None and turn.order.proposal_id == card.proposal_id:
            self._execute(turn.order, turn)
        else:
            self._operator_acts()

    def _execute(self, order: Order, turn: Turn) -> None:
        """Put an order before the fence; run it, or refuse it and let the operator go on."""
        judgement = judge_action(self.case, order.action)
        fault = self._check_fence(order, turn, judgement)
        if fault is not None:
            self._report(order, Outcome.REFUSED, f"refused by the BPM's fence: {fault}")
            self._operator_acts()
            return
        if order.authorised_by == BY_PERMIT and _is_critical(order.action):
            self._unreviewed.append((order.proposal_id, judgement))
            self._tally.executed_critical += 1
        index = judgement.step if judgement.step is not None else judgement.answer
        step = self.case.tick(index) if index is not None else None
        self.case.apply(order.action, step if judgement.graded else None)
        self._report(order, Outcome.DONE)
        if step is not None:
            self._show(step.replies)
            return
        self.case.error = EXECUTED_WRONGLY
        self._show(())
        self._tally.corrections += 1
        self._operator_acts(corrects=order.proposal_id)

    def _operator_acts(self, corrects: str = "") -> None:
        """The operator does the wizard's next step, opening its procedure first where another one is open."""
        index, step = self.case.next_step()
        away = step.procedure != self.case.procedure and step.procedure in self._bpm.procedures
        if away and step.kind is not StepKind.OPEN:
            opening = Action(Tool.OPEN_PROCEDURE, control_id=f"procedure:{step.procedure}")
            self._take((opening,), CLICK_SECONDS, corrects)
            self.case.apply(opening, None)
            self._show(())
            corrects = ""
        if step.kind is StepKind.CLOSE:
            self._review()
        self._take(step.actions, step.active_seconds, corrects)
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
        seconds = self._bpm.look_seconds * len(items)
        self._unreviewed = []
        self._tally.reviews += 1
        self._spend(seconds)
        self._outbox.add(SessionReviewed(self._script.operator, approved, tuple(items), seconds))

    # --- decisions of the BPM's own ---

    def _is_accepted(self, judgement: Judgement) -> bool:
        if judgement.strict or not judgement.graded:
            return judgement.strict
        self._draws += 1
        draw = random.Random(f"{self._bpm.seed}:{self._script.dialogue_id}:{self._draws}").random()
        return draw < self._bpm.accept_later_probability

    def _check_fence(self, order: Order, turn: Turn, judgement: Judgement) -> FenceFault | None:
        bpm = self._bpm
        elapsed_ms = (bpm.monotonic() - self._outbox.nonce_made) * 1000.0
        by_permit = order.authorised_by == BY_PERMIT
        fault = find_fence_fault(
            FenceFacts(self._outbox.nonce, elapsed_ms, self._outbox.sequence, bpm.used_keys, bpm.highest_epoch),
            nonce=order.nonce,
            state_version=order.state_version,
            idempotency_key=order.idempotency_key,
            remaining_ms=order.remaining_ms,
            epoch=order.epoch,
            by_permit=by_permit,
            action=order.action.digest,
            digest=order.digest,
        )
        if by_permit:
            bpm.highest_epoch = max(bpm.highest_epoch, order.epoch)
        if fault is None:
            bpm.used_keys.add(order.idempotency_key)
        self._write_order(order, turn, judgement, fault, elapsed_ms)
        return fault

    def _write_order(
        self, order: Order, turn: Turn, judgement: Judgement, fault: FenceFault | None, elapsed_ms: float
    ) -> None:
        self._bpm.ledger.write(
            OrderReceived(
                at=self._bpm.now(),
                session_id=self.session_id,
                process_cluster=turn.process_cluster,
                proposal_id=order.proposal_id,
                idempotency_key=order.idempotency_key,
                action=order.action,
                authorised_by=order.authorised_by,
                epoch=order.epoch,
                remaining_ms=order.remaining_ms,
                elapsed_ms=elapsed_ms,
                ordered_version=order.state_version,
                state_version=self._outbox.sequence,
                fence=fault or "",
                executed=fault is None,
                critical=_is_critical(order.action),
                stage=turn.stage,
                strict=judgement.strict,
                graded=judgement.graded,
                changed=self._changed,
            )
        )

    # --- events ---

    def _begin(self) -> None:
        script = self._script
        self._bpm.ledger.write(
            SessionBegun(
                self._bpm.now(),
                self.session_id,
                script.dialogue_id,
                self._process_cluster,
                script.segment,
                self._changed,
            )
        )
        metadata = {
            "domains": ",".join(script.domains),
            "line_of_business": "support",
            "dialogue_id": script.dialogue_id,
        }
        profile = {"segment": script.segment, "customer_id": f"customer-{script.dialogue_id}"}
        self._outbox.add(SessionOpened(metadata, profile))
        self._show(script.opening)

    def _end(self, closing: Closing) -> SessionEnded:
        steps = self._script.steps
        ended = SessionEnded(
            at=self._bpm.now(),
            session_id=self.session_id,
            process_cluster=self._process_cluster,
            closing=closing,
            seconds_without=self._script.active_seconds,
            seconds_spent=self._tally.spent,
            looks=self._tally.looks,
            accepts=self._tally.accepts,
            reviews=self._tally.reviews,
            corrections=self._tally.corrections,
            posts=self._outbox.posts,
            unassisted=self._outbox.unanswered,
            critical_actions=sum(_is_critical(step.actions[0]) for step in steps),
            executed_critical=self._tally.executed_critical,
            changed=self._changed,
        )
        self._bpm.ledger.write(ended)
        return ended

    def _take(self, actions: tuple[Action, ...], seconds: float, corrects: str) -> None:
        self._spend(seconds)
        self._outbox.add(ActionTaken(actions, self._script.operator, seconds, corrects))

    def _report(self, order: Order, outcome: Outcome, error: str = "") -> None:
        self._outbox.add(OutcomeReported(order.proposal_id, order.idempotency_key, outcome, error))

    def _show(self, messages: tuple[str, ...]) -> None:
        """The screen, if it changed, and what the customer says."""
        html = self.case.html()
        if html != self._html:
            self._html = html
            self._outbox.add(ScreenShown(html))
        for text in messages:
            self._outbox.add(MessagePosted(Author.CUSTOMER, text))

    def _spend(self, seconds: float) -> None:
        self._tally.spent += seconds

    # --- posting ---

    async def _ask(self) -> Turn | None:
        self._settle()
        return await self._post()

    async def _post(self) -> Turn | None:
        turn = await self._outbox.post()
        if turn is not None:
            self._bpm.on_stage(turn)
        return turn


def _is_critical(action: Action) -> bool:
    return action.tool in ALWAYS_CRITICAL or action.tool in ALWAYS_FINALIZING or is_submit(action)
