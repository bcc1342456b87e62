"""A small data set in STAR's format, and a gateway in memory that folds what it is told as the real one does."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from pilotage_core.actions import Action
from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import ConflictError, UnavailableError
from pilotage_core.events import (
    ActionTaken,
    Event,
    FeedbackGiven,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionReviewed,
    Verdict,
)
from pilotage_core.gate import Decision
from pilotage_core.problem import describe_problem
from pilotage_core.proposal import find_fault
from pilotage_core.reading import read_screen
from pilotage_core.stage import Stage
from pilotage_core.walk import SessionWalk, is_decision_point
from pilotage_core.wire import Order, PostEvents, ProposalCard, Turn
from pilotage_simulator.adapter import Bpm
from pilotage_simulator.bpm import Session
from pilotage_simulator.case import Case
from pilotage_simulator.client import SequenceConflict
from pilotage_simulator.dialogue import Script, StepKind, build_script
from pilotage_simulator.ledger import Ledger, OrderReceived, read_ledger
from pilotage_simulator.screens import SCHEMAS, Renderer
from pilotage_simulator.star import SHARED, Dialogue, FormInput, Procedure

CITY = FormInput("City", "City", "Categorical", ("Detroit", "Boston"), True)
DAY = FormInput("Day", "Day", "ShortString")
WEATHER = Procedure(
    "weather",
    (CITY, DAY),
    ("submit",),
    {"weather_ask_day": "For what day?", "weather_inform_forecast": "It will be {weather:s}.", "weather_bye": "Bye."},
)
HOTEL = Procedure(
    "hotel_book",
    (FormInput("Name", "Hotel", "ShortString"),),
    ("submit:check", "submit:book"),
    {"hotel_ask_name": "Which hotel?", "hotel_inform_booked": "It is booked."},
)
PROCEDURES = {"hotel_book": HOTEL, "weather": WEATHER}


def star_folder() -> Path:
    """STAR as the tests need it: absent is a failure in CI, and a skip with the remedy elsewhere."""
    path = Path(os.environ["STAR"]) if os.environ.get("STAR") else SHARED
    if not path.exists():
        reason = f"STAR is not at {path}: give STAR=<folder with dialogues.jsonl.gz, apis.json, tasks.json>"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def star_path() -> Path:
    return star_folder()


@pytest.fixture(scope="session")
def fx() -> ModuleType:
    """This module: test files under importlib's rules cannot import their neighbours."""
    return sys.modules[__name__]


def user(text: str, at: int) -> dict[str, Any]:
    return {"Agent": "User", "Action": "utter", "Text": text, "UnixTime": at}


def pick(label: str, text: str, at: int) -> dict[str, Any]:
    return {"Agent": "Wizard", "Action": "pick_suggestion", "ActionLabel": label, "Text": text, "UnixTime": at}


def query(api: str, at: int, **values: str) -> dict[str, Any]:
    constraints = [{name: f'"{value}"'} for name, value in values.items()]
    return {"Agent": "Wizard", "Action": "query", "APIName": api, "Constraints": constraints, "UnixTime": at}


def result(**item: object) -> dict[str, Any]:
    return {"Agent": "KnowledgeBase", "Action": "return_item", "Item": item, "TotalItems": -1}


def dialogue(events: list[dict[str, Any]], identity: int = 1, task: str = "weather", multi: bool = False) -> Dialogue:
    tasks = ["weather", "hotel_book"] if multi else [task]
    content = {
        "DialogueID": identity,
        "AnonymizedWizardWorkerID": "w-1",
        "Scenario": {
            "Domains": [task],
            "MultiTask": multi,
            "WizardCapabilities": [{"Task": name, "Domain": task} for name in tasks],
        },
        "Events": events,
    }
    return msgspec.convert(content, Dialogue)


TWO_FORECASTS = [
    user("Hello!", 100),
    pick("hello", "Hello, how can I help?", 110),
    user("Weather in Detroit?", 120),
    pick("weather_ask_day", "For what day?", 125),
    user("Monday.", 130),
    query("weather", 140, City="Detroit", Day="Monday"),
    result(Weather="Sunny"),
    pick("weather_inform_forecast", "It will be Sunny.", 145),
    user("And Tuesday?", 150),
    query("weather", 300, City="Detroit", Day="Tuesday"),
    result(Weather="Rain"),
    pick("weather_inform_forecast", "It will be Rain.", 310),
    user("Thanks.", 320),
    pick("weather_bye", "Bye.", 325),
]

Policy = Callable[[Case], tuple[Decision, Action] | None]


class FakeGateway:
    """Folds events with the real state code, reads screens with the real reader, and decides as `policy` says.

    `remaining_ms`, `epoch`, `key` and `version_error` shape the orders; `down` is how many posts from now fail.
    """

    def __init__(self, policy: Policy, stage: Stage = Stage.COPILOT) -> None:
        self.policy = policy
        self.stage = stage
        self.walk = SessionWalk(DEFAULT_FORMAT)
        self.events: list[Event] = []
        self.case: Case | None = None
        self.proposals: dict[str, Action] = {}
        self.remaining_ms = 10_000
        self.epoch = 3
        self.key = ""
        self.nonce = ""
        self.version_error = 0
        self.down = 0
        self.lose_answers = 0

    async def post(self, session_id: str, post: PostEvents) -> Turn:
        if self.down:
            self.down -= 1
            raise UnavailableError("down")
        known = {event.id for event in self.events}
        executed = {e.data.proposal_id for e in self.events if isinstance(e.data, OutcomeReported)}
        for event in post.events:  # the real gateway refuses what is said of an execution it has not stored yet
            assert not isinstance(event.data, ActionTaken) or event.data.corrects in executed | {""}
            assert not isinstance(event.data, SessionReviewed) or {i.proposal_id for i in event.data.items} <= executed
        for event in post.events:
            if event.id not in known:
                self._take(event)
        if self.lose_answers:
            self.lose_answers -= 1
            raise UnavailableError("the answer is lost")
        last = post.events[-1].data
        if isinstance(last, FeedbackGiven) and last.verdict is Verdict.ACCEPT:
            order = self._order(last.proposal_id, post.nonce, last.operator)
            return self._turn(session_id, Decision.EXECUTE, order=order)
        if not post.wants_decision or not is_decision_point(self.walk.state) or self.case is None:
            return self._turn(session_id, Decision.OBSERVE)
        return self._decide(session_id, post.nonce)

    def _decide(self, session_id: str, nonce: str) -> Turn:
        assert self.case is not None
        wanted = self.policy(self.case)
        if wanted is None:
            return self._turn(session_id, Decision.OBSERVE)
        decision, action = wanted
        assert find_fault(action, self.walk.state.screen) == ""
        proposal_id = f"p-{len(self.proposals)}"
        self.proposals[proposal_id] = action
        card = ProposalCard(proposal_id, action)
        order = self._order(proposal_id, nonce, "permit") if decision is Decision.EXECUTE else None
        return self._turn(session_id, decision, card, order)

    def _order(self, proposal_id: str, nonce: str, by: str) -> Order:
        return Order(
            proposal_id,
            self.proposals[proposal_id],
            self.key or f"key-{proposal_id}",
            self.nonce or nonce,
            self.walk.state.version + self.version_error,
            self.remaining_ms,
            self.epoch if by == "permit" else 0,
            by,
            self.proposals[proposal_id].digest,
        )

    def _turn(
        self, session_id: str, decision: Decision, card: ProposalCard | None = None, order: Order | None = None
    ) -> Turn:
        version = self.walk.state.version
        return Turn(session_id, "star/information", version, self.stage, decision, "test", "", card, order)

    def _take(self, event: Event) -> None:
        if isinstance(event.data, ScreenShown):
            screen = read_screen(event.data.html, SCHEMAS)
            assert screen.unknown_controls == 0
            event = msgspec.structs.replace(event, data=ScreenShown(screen=screen))
        ordered = self.proposals.get(event.data.proposal_id) if isinstance(event.data, OutcomeReported) else None
        try:
            self.walk.step(event, ordered)
        except ConflictError as error:
            raise SequenceConflict(
                describe_problem("ConflictError", 400, error.what, error.where, error.remedy)
            ) from error
        self.events.append(event)

    def all_of(self, kind: type[Any]) -> list[Any]:
        return [event.data for event in self.events if isinstance(event.data, kind)]

    @property
    def taken(self) -> list[ActionTaken]:
        return self.all_of(ActionTaken)

    @property
    def outcomes(self) -> list[Outcome]:
        return [reported.outcome for reported in self.all_of(OutcomeReported)]

    @property
    def reviews(self) -> list[SessionReviewed]:
        return self.all_of(SessionReviewed)


def next_action(case: Case) -> Action:
    """What the wizard did next, as a policy would write it."""
    return next(step for _, step in case.steps_left() if step.kind is not StepKind.FILL).actions[0]


def follow(decision: Decision) -> Policy:
    """A policy that knows what the wizard does, and has nothing to propose where that is typing."""
    return lambda case: (
        Decision.OBSERVE if case.next_step()[1].kind is StepKind.FILL else decision,
        next_action(case),
    )


def script_of(events: list[dict[str, Any]], **given: Any) -> Script:
    script = build_script(dialogue(events, **given), PROCEDURES, transfer_share=0.0)
    assert script is not None
    return script


class Played:
    """A session that was played against a fake gateway: what the gateway saw, and what the BPM wrote down."""

    def __init__(self, gateway: FakeGateway, bpm: Bpm, session: Session, ledger: Path) -> None:
        self.gateway, self.bpm, self.session, self.ledger = gateway, bpm, session, ledger

    @property
    def orders(self) -> list[OrderReceived]:
        return [entry for entry in read_ledger(self.ledger) if isinstance(entry, OrderReceived)]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Any]:
    """`await play(script, gateway)`: plays it to its end."""

    async def _play(script: Script, gateway: FakeGateway, **options: Any) -> Played:
        path = tmp_path / "ledger.jsonl"
        bpm = Bpm(gateway, Ledger(path), **options)
        session = Session(bpm, "s-1", "star/information", script, Renderer(PROCEDURES))
        gateway.case = session.case
        await session.play()
        bpm.ledger.close()
        return Played(gateway, bpm, session, path)

    return _play
