"""The second search for an unsafe execution: over the whole way, from the bytes that come in to what the BPM did.

A Hypothesis state machine plays a hostile page, customer, operator, model, controller and clock against the real
gateway (its records on disk, its permits verified); the BPM behind its fence writes down what it executed. What must
hold of each execution is written anew here, from what this machine itself showed, said, signed and published: nothing
is asked of the gateway. `FOUND` collects instead of failing, to see what a version of the code would let through.
"""

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from search.judging import SEEN, TAU, Judging
from search.scene import (
    GOOD,
    MESSAGES,
    RULES,
    SCHEMAS,
    Executed,
    FakeModels,
    Score,
    Truth,
    changes,
    interference,
    messages,
    scores,
    seconds,
    situations,
)
from stubs.gateway import build_certificate, build_parts

from pilotage_core.actions import Action, Tool
from pilotage_core.errors import PilotageError, UnavailableError
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    OutcomeReported,
    SessionClosed,
    SessionOpened,
    SessionReviewed,
    Verdict,
)
from pilotage_core.permit import FenceFacts, Permit, find_fence_fault, signing_input
from pilotage_core.snapshot import Snapshot
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave, PairRef, PermitReply, PostEvents, SignedPermit, Turn
from pilotage_gateway import app as app_module
from pilotage_gateway import permits as permits_module
from pilotage_gateway import turns as turns_module
from pilotage_gateway import writes
from pilotage_gateway.intake import decode_post

KEY = "star/bookings"
TTL_SECONDS = 10.0
LEASE = 7.0


class WholeWay(Judging, RuleBasedStateMachine):
    """See the module."""

    TEMPLATE_DATABASE: Path | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="whole-way-"))
        self.clock = 1000.0
        self.reply, self.score = '{"tool":""}', None
        self.planned: Any = None
        self.prompts: list[str] = []
        self.scores: list[Score] = []
        self.executed: list[Executed] = []
        self.keys: set[str] = set()
        self.highest_epoch = 0
        self.epoch = 1
        self.numbers = 0
        self.stopped = False
        self.settings: dict[str, Any] = {"stage": Stage.AUTOMATION}
        self.key = Ed25519PrivateKey.generate()
        (self.folder / "keys").mkdir()
        (self.folder / "keys" / "k1.pub").write_bytes(self.key.public_key().public_bytes_raw())
        self.truth = Truth("none", closed=True)
        self.held: dict[str, Any] = dict(self.settings)
        self.leave_until = -1.0
        self._patch()
        self._start()

    # --- the world ---
    def _patch(self) -> None:
        clock = SimpleNamespace(time=lambda: self.clock, clock_gettime=lambda _: self.clock, CLOCK_BOOTTIME=7)
        self._kept = (permits_module.time, turns_module.boot_seconds, app_module.Models, permits_module.Permits.run)
        permits_module.time = clock
        permits_module.boot_seconds = turns_module.boot_seconds = lambda: self.clock
        app_module.Models = lambda: FakeModels(self)
        permits_module.Permits.run = lambda _: asyncio.sleep(3600)  # `deliver` is the poll

    def _start(self) -> None:
        database = self.folder / "gateway.db"
        if not database.exists() and type(self).TEMPLATE_DATABASE is not None:
            shutil.copy(type(self).TEMPLATE_DATABASE, database)
        self.stack = AsyncExitStack()
        store = app_module.Store(f"sqlite:///{database}")
        opening = app_module.open_turns(store, "http://127.0.0.1:9", self.folder / "keys")
        self.turns = self.run(self.stack.enter_async_context(opening))
        write = self.turns.store.write

        async def written(job: Any) -> Any:
            done = await write(job)
            await self.interfere("written", repr(job))
            return done

        self.turns.store.write = written
        self.leave_until = -1.0
        if type(self).TEMPLATE_DATABASE is None:
            kept = Path(tempfile.mkdtemp(prefix="whole-way-template-")) / "gateway.db"
            self.run(self.stack.aclose())
            shutil.copy(database, kept)
            type(self).TEMPLATE_DATABASE = kept
            self._start()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        permits_module.time, turns_module.boot_seconds, app_module.Models, permits_module.Permits.run = self._kept
        permits_module.boot_seconds = turns_module.boot_seconds
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- the controller ---
    def snapshot(self) -> Snapshot:
        s, strata = self.settings, ("procedure", "message", "finalizing")
        pair = PairRef(s.get("pair", "r1"), "p1", "c1", "http://127.0.0.1:9", "http://127.0.0.1:9")
        tau = s.get("tau", TAU)
        certificates = {} if tau is None else {each: build_certificate(tau, stratum=each) for each in strata}
        return Snapshot(
            (
                Leave(
                    name="bookings", namespace="star", stage=s.get("stage", Stage.AUTOMATION), pair=pair,
                    certificates=certificates, rules=RULES, finalizing_by_human=s.get("finalizing_by_human", True),
                    audit_share=s.get("audit_share", 0.0), review_share=s.get("review_share", 0.0),
                    suspended=s.get("suspended", False), screens=SCHEMAS,
                ),
            )
        )  # fmt: skip

    async def deliver(self) -> None:
        """A poll of the gateway that is answered with the snapshot as it is now."""
        snapshot = self.snapshot()
        self.numbers += 1
        nonce = f"poll-{self.numbers}"
        permit = Permit("test/pilotage-system", self.epoch, nonce, int(TTL_SECONDS * 1000), snapshot.digest)
        signed = SignedPermit(msgspec.json.encode(permit), self.key.sign(signing_input(permit)), "k1")
        await self.turns.permits.take(PermitReply(signed, build_parts(snapshot)), nonce, self.clock, self.clock)
        self.held, self.leave_until = dict(self.settings), self.clock + TTL_SECONDS

    async def interfere(self, place: str, job: str = "") -> None:
        if self.planned is None or self.planned[0] != place:
            return
        if place == "written" and not any(w in job for w in ("write_ruling", "write_post")):
            return
        _, what, change, length = self.planned
        self.planned = None
        match what:
            case "advance":
                self.clock += length
            case "stop":
                await self.suspend(True)
            case "change":
                self.settings = {**self.settings, **change}
                await self.deliver()
            case "lose" if place == "written":
                raise UnavailableError("the answer of the database was lost", where="database")

    async def suspend(self, on: bool) -> None:
        if on:
            self.turns.suspended.note(KEY, True)
        write = lambda connection: writes.write_suspension(connection, KEY, on, "kim", "drill", "t")  # noqa: E731
        await self.turns.store.write(write)
        if not on:
            self.turns.suspended.note(KEY, False)
        self.stopped = on

    # --- the adapter ---
    def event(self, data: Any, sequence: int | None = None) -> Event:
        self.numbers += 1
        number = self.truth.sequence if sequence is None else sequence
        return Event(f"e{self.numbers}", number, "2026-03-01T10:00:00+01:00", data)

    def post(self, *happenings: Any, nonce: bool = True, wants: bool = True) -> Turn | None:
        truth = self.truth
        events = tuple(self.event(data, truth.sequence + place) for place, data in enumerate(happenings))
        self.numbers += 1
        if nonce:
            truth.nonce, truth.nonce_made = f"n{self.numbers}", self.clock
        return self.send(PostEvents(events, truth.nonce if nonce else "", wants))

    def send(self, post: PostEvents) -> Turn | None:
        """Bytes in, bytes out; an order that comes back is put before the fence."""
        truth = self.truth
        truth.last = post
        body = msgspec.json.encode(post)
        try:
            decoded = decode_post(body)
            turn = self.run(self.turns.answer(truth.session, decoded))
        except PilotageError as error:
            SEEN[f"refused: {type(error).__name__}"] += 1
            self.planned = None
            self._resync(error)
            return None
        self.planned = None
        turn = msgspec.json.decode(msgspec.json.encode(turn), type=Turn)
        truth.sequence = turn.sequence
        SEEN[turn.decision] += 1
        self._look_at(turn)
        if turn.order is not None:
            self._receive(turn)
        return turn

    def _resync(self, error: PilotageError) -> None:
        """An answer was lost: the adapter asks what is stored."""
        found = self.turns.live.find(self.truth.session)
        if found is None and isinstance(error, UnavailableError):
            with_records = self.run(self.turns.find(self.truth.session))
            if with_records is not None:
                self.truth.sequence = with_records.state.version
                self.truth.page = None  # which of the events of the lost post are stored is not told
                self.truth.newest = ""

    def _look_at(self, turn: Turn) -> None:
        if turn.decision == "propose":
            told = {"reason": turn.reason, "detail": turn.detail, "score": getattr(turn.proposal, "score", None)}
            if told != {"reason": "proposed", "detail": "", "score": None}:
                self.violate("an audit can be told from other proposals", told)
            self.truth.card, self.truth.card_version = turn.proposal, turn.sequence

    def _receive(self, turn: Turn) -> None:
        order, truth = turn.order, self.truth
        if not truth.nonce or not order.nonce:
            self.violate("an order without a nonce", order)
        SEEN[f"order by {'permit' if order.authorised_by == 'permit' else 'operator'}"] += 1
        self.judge(order)
        truth.unreported.append(order)
        since = (self.clock - truth.nonce_made) * 1000
        facts = FenceFacts(truth.nonce, since, truth.sequence, self.keys, self.highest_epoch)
        by_permit = order.authorised_by == "permit"
        extra = {"action": order.action.digest, "digest": getattr(order, "digest", order.action)}
        fault = find_fence_fault(
            facts, nonce=order.nonce, state_version=order.state_version, idempotency_key=order.idempotency_key,
            remaining_ms=order.remaining_ms, epoch=order.epoch, by_permit=by_permit, **extra,
        )  # fmt: skip
        if fault is not None:
            SEEN[f"fence: {fault}"] += 1
            return
        self.keys.add(order.idempotency_key)
        if any(done.proposal == order.proposal_id for done in self.executed):
            self.violate("executed twice", order)
        self.executed.append(
            Executed(
                truth.session, order.proposal_id, order.idempotency_key, order.action, order.authorised_by, self.clock
            )
        )

    # --- rules ---
    @initialize()
    def begin(self) -> None:
        self.run(self.deliver())
        self._open()

    def _open(self) -> None:
        self.numbers += 1
        self.truth = Truth(f"s-{self.numbers}", newest="Hi", page=GOOD)
        self.scores.clear()

    def _plan(self, reply: str, score: float | None, planned: Any) -> None:
        self.reply, self.score, self.planned = reply, score, planned

    def _settle(self, outcome: Outcome = Outcome.DONE) -> list[OutcomeReported]:
        """What the adapter has to tell of the orders it got: honestly, for those it did or refused."""
        told = [
            OutcomeReported(
                order.proposal_id, order.idempotency_key,
                outcome if order.idempotency_key in self.keys else Outcome.REFUSED,
            )
            for order in self.truth.unreported
        ]  # fmt: skip
        self.truth.unreported = []
        return told

    @rule(
        situation=situations, text=messages, planned=interference, says=st.booleans(),
        stage=st.sampled_from([None, Stage.COPILOT, Stage.AUTOMATION, Stage.AUTOMATION]), anew=st.booleans(),
    )  # fmt: skip
    def show(self, situation: Any, text: int, planned: Any, says: bool, stage: Any, anew: bool) -> None:
        page, reply, score = situation
        if self.truth.closed or anew:
            self._open()
        if stage is not None:
            self._earn_again(stage)
        truth, happenings = self.truth, []
        before = (truth.page, truth.newest)
        if truth.sequence == 0:
            happenings += [SessionOpened({"domain": "hotel"}), MessagePosted(Author.CUSTOMER, "Hi")]
            truth.newest = "Hi"
        happenings += self._settle()
        if says:
            happenings.append(MessagePosted(Author.CUSTOMER, MESSAGES[text]))
            truth.newest = MESSAGES[text]
        happenings.append(page.shown())
        truth.page = page
        self._plan(reply, score, planned)
        sequence = truth.sequence
        if self.post(*happenings) is None and truth.sequence == sequence:
            truth.page, truth.newest = before

    @rule(situation=situations, planned=interference, operator=st.sampled_from(["ann", "ann", "ann", "permit", " "]))
    @precondition(lambda self: bool(self.truth.sequence) and not self.truth.closed)
    def act(self, situation: Any, planned: Any, operator: str) -> None:
        _, reply, score = situation
        self._plan(reply, score, planned)
        self.post(*self._settle(), ActionTaken((Action(Tool.CLICK_CONTROL, "submit"),), operator))

    @rule(
        score=scores, planned=interference, operator=st.sampled_from(["ann", "ann", "permit", ""]), nonce=st.booleans()
    )
    @precondition(lambda self: self.truth.card is not None)
    def accept(self, score: float | None, planned: Any, operator: str, nonce: bool) -> None:
        card, self.truth.card = self.truth.card, None
        self.truth.accepted[card.proposal_id] = operator
        self._plan('{"tool":""}', score, planned)
        self.post(*self._settle(), FeedbackGiven(card.proposal_id, Verdict.ACCEPT, operator), nonce=nonce)

    @rule()  # the usual case, which chance alone would seldom put together
    @precondition(lambda self: self.truth.card is not None)
    def accept_at_once(self) -> None:
        self.accept(None, None, "ann", True)

    @rule(nonce=st.booleans(), planned=interference)
    @precondition(lambda self: self.truth.last is not None and not self.truth.closed)
    def repeat(self, nonce: bool, planned: Any) -> None:
        last = self.truth.last
        self.planned = planned
        if nonce:
            self.numbers += 1
            self.truth.nonce, self.truth.nonce_made = f"n{self.numbers}", self.clock
            last = msgspec.structs.replace(last, nonce=self.truth.nonce)
        self.send(last)

    @rule(outcome=st.sampled_from(list(Outcome)))
    @precondition(lambda self: bool(self.truth.unreported))
    def tell(self, outcome: Outcome) -> None:
        self._plan('{"tool":""}', None, None)
        self.post(*self._settle(outcome), wants=False)

    @rule()
    @precondition(lambda self: bool(self.truth.sequence) and not self.truth.closed)
    def close(self) -> None:
        self._plan('{"tool":""}', None, None)
        if self.post(SessionReviewed("kim", True), SessionClosed(Closing.CLOSED), wants=False) is not None:
            self.truth.closed = True

    @rule(
        what=st.sampled_from(["wait", "poll", "publish", "unpolled", "stop", "resume", "restart"]),
        length=seconds, change=changes,
    )  # fmt: skip
    def world(self, what: str, length: float, change: dict[str, Any]) -> None:
        match what:
            case "wait":
                self.clock += length
            case "poll":
                self.run(self.deliver())
            case "publish" | "unpolled":
                self.settings = {**self.settings, **change}
                if what == "publish":
                    self.run(self.deliver())
            case "stop" | "resume":
                self.run(self.suspend(what == "stop"))
            case "restart":
                self.run(self.stack.aclose())
                self._start()

    def _earn_again(self, stage: Stage) -> None:
        self.settings = {"stage": stage}
        if self.stopped:
            self.run(self.suspend(False))
        self.run(self.deliver())
