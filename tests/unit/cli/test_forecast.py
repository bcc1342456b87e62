"""A forecast: what could be certified, what is missing, and a page that says so and asks for nothing."""

import json
import math
import re

import msgspec
import pytest
from typer.testing import CliRunner

from pilotage.forecast.measure import build_forecast, in_words, name_source
from pilotage.forecast.page import build_page
from pilotage.forecast.targets import Outlook, forecast_stratum
from pilotage.main import app
from pilotage_core.actions import Action, Tool
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    MessagePosted,
    ScreenShown,
    SessionClosed,
    SessionOpened,
)
from pilotage_core.record import SessionRecord
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_trainer.evaluation.history import Replayed, name_issues


def replayed(n, score, right_every=0):
    def one(i):
        right = not right_every or i % right_every > 0
        return Replayed(f"s{i // 4}", f"o{i % 9}", "message", "t", "x", "i", "2026-01", score, right)

    return [one(i) for i in range(n)]


ONE_IS_WRONG = [
    msgspec.structs.replace(r, operator="o0", accepted=i % 2 == 0) for i, r in enumerate(replayed(250, 0.9))
]
"""Of an operator whom the model fails every other time, while it never fails the others."""


def test_labels_that_are_all_right_certify_and_need_nothing_more():
    (need,) = forecast_stratum("message", replayed(400, 0.9), (0.9,), 0.05).needs
    assert (need.tau, need.outlook, need.more_labels) == (0.9, Outlook.CERTIFIED, None)
    assert in_words(need) == "none: certified as it is"


def test_too_few_labels_of_a_good_model_say_how_many_more():
    """One wrong in fifty: 0.95 takes n with P(Binomial(n, 0.05) ≤ n / 50) ≤ δ, and 120 labels are not enough."""
    (need,) = forecast_stratum("message", replayed(120, 0.9, right_every=50), (0.95,), 0.05).needs
    assert (need.tau, need.outlook) == (None, Outlook.MORE_LABELS)
    assert 120 < need.labels_needed < 400
    assert need.more_sessions == pytest.approx(need.more_labels / 4, abs=1)
    assert need.labels_if_lower is None or need.labels_if_lower > need.labels_needed


@pytest.mark.parametrize(
    ("rows", "outlook"),
    [
        (replayed(400, 0.9, right_every=3), Outlook.BETTER_MODEL),
        (replayed(100, 0.9, right_every=10), Outlook.UNCLEAR),  # precision seen is the target itself
        (replayed(20, 0.9), Outlook.UNCLEAR),  # all right, but fewer than the test begins with
        ([r for r in replayed(900, 0.9) if r.operator != "o0"] * 3 + ONE_IS_WRONG, Outlook.MORE_OPERATORS),
    ],
    ids=["below", "at", "few", "one-operator-is-wrong"],
)
def test_no_number_of_labels_is_told_where_none_would_do(rows, outlook):
    need = forecast_stratum("message", rows, (0.9,), 0.05).needs[0]
    assert (need.outlook, need.tau, need.labels_needed, need.more_sessions) == (outlook, None, None, None)


def test_a_number_of_labels_does_not_rest_on_a_lucky_few():
    """The ten highest of 60 are all right, the others two in three: ten labels are no sign that any number would do."""
    scores = [0.9] * 10 + [0.5] * 50
    rows = [msgspec.structs.replace(r, score=s) for r, s in zip(replayed(60, 0.9, right_every=3), scores, strict=True)]
    rows[:10] = [msgspec.structs.replace(r, accepted=True) for r in rows[:10]]
    assert forecast_stratum("message", rows, (0.9,), 0.05).needs[0].labels_needed is None


def test_more_labels_certify_more_where_the_highest_scores_are_the_best():
    """Two in five are all right, the others four in five: four fifths together are right nine times in ten."""
    rows = [
        msgspec.structs.replace(r, score=0.99 - i / 1000, accepted=i < 200 or i % 5 > 0)
        for i, r in enumerate(replayed(500, 0.9))
    ]
    shares = [point.coverage for point in forecast_stratum("message", rows, (0.9,), 0.05).growth]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]
    assert 0.7 < shares[-1] <= 0.8


def session(number, metadata):
    """Asked, looked up, answered: always the same, so that a model can learn it."""
    controls = (Control("submit", ControlKind.BUTTON), Control("reply:tell", ControlKind.REPLY, label="It is so."))
    happenings = [
        SessionOpened(metadata),
        ScreenShown(screen=Screen("form", controls=controls)),
        MessagePosted(Author.CUSTOMER, "how is it?"),
        ActionTaken((Action(Tool.CLICK_CONTROL, "submit"),), f"o{number % 5}"),
        ScreenShown(screen=Screen("form", controls=controls, facts=(("Message", "so"),))),
        ActionTaken((Action(Tool.SEND_TEXT_TO_CHAT, "reply:tell", text="It is so."),), f"o{number % 5}"),
        MessagePosted(Author.CUSTOMER, "thanks"),
        ActionTaken((Action(Tool.CLOSE_CHAT),), f"o{number % 5}"),
        SessionClosed(Closing.CLOSED),
    ]
    at = f"2026-{1 + number // 200:02}-{1 + number % 200 // 10:02}T12:{number % 10:02}:00+00:00"
    events = tuple(Event(f"{number}-{i}", i, at, data) for i, data in enumerate(happenings))
    return SessionRecord(f"s{number}", "shop/returns", at, events, closed_at=at)


@pytest.fixture
def logs(tmp_path):
    path = tmp_path / "export.ndjson"
    sessions = [session(n, {"issue": "late" if n % 3 else "lost", "line": "b", "case_id": str(n)}) for n in range(400)]
    path.write_bytes(b"\n".join(map(msgspec.json.encode, sessions)))
    return path


def test_a_history_is_learned_from_replayed_and_told(logs):
    forecast = build_forecast(str(logs))
    assert (forecast.learned_from, forecast.replayed, forecast.points) == (280, 120, 360)
    assert forecast.accepted == 1.0
    assert [s.name for s in forecast.strata] == ["finalizing", "message", "procedure"]
    message = forecast.strata[1]
    assert next(n for n in message.needs if n.target == 0.9).coverage == 1.0
    assert {one.name for one in forecast.slices["issue"]} == {"issue=late", "issue=lost"}  # ids and constants left out
    page = build_page(forecast)
    assert "not a certificate" in page
    assert not re.findall(r'(?:src|href)="(?!#)|<script', page)
    assert not math.isnan(forecast.seconds)


def test_the_command_writes_the_page_and_prints_json(logs, tmp_path):
    out = tmp_path / "deep" / "page.html"
    told = CliRunner().invoke(app, ["forecast", str(logs), "--target", "0.9", "--out", str(out), "--json"])
    assert told.exit_code == 0, told.output
    assert [s["needs"][0]["target"] for s in json.loads(told.stdout)["strata"]] == [0.9] * 3
    assert out.read_text().startswith("<!doctype html>")
    assert "certified at 0.9" in out.read_text()
    told = CliRunner().invoke(app, ["forecast", str(logs), "--target", "0.8", "--target", "0.8", "--out", str(out)])
    assert "more supervision" in told.stdout
    assert told.stdout.count("message") == 1
    assert "100%</b><span>of them could run unattended, certified at 0.8" in out.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--delta", "1"], "--delta: 1 is not between 0 and 1"),
        (["--target", "90"], "--target: 90 is not between 0 and 1"),
        (["--out", "/proc/page.html"], "--out /proc/page.html: cannot be written"),
    ],
)
def test_a_wrong_option_is_named_before_any_work(logs, options, said):
    told = CliRunner().invoke(app, ["forecast", str(logs), *options])
    assert told.exit_code != 0
    assert said in " ".join(told.output.split())


def test_star_is_known_by_its_lines(tmp_path, logs):
    path = tmp_path / "some.jsonl"
    path.write_text('{"DialogueID": 1}')
    assert name_source(str(path)) == name_source(f"star:{path}") == f"star:{path}"
    assert name_source(str(logs)) == str(logs)


def test_too_little_is_refused(tmp_path):
    with pytest.raises(InvalidInputError):
        build_forecast(str(tmp_path / "nowhere"))
    path = tmp_path / "few.ndjson"
    path.write_bytes(msgspec.json.encode(session(1, {})))
    with pytest.raises(EvidenceError, match="too few"):
        build_forecast(str(path))


def test_metadata_that_never_differs_is_no_issue_type():
    assert name_issues([session(1, {"line": "b"}), session(2, {"line": "b"})]) == ["all", "all"]
