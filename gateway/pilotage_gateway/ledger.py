"""The chain of decisions: is it whole, and does it go as far as it once did?

The head is kept in a file outside of the database too: rows that went with a write-ahead log, or a backup that was
restored, leave a chain that is whole and too short. Read by `pilotage audit verify`, and by a gateway at its start.
"""

import asyncio
import logging
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import msgspec
from sqlalchemy import Connection, select

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_gateway import tables as t
from pilotage_gateway.queries import read_chain, read_decision_row
from pilotage_gateway.store import Store, build_engine, refuse_fault
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
    former, head, count = CHAIN_START, None, 0
    for number, before, digest, facts in rows:
        if before != former:
            what = f"what stood before row {number} is gone" if head is None else f"rows after {head.number} are gone"
            return Verified(count, head, f"{what}, or stand in another order")
        if not isinstance(facts, bytes) or chain(before, facts) != digest:  # SQLite keeps a text where bytes were
            return Verified(count, head, f"row {number} was changed")
        if kept is not None and number == kept.number and digest != kept.digest:
            return Verified(count, head, f"row {number} is another than the one that was known")
        former, head, count = digest, Head(number, digest), count + 1
    last = head.number if head is not None else 0
    if kept is not None and kept.number > last:
        return Verified(count, head, f"the records end at row {last}, and were known to go on to {kept.number}")
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
    return (
        f"the records lack decision {kept.number}, which was stored: verify them (pilotage audit verify), "
        f"then remove {path} to go on"
    )


async def keep_head(store: Store, path: Path) -> None:
    """Keep the head each second, for ever."""
    kept: Head | None = None
    while True:
        await asyncio.sleep(KEEP_SECONDS)
        try:
            head = await store.read(read_head)
            if head is not None and head != kept:
                await asyncio.to_thread(keep, path, head)
                kept = head
        except (UnavailableError, OSError) as error:
            log.warning("the head of the chain was not kept: %s", error)


# --- from outside of a gateway ---
def verify_database(url: str, kept: Path | None = None) -> Verified:
    """Look at the whole chain in the database at `url`, which may be in use. Raises UnavailableError."""
    head = read_kept(kept) if kept is not None else None
    with refuse_fault(url), build_engine(url).connect() as connection:
        return verify_chain(read_chain(connection), head)


def find_decision(url: str, proposal_id: str) -> bytes:
    """The facts of one decision as they are stored (a DecisionRecord as JSON), without a gateway.

    Raises UnavailableError, and InvalidInputError where it is unknown.
    """
    with refuse_fault(url), build_engine(url).connect() as connection:
        facts = read_decision_row(connection, proposal_id)
    if facts is None:
        raise InvalidInputError(f"proposal {proposal_id} is unknown", where=url)
    return facts
