"""A session's events on their way to the gateway: in order, each taken once, tried again, never lost.

Here: sequence, nonce, batches, retries. Not here: which events there are (bpm.py), HTTP (client.py).
"""

import asyncio
from collections.abc import Callable, Sequence

from uuid_utils import uuid7

from pilotage_core.errors import InvalidEventError, UnavailableError
from pilotage_core.events import (
    ActionTaken,
    Closing,
    Event,
    FeedbackGiven,
    Happening,
    OutcomeReported,
    SessionClosed,
    SessionReviewed,
    Verdict,
)
from pilotage_core.wire import PostEvents, Turn
from pilotage_simulator.client import Gateway, SequenceConflict

SOURCE = "bpm-simulator"
EVENTS_A_POST = 50
BACKOFF_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)
RETRIES = 2
"""A post is tried again this often before the operator goes on without an answer."""
UNKNOWN_SEQUENCE = 1 << 30


class Outbox:
    """Events of one session that the gateway has not taken yet.

    `sequence` is the state version: how many events there were. `nonce` is that of the last post, made at `nonce_made`
    by `monotonic` (seconds). `unanswered` counts posts given up, for the time being, after all tries.
    """

    def __init__(
        self, gateway: Gateway, session_id: str, now: Callable[[], str], monotonic: Callable[[], float]
    ) -> None:
        self.sequence = 0
        self.nonce = ""
        self.nonce_made = 0.0
        self.posts = 0
        self.unanswered = 0
        self._gateway = gateway
        self._session_id = session_id
        self._now = now
        self._monotonic = monotonic
        self._events: list[Event] = []
        self._failures = 0

    @property
    def is_empty(self) -> bool:
        """Whether the gateway has everything."""
        return not self._events

    def add(self, data: Happening) -> None:
        """Append what happened."""
        self._events.append(Event(str(uuid7()), self.sequence, self._now(), data, SOURCE))
        self.sequence += 1

    async def post(self, wants_decision: bool = True) -> Turn | None:
        """Hand over everything. None: no answer this time; the events stay, in order.

        Raises InvalidEventError where the gateway refuses an event for good.
        """
        turn = None
        while self._events:
            batch = take_batch(self._events)
            wanted = wants_decision and len(batch) == len(self._events)
            self.nonce = str(uuid7())
            self.nonce_made = self._monotonic()
            self.posts += 1
            try:
                turn = await self._gateway.post(self._session_id, PostEvents(batch, self.nonce, wanted))
            except SequenceConflict as conflict:
                self._skip_known(conflict)
                turn = None
                continue
            except UnavailableError:
                if await self._back_off():
                    continue
                return None
            self._failures = 0
            del self._events[: len(batch)]
        return turn

    async def _back_off(self) -> bool:
        """Wait, longer each time; whether the same post is worth another try before the operator goes on."""
        delay = BACKOFF_SECONDS[min(self._failures, len(BACKOFF_SECONDS) - 1)]
        self._failures += 1
        await asyncio.sleep(delay)
        if self._failures <= RETRIES:
            return True
        self.unanswered += 1
        return False

    def _skip_known(self, conflict: SequenceConflict) -> None:
        """Events that the gateway has already are not sent again; a gap that cannot be filled ends the session."""
        before = len(self._events)
        if conflict.expected is not None:
            self._events = [event for event in self._events if event.sequence >= conflict.expected]
        gap = bool(self._events) and self._events[0].sequence != conflict.expected
        if gap or len(self._events) == before:
            raise InvalidEventError(f"the gateway refuses it: {conflict}", where=self._session_id)


def take_batch(events: Sequence[Event]) -> tuple[Event, ...]:
    """The first of `events` that go into one post.

    A gateway judges corrections and reviews by what it knows to be executed before the post: the outcome goes ahead.
    An accept is the last of its post, also where it went unanswered and the operator has gone on since.
    """
    reported = False
    for position, event in enumerate(events[:EVENTS_A_POST]):
        data = event.data
        judges = isinstance(data, SessionReviewed) or (isinstance(data, ActionTaken) and data.corrects)
        if judges and reported:
            return tuple(events[:position])
        reported = reported or isinstance(data, OutcomeReported)
        if isinstance(data, FeedbackGiven) and data.verdict is Verdict.ACCEPT:
            return tuple(events[: position + 1])
    return tuple(events[:EVENTS_A_POST])


async def abandon_session(gateway: Gateway, session_id: str, now: Callable[[], str]) -> None:
    """End a session whose player is gone. The gateway says where its events stopped; it may not know it at all."""
    sequence: int | None = UNKNOWN_SEQUENCE
    while sequence is not None:
        closed = Event(str(uuid7()), sequence, now(), SessionClosed(Closing.ABANDONED), SOURCE)
        try:
            await gateway.post(session_id, PostEvents((closed,), str(uuid7()), wants_decision=False))
            return
        except SequenceConflict as conflict:
            sequence = conflict.expected if sequence == UNKNOWN_SEQUENCE else None
        except InvalidEventError:
            return
