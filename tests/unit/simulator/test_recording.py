"""Dialogues as session records: valid in both views, what the BPM plays, silent about what gives answers away."""

import gzip
import json

import msgspec
import pytest
from typer.testing import CliRunner

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import InvalidInputError
from pilotage_core.events import ActionTaken, MessagePosted, ScreenShown, SessionClosed, SessionOpened
from pilotage_core.record import SessionRecord
from pilotage_core.walk import SessionWalk, walk_session
from pilotage_simulator.main import app
from pilotage_simulator.recording import LANES, View, read_star_records, read_star_work
from pilotage_simulator.records import records_from_star
from pilotage_simulator.star import DIALOGUE_FILES

SECRETS = ("my-draft", "offered-label", "the-users-goal")
SOME = 60


@pytest.fixture(scope="module")
def few(star_path, tmp_path_factory):
    """The first dialogues of STAR, in a folder of their own."""
    folder = tmp_path_factory.mktemp("star")
    source = next(star_path / name for name in DIALOGUE_FILES if (star_path / name).exists())
    with gzip.open(source, "rt") as lines:
        (folder / "dialogues.jsonl").write_text("".join(next(lines) for _ in range(SOME)))
    for name in ("apis.json", "tasks.json"):
        (folder / name).write_bytes((star_path / name).read_bytes())
    return folder


def fold(record):
    walk = SessionWalk(DEFAULT_FORMAT)
    for event in record.events:
        walk.step(event)
    return walk.state


@pytest.mark.parametrize("view", View)
def test_a_record_folds_from_its_opening_to_its_closing(few, view):
    records = list(read_star_records(few, view))
    assert len(records) > SOME * 0.7
    for record in records:
        assert isinstance(record.events[0].data, SessionOpened)
        assert isinstance(record.events[-1].data, SessionClosed)
        assert not fold(record).is_open
        assert any(point.operator for point in walk_session(record, DEFAULT_FORMAT))
        assert [event.at for event in record.events] == sorted(event.at for event in record.events)
        assert record.opened_at == record.events[0].at
        assert record.closed_at == record.events[-1].at
        assert msgspec.json.decode(msgspec.json.encode(record), type=SessionRecord) == record


@pytest.mark.parametrize("view", View)
def test_sessions_close_in_the_files_order(few, view):
    closed = [record.closed_at for record in read_star_records(few, view)]
    assert closed == sorted(closed)


@pytest.mark.parametrize("view", View)
def test_the_same_file_gives_the_same_records_whole_or_in_parts(few, view):
    whole = {record.session_id: record for record in read_star_records(few, view)}
    assert {record.session_id: record for record in read_star_records(few, view)} == whole
    parts = [record for i in range(3) for record in read_star_records(few, view, part=(i, 3))]
    assert len(parts) == len(whole)
    assert {record.session_id: record for record in parts} == whole


def test_the_work_is_what_the_bpm_plays(few):
    def happenings(record):
        kinds = (ActionTaken, MessagePosted, ScreenShown, SessionOpened, SessionClosed)
        return [event.data for event in record.events if isinstance(event.data, kinds)]

    played = {record.session_id: record for record in records_from_star(few)}
    recorded = {record.session_id: record for record in read_star_work(few)}
    assert recorded.keys() == played.keys()
    for session_id, record in recorded.items():
        assert happenings(record) == happenings(played[session_id])


def test_drafts_offered_labels_and_instructions_stay_out(fx, few, tmp_path):
    draft, offered, goal = SECRETS
    wizard = {"Agent": "Wizard", "ActionLabelOptions": [offered, "weather_bye"]}
    events = [
        {"Agent": "UserGuide", "Action": "instruct", "Text": goal, "UnixTime": 1},
        fx.user("Hello!", 2),
        {**wizard, "Action": "request_suggestions", "Text": draft, "UnixTime": 3},
        {**fx.pick("hello", "Hello, how can I help?", 4), **wizard},
        {**wizard, "Action": "request_suggestions", "Text": draft, "UnixTime": 5},
        {**wizard, "Action": "utter", "Text": "In my own words.", "UnixTime": 6},
    ]
    dialogue = {
        "DialogueID": 1,
        "AnonymizedWizardWorkerID": "w-1",
        "Scenario": {
            "Domains": ["weather"],
            "MultiTask": False,
            "WizardTask": goal,
            "UserTask": goal,
            "WizardCapabilities": [{"Task": "weather", "Domain": "weather"}],
        },
        "Events": events,
    }
    for name in ("apis.json", "tasks.json"):
        (tmp_path / name).write_bytes((few / name).read_bytes())
    (tmp_path / "dialogues.jsonl").write_text(json.dumps(dialogue))
    for view in View:
        (record,) = read_star_records(tmp_path, view)
        written = msgspec.json.encode(record).decode()
        assert "own words" in written
        assert not any(secret in written for secret in SECRETS)


def test_lanes_part_the_dialogues_and_any_other_name_takes_all(few):
    dealt = {name: list(read_star_records(few, process_cluster=name)) for name in (*LANES, "star/long-tail")}
    everything = list(read_star_records(few, process_cluster="acme/support"))
    assert all(record.process_cluster == name for name, records in dealt.items() for record in records)
    assert {r.process_cluster for r in everything} == {"acme/support"}
    ids = [record.session_id for records in dealt.values() for record in records]
    assert sorted(ids) == sorted(record.session_id for record in everything)


@pytest.mark.parametrize("ending", ["ndjson", "ndjson.gz"])
def test_record_writes_an_export(few, tmp_path, ending):
    out = tmp_path / f"star.{ending}"
    ran = CliRunner().invoke(app, ["record", str(out), "--star", str(few), "--limit", "5"])
    assert ran.exit_code == 0, ran.output
    with gzip.open(out) if ending.endswith("gz") else out.open("rb") as lines:
        records = [msgspec.json.decode(line, type=SessionRecord) for line in lines]
    assert records == list(read_star_records(few))[:5]
    assert list(tmp_path.iterdir()) == [out]


def test_record_refuses_a_format_it_does_not_know_and_leaves_nothing(few, tmp_path):
    ran = CliRunner().invoke(app, ["record", str(tmp_path / "star.csv"), "--star", str(few)])
    assert ran.exit_code == 2
    assert "says no format" in ran.output
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named_with_its_line(few, tmp_path):
    for name in ("apis.json", "tasks.json"):
        (tmp_path / name).write_bytes((few / name).read_bytes())
    lines = (few / "dialogues.jsonl").read_text().splitlines()
    (tmp_path / "dialogues.jsonl").write_text("\n".join([*lines[:3], lines[3][:200]]))
    with pytest.raises(InvalidInputError, match=r"jsonl:4"):
        list(read_star_records(tmp_path))
