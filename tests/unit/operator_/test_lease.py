"""The Lease: who may lead when, and that two never do, whatever is lost, late or paused."""

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.errors import ConflictError, PilotageError, UnavailableError
from pilotage_operator import leading
from pilotage_operator.leading import lead_for_ever
from pilotage_operator.lease import LEASE_SECONDS, MARGIN_SECONDS, Lease, Move, Record, decide_lease

HELD = Record("other", 6.0, "7")


@pytest.mark.parametrize(
    ("record", "unchanged", "move"),
    [
        (None, 0.0, Move.CREATE),
        (HELD, 0.0, Move.WAIT),
        (HELD, 5.9, Move.WAIT),
        (HELD, 6.0, Move.TAKE),
        (msgspec.structs.replace(HELD, seconds=60.0), 59.0, Move.WAIT),
        (msgspec.structs.replace(HELD, holder=""), 0.0, Move.TAKE),
        (msgspec.structs.replace(HELD, holder="me"), 0.0, Move.TAKE),
    ],
)
def test_a_lease_is_taken_only_once_it_is_free_or_has_not_changed_for_as_long_as_it_lasts(record, unchanged, move):
    assert decide_lease("me", record, unchanged) is move


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Store:
    """A Lease in memory. `loses`: the next request is not heard; `loses_answer`: it is, and nobody says so."""

    def __init__(self):
        self.record = None
        self.version = 0
        self.loses = self.loses_answer = False

    async def read_lease(self):
        self._maybe_lose()
        return self.record

    async def write_lease(self, record, renewed):
        self._maybe_lose()
        if record.version != (self.record.version if self.record else ""):
            raise ConflictError("another version", where="Lease")
        self.version += 1
        self.record = msgspec.structs.replace(record, version=str(self.version))
        if self.loses_answer:
            self.loses_answer = False
            raise UnavailableError("no answer", where="Lease")
        return self.record

    def _maybe_lose(self):
        if self.loses:
            self.loses = False
            raise UnavailableError("not heard", where="Lease")


async def renew(lease):
    """One renewal, as `keep` does it."""
    try:
        await lease._write(lease._me)
    except ConflictError:
        if await lease._is_anothers():
            lease._held_from = float("-inf")
    except PilotageError:
        pass


MOVES = st.tuples(
    st.sampled_from(["try", "renew", "release", "pass"]),
    st.sampled_from([0, 1]),
    st.floats(0.0, 4.0),
    st.sampled_from(["", "", "", "loses", "loses_answer"]),
)


@given(st.lists(MOVES, max_size=60))
@settings(max_examples=400, deadline=None)
def test_two_never_lead_at_once(moves):
    """Any order of tries, renewals and releases, requests lost either way, and pauses of any length."""

    async def play():
        clock, store = Clock(), Store()
        both = [Lease(name, store, clock) for name in ("a", "b")]
        for what, who, passes, fault in moves:
            clock.now += passes
            lease = both[who]
            if fault:
                setattr(store, fault, True)
            if what == "try" and not lease.left_seconds():
                await lease._try()
            elif what == "renew" and lease.left_seconds():
                await renew(lease)
            elif what == "release":
                await lease.release()
            store.loses = store.loses_answer = False
            assert sum(each.left_seconds() > 0.0 for each in both) <= 1

    asyncio.run(play())


async def test_a_standby_takes_over_what_is_not_renewed_and_at_once_what_is_given_back():
    clock, store = Clock(), Store()
    first, second = Lease("a", store, clock), Lease("b", store, clock)
    assert await first._try()
    assert first.is_first
    assert not await second._try()
    clock.now += LEASE_SECONDS - 0.1
    assert not await second._try()
    clock.now += 0.1
    assert first.left_seconds() == 0.0
    assert await second._try()
    assert (second.is_first, store.record.terms) == (False, 2)
    await second.release()
    assert await first._try()


async def test_a_term_ends_before_the_lease_is_given_back_and_another_begins(monkeypatch):
    monkeypatch.setattr(leading, "LOOK_SECONDS", 0.0)
    store, terms, goes_on = Store(), [], asyncio.Event()

    async def lead(is_first):
        terms.append((is_first, store.record.holder))
        if len(terms) == 1:
            raise UnavailableError("no epoch", where="API server")
        goes_on.set()
        try:
            await asyncio.sleep(60)
        finally:
            terms.append(store.record.holder)

    task = asyncio.ensure_future(lead_for_ever(Lease("a", store), lead))
    await asyncio.wait_for(goes_on.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert terms == [(True, "a"), (False, "a"), "a"]
    assert store.record.holder == "", "given back once its term had ended"


async def test_a_write_that_hangs_is_none_and_the_term_ends_in_time():
    class Hanging(Store):
        async def write_lease(self, record, renewed):
            if self.record is not None:
                await asyncio.sleep(60)
            return await super().write_lease(record, renewed)

    lease = Lease("a", Hanging(), seconds=MARGIN_SECONDS + 0.2, renew_seconds=0.05)
    assert await lease._try()
    await asyncio.wait_for(lease.keep(), 5)
    assert lease.left_seconds() == 0.0


async def test_a_leader_that_is_not_at_work_is_not_renewed_and_who_is_not_ready_takes_none():
    lease = Lease("a", store := Store(), renew_seconds=0.01)
    asked = iter([False, False, True])
    await lease.acquire(lambda: next(asked))
    await asyncio.wait_for(lease.keep(lambda: False), 5)
    assert lease.left_seconds() > 0.0, "still held: it is given back once its term has ended"
    await lease.release()
    assert store.record.holder == ""
