"""Small synthetic sessions of one process: asked, filled in, submitted, answered, closed; with people who differ."""

import gzip
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from pilotage_core.actions import Action, ActionPattern, ActionRules, StratumRule, Tool
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    FeedbackGiven,
    Happening,
    MessagePosted,
    ScreenShown,
    SessionClosed,
    SessionOpened,
    Verdict,
)
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_core.stage import Stage
from pilotage_trainer.backends.counts.critic_job import run_critic
from pilotage_trainer.backends.counts.policy_job import run_policy
from pilotage_trainer.config import read_config
from pilotage_trainer.window import Window

SUBMITS = ActionPattern(tool="click_control", control="submit*")
RULES = ActionRules(
    strata=(StratumRule(SUBMITS, "procedure"),),
    tools=(Tool.SEND_TEXT_TO_CHAT, Tool.OPEN_PROCEDURE, Tool.CLICK_CONTROL, Tool.CLOSE_CHAT),
)
EPOCH = datetime(2026, 3, 1, tzinfo=UTC)
KEY = "star/weather"
ISSUED = "2026-03-05T00:00:00+00:00"
REPLIES = ("hello", "ask_city", "inform", "nothing_found", "bye")

MakeSessions = Callable[..., list[SessionRecord]]


class Script:
    """One session in the writing."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.number = number
        self.rng = rng
        self.operator = f"operator-{rng.randrange(6)}"
        self.events: list[Event] = []
        self.proposals: list[ProposalRecord] = []
        self.city = ""
        self.facts: tuple[tuple[str, str], ...] = ()
        self.at = EPOCH + timedelta(minutes=10 * number)

    def add(self, data: Happening) -> None:
        sequence = len(self.events)
        self.at += timedelta(seconds=7)
        self.events.append(Event(f"e{self.number}-{sequence}", sequence, self.at.isoformat(), data))

    def show(self, name: str, announcement: str = "") -> None:
        replies = tuple(Control(f"reply:{r}", ControlKind.REPLY, value=f"Text of {r}") for r in REPLIES)
        form = (Control("procedure:weather", ControlKind.PROCEDURE),)
        if name == "weather_form":
            form = (
                Control("input:City", ControlKind.INPUT, value=self.city),
                Control("submit", ControlKind.BUTTON),
            )
        announcements = (announcement,) if announcement else ()
        self.add(
            ScreenShown(
                screen=Screen(
                    name,
                    controls=form + replies,
                    facts=self.facts,
                    announcements=announcements,
                    recognised=True,
                )
            )
        )

    def act(self, *actions: Action) -> None:
        self.add(ActionTaken(actions, self.operator))

    def reply(self, label: str) -> None:
        if self.rng.random() < 0.1:
            self.act(Action(Tool.SEND_TEXT_TO_CHAT, text=f"own words for {label}"))
        else:
            self.act(Action(Tool.SEND_TEXT_TO_CHAT, f"reply:{label}", text=f"Text of {label}"))

    def say(self, text: str) -> None:
        self.add(MessagePosted(Author.CUSTOMER, text))

    def propose(self, action: Action, digest: str, accepted: bool) -> None:
        """A live proposal in the present state and the operator's word on it."""
        version = len(self.events)
        proposal = f"p{self.number}-{version}"
        critical = action.tool is not Tool.OPEN_PROCEDURE
        stratum = "procedure" if action.tool is Tool.CLICK_CONTROL else "message"
        self.proposals.append(
            ProposalRecord(
                proposal, version, action, "r1", digest, "", Stage.COPILOT, "propose", "stage-copilot",
                critical, stratum, "", self.at.isoformat(),
            )
        )  # fmt: skip
        verdict = Verdict.ACCEPT if accepted else Verdict.REJECT
        self.add(FeedbackGiven(proposal, verdict, self.operator))


def play(script: Script, changed: bool, live: str) -> SessionRecord:
    """One session. `changed`: the process after its change. `live`: digest of a policy that proposes each submit."""
    rng, submit = script.rng, Action(Tool.CLICK_CONTROL, "submit")
    customer = f"customer-{script.number}"
    script.add(SessionOpened({"domains": "weather", "case_id": f"case-{script.number}"}, {"customer_id": customer}))
    script.show("procedure_search")
    script.say("hello, how is the weather")
    script.act(Action(Tool.OPEN_PROCEDURE, "procedure:weather"))
    script.show("weather_form")
    if rng.random() < 0.6:
        script.reply("hello" if changed else "ask_city")
        script.say("in Chicago please")
    script.city = rng.choice(("Chicago", "Detroit"))
    script.act(Action(Tool.FILL_INPUT, "input:City", value=script.city))
    script.show("weather_form")
    hesitates = rng.random() < 0.15
    if live:
        script.propose(submit, live, accepted=not hesitates)
    if hesitates:
        script.reply("ask_city")
        script.say("yes that one")
    script.act(submit)
    found = rng.random() < 0.8
    script.facts = (("Weather", "Sunny"), ("Message", "Forecast found")) if found else (("Message", "Nothing found"),)
    script.show("weather_form")
    script.reply(("inform" if found else "nothing_found") if not changed else "bye")
    script.say("thanks")
    script.reply("bye" if not changed else "inform")
    script.say("bye")
    script.show("weather_form", announcement="the customer left")
    script.act(Action(Tool.CLOSE_CHAT))
    script.add(SessionClosed(Closing.CLOSED))
    return SessionRecord(
        session_id=f"session-{script.number}",
        process_cluster=KEY,
        opened_at=script.events[0].at,
        events=tuple(script.events),
        proposals=tuple(script.proposals),
        closed_at=script.at.isoformat(),
    )


@pytest.fixture
def make_sessions() -> MakeSessions:
    """`make_sessions(n, first=0, seed=0, changed=False, live="")`."""

    def make(n: int, *, first: int = 0, seed: int = 0, changed: bool = False, live: str = "") -> list[SessionRecord]:
        return [play(Script(i, random.Random(f"{seed}-{i}")), changed, live) for i in range(first, first + n)]

    return make


@pytest.fixture
def write_export(tmp_path: Path) -> Callable[[list[SessionRecord]], str]:
    """Writes sessions as an export and gives its path."""

    def write(records: list[SessionRecord], name: str = "export.ndjson.gz") -> str:
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"".join(msgspec.json.encode(record) + b"\n" for record in records)))
        return str(path)

    return write


@pytest.fixture
def config() -> str:
    """A Job's configuration with the rules of these sessions."""
    given = {
        "rules": msgspec.to_builtins(RULES),
        "strata": [{"name": "procedure"}, {"name": "finalizing", "target": "0.8"}],
        "precision_target": "0.7",
        "delta": 0.1,
        "min_action_accuracy": "0.4",
        "evidence": {"actions": "rules-digest", "screens": "screens-digest", "serving_image": "image-digest"},
        "selection": {"draws": 50},
    }
    return msgspec.json.encode(given).decode()


def window(export, out, **options):
    """A Job's window over `export`."""
    return Window(export, KEY, options.pop("revision", "r1"), Path(out), **options)


def make_pair(export, out, config, sessions, learned=60, fed_back=110):
    """Policy and critic of r1 on the first `fed_back` of `sessions`."""
    cut, end = sessions[learned].closed_at, sessions[fed_back].closed_at
    policy = run_policy(window(export, out, until=cut), read_config(config))
    critic = run_critic(window(export, out, until=end), read_config(config))
    return policy, critic


@pytest.fixture
def climbed(make_sessions, write_export, config, tmp_path):
    """Sessions, their export, the artefacts' folder, and the results of policy and critic."""
    sessions = make_sessions(190)
    export = write_export(sessions)
    return sessions, export, tmp_path, *make_pair(export, tmp_path, config, sessions)
