"""One post from start to end: find the session, check, store, decide, answer. The order here is the safety argument.

Nothing is answered before all that a post says is on disk, with what was decided about it or before that; leave to
execute is written in a transaction that looks at suspensions once more. Memory runs ahead of the records only while its
session is locked, and is forgotten where they do not follow.
"""

import logging
import time
from collections.abc import Callable
from functools import partial

import msgspec
from sqlalchemy import Connection

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.events import Event, Outcome
from pilotage_core.gate import Decision, GateFacts, GateVerdict, Reason, decide_accept, decide_gate
from pilotage_core.record import PROPOSED
from pilotage_core.source import ANYONE, Source, session_of
from pilotage_core.wire import BY_PERMIT, Leave, Order, PairRef, PostEvents, ProposalCard, Turn
from pilotage_gateway import asking, writes
from pilotage_gateway.access import namespace_of
from pilotage_gateway.answers import Answers
from pilotage_gateway.checks import check_events, digest_event, split_repeated
from pilotage_gateway.finding import begin_session, find_session
from pilotage_gateway.intake import read_screens
from pilotage_gateway.metrics import Metrics
from pilotage_gateway.models import Models
from pilotage_gateway.orders import build_order
from pilotage_gateway.pending import Pending
from pilotage_gateway.permits import Permits
from pilotage_gateway.posts import AMBIGUOUS, apply_post, count_post, plan_post
from pilotage_gateway.problems import UnknownError
from pilotage_gateway.queries import read_events
from pilotage_gateway.reads import Reads
from pilotage_gateway.rulings import Ruled, Ruling, apply_ruling, write_ruling
from pilotage_gateway.sessions import Intent, LiveSession, LiveSessions
from pilotage_gateway.store import Store
from pilotage_gateway.suspensions import Suspensions
from pilotage_gateway.writes import PostWrite

log = logging.getLogger(__name__)
NOT_ORDERED = "stored; nothing is ordered"
WITHDRAWN = "the order was taken back before it left"
JUST_REJECTED = "an operator has just rejected the value that the policy proposes"
FULL = "more cards wait than people answer: a session that begins now is its operator's alone"
LOOK_WHAT_HAPPENED = "an order has no outcome: look at what happened before going on"


class Turns:
    """Answers posts. Holds the live sessions; everything else is given to it."""

    def __init__(
        self, store: Store, permits: Permits, models: Models, metrics: Metrics, suspended: Suspensions
    ) -> None:
        self.store = store
        self.permits = permits
        self.models = models
        self.metrics = metrics
        self.suspended = suspended
        self.live = LiveSessions()
        self.answers = Answers(store)
        self.reads = Reads(store)
        self.is_full: Callable[[str], bool] = lambda process_cluster: False  # of cards that wait; see Board.count
        self.watchers: list[Callable[[LiveSession], None]] = [self.answers.follow]

    async def answer(self, session_id: str, post: PostEvents, source: Source = ANYONE) -> Turn:
        """The turn that answers a `post` of `source`. Raises PilotageError; then nothing of the post is stored."""
        started = time.perf_counter()
        remaining = self.permits.remaining_ms(boot_seconds())  # leave counts from before anything else was done
        key = source.key(session_id)
        turn = None
        while turn is None:
            session = await self.find(key) or begin_session(self.live, self.permits, key, post, source)
            if session.process_cluster and source.rank(namespace_of(session.process_cluster)) is None:
                raise UnknownError(f"session {session_id} is unknown", where="session_id")  # no more its source's
            async with session.lock:
                if self.live.find(key) is session:  # else a write of it failed while this waited: the records know
                    turn = await self._answer(session, post, remaining)
        self.metrics.decision_seconds.observe(time.perf_counter() - started)
        return turn

    async def _answer(self, session: LiveSession, post: PostEvents, remaining: int) -> Turn:
        repeated, new = split_repeated(session, post.events)
        taken = self._take(session, post, new, repeated, remaining) if new else self._repeat(session, post, remaining)
        turn = session.last_turn = await taken
        self.live.keep(session)
        for watch in self.watchers:
            watch(session)
        return turn

    async def find(self, key: str) -> LiveSession | None:
        """The session with this key in the records; None where there is none."""
        return await find_session(self.live, self.store, self.permits, key)

    # --- storing -----------------------------------------------------------------------------------------------------
    async def _take(
        self, session: LiveSession, post: PostEvents, new: tuple[Event, ...], repeated: int, remaining: int
    ) -> Turn:
        """Store new events, then answer them."""
        leave = self._leave_of(session)
        stored = known = False
        pending: Pending | None = None
        try:
            at = writes.utc_now()
            events = read_screens(new, leave.screens if leave else (), at)
            check_events(session, events, repeated)
            written = plan_post(session, events, at, leave, asking.effective_stage(leave, remaining > 0))
            written.digests = tuple(digest_event(event) for event in new)
            refused = self._refuse_accept(session, leave, written, post)
            known = True
            if written.accepted is not None:
                allowed = await self.store.write(partial(writes.write_post, post=written))
                stored = True
                apply_post(session, written, allowed)
                count_post(session, written, self.metrics, allowed)
                if allowed:
                    return await self._ordered(session, written.accepted, post.nonce)
                return self._turn(session, leave, Decision.OBSERVE, Reason.SUSPENDED, NOT_ORDERED)
            apply_post(session, written)
            pending = Pending(self.store, written, partial(count_post, session, written, self.metrics))
            if session.handed_off == AMBIGUOUS:
                turn = self._turn(session, leave, Decision.HAND_OFF, AMBIGUOUS, LOOK_WHAT_HAPPENED)
            elif refused is not None:
                turn = self._turn(session, leave, Decision.OBSERVE, refused.reason, refused.detail or NOT_ORDERED)
            else:
                turn = await self._decide(session, post, remaining, pending)
            await pending.save()
            stored = True
            return turn
        finally:
            if pending is not None:
                await pending.settle()
            # A write that failed may still be on disk, and a session that was never stored does not exist.
            if not stored and (known or session.state.version == 0):
                self.live.forget(session.session_id)

    def _refuse_accept(
        self, session: LiveSession, leave: Leave | None, written: PostWrite, post: PostEvents
    ) -> GateVerdict | None:
        """Where an accept may not be ordered: take its order out of what is written, and say why.

        Raises InvalidInputError where there is no nonce that an order could answer.
        """
        intent = written.accepted
        if intent is None:
            return None
        if not post.nonce:
            raise InvalidInputError("an accept asks for an order", where="nonce", remedy="send a fresh nonce with it")
        verdict = self._judge(session, leave, intent, 0)
        if verdict.decision is Decision.EXECUTE:
            return None
        written.accepted = None
        return verdict

    async def _repeat(self, session: LiveSession, post: PostEvents, remaining: int) -> Turn:
        """Answer a post whose events are all stored: the same answer, the same order if it may still run."""
        leave = self._leave_of(session)
        intent = session.open_intent()
        last = session.last_turn
        if intent is None:
            if last is not None and last.sequence == session.state.version and last.order is None:
                return last
            return await self._decide(session, post, remaining)
        if last is not None and last.order is not None and post.nonce:
            look = partial(writes.is_suspended, process_cluster=session.process_cluster)
            stopped = await self.store.write(
                look
            )  # by the connection that writes: who has lost the records repeats nothing
            verdict = self._judge(session, leave, intent, self.permits.remaining_of(leave), stopped=stopped)
            if verdict.decision is Decision.EXECUTE:
                return msgspec.structs.replace(last, order=self._order(session, intent, post.nonce))
        await self._note_ambiguous(session, intent)
        return self._turn(session, leave, Decision.HAND_OFF, AMBIGUOUS, LOOK_WHAT_HAPPENED)

    def _judge(
        self, session: LiveSession, leave: Leave | None, intent: Intent, remaining: int, *, stopped: bool = False
    ) -> GateVerdict:
        """Whether `intent` may be ordered by what holds now: judged anew, as if its proposal had just been made."""
        if leave is None:
            return GateVerdict(Decision.OBSERVE, Reason.STAGE_LOGGING, "the process cluster is gone")
        proposal = session.proposals[intent.proposal_id]
        fresh = remaining > 0 and intent.epoch == self.permits.highest_epoch
        suspended = stopped or self._is_suspended(leave)
        facts = asking.gather_facts(
            leave, session, asking.recall(leave, proposal), permit_fresh=fresh, suspended=suspended
        )
        return decide_gate(facts) if intent.authorised_by == BY_PERMIT else decide_accept(facts)

    async def _note_ambiguous(self, session: LiveSession, intent: Intent) -> None:
        at = writes.utc_now()

        def job(connection: Connection) -> None:
            writes.write_outcome(connection, intent.proposal_id, Outcome.AMBIGUOUS, "", at)
            writes.write_handed_off(connection, session.session_id, AMBIGUOUS)

        await self.store.write(job)
        intent.outcome, session.handed_off = Outcome.AMBIGUOUS, AMBIGUOUS
        self.metrics.count("outcomes", process_cluster=session.process_cluster, outcome=Outcome.AMBIGUOUS.value)

    async def _send(self, session: LiveSession, intent: Intent, nonce: str) -> tuple[Order | None, GateVerdict]:
        """The order of an intent that has just been stored, if its leave outlived the writing of it.

        One that lost its leave is taken back, and the records say so; where they cannot, its outcome stays unknown and
        an operator will look, although nothing left.
        """
        stopped = False
        if self.store.is_shared:  # memory hears of a stop that another gateway wrote up to a second later
            stopped = await self.store.write(partial(writes.is_suspended, process_cluster=session.process_cluster))
        leave = self._leave_of(session)
        verdict = self._judge(session, leave, intent, self.permits.remaining_of(leave), stopped=stopped)
        if verdict.decision is Decision.EXECUTE:
            return self._order(session, intent, nonce), verdict
        at, why = writes.utc_now(), f"{verdict.reason}: {verdict.detail}" if verdict.detail else verdict.reason.value
        write = partial(
            writes.write_outcome, proposal_id=intent.proposal_id, outcome=Outcome.WITHDRAWN, error=why, at=at
        )
        stored = False
        try:
            await self.store.write(write)
            stored = True
        finally:
            if not stored:
                self.live.forget(session.session_id)
        intent.outcome = Outcome.WITHDRAWN
        self.metrics.count("outcomes", process_cluster=session.process_cluster, outcome=Outcome.WITHDRAWN.value)
        return None, verdict

    def _leave_of(self, session: LiveSession) -> Leave | None:
        """What its process cluster may do in this very session."""
        return asking.hold_in_calibration(self.permits.leave_of(session.process_cluster), session.session_id)

    def _is_suspended(self, leave: Leave) -> bool:
        return leave.suspended or self.suspended.holds(leave.key)

    # --- deciding ----------------------------------------------------------------------------------------------------
    async def _decide(
        self, session: LiveSession, post: PostEvents, remaining: int, pending: Pending | None = None
    ) -> Turn:
        """Answer the state as memory has it; what is decided is stored with the post that is `pending`."""
        leave = self._leave_of(session)
        if leave is None:
            return self._turn(
                session, leave, Decision.OBSERVE, Reason.STAGE_LOGGING, "no process cluster in the snapshot"
            )
        facts = GateFacts(
            stage=leave.stage,
            state_version=session.state.version,
            action=None,
            action_class=asking.NO_CLASS,
            suspended=self._is_suspended(leave),
            handed_off=bool(session.handed_off),
            state_fault=session.state.screen.fault,
        )
        verdict = decide_gate(facts)
        if verdict.reason is not Reason.NOTHING_PROPOSED:
            return await self._hand_off_or_observe(session, leave, facts, verdict, pending)
        why_not, card = asking.why_not_ask(session, leave, post)
        if card is not None:
            return self._turn(session, leave, Decision.PROPOSE, PROPOSED, proposal=card)
        if not why_not and not session.proposals and self.is_full(leave.key):
            why_not = FULL
        if why_not or leave.pair is None:
            return self._turn(session, leave, Decision.OBSERVE, Reason.NOTHING_PROPOSED, why_not)
        session.asked_version = session.state.version
        asked = await self._ask(session, leave, leave.pair, pending)
        if asked.action is not None and asked.action.digest in session.rejected:
            asked = asking.Asked(asked.pair, None, detail=JUST_REJECTED)
        return await self._gate(session, asked, post.nonce, remaining, pending)

    async def _ask(
        self, session: LiveSession, leave: Leave, pair: PairRef, pending: Pending | None = None
    ) -> asking.Asked:
        """What the pair makes of the session, which it reads in its own format.

        A session that was written for another pair is written anew from the records, once; where they do not answer,
        nothing is proposed.
        """
        if session.walk.dialog.form != pair.dialog:
            if pending is not None:
                await pending.save()
            try:
                events = await self.store.read(partial(read_events, session_id=session.session_id))
                session.rewrite_dialog(pair.dialog, events)
            except UnavailableError as error:
                log.warning("no proposal: %s", error)
                return asking.Asked(pair, None, detail=f"the session cannot be written for this pair: {error.what}")
        return await asking.ask_models(self.models, self.metrics, session, leave, pair)

    async def _hand_off_or_observe(
        self, session: LiveSession, leave: Leave, facts: GateFacts, verdict: GateVerdict, pending: Pending | None
    ) -> Turn:
        if verdict.decision is Decision.HAND_OFF:
            asked = asking.Asked(leave.pair or PairRef(""), None)
            await self._rule(session, leave, asked, facts, verdict, pending)
        return self._turn(session, leave, verdict.decision, verdict.reason, verdict.detail or session.handed_off)

    async def _gate(
        self, session: LiveSession, asked: asking.Asked, nonce: str, remaining: int, pending: Pending | None
    ) -> Turn:
        """Gate what the models said by what holds now: the snapshot may have changed while they were asked."""
        leave = self._leave_of(session)
        if leave is None:
            return self._turn(session, leave, Decision.OBSERVE, Reason.STAGE_LOGGING, "the process cluster is gone")
        remaining = min(remaining, self.permits.remaining_of(leave))
        facts = asking.gather_facts(
            leave, session, asked, permit_fresh=remaining > 0, suspended=self._is_suspended(leave)
        )
        facts, verdict, look = asking.decide_with_audit(facts, leave)
        if facts.action is None and verdict.reason is Reason.NOTHING_PROPOSED:
            return self._turn(session, leave, verdict.decision, verdict.reason, asked.detail)
        ruled = await self._rule(session, leave, asked, facts, verdict, pending, remaining, look)
        verdict, proposal = ruled.verdict, ruled.proposal
        if proposal is not None and verdict.decision is Decision.PROPOSE:
            card = ProposalCard(proposal.proposal_id, proposal.action)
            return self._turn(session, leave, Decision.PROPOSE, PROPOSED, proposal=card)
        if ruled.intent is None:
            return self._turn(session, leave, verdict.decision, verdict.reason, verdict.detail)
        return await self._ordered(session, ruled.intent, nonce)

    async def _rule(
        self,
        session: LiveSession,
        leave: Leave,
        asked: asking.Asked,
        facts: GateFacts,
        verdict: GateVerdict,
        pending: Pending | None,
        remaining: int = 0,
        look: asking.Look = asking.NO_DRAW,
    ) -> Ruled:
        """Store what the gate said, then take it into memory."""
        ruling = Ruling(
            session=session,
            leave=leave,
            stage=asking.effective_stage(leave, facts.permit_fresh),
            asked=asked,
            facts=facts,
            verdict=verdict,
            at=writes.utc_now(),
            snapshot_digest=self.permits.snapshot_digest,
            epoch=self.permits.highest_epoch,
            remaining_ms=remaining,
            look=look,
        )
        stored = False
        try:
            write = partial(write_ruling, ruling=ruling)
            ruled = await (self.store.write(write) if pending is None else pending.save_with(write))
            stored = True
        finally:
            if not stored:  # the records know better than memory whether this decision exists
                self.live.forget(session.session_id)
        apply_ruling(ruling, ruled, self.metrics)
        return ruled

    # --- answering ---------------------------------------------------------------------------------------------------
    async def _ordered(self, session: LiveSession, intent: Intent, nonce: str) -> Turn:
        """The answer that carries an order, or says why it was taken back."""
        order, verdict = await self._send(session, intent, nonce)
        leave = self._leave_of(session)
        if order is None:
            detail = f"{WITHDRAWN}: {verdict.detail}" if verdict.detail else WITHDRAWN
            return self._turn(session, leave, Decision.OBSERVE, verdict.reason, detail)
        return self._turn(session, leave, verdict.decision, verdict.reason, verdict.detail, order=order)

    def _order(self, session: LiveSession, intent: Intent, nonce: str) -> Order:
        leave = self._leave_of(session)
        return build_order(session.proposals[intent.proposal_id], intent, nonce, self.permits.remaining_of(leave))

    def _turn(
        self,
        session: LiveSession,
        leave: Leave | None,
        decision: str,
        reason: str,
        detail: str = "",
        proposal: ProposalCard | None = None,
        order: Order | None = None,
    ) -> Turn:
        return Turn(
            session_id=session_of(session.session_id),
            process_cluster=session.process_cluster,
            sequence=session.state.version,
            stage=asking.effective_stage(leave, self.permits.remaining_of(leave) > 0),
            decision=str(decision),
            reason=str(reason),
            detail=detail,
            proposal=proposal,
            order=order,
            executed=session.executed_unattended(),
        )
