"""The evaluation of a policy on sessions: what counts as right, the splits, and the page."""

import json
import re
from html.parser import HTMLParser

import pytest
from stubs.endpoint import endpoint
from typer.testing import CliRunner

from pilotage_core.actions import Action, Tool
from pilotage_trainer.backends.counts.critic_job import run_critic
from pilotage_trainer.backends.counts.policy_job import run_policy
from pilotage_trainer.backends.interface import Reply
from pilotage_trainer.config import read_config
from pilotage_trainer.evaluation.points import JudgedPoint
from pilotage_trainer.evaluation.report import build_report, is_alike, is_right, measure
from pilotage_trainer.evaluation.run import choose_evenly
from pilotage_trainer.main import app
from pilotage_trainer.window import Window

SUBMIT, CANCEL = Action(Tool.CLICK_CONTROL, "submit"), Action(Tool.CLICK_CONTROL, "cancel")
HELLO = Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello", text="Hello, Ann!")


def fill(name, value):
    return Action(Tool.FILL_INPUT, f"input:{name}", value=value)


def say(text):
    return Action(Tool.SEND_TEXT_TO_CHAT, text=text)


def judged(proposed, taken, *, source="logs", rejected=False, p=0.5, session="s1"):
    return JudgedPoint(session, "ann", "i=1", "2026-01-01", source, rejected, taken, proposed, Reply("", p, p, p, p))


@pytest.mark.parametrize(
    ("proposed", "taken", "right", "alike"),
    [
        (SUBMIT, SUBMIT, True, True),
        (CANCEL, SUBMIT, False, False),
        (None, SUBMIT, False, False),
        (Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello", text="Hello, Bob!"), HELLO, True, True),
        (say("Hello, Ann!"), HELLO, False, False),
        (say("I will look that up"), say("I will look this up"), False, True),
        (say("no"), say("I will look this up"), False, False),
        (fill("City", "Oslo"), fill("City", "Oslo"), True, True),
        (fill("City", "New York City"), fill("City", "New York Cty"), False, True),
        (fill("City", "Oslo"), fill("Town", "Oslo"), False, False),
    ],
)
def test_what_counts_as_right(proposed, taken, right, alike):
    assert is_right(proposed, taken) is right
    assert (is_right(proposed, taken) or is_alike(proposed, taken, 0.8)) is alike


def test_accuracies_by_hand():
    told = measure([judged(SUBMIT, SUBMIT), judged(CANCEL, SUBMIT), judged(None, SUBMIT), judged(SUBMIT, HELLO)], 0.8)
    assert (told.n, told.tool, told.argument, told.action, told.proposed) == (4, 0.5, 0.5, 0.25, 0.75)
    assert measure([], 0.8).action == 0.0


def test_points_are_split_by_traffic_tool_and_rejection():
    points = [
        judged(SUBMIT, SUBMIT),
        judged(SUBMIT, HELLO, source="copilot", rejected=True),
        judged(HELLO, HELLO, source="automated", session="s2"),
    ]
    report = build_report([], points, [], policy="p", backend="counts")
    assert {name: one.n for name, one in report.by_source.items()} == {"logs": 1, "copilot": 1, "automated": 1}
    assert (report.rejection_set.n, report.rejection_set.action) == (1, 0.0)
    assert report.by_tool["send_text_to_chat"].action == 0.5
    assert list(report.confidence_curves) == ["served"]  # one token each: all kinds of confidence are the same
    assert report.likeness_threshold == 0.8


def test_an_even_sample():
    assert choose_evenly(10, 3) == [0, 4, 9]
    assert choose_evenly(2, 5) == [0, 1]


class Balance(HTMLParser):
    """Every opened element is closed, in order; ids are unique."""

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_pair_is_evaluated_and_its_page_asks_for_nothing(make_sessions, write_export, config, tmp_path):
    sessions = make_sessions(150)
    export, key = write_export(sessions), "star/weather"
    run_policy(Window(export, key, "r1", tmp_path, until=sessions[60].closed_at), read_config(config))
    run_critic(Window(export, key, "r1", tmp_path, until=sessions[110].closed_at), read_config(config))
    live = make_sessions(20, first=150, live="another policy")
    export, folder, page = write_export(sessions + live), tmp_path / key / "r1", tmp_path / "pages" / "e.html"
    with endpoint(lambda _: '{"tool": "click_control", "control_id": "submit"}') as (url, asked):
        arguments = ["evaluate", "--export", export, "--policy", str(folder), "--critic", str(folder)]
        arguments += ["--held-out-after", sessions[110].closed_at, "--config", config, "--report", str(page)]
        arguments += ["--zero-shot", url, "--model", "general", "--sample", "15", "--json"]
        told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    report = json.loads(told.stdout)
    assert report["sessions"] == 59
    assert report["overall"]["action"] > 0.5
    assert set(report["by_source"]) == {"logs", "copilot"}
    assert {(one["tool"], one["revision"]) for one in report["acceptance"]} == {("click_control", "r1")}
    assert set(report["scores"]) == {"critic", "confidence: served"}
    assert report["scores"]["critic"]["auroc"] > 0.5
    assert set(report["slices"]) == {"operator", "issue type", "time"}
    assert report["zero_shot"]["general"]["n"] == report["zero_shot"]["this policy"]["n"] == len(asked) == 15
    markup = page.read_text()
    parser = Balance()
    parser.feed(markup)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert not re.findall(r'(?:src|href)="(?!#)|<script|@import', markup)


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        (["--zero-shot", "http://127.0.0.1:1/v1"], 2, "go together"),
        (["--zero-shot", "localhost/v1", "--model", "general"], 2, "'localhost/v1' is no http address"),
        (["--since", "yesterday"], 2, "--since: 'yesterday' is no RFC 3339 time"),
        (["--likeness", "7"], 2, "--likeness"),
        (["--sample", "0"], 2, "--sample"),
        (["--report", "/"], 7, "Is a directory"),
        (["--revision", "r1"], 2, "--revision"),
        ([], 6, "cannot be read"),
    ],
)
def test_what_cannot_be_evaluated_is_said(extra, code, said, write_export, make_sessions):
    export = write_export(make_sessions(2))
    told = CliRunner().invoke(app, ["evaluate", "--export", export, "--policy", "/nowhere", *extra])
    assert told.exit_code == code
    assert said in " ".join(told.output.split())
