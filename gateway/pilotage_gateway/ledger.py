"""The chain of decisions: is it whole, and does it go as far as it once did?

The head is kept in a file outside of the database too: rows that went with a write-ahead log, or a backup that was
restored, leave a chain that is whole and too short. Read by `pilotage audit verify`, and by a gateway at its start.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec
from sqlalchemy import Connection, make_url, select

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_gateway import tables as t
from pilotage_gateway.queries import read_chain, read_decision_row
from pilotage_gateway.store import Store, open_for_reading
from pilotage_gateway.writes import CHAIN_START, chain

log = logging.getLogger(__name__)
KEEP_SECONDS = 1.0


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last row of a chain."""

    number: int
    digest: str


class Verified(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a look at a whole chain found: `rows` of it up to `head`, and the first fault (empty: it is whole)."""

    rows: int
    head: Head | None
    fault: str = ""


Row = tuple[int, str, str, bytes]
"""Number, digest of the row before, own digest, facts."""


def verify_chain(rows: Iterable[Row], kept: Head | None = None) -> Verified:
    """Look at every row in order; `kept` is a row that was there once. Pure."""
    former, head, count, is_met = CHAIN_START, None, 0, kept is None
    for number, before, digest, facts in rows:
        if before != former:
            what = f"what stood before row {number} is gone" if head is None else f"rows after {head.number} are gone"
            return Verified(count, head, f"{what}, or stand in another order")
        if not isinstance(facts, bytes) or chain(before, facts) != digest:  # SQLite keeps a text where bytes were
            return Verified(count, head, f"row {number} was changed")
        if kept is not None and number == kept.number:
            if digest != kept.digest:
                return Verified(count, head, f"row {number} is another than the one that was known")
            is_met = True
        former, head, count = digest, Head(number, digest), count + 1
    if kept is not None and not is_met:
        last = head.number if head is not None else 0
        ends = f"the records end at row {last}, and were known to go on to {kept.number}"
        return Verified(
            count, head, ends if kept.number > last else f"row {kept.number}, which was known, is not there"
        )
    return Verified(count, head)


def read_head(connection: Connection) -> Head | None:
    """The last row; None where there is none."""
    c = t.decisions.c
    row = connection.execute(select(c.number, c.digest).order_by(c.number.desc()).limit(1)).first()
    return None if row is None else Head(row.number, row.digest)


def has_row(connection: Connection, head: Head) -> bool:
    """Whether the records hold that very row."""
    c = t.decisions.c
    found = connection.execute(select(c.digest).where(c.number == head.number)).scalar()
    return bool(found == head.digest)


def read_kept(path: Path) -> Head | None:
    """The head that was kept; None where there is no file. Raises InvalidInputError for one that is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Head)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidInputError(
            f"is no head of a chain: {error}", where=str(path), remedy="verify the records, then remove it"
        ) from error


def keep(path: Path, head: Head) -> None:
    """Write it so that it is there whole, or as it was."""
    made = path.with_suffix(path.suffix + ".new")
    with made.open("wb") as file:
        file.write(msgspec.json.encode(head))
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


async def check_at_start(store: Store, path: Path) -> str:
    """Why nothing may run unattended on these records (empty: they go as far as they did)."""
    try:
        kept = read_kept(path)
    except InvalidInputError as error:
        return str(error)
    if kept is None or await store.read(partial(has_row, head=kept)):
        return ""
    return _say_lost(kept, path)


def _say_lost(kept: Head, path: Path) -> str:
    look = f"pilotage audit verify DATABASE --head {path}"
    return f"the records lack decision {kept.number}, which was stored: look at them ({look}), then remove {path}"


async def keep_head(store: Store, path: Path) -> str:
    """Keep the head once. Gives why nothing may run unattended any more (empty: all that was kept is still there)."""
    try:
        kept, head = read_kept(path), await store.read(read_head)
        if kept is not None and not await store.read(partial(has_row, head=kept)):
            return _say_lost(kept, path)
        if head is not None and head != kept:
            await asyncio.to_thread(keep, path, head)
    except (UnavailableError, InvalidInputError, OSError) as error:
        log.warning("the head of the chain was not kept: %s", error)
    return ""


async def follow_head(store: Store, path: Path, withhold: Callable[[str], None]) -> None:
    """Keep the head each second, until the records lack what was kept: then `withhold` is told why."""
    lost = ""
    while not lost:
        await asyncio.sleep(KEEP_SECONDS)
        lost = await keep_head(store, path)
    log.critical("nothing runs unattended here: %s", lost)
    withhold(lost)


# --- from outside of a gateway ---
def find_head(database: str) -> Path | None:
    """The file beside SQLite's; None for another database."""
    name = make_url(database).database if database.startswith("sqlite") else None
    return Path(name + ".head") if name and name != ":memory:" else None


def verify_database(url: str, kept: Path | None = None) -> Verified:
    """Look at the whole chain in the database at `url`, which may be in use. Raises UnavailableError."""
    kept = kept or find_head(url)
    head = read_kept(kept) if kept is not None else None
    with open_for_reading(url) as connection:
        return verify_chain(read_chain(connection), head)


def find_decision(url: str, proposal_id: str) -> bytes:
    """The facts of one decision as they are stored (a DecisionRecord as JSON), without a gateway.

    Raises UnavailableError, and InvalidInputError where it is unknown.
    """
    with open_for_reading(url) as connection:
        facts = read_decision_row(connection, proposal_id)
    if facts is None:
        raise InvalidInputError(f"proposal {proposal_id} is unknown", where=url)
    return facts
