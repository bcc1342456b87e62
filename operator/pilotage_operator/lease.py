"""Who leads: one Lease, held by writing it, and what its holder may conclude from that by its own clock alone.

`decide_lease` is pure. What another process wrote as a time is never read: only that its record has not changed for as
long as it lasts (Burrows 2006; client-go's leader election). Not here: what a leader does (run_kubernetes.py).
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.errors import ConflictError, PilotageError

log = logging.getLogger(__name__)
LEASE_SECONDS = 6.0
RENEW_SECONDS = 1.5
LOOK_SECONDS = 0.5
MARGIN_SECONDS = 1.0
"""A holder stops concluding anything so long before others may take over: clocks run a little apart."""


class Record(msgspec.Struct, frozen=True):
    """A Lease as read: who holds it (empty: released), for how long, and a version that differs with every write."""

    holder: str
    seconds: float
    version: str
    terms: int = 0


class Move(StrEnum):
    """What to do about a Lease."""

    CREATE = "create"  # there is none: nobody says how long an earlier leader's permits last
    TAKE = "take"  # released, ours, or not renewed for as long as it lasts
    WAIT = "wait"


def decide_lease(me: str, record: Record | None, unchanged_seconds: float) -> Move:
    """What a process that wants to lead does; `unchanged_seconds`: how long it has seen this very `record`."""
    if record is None:
        return Move.CREATE
    if record.holder in ("", me) or unchanged_seconds >= record.seconds:
        return Move.TAKE
    return Move.WAIT


class LeaseStore(Protocol):
    """Where the Lease is."""

    async def read_lease(self) -> Record | None:
        """It as it is now; None where there is none. Raises UnavailableError."""
        ...

    async def write_lease(self, record: Record, renewed: datetime) -> Record:
        """Write `record` over the version it names (empty: create it). Raises ConflictError, UnavailableError."""
        ...


class Lease:
    """One process' part in it. `clock` counts suspended time too."""

    def __init__(
        self,
        me: str,
        store: LeaseStore,
        clock: Callable[[], float] = boot_seconds,
        seconds: float = LEASE_SECONDS,
        renew_seconds: float = RENEW_SECONDS,
    ) -> None:
        self.is_first = False
        self._me = me
        self._store = store
        self._clock = clock
        self._seconds = seconds
        self._renew_seconds = renew_seconds
        self._record: Record | None = None
        self._seen_at = clock()
        self._held_from = float("-inf")

    def left_seconds(self) -> float:
        """How long this process may still act as the leader; 0 where it is none.

        Counted from when the last write that succeeded began: nobody else can have taken it before that has run out.
        """
        return max(0.0, self._held_from + self._seconds - MARGIN_SECONDS - self._clock())

    async def acquire(self, is_ready: Callable[[], bool] = lambda: True) -> None:
        """Wait until this process `is_ready` and leads. `is_first`: there was no Lease, so an earlier leader may have
        kept none.
        """
        while not (is_ready() and await self._try()):  # noqa: ASYNC110 (what is waited for happens elsewhere)
            await asyncio.sleep(LOOK_SECONDS)

    async def _try(self) -> bool:
        try:
            found = await self._store.read_lease()
            if found != self._record:
                self._record, self._seen_at = found, self._clock()
            move = decide_lease(self._me, found, self._clock() - self._seen_at)
            if move is Move.WAIT:
                return False
            self.is_first = move is Move.CREATE
            await self._write(self._me, new_term=True)
        except PilotageError as error:
            log.debug("the Lease is not ours yet: %s", error)
            return False
        return True

    async def keep(self, is_at_work: Callable[[], bool] = lambda: True) -> None:
        """Renew it until it is lost: another one holds it, or no write went through in time. Or until this process is
        not `is_at_work`: then another one should have it.
        """
        while (left := self.left_seconds()) > 0.0:
            await asyncio.sleep(min(self._renew_seconds, left))
            if not is_at_work():
                log.warning("this leader sees nothing: another one should lead")
                return
            try:
                async with asyncio.timeout(self.left_seconds()):  # a write that hangs is none: others count from it too
                    await self._write(self._me)
            except ConflictError:
                if await self._is_anothers():
                    break
            except (PilotageError, TimeoutError) as error:
                log.warning("the Lease is not renewed yet, %.1f s are left: %s", self.left_seconds(), error)
        self._held_from = float("-inf")

    async def release(self) -> None:
        """Give it back, so that a standby need not wait it out. What was signed before runs out by itself."""
        if self.left_seconds() <= 0.0:
            return
        self._held_from = float("-inf")
        try:
            await self._write("")
        except PilotageError as error:
            log.warning("the Lease is not released, and will run out: %s", error)

    async def _write(self, holder: str, *, new_term: bool = False) -> None:
        began, last = self._clock(), self._record or Record("", self._seconds, "")
        written = Record(holder, self._seconds, last.version, last.terms + new_term)
        self._record, self._seen_at = await self._store.write_lease(written, datetime.now(UTC)), began
        if holder == self._me:
            self._held_from = began

    async def _is_anothers(self) -> bool:
        """Whether somebody else wrote: then it is theirs. Our own write whose answer was lost is ours still."""
        try:
            self._record, self._seen_at = await self._store.read_lease(), self._clock()
        except PilotageError:
            return False
        return self._record is None or self._record.holder != self._me
