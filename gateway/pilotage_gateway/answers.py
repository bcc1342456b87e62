"""What operators say at the console, on its way to the adapter that holds the session's page.

An adapter alone writes its session's events, so it fetches what was said, posts it as feedback with a nonce of its own,
and gets its order as for any accept: the fence holds, and there is one way to run an action. What was said waits a
moment before any adapter has it, so that it can be taken back.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import msgspec
from sqlalchemy import Connection, insert, select, update

from pilotage_core.actions import ALWAYS_FINALIZING, ActionRules
from pilotage_core.errors import ConflictError, InvalidInputError
from pilotage_core.events import Verdict
from pilotage_core.gate import Decision
from pilotage_core.lists import Answer, AnswerPage
from pilotage_core.proposal import find_fault
from pilotage_core.source import Source, session_of
from pilotage_gateway import tables as t
from pilotage_gateway.access import namespace_of
from pilotage_gateway.queries import has_moved
from pilotage_gateway.sessions import LiveSession
from pilotage_gateway.store import Store

HELD_SECONDS = 2.0
"""How long an operator can take back what was said."""
LATE_SECONDS = 30.0
"""After which an operator is told that the page has not taken an answer."""
MOST_AT_ONCE = 100
LONGEST_NOTE = 2_000
DECODE = msgspec.json.Decoder(Answer).decode
ENCODE = msgspec.json.Encoder().encode


def check_answer(session: LiveSession, answer: Answer, rules: ActionRules) -> None:
    """Raise ConflictError where `answer` comes too late, InvalidInputError where it cannot be meant."""
    proposal = session.proposals.get(answer.proposal_id)
    if proposal is None:
        raise InvalidInputError(f"this session has no proposal {answer.proposal_id[:64]!r}", where="proposal_id")
    if session.closed_at:
        raise ConflictError("the session is over", where="session", remedy="nothing is left to do")
    if not session.is_waiting(proposal):
        said = "it was answered already" if proposal.decision == Decision.PROPOSE else "nobody was asked about it"
        raise ConflictError(said, where="proposal_id", remedy="look at the session as it is now")
    if proposal.at_version < session.moved_version:
        raise ConflictError(
            "the session has moved on since this was proposed", where="proposal_id", remedy="act on what is there now"
        )
    if len(answer.note) > LONGEST_NOTE:
        raise InvalidInputError(f"a note has at most {LONGEST_NOTE} characters", where="note")
    if answer.verdict is Verdict.EDIT:
        _check_edit(session, answer, rules)
    elif answer.action is not None:
        raise InvalidInputError("only an edit says what to do instead", where="action")
    if proposal.action.tool in ALWAYS_FINALIZING:
        _check_items(session, answer)
    elif answer.items:
        raise InvalidInputError("what ran is reviewed with an ending", where="items")


def _check_edit(session: LiveSession, answer: Answer, rules: ActionRules) -> None:
    proposal, action = session.proposals[answer.proposal_id], answer.action
    if action is None or action == proposal.action:
        raise InvalidInputError("an edit changes something", where="action", remedy="accept it as it is")
    if (action.tool, action.control_id) != (proposal.action.tool, proposal.action.control_id) and action.control_id:
        raise InvalidInputError("an edit changes a text or a value", where="action", remedy="reject it, and act")
    if fault := find_fault(action, session.state.screen, rules):
        raise InvalidInputError(f"that cannot be done here: {fault}", where="action")


def _check_items(session: LiveSession, answer: Answer) -> None:
    """An ending is let go on once all that ran unasked was looked at."""
    ran = session.executed_unattended()
    judged = {item.proposal_id for item in answer.items}
    if not judged <= set(session.executed_unattended(critical_only=False)):
        raise InvalidInputError("a verdict is on what did not run unasked", where="items")
    missing = [proposal_id for proposal_id in ran if proposal_id not in judged]
    if answer.verdict is Verdict.ACCEPT and missing:
        raise InvalidInputError(
            f"{len(missing)} of the actions that ran unasked have no verdict", where="items", remedy="judge each first"
        )


@dataclass(slots=True)
class _Standing:
    """An answer that no adapter has carried out yet. `free_at` is when adapters may have it (monotonic seconds)."""

    answer: Answer
    session_key: str
    process_cluster: str
    free_at: float
    sent: bool = False
    warned: bool = False


class Answers:
    """Answers that stand, one a proposal, by proposal. `clock` counts monotonic seconds."""

    def __init__(
        self, store: Store, held_seconds: float = HELD_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self.held_seconds = held_seconds
        self._clock = clock
        self._standing: dict[str, _Standing] = {}
        self._changed = asyncio.Event()
        self.ending = False
        self.on_overtaken: Callable[[Answer], None] = lambda answer: None

    async def restore(self) -> None:
        """Take up what stood before a restart: adapters may have it already, so none of it can be taken back."""
        for key, process_cluster, answer in await self._store.read(read_standing):
            self._standing[answer.proposal_id] = _Standing(answer, key, process_cluster, self._clock(), sent=True)

    def find(self, proposal_id: str) -> Answer | None:
        """What was said of a proposal and is not carried out yet."""
        standing = self._standing.get(proposal_id)
        return standing.answer if standing is not None else None

    def can_undo(self, proposal_id: str) -> bool:
        """Whether no adapter has it yet."""
        standing = self._standing.get(proposal_id)
        return standing is not None and not standing.sent

    def take_late(self, operator: str) -> list[Answer]:
        """What `operator` said, and no adapter has carried out for long: each once."""
        late = self._clock() - LATE_SECONDS
        found = [
            s for s in self._standing.values() if s.answer.operator == operator and s.free_at < late and not s.warned
        ]
        for standing in found:
            standing.warned = True
        return [standing.answer for standing in found]

    async def give(self, session: LiveSession, answer: Answer, rules: ActionRules) -> None:
        """Say it, durably. Raises ConflictError, InvalidInputError (check_answer)."""
        async with session.lock:
            check_answer(session, answer, rules)
            if (said := self.find(answer.proposal_id)) is not None:
                raise ConflictError(f"{said.operator} has answered it", where="proposal_id")
            number = await self._store.write(partial(write_answer, session_key=session.session_id, answer=answer))
            answer = msgspec.structs.replace(answer, number=number)
            free_at = self._clock() + self.held_seconds
            standing = _Standing(answer, session.session_id, session.process_cluster, free_at)
            self._standing[answer.proposal_id] = standing
        self._tell()

    async def undo(self, proposal_id: str, operator: str) -> Answer:
        """Take back what `operator` said. Raises ConflictError where an adapter has it, or nothing was said."""
        standing = self._standing.get(proposal_id)
        if standing is None or standing.answer.operator != operator:
            raise ConflictError("there is nothing of yours to take back", where="proposal_id")
        if standing.sent:
            raise ConflictError("it is on its way to the page", where="proposal_id", remedy="mend it in the page")
        del self._standing[proposal_id]  # before it is written down: no adapter gets it meanwhile
        try:
            await self._store.write(partial(write_undone, number=standing.answer.number))
        except BaseException:
            self._standing[proposal_id] = standing
            raise
        return standing.answer

    def follow(self, session: LiveSession) -> None:
        """Forget what was carried out, and accepts that the session has overtaken. Called after each of its turns.

        A rejection or an edit stands until it is told, however late: it is a label.
        """
        for standing in [each for each in self._standing.values() if each.session_key == session.session_id]:
            proposal = session.proposals[standing.answer.proposal_id]
            overtaken = proposal.at_version < session.moved_version and standing.answer.verdict is Verdict.ACCEPT
            if overtaken or session.closed_at or not session.is_waiting(proposal):
                del self._standing[standing.answer.proposal_id]
                if session.is_waiting(proposal):
                    self.on_overtaken(standing.answer)

    async def fetch(self, source: Source, session_id: str, after: int, wait_seconds: float) -> AnswerPage:
        """What `source` has to carry out, beyond number `after`; waits for it where there is nothing yet."""
        until = self._clock() + wait_seconds
        while True:
            now = self._clock()
            mine = [each for each in self._standing.values() if self._is_for(each, source, session_id, after)]
            ready = sorted((each for each in mine if each.free_at <= now), key=lambda each: each.answer.number)
            if ready or now >= until or self.ending:
                return _send(ready[:MOST_AT_ONCE], after)
            changed = self._changed
            wakes = min([until, *(each.free_at for each in mine)])
            try:
                async with asyncio.timeout(max(0.0, wakes - now)):
                    await changed.wait()
            except TimeoutError:
                pass

    @staticmethod
    def _is_for(standing: _Standing, source: Source, session_id: str, after: int) -> bool:
        key, own = standing.session_key, standing.session_key == source.key(session_of(standing.session_key))
        is_served = not standing.process_cluster or source.rank(namespace_of(standing.process_cluster)) is not None
        return own and is_served and standing.answer.number > after and session_id in ("", session_of(key))

    def end(self) -> None:
        """Let all who wait go: this gateway ends."""
        self.ending = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _send(ready: Iterable[_Standing], after: int) -> AnswerPage:
    answers = []
    for standing in ready:
        standing.sent = True
        answers.append(standing.answer)
    return AnswerPage(tuple(answers), answers[-1].number if answers else after)


# --- records ---------------------------------------------------------------------------------------------------------
def write_answer(connection: Connection, session_key: str, answer: Answer) -> int:
    """Store what was said. Gives its number."""
    row = {
        "proposal_id": answer.proposal_id,
        "session_id": session_key,
        "operator": answer.operator,
        "at": answer.at,
        "undone": False,
        "body": ENCODE(answer),
    }
    key = connection.execute(insert(t.answers).values(row)).inserted_primary_key
    assert key is not None
    return int(key[0])


def write_undone(connection: Connection, number: int) -> None:
    """Note that it was taken back: it stays in the records."""
    connection.execute(update(t.answers).where(t.answers.c.number == number).values(undone=True))


def read_standing(connection: Connection) -> list[tuple[str, str, Answer]]:
    """What no adapter has carried out, of sessions that are open, with the session's key and process cluster. An accept
    that the session has overtaken is none.
    """
    a, s, p = t.answers.c, t.sessions.c, t.proposals.c
    told = select(t.labels.c.number).where(t.labels.c.proposal_id == a.proposal_id).exists()
    rows = connection.execute(
        select(a.number, a.session_id, s.process_cluster, p.at_version, a.body)
        .join(t.sessions, s.session_id == a.session_id)
        .join(t.proposals, p.proposal_id == a.proposal_id)
        .where(~a.undone, s.closed_at == "", ~told)
        .order_by(a.number)
    ).all()
    found = [(row, msgspec.structs.replace(DECODE(row.body), number=row.number)) for row in rows]
    return [
        (row.session_id, row.process_cluster, answer)
        for row, answer in found
        if answer.verdict is not Verdict.ACCEPT or not has_moved(connection, row.session_id, row.at_version)
    ]
