"""A forecast: what could be certified, what is missing, and a page that says so and asks for nothing."""

import json
import math
import re

import msgspec
import pytest
from typer.testing import CliRunner

from pilotage.forecast import build_forecast, in_words, name_issues, name_source
from pilotage.forecast_page import build_page
from pilotage.forecast_targets import Replayed, forecast_stratum, project_coverage
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
from pilotage_trainer.measures import risk_coverage


def replayed(n, score, right_every=0):
    def one(i):
        right = not right_every or i % right_every > 0
        return Replayed(f"s{i // 4}", f"o{i % 9}", "message", "t", "x", "i", "2026-01", score, right)

    return [one(i) for i in range(n)]


def test_labels_that_are_all_right_certify_and_need_nothing_more():
    stratum = forecast_stratum("message", replayed(400, 0.9), (0.9,), 0.05)
    (need,) = stratum.needs
    assert need.tau == 0.9
    assert need.more_labels == 0
    assert need.labels_needed == pytest.approx(60, abs=3)  # the first prefix tested is never smaller
    assert in_words(need) == "none: certified as it is"


def test_too_few_labels_of_a_good_model_say_how_many_more():
    """One wrong in fifty: 0.95 takes n with P(Binomial(n, 0.05) ≤ n / 50) ≤ δ, and 120 labels are not enough."""
    stratum = forecast_stratum("message", replayed(120, 0.9, right_every=50), (0.95,), 0.05)
    (need,) = stratum.needs
    assert need.tau is None
    assert 120 < need.labels_needed < 400
    assert need.more_sessions == pytest.approx(need.more_labels / 4, abs=1)


def test_a_model_below_the_target_is_not_mended_by_labels():
    (need,) = forecast_stratum("message", replayed(400, 0.9, right_every=3), (0.9,), 0.05).needs
    assert (need.tau, need.labels_needed, need.more_sessions) == (None, None, None)
    assert "better model" in in_words(need)


def test_more_labels_never_certify_less():
    curve = risk_coverage([0.99 - i / 1000 for i in range(500)], [i % 40 != 39 for i in range(500)])
    shares = [project_coverage(curve, 500, 1.0, 0.95, 0.05, multiple) for multiple in (0.25, 0.5, 1, 2, 4, 8, 16)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


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
    forecast = build_forecast(logs)
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
    told = CliRunner().invoke(app, ["forecast", str(logs), "--out", str(out)])
    assert "more supervision" in told.stdout


def test_star_is_known_by_its_lines(tmp_path, logs):
    path = tmp_path / "some.jsonl"
    path.write_text('{"DialogueID": 1}')
    assert name_source(path) == f"star:{path}"
    assert name_source(logs) == str(logs)


def test_too_little_is_refused(tmp_path):
    with pytest.raises(InvalidInputError):
        build_forecast(tmp_path / "nowhere")
    path = tmp_path / "few.ndjson"
    path.write_bytes(msgspec.json.encode(session(1, {})))
    with pytest.raises(EvidenceError, match="too few"):
        build_forecast(path)


def test_metadata_that_never_differs_is_no_issue_type():
    assert name_issues([session(1, {"line": "b"}), session(2, {"line": "b"})]) == ["all", "all"]
