"""Who waits for a person, since when, and who works what: the one picture that all pages and streams draw from.

In memory, told of each turn that is answered, taken up from the records at a start. A claim is a lease: whoever works
a session renews it by working, and it is free again once nobody does.
"""

import asyncio
import hashlib
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from pilotage_core.errors import ConflictError
from pilotage_core.events import Author
from pilotage_core.lists import WaitingCard
from pilotage_gateway.access import namespace_of
from pilotage_gateway.answers import Answers
from pilotage_gateway.sessions import LiveSession

CLAIM_SECONDS = 90.0
PREVIEW_CHARS = 160
NOTICES_KEPT, NOTICE_SECONDS = 8, 60.0
SHARED_SECONDS = 0.5
DUE = "due_at"
"""The key of a session's metadata that says until when somebody should have looked (RFC 3339)."""


@dataclass(slots=True)
class Row:
    """A session that waits for a person: for a verdict on `proposal_id`, or because one has the wheel (`handed_off`).

    `since` and `due` are times as text; `due` is empty where nothing is promised. `preview` is what the customer said
    last.
    """

    key: str
    process_cluster: str
    since: str
    proposal_id: str = ""
    handed_off: str = ""
    preview: str = ""
    due: str = ""

    @property
    def order(self) -> tuple[bool, str, str]:
        """What was promised first, then who has waited longest."""
        return (not self.due, self.due, self.since)


class Shared(NamedTuple):
    """A part of a page, and the revision that it shows."""

    html: str
    revision: int


@dataclass(slots=True)
class _Claim:
    operator: str
    until: float


@dataclass(slots=True)
class Board:
    """`clock` counts monotonic seconds. `revision` rises with every change; `touched` is each session's last one."""

    answers: Answers
    clock: Callable[[], float] = time.monotonic
    rows: dict[str, Row] = field(default_factory=dict)
    revision: int = 0
    touched: dict[str, int] = field(default_factory=dict)
    ending: bool = False
    _claims: dict[str, _Claim] = field(default_factory=dict)
    _notices: dict[str, deque[tuple[float, str]]] = field(default_factory=dict)
    _shared: dict[frozenset[str] | None, tuple[float, int, str]] = field(default_factory=dict)
    _boot: str = field(default_factory=lambda: secrets.token_hex(4))
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    # --- what waits ---
    def restore(self, card: WaitingCard, due: str = "", preview: str = "") -> None:
        """A card that waited before a restart."""
        if self.answers.find(card.proposal_id) is None:
            key = card.session_id
            self.rows[key] = Row(
                key, card.process_cluster, card.at, card.proposal_id, preview=preview[:PREVIEW_CHARS], due=read_due(due)
            )

    def follow(self, session: LiveSession) -> None:
        """Take in what a session is after its turn."""
        key, row = session.session_id, _find_row(session, self.answers)
        if session.closed_at:
            self._claims.pop(key, None)
        former = self.rows.get(key)
        if row is None:
            self.rows.pop(key, None)
        else:
            same = former is not None and (former.proposal_id, former.handed_off) == (row.proposal_id, row.handed_off)
            row.since = former.since if same and former is not None else row.since
            self.rows[key] = row
        self.touch(key)

    def touch(self, key: str) -> None:
        """Something of a session has changed: pages that show it are told."""
        self.revision += 1
        self.touched.pop(key, None)
        self.touched[key] = self.revision
        while len(self.touched) > 20_000:
            self.touched.pop(next(iter(self.touched)))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def list_waiting(self, namespaces: frozenset[str] | None) -> list[Row]:
        """What waits in these namespaces (None: in all), first things first."""
        rows = (r for r in self.rows.values() if namespaces is None or namespace_of(r.process_cluster) in namespaces)
        return sorted(rows, key=lambda row: row.order)

    async def wait(self, seen: int, seconds: float) -> None:
        """Until there is something newer than `seen`, or `seconds` are over."""
        if self.revision > seen or self.ending:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    def end(self) -> None:
        """Let all streams go: this gateway ends."""
        self.ending = True
        self._changed.set()

    def count(self, process_cluster: str) -> int:
        """How many sessions of a process cluster wait for a person."""
        return sum(row.process_cluster == process_cluster for row in self.rows.values())

    # --- who works what ---
    def claimed_by(self, key: str) -> str:
        """Who works this session; empty where nobody does."""
        claim = self._claims.get(key)
        return claim.operator if claim is not None and claim.until > self.clock() else ""

    def claim(self, key: str, operator: str) -> None:
        """Work a session, or go on working it. Raises ConflictError where somebody else does."""
        holder, former = self.claimed_by(key), self._claims.get(key)
        if holder not in ("", operator):
            raise ConflictError(f"{holder} works this session", where="session", remedy="take another one")
        self._claims[key] = _Claim(operator, self.clock() + CLAIM_SECONDS)
        if former is None or former.operator != operator:
            self.touch(key)

    def release(self, key: str, operator: str) -> None:
        """Let a session go, where `operator` has it."""
        if self.claimed_by(key) == operator:
            del self._claims[key]
            self.touch(key)

    def claims_of(self, operator: str) -> Iterator[str]:
        """The sessions that `operator` works."""
        now = self.clock()
        for key in [key for key, claim in self._claims.items() if claim.until <= now]:
            del self._claims[key]
        return (key for key, claim in self._claims.items() if claim.operator == operator)

    # --- what people are told ---
    def notify(self, operator: str, words: str) -> None:
        """Tell somebody, at the next look."""
        self._notices.setdefault(operator, deque(maxlen=NOTICES_KEPT)).append((self.clock(), words))
        self.revision += 1

    def list_notices(self, operator: str) -> list[str]:
        """What `operator` was told in the last minute: a page may have been away."""
        now = self.clock()
        fresh = [words for at, words in self._notices.get(operator, ()) if now - at < NOTICE_SECONDS]
        if not fresh:
            self._notices.pop(operator, None)
        return fresh

    # --- what streams share ---
    def share(self, scope: frozenset[str] | None, make: Callable[["Board", frozenset[str] | None], str]) -> Shared:
        """What `make` gives for `scope`: once for all who ask while nothing moves, and twice a second at most."""
        at, revision, made = self._shared.get(scope, (float("-inf"), -1, ""))
        if revision != self.revision and self.clock() - at >= SHARED_SECONDS:
            made = make(self, scope)
            revision = self.revision
            self._shared[scope] = (self.clock(), revision, made)
        return Shared(made, revision)

    def mark(self, revision: int) -> str:
        """`revision` as pages and streams hand it back: a restart begins to count anew."""
        return f"{self._boot}-{revision}"

    def read_mark(self, mark: str) -> int:
        """The revision that `mark` says; before everything, where it is of another run or none at all."""
        boot, _, revision = mark.partition("-")
        return int(revision) if boot == self._boot and revision.isdecimal() and len(revision) < 18 else -1


def read_due(given: str) -> str:
    """A promised time in UTC, so that it sorts as text; empty where it is none."""
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        return ""
    return at.astimezone(UTC).isoformat(timespec="seconds") if at.tzinfo is not None else ""


def event_of(key: str) -> str:
    """The name of the event that says a session has changed: a stream names events in few characters."""
    return "moved-" + hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


def _find_row(session: LiveSession, answers: Answers) -> Row | None:
    if session.closed_at or not session.state.is_open:
        return None
    card = session.find_card()
    if card is not None and answers.find(card.proposal_id) is not None:
        card = None  # it has been answered, and is on its way
    if card is None and not session.handed_off:
        return None
    last = card or next(reversed(session.proposals.values()), None)
    said = next((m.text for m in reversed(session.state.messages) if m.author is Author.CUSTOMER), "")
    return Row(
        session.session_id,
        session.process_cluster,
        last.at if last is not None and last.at_version >= session.moved_version else session.opened_at,
        card.proposal_id if card is not None else "",
        session.handed_off,
        said[:PREVIEW_CHARS],
        read_due(session.state.metadata.get(DUE, "")),
    )
