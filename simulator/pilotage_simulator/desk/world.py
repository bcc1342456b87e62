"""The desk as a world that can be played against a gateway: its dialogues in the order in which they come to it.

What a session's line of business is comes from the number that was called: it is its lane's name.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pilotage_simulator.adapter import Bpm
from pilotage_simulator.desk.recording import ALL, describe_case, find_operator, read_calendar
from pilotage_simulator.desk.session import DeskSession
from pilotage_simulator.desk.sgd import SCHEMA_FILE, Dialogue, Schema, read_schema
from pilotage_simulator.plan import Plan
from pilotage_simulator.worlds import Offered


class DeskCase(NamedTuple):
    """The desk's `number`-th dialogue."""

    number: int
    dialogue: Dialogue
    schema: Schema

    @property
    def session_id(self) -> str:
        """The dialogue's name."""
        return f"desk-{self.dialogue.dialogue_id}"

    def build_session(self, bpm: Bpm, process_cluster: str, *, changed: bool) -> DeskSession:
        """The session, in the shift that it falls into."""
        metadata = describe_case(self.dialogue, self.schema)
        metadata["line_of_business"] = process_cluster.rpartition("/")[2]
        operator = find_operator(self.number)
        return DeskSession(
            bpm, self.session_id, process_cluster, self.dialogue, self.schema, metadata, operator, changed
        )


class DeskWorld:
    """The dialogues of the file at `path`, its schema beside it. Raises InvalidInputError naming file and line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schema = read_schema(path.with_name(SCHEMA_FILE))

    def list_cases(self, plan: Plan) -> Iterator[Offered]:
        """All there are; their domains are the kinds of services that they need."""
        for number, dialogue in read_calendar(self._path, self._schema, ALL, (0, 1)):
            kinds = tuple(sorted({service.rpartition("_")[0] for service in dialogue.services}))
            yield Offered(dialogue.dialogue_id, kinds, partial(DeskCase, number, dialogue, self._schema))
