"""Sessions at the desk as the records they leave: what operators did unassisted, screen by screen.

`read_desk_records` is what the entry point `desk` of group `pilotage.records` leads to. Not here: assisted sessions.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zlib import crc32

from pilotage_core.actions import Action
from pilotage_core.events import ActionTaken, Author, Closing, MessagePosted, ScreenShown, SessionClosed, SessionOpened
from pilotage_core.reading import read_screen
from pilotage_core.record import SessionRecord
from pilotage_simulator.desk.clerk import PEOPLE
from pilotage_simulator.desk.desk import TRANSFERRED, Desk
from pilotage_simulator.desk.effort import find_seconds
from pilotage_simulator.desk.play import Witness, play
from pilotage_simulator.desk.screens import SCHEMA, build_page
from pilotage_simulator.desk.sgd import SCHEMA_FILE, Dialogue, LeftOut, Schema, read_dialogues, read_schema
from pilotage_simulator.session_log import SessionLog, may_close_within

log = logging.getLogger(__name__)

EPOCH = datetime(2019, 3, 1, tzinfo=UTC)
"""The day that the dialogues speak from."""
BETWEEN_SESSIONS = timedelta(minutes=5)
SHIFT_HOURS, OPERATORS_OF_SHIFT = 8, 3
CUSTOMER_SECONDS = 8.0
"""How long a customer takes to answer: assumed."""

MONEY = frozenset({"Banks", "Calendar"})
BOOKINGS = frozenset({"Homes", "Hotels", "RentalCars", "Restaurants", "RideSharing", "Services"})
MEDIA = frozenset({"Buses", "Events", "Flights", "Media", "Movies", "Music", "Travel", "Weather"})
LONG_TAIL = "desk/long-tail"
ALL = "desk/all"


def find_lane(dialogue: Dialogue) -> str:
    """The process cluster that takes `dialogue`: by the services it needs."""
    needed = {service.rpartition("_")[0] for service in dialogue.services}
    if needed & MONEY:
        return "desk/money-and-calendar"
    if needed <= BOOKINGS:
        return "desk/bookings"
    return "desk/media-and-travel" if needed <= MEDIA else LONG_TAIL


LANES = frozenset({"desk/money-and-calendar", "desk/bookings", "desk/media-and-travel", LONG_TAIL})


def read_calendar(
    path: Path, schema: Schema, process_cluster: str, part: tuple[int, int]
) -> Iterator[tuple[int, Dialogue]]:
    """The dialogues of `path` in the order they come to the desk, each with its number: as for `read_desk_records`.

    By a digest of their names: the file has one service after the other, a day at the desk has them all.
    """
    left_out = LeftOut()
    found = sorted(read_dialogues(path, schema, left_out), key=lambda each: crc32(each.dialogue_id.encode()))
    if left_out.counts:
        log.warning("%s: %s", path, left_out)
    for number, dialogue in enumerate(found):
        taken = process_cluster not in LANES or process_cluster == find_lane(dialogue)
        if taken and number % part[1] == part[0]:
            yield number, dialogue


def read_desk_records(
    path: str | Path, process_cluster: str = ALL, part: tuple[int, int] = (0, 1), since: str = "", until: str = ""
) -> Iterator[SessionRecord]:
    """The dialogues of `path` (its schema beside it), played by the simulated operator, as closed sessions.

    Sessions begin five minutes apart (`read_calendar`). A lane's name takes its dialogues, any other name takes all;
    `part` (i, n) gives every n-th dialogue from the i-th on. Those that cannot close in [since, until) are not played.
    What cannot be played is logged. Raises InvalidInputError naming file and line.
    """
    schema = read_schema(Path(path).with_name(SCHEMA_FILE))
    for number, dialogue in read_calendar(Path(path), schema, process_cluster, part):
        begins = find_time(number)
        if may_close_within(begins, begins + BETWEEN_SESSIONS, since, until):
            yield record_session(dialogue, schema, process_cluster, number)


def describe_case(dialogue: Dialogue, schema: Schema) -> dict[str, str]:
    """What is known of a session before anything is said: one service of each kind, which the contract is with.

    Of kinds that the dialogue needs, those it needs; of any other, one by a digest of its name. So it tells which
    of two alike is meant (`Flights_1`, `Flights_2`), and nothing of what is wanted.
    """
    kinds: dict[str, list[str]] = {}
    for name in sorted(schema):
        kinds.setdefault(name.rpartition("_")[0], []).append(name)
    contract = []
    for kind, names in kinds.items():
        needed = [name for name in names if name in dialogue.services]
        digest = crc32(f"{dialogue.dialogue_id}:{kind}".encode())
        contract += needed or [names[digest % len(names)]]
    return {"services": ",".join(contract), "dialogue_id": dialogue.dialogue_id}


def find_time(number: int) -> datetime:
    """When the desk's `number`-th session begins."""
    return EPOCH + number * BETWEEN_SESSIONS


def find_operator(number: int) -> str:
    """Who works the desk's `number`-th session."""
    hour = find_time(number).hour
    return f"operator-{hour // SHIFT_HOURS * OPERATORS_OF_SHIFT + number % OPERATORS_OF_SHIFT + 1}"


def record_session(
    dialogue: Dialogue, schema: Schema, process_cluster: str, number: int, *, has_terms: bool = False
) -> SessionRecord:
    """The session that `dialogue`, the desk's `number`-th, leaves; `has_terms`: under the changed process."""
    begins = find_time(number)
    log = SessionLog(f"desk-{dialogue.dialogue_id}", begins, begins + BETWEEN_SESSIONS - timedelta(seconds=1))
    log.add(SessionOpened(describe_case(dialogue, schema), {}))
    outcome = play(dialogue, schema, _Writer(log, find_operator(number)), PEOPLE, has_terms=has_terms)
    log.add(SessionClosed(Closing.TRANSFERRED if outcome.ended == TRANSFERRED else Closing.CLOSED))
    return log.record(process_cluster)


class _Writer(Witness):
    """Writes into `log` what `operator` sees and does."""

    def __init__(self, log: SessionLog, operator: str) -> None:
        self._log = log
        self._operator = operator
        self._shown = ""

    def see_customer(self, text: str) -> None:
        self._log.wait(CUSTOMER_SECONDS)
        self._log.add(MessagePosted(Author.CUSTOMER, text))

    def see_desk(self, desk: Desk) -> None:
        page = build_page(desk)
        if page != self._shown:
            self._shown = page
            self._log.add(ScreenShown(screen=read_screen(page, (SCHEMA,))))

    def see_action(self, action: Action) -> None:
        seconds = find_seconds(action)
        self._log.wait(seconds)
        self._log.add(ActionTaken((action,), self._operator, seconds))
