"""One session at the desk, played against a gateway: a customer who answers, an operator, and the desk between them.

Nobody is asked for what the gateway orders; the operator looks at what it proposes, and works on where it does neither.
How it came out is known by the desk's own books, and told once it is over. Not here: events and orders (adapter.py),
who the customer and the operator are (customer.py, clerk.py).
"""

from collections import Counter
from collections.abc import Mapping
from random import Random

import msgspec

from pilotage_core.actions import ALWAYS_CRITICAL, ALWAYS_FINALIZING, Action, Tool
from pilotage_core.errors import InvalidActionError
from pilotage_core.events import Grade, Outcome, ResolutionJudged, ReviewItem, Verdict
from pilotage_core.gate import Decision
from pilotage_core.lists import Answer
from pilotage_core.wire import Order, ProposalCard, Turn
from pilotage_simulator.adapter import Adapter, Bpm, Judged
from pilotage_simulator.desk.clerk import PEOPLE, Clerk
from pilotage_simulator.desk.customer import Customer, read_goal
from pilotage_simulator.desk.desk import BOOK, CONFIRM, SEARCH, Desk
from pilotage_simulator.desk.effort import find_seconds
from pilotage_simulator.desk.outcome import judge
from pilotage_simulator.desk.play import MOST_ACTIONS, play
from pilotage_simulator.desk.screens import build_page
from pilotage_simulator.desk.services import build_services
from pilotage_simulator.desk.sgd import Act, Dialogue, Schema
from pilotage_simulator.ledger import SessionEnded

HARMLESS = ("say:request", "say:confirm", "say:more", "say:offer", "say:inform", "row:")
"""Controls that cost a turn where they are out of place: the customer says it again."""
BOOKS = "the desk's books"
"""Who says how a session came out: nobody who had a hand in it."""


class DeskSession:
    """One dialogue from its first word to its end, in the shift of `operator`; `changed`: terms are to be told."""

    def __init__(
        self,
        bpm: Bpm,
        session_id: str,
        process_cluster: str,
        dialogue: Dialogue,
        schema: Schema,
        metadata: Mapping[str, str],
        operator: str,
        changed: bool = False,
    ) -> None:
        self._adapter = Adapter(bpm, session_id, process_cluster, operator, is_critical, changed)
        self._dialogue = dialogue
        self._schema = schema
        self._metadata = metadata
        self._desk = Desk(build_services(dialogue, schema), has_terms=changed)
        chance = Random(f"{bpm.seed}:{dialogue.dialogue_id}")
        self._clerk = Clerk(self._desk, PEOPLE, chance)
        self._customer = Customer(*read_goal(dialogue))
        self._heard: list[Act] = []
        self._done: Counter[Tool] = Counter()
        self._unreviewed: list[tuple[str, bool]] = []
        self._has_wheel = False  # the operator did or accepted the last action
        self._waits = False  # the last thing that happened is a message to the customer

    async def play(self) -> SessionEnded:
        """Play it to its end. Raises InvalidEventError where the gateway refuses an event for good."""
        self._adapter.begin(self._dialogue.dialogue_id, "", self._metadata, {})
        self._show()
        self._hear(first=True)
        turn = await self._adapter.open()
        while not self._desk.closed and self._done.total() < MOST_ACTIONS:
            await self._work(turn)
            if not self._desk.closed:
                turn = await self._adapter.post()
        return await self._end()

    # --- the walk: what one answer of the gateway leads to ---
    async def _work(self, turn: Turn | None) -> None:
        if turn is not None and turn.decision == Decision.EXECUTE and turn.order is not None:
            self._execute(turn.order, turn, has_wheel=False)
        elif turn is not None and turn.decision == Decision.PROPOSE and turn.proposal is not None:
            await self._answer(turn.proposal)
        elif self._waits and not self._has_wheel:
            self._hear()
        else:
            self._act()

    async def _answer(self, card: ProposalCard) -> None:
        """The operator looks at a proposal; before one that ends the session, at what ran in it too."""
        if (said := await self._adapter.ask_people(card)) is not None:
            await self._do_as_said(card, said)
            return
        accepted = self._clerk.accepts(card.action)
        if card.action.tool in ALWAYS_FINALIZING:
            self._review(approved=accepted)
        if not accepted:
            self._adapter.reject(card, self._grade(card.action))
            self._act()
            return
        ordered = await self._adapter.accept(card)
        if ordered is not None:
            self._execute(*ordered, has_wheel=True)
        else:
            self._act()

    async def _do_as_said(self, card: ProposalCard, said: Answer) -> None:
        """A person at the console has answered: done as they say; what they leave is the simulated operator's."""
        who = said.operator
        if said.items:
            self._unreviewed = []
            self._adapter.review(said.items, said.verdict is Verdict.ACCEPT, who)
        if said.verdict is Verdict.ACCEPT:
            ordered = await self._adapter.accept(card, who)
            if ordered is not None:
                self._execute(*ordered, has_wheel=True)
                return
        else:
            self._adapter.reject(card, said.grade, who, said.verdict)
        if said.action is None or not self._do_instead(said.action, who):
            self._act()

    def _do_instead(self, action: Action, operator: str) -> bool:
        """Do what a person wants in the place of a proposal. False where the desk cannot."""
        try:
            self._do(action)
        except InvalidActionError:
            return False
        self._adapter.take((action,), find_seconds(action), operator=operator)
        self._has_wheel = True
        self._show()
        return True

    def _execute(self, order: Order, turn: Turn, *, has_wheel: bool) -> None:
        """Put an order before the fence; do it, or refuse it and let the operator go on."""
        accepted = self._clerk.accepts(order.action)
        next_one = self._clerk.list_acceptable()
        strict = accepted and msgspec.structs.replace(order.action, text="") == next(next_one, None)
        if not self._adapter.admit(order, turn, Judged(strict, accepted)):
            self._act()
            return
        if self._adapter.is_unattended(order):
            self._unreviewed.append((order.proposal_id, accepted))
        try:
            self._do(order.action)
        except InvalidActionError as refusal:
            self._adapter.report(order, Outcome.FAILED, str(refusal))
            self._act()
            return
        self._has_wheel = has_wheel
        self._adapter.report(order, Outcome.DONE)
        self._show()

    def _act(self) -> None:
        """The operator goes on; where there is nothing to do the customer does."""
        action = self._clerk.choose()
        if action is None:
            self._hear()
            return
        if action.tool in ALWAYS_FINALIZING:
            self._review(approved=True)
        if action.tool is Tool.SEND_TEXT_TO_CHAT:
            action = msgspec.structs.replace(action, text=self._desk.find_text(action.control_id))
        self._adapter.take((action,), find_seconds(action))
        self._do(action)
        self._has_wheel = True
        self._show()

    def _do(self, action: Action) -> None:
        """Whoever does it. Raises InvalidActionError where the desk will not; then nothing has happened."""
        message = self._desk.act(action)
        self._clerk.see(action)
        self._done[action.tool] += 1
        self._waits = message is not None
        self._heard += message.acts if message is not None else ()

    def _hear(self, *, first: bool = False) -> None:
        """The customer speaks."""
        said = self._customer.begin() if first else self._customer.hear(self._heard)
        self._heard, self._waits, self._has_wheel = [], False, False
        self._clerk.hear(said)
        self._adapter.show(self._adapter.html, said.text)

    def _show(self) -> None:
        """The page as it is now."""
        if not self._desk.closed:
            self._adapter.show(build_page(self._desk))

    def _review(self, *, approved: bool) -> None:
        """What ran unasked, one by one, and whether the session may end now."""
        if not self._unreviewed:
            return
        items = [
            ReviewItem(proposal_id, Verdict.ACCEPT if right else Verdict.REJECT, None if right else Grade.INCORRECT)
            for proposal_id, right in self._unreviewed
        ]
        self._unreviewed = []
        self._adapter.review(items, approved)

    def _grade(self, action: Action) -> Grade:
        """How wrong a proposal is that the operator will not have: what costs a turn alone spoils nothing."""
        if action.tool in ALWAYS_FINALIZING or action.tool is Tool.OPEN_PROCEDURE:
            return Grade.WRONG_ROUTE
        if action.control_id == CONFIRM and self._desk.has_terms:
            return Grade.MISSING_VERIFICATION
        if action.control_id.startswith(HARMLESS):
            return Grade.MINOR_EDITS
        is_early = action.control_id in (SEARCH, BOOK) and next(self._clerk.list_acceptable()).tool is not action.tool
        return Grade.MISSING_VERIFICATION if is_early else Grade.INCORRECT

    async def _end(self) -> SessionEnded:
        self._customer.listen(self._heard)
        spent = self._adapter.tally.spent
        outcome = judge(self._dialogue, self._schema, self._desk, self._customer, self._done, spent)
        await self._adapter.close(outcome.closing, ResolutionJudged(outcome.is_right, BOOKS))
        alone = play(self._dialogue, self._schema, manners=PEOPLE, has_terms=self._desk.has_terms).operator_seconds
        critical = sum(number for tool, number in self._done.items() if tool in ALWAYS_CRITICAL | ALWAYS_FINALIZING)
        return self._adapter.end(outcome.closing, alone, critical, outcome.is_right)


def is_critical(action: Action) -> bool:
    """What the desk answers for, and looks at again: all but a row shown, which says and books nothing."""
    return not (action.tool is Tool.CLICK_CONTROL and action.control_id.startswith("row:"))
