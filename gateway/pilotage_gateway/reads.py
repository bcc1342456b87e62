"""Who read what: written down before it is shown, for people and programs alike. A source that reads its own is none.

What somebody reads again within a minute is written once: a page that is open asks again with each change.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, insert, select

from pilotage_gateway import tables as t
from pilotage_gateway.store import Store
from pilotage_gateway.writes import utc_now

AGAIN_SECONDS = 60.0
KNOWN = 4096
ROWS = 200


class Read(NamedTuple):
    """One row: `kind` is session, decision, export, cards, queue or ledger; `what` is which."""

    number: int
    at: str
    who: str
    kind: str
    what: str


class Reads:
    """Writes down who reads what in `store`. `clock` counts monotonic seconds."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def note(self, who: str, kind: str, what: str) -> None:
        """Before it is shown. Raises UnavailableError where it cannot be written: then it is not shown."""
        key, now = (who, kind, what), self._clock()
        if now - self._known.get(key, float("-inf")) < AGAIN_SECONDS:
            return
        row = {"at": utc_now(), "who": who, "kind": kind, "what": what}
        await self._store.write(lambda connection: connection.execute(insert(t.reads).values(row)).rowcount)
        self._known[key] = now
        self._known.move_to_end(key)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)

    async def list(self, who: str = "", what: str = "", before: int = 0) -> list[Read]:
        """The newest, of somebody or of something; `before` is the number of the last one seen."""
        return await self._store.read(partial(read_reads, who=who, what=what, before=before))


def read_reads(connection: Connection, who: str, what: str, before: int) -> list[Read]:
    """At most ROWS, newest first."""
    c = t.reads.c
    wanted = [c.who == who] * bool(who) + [c.what == what] * bool(what) + [c.number < before] * bool(before)
    rows = connection.execute(
        select(c.number, c.at, c.who, c.kind, c.what).where(*wanted).order_by(c.number.desc()).limit(ROWS)
    )
    return [Read(*row) for row in rows]
