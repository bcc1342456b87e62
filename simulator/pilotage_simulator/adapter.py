"""The adapter between one session of a BPM and its gateway: events out, orders in, the fence, the BPM's own record.

The same for every world that is played. Not here: what is done in a session, and by whom (bpm.py, desk/session.py),
order and retries of events (outbox.py), HTTP (client.py).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from pilotage_core.actions import Action
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    FeedbackGiven,
    Grade,
    Happening,
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
from pilotage_core.lists import Answer
from pilotage_core.permit import FenceFacts, FenceFault, find_fence_fault
from pilotage_core.wire import BY_PERMIT, Order, ProposalCard, Turn
from pilotage_simulator.client import Gateway
from pilotage_simulator.ledger import Ledger, OrderReceived, SessionBegun, SessionEnded
from pilotage_simulator.outbox import Outbox
from pilotage_simulator.people import Nobody, People

LOOK_SECONDS = 2.0
ACCEPT_SECONDS = 1.0
ACCEPT_LATER_PROBABILITY = 0.7
PATIENCE_POSTS = 30


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="microseconds")


@dataclass
class Bpm:
    """What all sessions share: the gateway, the record, the fence's memory, and the operators' costs (assumptions)."""

    gateway: Gateway
    ledger: Ledger
    seed: int = 7
    accept_later_probability: float = ACCEPT_LATER_PROBABILITY
    look_seconds: float = LOOK_SECONDS
    accept_seconds: float = ACCEPT_SECONDS
    used_keys: set[str] = field(default_factory=set)
    highest_epoch: int = 0
    people: People = field(default_factory=Nobody)
    now: Callable[[], str] = _now
    monotonic: Callable[[], float] = time.monotonic
    on_stage: Callable[[Turn], None] = lambda turn: None


@dataclass
class Tally:
    """What a session cost its operator (seconds, as assumed) and what happened in it."""

    spent: float = 0.0
    looks: int = 0
    accepts: int = 0
    acts: int = 0
    reviews: int = 0
    corrections: int = 0
    executed_critical: int = 0


class Judged(NamedTuple):
    """What an action is worth here: the operator's own next one, or one that is right as well."""

    strict: bool
    graded: bool


class Adapter:
    """One session's way to its gateway. `changed`: it is played by the rules of the changed process."""

    def __init__(
        self,
        bpm: Bpm,
        session_id: str,
        process_cluster: str,
        operator: str,
        is_critical: Callable[[Action], bool],
        changed: bool = False,
    ) -> None:
        self.session_id = session_id
        self.bpm = bpm
        self.tally = Tally()
        self.outbox = Outbox(bpm.gateway, session_id, bpm.now, bpm.monotonic)
        self._process_cluster = process_cluster
        self._operator = operator
        self._is_critical = is_critical
        self._changed = changed
        self.html = ""

    # --- a session's beginning and end ---
    def begin(self, dialogue_id: str, segment: str, metadata: Mapping[str, str], profile: Mapping[str, str]) -> None:
        """Write down that it is played, and open it."""
        begun = SessionBegun(
            self.bpm.now(), self.session_id, dialogue_id, self._process_cluster, segment, self._changed
        )
        self.bpm.ledger.write(begun)
        self.add(SessionOpened(dict(metadata), dict(profile)))

    async def open(self) -> Turn | None:
        """The first answer. Nothing has begun for anyone yet: a new case can wait for a gateway."""
        turn = await self.post()
        for _ in range(PATIENCE_POSTS):
            if turn is not None:
                break
            turn = await self.post()
        return turn

    async def close(self, closing: Closing, *after: Happening) -> None:
        """Close it, and hand over everything; `after` is known once it is over."""
        self.add(SessionClosed(closing))
        for happening in after:
            self.add(happening)
        self.bpm.people.leave(self.session_id)
        while not self.outbox.is_empty:
            await self.outbox.post(wants_decision=False)

    def end(
        self, closing: Closing, seconds_without: float, critical_actions: int, right: bool | None = None
    ) -> SessionEnded:
        """Write down how it came out: `right` where an outcome is known."""
        tally = self.tally
        ended = SessionEnded(
            at=self.bpm.now(),
            session_id=self.session_id,
            process_cluster=self._process_cluster,
            closing=closing,
            seconds_without=seconds_without,
            seconds_spent=tally.spent,
            looks=tally.looks,
            accepts=tally.accepts,
            acts=tally.acts,
            reviews=tally.reviews,
            corrections=tally.corrections,
            posts=self.outbox.posts,
            unassisted=self.outbox.unanswered,
            critical_actions=critical_actions,
            executed_critical=tally.executed_critical,
            changed=self._changed,
            right=right,
        )
        self.bpm.ledger.write(ended)
        return ended

    # --- what happens ---
    def add(self, happening: Happening) -> None:
        """It happened."""
        self.outbox.add(happening)

    def show(self, html: str, *messages: str) -> None:
        """The screen, if it changed, and what the customer says."""
        if html != self.html:
            self.html = html
            self.add(ScreenShown(html))
        for text in messages:
            self.add(MessagePosted(Author.CUSTOMER, text))

    def take(self, actions: tuple[Action, ...], seconds: float, corrects: str = "", operator: str = "") -> None:
        """The operator acts."""
        self.spend(seconds)
        self.tally.acts += 1
        self.add(ActionTaken(actions, operator or self._operator, seconds, corrects))

    def spend(self, seconds: float) -> None:
        """The operator's time."""
        self.tally.spent += seconds

    async def post(self) -> Turn | None:
        """Hand over what happened; the gateway's answer, if one can be had."""
        turn = await self.outbox.post()
        if turn is not None:
            self.bpm.on_stage(turn)
        return turn

    # --- an operator's word ---
    async def ask_people(self, card: ProposalCard) -> Answer | None:
        """What a person at the console says of it; None where nobody does."""
        return await self.bpm.people.ask(self.session_id, card)

    def reject(
        self, card: ProposalCard, grade: Grade | None, operator: str = "", verdict: Verdict = Verdict.REJECT
    ) -> None:
        """The operator looked, and will not have it as it is."""
        self.tally.looks += 1
        seconds = self.bpm.look_seconds
        self.spend(seconds)
        self.add(FeedbackGiven(card.proposal_id, verdict, operator or self._operator, grade, seconds))

    async def accept(self, card: ProposalCard, operator: str = "") -> tuple[Order, Turn] | None:
        """The operator looked, and will: the order to do it, if one comes."""
        self.tally.looks += 1
        self.tally.accepts += 1
        seconds = self.bpm.look_seconds + self.bpm.accept_seconds
        self.spend(seconds)
        self.add(FeedbackGiven(card.proposal_id, Verdict.ACCEPT, operator or self._operator, None, seconds))
        turn = await self.post()
        if turn is not None and turn.order is not None and turn.order.proposal_id == card.proposal_id:
            return turn.order, turn
        return None

    def review(self, items: Sequence[ReviewItem], approved: bool, operator: str = "") -> None:
        """The operator looks at what ran unasked, before the session ends."""
        seconds = self.bpm.look_seconds * len(items)
        self.tally.reviews += 1
        self.spend(seconds)
        self.add(SessionReviewed(operator or self._operator, approved, tuple(items), seconds))

    # --- orders ---
    def admit(self, order: Order, turn: Turn, judged: Judged) -> bool:
        """Put an order before the fence. What it refuses is reported, and nothing happens."""
        fault = self._check_fence(order, turn, judged)
        if fault is not None:
            self.report(order, Outcome.REFUSED, f"refused by the BPM's fence: {fault}")
        elif self.is_unattended(order):
            self.tally.executed_critical += 1
        return fault is None

    def is_unattended(self, order: Order) -> bool:
        """Whether nobody was asked about an action that somebody has to answer for."""
        return order.authorised_by == BY_PERMIT and self._is_critical(order.action)

    def report(self, order: Order, outcome: Outcome, error: str = "") -> None:
        """What became of an order."""
        self.add(OutcomeReported(order.proposal_id, order.idempotency_key, outcome, error))

    def _check_fence(self, order: Order, turn: Turn, judged: Judged) -> FenceFault | None:
        bpm, outbox = self.bpm, self.outbox
        elapsed_ms = (bpm.monotonic() - outbox.nonce_made) * 1000.0
        by_permit = order.authorised_by == BY_PERMIT
        fault = find_fence_fault(
            FenceFacts(outbox.nonce, elapsed_ms, outbox.sequence, bpm.used_keys, bpm.highest_epoch),
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
        self._write_order(order, turn, judged, fault, elapsed_ms)
        return fault

    def _write_order(
        self, order: Order, turn: Turn, judged: Judged, fault: FenceFault | None, elapsed_ms: float
    ) -> None:
        self.bpm.ledger.write(
            OrderReceived(
                at=self.bpm.now(),
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
                state_version=self.outbox.sequence,
                fence=fault or "",
                executed=fault is None,
                critical=self._is_critical(order.action),
                stage=turn.stage,
                strict=judged.strict,
                graded=judged.graded,
                changed=self._changed,
            )
        )
