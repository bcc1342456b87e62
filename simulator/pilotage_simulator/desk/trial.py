"""Sessions at the desk as trials: whoever wants may work them, an operator looking on.

`read_desk_trials` is what the entry point `desk` of group `pilotage.trials` leads to. Not here: who works them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilotage_core.actions import UNCRITICAL, Action, ActionPattern, ActionRules, StratumRule, Tool
from pilotage_core.events import Author, MessagePosted, ScreenShown, SessionClosed, SessionOpened
from pilotage_core.reading import read_screen
from pilotage_core.trial import TrialResult, Worker
from pilotage_simulator.desk.clerk import PEOPLE, Clerk
from pilotage_simulator.desk.customer import Said
from pilotage_simulator.desk.desk import BOOK, SEARCH, Desk
from pilotage_simulator.desk.effort import find_seconds
from pilotage_simulator.desk.outcome import Outcome
from pilotage_simulator.desk.play import Witness, play, play_at
from pilotage_simulator.desk.recording import ALL, describe_case, find_operator, find_time, read_calendar
from pilotage_simulator.desk.screens import SCHEMA, build_page
from pilotage_simulator.desk.services import build_services
from pilotage_simulator.desk.sgd import SCHEMA_FILE, Dialogue, Schema, read_schema

RULES = ActionRules(
    uncritical=(
        *(pattern for pattern in UNCRITICAL if pattern.tool is not Tool.OPEN_PROCEDURE),
        ActionPattern(tool=Tool.CLICK_CONTROL, control="row:*", screen="desk"),
    ),
    strata=(
        StratumRule(ActionPattern(tool=Tool.CLICK_CONTROL, control=BOOK), "booking"),
        StratumRule(ActionPattern(tool=Tool.CLICK_CONTROL, control=SEARCH), "search"),
        StratumRule(ActionPattern(tool=Tool.OPEN_PROCEDURE), "procedure"),
    ),
)
"""What is filled in is judged by the click that submits it. What is opened decides what the customer gets. A row shown
books nothing, and is critical once it is told.
"""


def read_desk_trials(
    path: str | Path, process_cluster: str = ALL, part: tuple[int, int] = (0, 1)
) -> Iterator["DeskTrial"]:
    """The dialogues of `path` (its schema beside it) as trials, in the order they come to the desk.

    Lanes and `part` as for `read_desk_records`.

    What cannot be played is logged. Raises InvalidInputError naming file and line.
    """
    schema = read_schema(Path(path).with_name(SCHEMA_FILE))
    for number, dialogue in read_calendar(Path(path), schema, process_cluster, part):
        yield DeskTrial(dialogue, schema, number)


@dataclass(frozen=True)
class DeskTrial:
    """One dialogue; `number` counts those of its file from 0."""

    dialogue: Dialogue
    schema: Schema
    number: int

    @property
    def trial_id(self) -> str:
        """The dialogue's name."""
        return f"desk-{self.dialogue.dialogue_id}"

    @property
    def begins(self) -> str:
        """When it comes to the desk."""
        return find_time(self.number).isoformat()

    @property
    def rules(self) -> ActionRules:
        """What the desk's process clusters say of its actions."""
        return RULES

    @property
    def operator(self) -> str:
        """Whose shift it is in."""
        return find_operator(self.number)

    def play(self, worker: Worker) -> TrialResult:
        """Have `worker` work it."""
        desk = Desk(build_services(self.dialogue, self.schema))
        seat = _Seat(Clerk(desk), worker)
        worker.see(SessionOpened(describe_case(self.dialogue, self.schema), {}))
        outcome = play_at(desk, self.dialogue, seat, _Eyes(worker))
        worker.see(SessionClosed(outcome.closing))
        return _sum_up(outcome)

    def play_alone(self) -> tuple[TrialResult, float]:
        """An operator of the desk works it, with haste and slips."""
        outcome = play(self.dialogue, self.schema, manners=PEOPLE)
        return _sum_up(outcome), outcome.operator_seconds


def _sum_up(outcome: Outcome) -> TrialResult:
    return TrialResult(outcome.is_right, bool(outcome.goal), len(outcome.wrong), len(outcome.missing), outcome.ended)


@dataclass
class _Seat:
    """The worker at the desk, the clerk looking on; to the worker the clerk is the supervisor."""

    clerk: Clerk
    worker: Worker

    def hear(self, said: Said) -> None:
        self.clerk.hear(said)

    def decide(self) -> Action | None:
        action = self.worker.decide(self)
        if action is not None:
            self.clerk.see(action)
        return action

    def refuse(self, action: Action, reason: str) -> None:
        self.worker.refuse(action, reason)

    # --- the supervisor ----------------------------------------------------------------------------------------------
    def accepts(self, action: Action) -> bool:
        return self.clerk.accepts(action)

    def find_action(self) -> Action | None:
        action = self.clerk.choose()
        if action is None or action.tool is not Tool.SEND_TEXT_TO_CHAT:
            return action
        return msgspec.structs.replace(action, text=self.clerk.desk.find_text(action.control_id))

    def find_seconds(self, action: Action) -> float:
        return find_seconds(action)


class _Eyes(Witness):
    """Shows `worker` what happens."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._shown = ""

    def see_customer(self, text: str) -> None:
        self._worker.see(MessagePosted(Author.CUSTOMER, text))

    def see_desk(self, desk: Desk) -> None:
        page = build_page(desk)
        if page != self._shown:
            self._shown = page
            self._worker.see(ScreenShown(screen=read_screen(page, (SCHEMA,))))
