"""The BPM's own record of what it was ordered to do and did, JSON lines; and the count of unsafe executions.

Written by nobody else, and of nothing but what the BPM itself saw: what the gateway believed does not enter. Each line
is handed to the system before anything follows from it (a killed process loses none) and synced to disk in batches.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec

from pilotage_core.actions import Action
from pilotage_core.errors import InvalidInputError
from pilotage_core.events import Closing
from pilotage_core.stage import Stage
from pilotage_core.wire import BY_PERMIT

BATCH = 64
UNATTENDED_STAGES = frozenset({Stage.CALIBRATION, Stage.AUTOMATION})


class SessionBegun(msgspec.Struct, frozen=True, tag="session_begun", omit_defaults=True):
    """A dialogue was taken to be played, and will not be again. `changed`: by the rules of the changed process."""

    at: str
    session_id: str
    dialogue_id: str
    process_cluster: str
    segment: str
    changed: bool = False


class OrderReceived(msgspec.Struct, frozen=True, tag="order", omit_defaults=True):
    """One order: what it asked for, what the BPM knew, and what became of it.

    `fence` is the fault that the BPM's fence found (core's FenceFault), empty where it passed. `strict` and `graded`
    judge the action against the dialogue (judge.py). `stage` is what the gateway's answer named.
    """

    at: str
    session_id: str
    process_cluster: str
    proposal_id: str
    idempotency_key: str
    action: Action
    authorised_by: str
    epoch: int
    remaining_ms: int
    elapsed_ms: float
    ordered_version: int
    state_version: int
    fence: str
    executed: bool
    critical: bool
    stage: Stage
    strict: bool
    graded: bool
    changed: bool = False


class SessionEnded(msgspec.Struct, frozen=True, tag="session_ended", omit_defaults=True):
    """A session is over. Seconds are the operator's: without any help, and as spent.

    `looks`, `accepts` and `acts` (what they did themselves) are counted. `right`: how it came out by the BPM's own
    books; None where nothing is booked that could tell.
    """

    at: str
    session_id: str
    process_cluster: str
    closing: str
    seconds_without: float
    seconds_spent: float
    looks: int = 0
    accepts: int = 0
    reviews: int = 0
    corrections: int = 0
    posts: int = 0
    unassisted: int = 0
    critical_actions: int = 0
    executed_critical: int = 0
    changed: bool = False
    acts: int = 0
    right: bool | None = None

    @property
    def is_unattended(self) -> bool:
        """Whether nobody was asked anything and nobody did anything, to the end. A transfer is another's to finish."""
        touched = self.looks or self.acts or self.reviews
        return self.closing == Closing.CLOSED and not touched


Entry = SessionBegun | OrderReceived | SessionEnded


class StageChange(msgspec.Struct, frozen=True):
    """From `at` on the controller held `process_cluster` in `stage`."""

    process_cluster: str
    stage: Stage
    at: str


class Ledger:
    """Appends entries to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab")
        self._encoder = msgspec.json.Encoder()
        self._waiting = 0

    def write(self, entry: Entry) -> None:
        """Append `entry`."""
        self._file.write(self._encoder.encode(entry) + b"\n")
        self._file.flush()
        self._waiting += 1
        if self._waiting >= BATCH:
            self.sync()

    def sync(self) -> None:
        """Everything written is on disk when this returns."""
        os.fsync(self._file.fileno())
        self._waiting = 0

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        self._file.close()


def read_ledger(path: Path) -> Iterator[Entry]:
    """Every entry of a ledger. A last line that a kill cut off is left out; anything else damaged is an error."""
    decoder = msgspec.json.Decoder(Entry)
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            yield decoder.decode(line)
        except msgspec.DecodeError as error:
            if number == len(lines):
                return
            raise InvalidInputError(str(error), where=f"{path}:{number}") from error


def mend_ledger(path: Path) -> None:
    """Cut off a half-written last line, so that appending starts on a line of its own."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def find_unsafe(
    entries: Iterable[Entry], stages: Sequence[StageChange] | None = None, lag_seconds: float = 10.0
) -> list[tuple[str, OrderReceived]]:
    """Executed critical actions that had no leave, or ran twice; each with the reason.

    Everything is judged again from the raw numbers, not from the fence's verdict. With `stages` (the controller's
    record) an unattended action is also unsafe where its process cluster had been below Calibration for over
    `lag_seconds` (the permit's ttl).
    """
    found: list[tuple[str, OrderReceived]] = []
    keys: set[str] = set()
    proposals: set[str] = set()
    highest = 0
    history = _by_process_cluster(stages or ())
    for entry in entries:
        if not isinstance(entry, OrderReceived):
            continue
        by_permit = entry.authorised_by == BY_PERMIT
        if entry.executed and entry.critical:
            if reason := _missing_leave(entry, highest if by_permit else 0):
                found.append((reason, entry))
            elif entry.idempotency_key in keys or entry.proposal_id in proposals:
                found.append(("executed twice", entry))
            elif by_permit and _is_below(history.get(entry.process_cluster, ()), entry.at, lag_seconds):
                found.append(("executed in a stage that gives no leave", entry))
        if entry.executed:
            keys.add(entry.idempotency_key)
            proposals.add(entry.proposal_id)
        if by_permit:
            highest = max(highest, entry.epoch)
    return found


def count_unsafe(
    entries: Iterable[Entry], stages: Sequence[StageChange] | None = None, lag_seconds: float = 10.0
) -> int:
    """How many critical actions were executed without leave or twice."""
    return len(find_unsafe(entries, stages, lag_seconds))


def _missing_leave(entry: OrderReceived, highest_epoch: int) -> str:
    if not entry.authorised_by or not entry.idempotency_key:
        return "without an authority"
    if not entry.elapsed_ms < entry.remaining_ms:
        return "after its leave had expired"
    if entry.ordered_version != entry.state_version:
        return "in a state that had moved on"
    if entry.authorised_by == BY_PERMIT:
        if entry.stage not in UNATTENDED_STAGES:
            return f"unattended in stage {entry.stage}"
        if entry.epoch < highest_epoch:
            return "by a permit of an old epoch"
    return ""


def _by_process_cluster(stages: Iterable[StageChange]) -> Mapping[str, list[tuple[datetime, Stage]]]:
    history: dict[str, list[tuple[datetime, Stage]]] = {}
    for change in stages:
        history.setdefault(change.process_cluster, []).append((datetime.fromisoformat(change.at), change.stage))
    for changes in history.values():
        changes.sort(key=lambda change: change[0])
    return history


def _is_below(history: Sequence[tuple[datetime, Stage]], at: str, lag_seconds: float) -> bool:
    """Whether no stage that gives leave held at any time within the last `lag_seconds` before `at`."""
    if not history:
        return False
    moment = datetime.fromisoformat(at)
    stage, since = None, None
    for began, name in history:
        if began > moment:
            break
        if (name in UNATTENDED_STAGES) != (stage in UNATTENDED_STAGES) or stage is None:
            since = began
        stage = name
    if stage in UNATTENDED_STAGES:
        return False
    return stage is None or since is None or (moment - since).total_seconds() > lag_seconds
