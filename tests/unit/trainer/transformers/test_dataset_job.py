"""A data set made whole: sides, loss, card, the same again; and what stops it."""

import json
import os

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind, encode_action
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.events import SessionClosed
from pilotage_core.training import Balancing, DatasetSettings
from pilotage_trainer.artefact import Manifest, read_manifest, write_artefact
from pilotage_trainer.backends.transformers.rows import job as rows_job
from pilotage_trainer.backends.transformers.rows.card import Card
from pilotage_trainer.backends.transformers.rows.choice import DatasetRequest, choose
from pilotage_trainer.backends.transformers.rows.dialog_spool import DialogTask, cut_windows, read_told, write_dialogs
from pilotage_trainer.backends.transformers.rows.job import run_dataset
from pilotage_trainer.backends.transformers.rows.selection import Split
from pilotage_trainer.backends.transformers.rows.sequences import IGNORED, NOTHING, Sequence, Target, build_segments
from pilotage_trainer.backends.transformers.rows.shards import read_rows
from pilotage_trainer.backends.transformers.rows.tokenizer import load_tokenizer
from pilotage_trainer.failures import WorkerDiedError, find_exit_code
from pilotage_trainer.main import app

KEY = "star/weather"


@pytest.fixture
def request_of(make_sessions, write_export, tmp_path):
    def make(sessions=None, **given):
        given.setdefault("workers", 1)
        given.setdefault("vocabulary", 400)
        name = f"{given.pop('name', 'set')}"
        return DatasetRequest(write_export(sessions or make_sessions(40)), tmp_path / "out" / name, **given)

    return make


def read_taught(folder, split):
    """What carries loss in `split`, decoded, run by run up to each end."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    nothing = tokenizer.convert_tokens_to_ids(NOTHING)
    taught, run = [], []
    for row in read_rows(folder, split):
        for label in row["labels"].tolist():
            if label == nothing:
                taught.append(NOTHING)
            elif label == tokenizer.eos_token_id:
                taught.append(tokenizer.decode(run))
                run = []
            elif label != IGNORED:
                run.append(label)
    assert not run
    return sorted(taught)


def expect_taught(records, form):
    return sorted(
        NOTHING if span.target is Target.NOTHING else segment.text[span.start : span.end]
        for record in records
        for segment in build_segments(record, form)
        for span in segment.spans
        if span.target is not Target.SILENT
    )


def test_every_action_of_every_session_carries_loss_once_on_its_own_side(make_sessions, request_of):
    sessions = make_sessions(40, live="digest")
    request = request_of(sessions, development_share=0.2, held_out_share=0.1)
    card = run_dataset(request)
    sides = {"train": sessions[:28], "development": sessions[28:36], "held-out": sessions[36:]}
    assert list(card.splits) == list(sides)
    for name, records in sides.items():
        assert read_taught(request.out, name) == expect_taught(records, request.settings.form)
        assert card.splits[name].sessions == len(records)
        rows = read_rows(request.out, name)
        assert (card.splits[name].rows, card.splits[name].tokens) == (len(rows), rows.tokens)


def test_two_workers_make_what_one_makes(make_sessions, request_of):
    sessions = make_sessions(30, live="digest")
    one = request_of(sessions, name="one")
    two = request_of(sessions, name="two", workers=2)
    assert run_dataset(one) == run_dataset(two)
    names = sorted(str(path.relative_to(one.out)) for path in one.out.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(two.out)) for path in two.out.rglob("*") if path.is_file())
    for name in names:
        assert (one.out / name).read_bytes() == (two.out / name).read_bytes(), name


def test_the_card_counts_what_is_there(make_sessions, request_of):
    sessions = make_sessions(40, live="digest")
    request = request_of(sessions, development_share=0.25)
    card = run_dataset(request)
    assert msgspec.json.decode((request.out / "card.json").read_bytes(), type=Card) == card
    train = card.splits["train"]
    assert train.actions == sum(train.by_tool.values()) == sum(train.by_screen.values()) == sum(train.by_day.values())
    assert train.actions == sum(train.by_operator.values()) == sum(train.by_source.values())
    assert train.rejections > 0
    assert set(train.by_source) == {"logs", "copilot"}
    labels = [label for row in read_rows(request.out, "train") for label in row["labels"].tolist()]
    assert train.loss_tokens == sum(label != IGNORED for label in labels)
    page = (request.out / "card.md").read_text()
    assert f"| tokens | {train.tokens:,} |" in page
    assert "send_text_to_chat" in page
    assert read_manifest(request.out).files["train/data-00000-of-00001.arrow"]
    form = request.settings.form
    assert f"max_chars 24000, block_chars 8000; format `{form.digest}`" in page
    assert list(request.out.parent.iterdir()) == [request.out]


def test_a_set_says_how_its_dialogs_are_written(request_of):
    settings = DatasetSettings(snapshot="difference", max_chars=60_000)
    request = request_of(settings=settings)
    card, made = run_dataset(request), read_manifest(request.out)
    assert made.dialog == settings.form == DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000)
    assert card.dialog == {"snapshot": "difference", "max_chars": 60_000, "block_chars": 20_000}
    assert card.prompt_format == made.prompt_format == settings.form.digest


def test_without_a_limit_of_its_own_a_command_takes_what_its_tokens_have_room_for(
    write_export, make_sessions, tmp_path
):
    export, given = write_export(make_sessions(20)), ["--workers", "1", "--vocabulary", "400"]
    wanted = {"--max-tokens 2000": 6000, "--max-tokens 64": 1000, "--max-chars 30000": 30_000}
    for number, (option, chars) in enumerate(wanted.items()):
        out = tmp_path / str(number)
        told = CliRunner().invoke(app, ["dataset", "--export", export, "--out", str(out), *given, *option.split()])
        assert told.exit_code == 0, told.output
        assert read_manifest(out).dialog.max_chars == chars


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--max-chars 10", "--max-chars: Input should be greater than or equal to 1000"),
        ("--max-tokens 99999999", "--max-tokens: Input should be less than or equal to 1048576"),
        ("--vocabulary 99999999", "--vocabulary"),
        ("--since 2026-01-01", "--since: '2026-01-01' has no offset"),
        ("--tokenizer /no/such/base", "/no/such/base: has no tokenizer"),
    ],
)
def test_a_slip_in_an_option_is_told_before_a_session_is_read(option, said, tmp_path):
    told = CliRunner().invoke(app, ["dataset", "--export", "/nowhere", "--out", str(tmp_path / "set"), *option.split()])
    assert told.exit_code in (2, 10)
    assert said in told.output


def test_a_session_that_was_exported_twice_is_taken_once_and_as_it_was_last(make_sessions, request_of):
    sessions = make_sessions(20)
    shorter = msgspec.structs.replace(sessions[3], events=sessions[3].events[:4], closed_at=sessions[3].events[3].at)
    card = run_dataset(request_of([shorter, *sessions, sessions[5]], development_share=0.0, name="twice"))
    once = run_dataset(request_of(sessions, development_share=0.0, name="once"))
    assert card.repeated_sessions == 2
    assert card.splits == once.splits
    assert card.data == once.data


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(14)),
    repeated=st.lists(st.integers(0, 13), max_size=6),
    shares=st.tuples(st.floats(0, 0.45), st.floats(0, 0.45)),
)
def test_nothing_of_one_session_is_on_two_sides(make_sessions, tmp_path, order, repeated, shares):
    sessions = make_sessions(14)
    path = tmp_path / "export.ndjson"
    chosen = [sessions[n] for n in (*order, *repeated)]
    path.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in chosen))
    request = DatasetRequest(str(path), tmp_path / "set", development_share=shares[0], held_out_share=shares[1])
    told = read_told(
        write_dialogs(DialogTask(str(path), "", "", "", request.settings.form, (0, 1), tmp_path / "spool"))
    )
    found = choose(told, request)
    assert sorted(session.session_id for session in found.sessions) == sorted(r.session_id for r in sessions)
    side_of = {}
    for side, decisions in found.decisions.items():
        for decision in decisions:
            assert side_of.setdefault(found.sessions[decision.session].session_id, side) is side
    order = list(Split)
    ranks = [order.index(side) for side in found.sides]
    assert ranks == sorted(ranks)


def test_mixing_and_balancing_take_loss_away_and_leave_the_text(make_sessions, request_of):
    sessions = make_sessions(40, live="digest")
    plain = run_dataset(request_of(sessions, name="plain", development_share=0.2)).splits
    mixed_request = request_of(
        sessions, name="mixed", development_share=0.2, settings=DatasetSettings(logs_per_rejection=2.0)
    )
    mixed = run_dataset(mixed_request).splits
    assert mixed["development"] == plain["development"]
    assert mixed["train"].rejections == plain["train"].rejections
    assert mixed["train"].actions == 3 * mixed["train"].rejections
    assert mixed["train"].left_out == plain["train"].actions - mixed["train"].actions
    assert len(read_taught(mixed_request.out, "train")) == mixed["train"].actions
    balanced = run_dataset(request_of(sessions, name="even", settings=DatasetSettings(balancing=Balancing.TOOL)))
    counts = balanced.splits["train"].by_tool
    assert max(counts.values()) < plain["train"].by_tool["send_text_to_chat"]


@pytest.mark.parametrize("snapshot", SnapshotKind)
def test_long_sessions_are_trimmed_in_blocks_and_every_trim_is_recorded(request_of, snapshot):
    request = request_of(
        settings=DatasetSettings(snapshot=snapshot, max_tokens=150, max_chars=1000), name=snapshot.value
    )
    card = run_dataset(request)
    trims = [json.loads(line) for line in (request.out / "trims.jsonl").read_text().splitlines()]
    assert len(trims) == card.trims.trims > 0
    assert sum(trim["chars"] for trim in trims) == card.trims.chars
    assert set(trims[0]) == {"session_id", "at_version", "lines", "chars"}
    assert card.splits["train"].longest <= 150
    assert all(len(row["input_ids"]) <= 150 for row in read_rows(request.out, "train"))


def test_what_is_too_long_even_so_is_cut_in_windows_and_no_label_is_lost():
    labels = [n if n % 7 == 0 else IGNORED for n in range(1000)]
    windows = list(cut_windows(Sequence("s", list(range(1000)), labels), 128))
    assert all(len(window.input_ids) <= 128 for window in windows)
    told = [label for window in windows for label in window.labels if label != IGNORED]
    assert told == [label for label in labels if label != IGNORED]
    for window in windows:
        for token, label in zip(window.input_ids, window.labels, strict=True):
            assert label in (IGNORED, token)
    for window in windows[1:]:
        assert window.labels[:60] == [IGNORED] * 60  # context


def test_an_artefact_is_replaced_and_anything_else_is_left_alone(request_of, tmp_path):
    request = request_of()
    first = run_dataset(request)
    assert run_dataset(request) == first
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(InvalidInputError, match="is there already and is no dataset"):
        run_dataset(DatasetRequest(request.export, mine))
    policy = Manifest("policy", KEY, "r1", "counts", "", "", DEFAULT_FORMAT.digest, "", {})
    write_artefact(tmp_path / "policy", policy, {"weights": b"dear"})
    with pytest.raises(InvalidInputError, match="is there already and is no dataset"):
        run_dataset(DatasetRequest(request.export, tmp_path / "policy"))
    assert read_manifest(tmp_path / "policy").kind == "policy"
    assert (mine / "thesis.txt").read_text() == "years"


def invoke(*options):
    return CliRunner().invoke(app, ["dataset", *map(str, options)])


def test_the_command_makes_one_and_says_what_is_in_it(make_sessions, write_export, tmp_path):
    out = tmp_path / "set"
    ran = invoke("--export", write_export(make_sessions(30)), "--out", out, "--vocabulary", 400, "--workers", 1,
                 "--process-cluster", KEY, "--development-share", 0.2)  # fmt: skip
    assert ran.exit_code == 0, ran.output
    told = json.loads(ran.stdout)
    assert told["train"]["sessions"] == 24
    assert told["development"]["sessions"] == 6


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--process-cluster", "star/other"), 3, "0 closed sessions are too few"),
        (("--since", "2026-03-01T04:00:00Z"), 3, "too few"),
        (("--since", "yesterday"), 2, "no RFC 3339 time"),
        (("--mix-rejections", "much"), 2, "--mix-rejections"),
        (("--max-tokens", 8), 2, "--max-tokens"),
        (("--held-out-share", 1.5), 2, "--held-out-share"),
        (("--workers", 0), 2, "--workers"),
        (("--tokenizer", "/no/such/model"), 10, "no tokenizer that can be loaded"),
        (("--export", "/no/such/export"), 5, "cannot be read"),
    ],
)
def test_what_cannot_be_done_ends_with_one_line_and_its_code(
    make_sessions, write_export, tmp_path, options, code, says
):
    given = {"--export": write_export(make_sessions(25)), "--out": tmp_path / "out" / "set", "--workers": 1}
    given.update({options[0]: options[1]})
    ran = invoke(*(part for pair in given.items() for part in pair))
    assert ran.exit_code == code, ran.output
    assert says in ran.stderr
    assert not (tmp_path / "out" / "set").exists()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_truncated_parquet_file_ends_with_one_line_and_its_code(tmp_path):
    (tmp_path / "export.parquet").write_bytes(b"PAR1 and then nothing")
    ran = invoke("--export", tmp_path / "export.parquet", "--out", tmp_path / "set", "--workers", 1)
    assert ran.exit_code == 6
    assert "is no whole Parquet file" in ran.stderr
    assert "Traceback" not in ran.output


def test_a_full_disk_ends_with_its_code_and_leaves_nothing(make_sessions, write_export, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "tokens-0")

    monkeypatch.setattr(rows_job, "write_tokens", full)
    out = tmp_path / "out" / "set"
    ran = invoke("--export", write_export(make_sessions(20)), "--out", out, "--workers", 1, "--vocabulary", 400)
    assert ran.exit_code == 7
    assert "free some space" in ran.stderr
    assert list(out.parent.iterdir()) == []


def test_a_worker_that_dies_is_named_and_nothing_waits():
    with pytest.raises(WorkerDiedError, match="ended before its work was done") as raised:
        rows_job._share(os._exit, [9, 9])
    assert find_exit_code(raised.value) == 11


def test_a_window_without_a_persons_action_teaches_nothing(make_sessions, request_of):
    idle = [
        msgspec.structs.replace(
            record, events=(*record.events[:3], msgspec.structs.replace(record.events[-1], sequence=3))
        )
        for record in make_sessions(12)
    ]
    assert isinstance(idle[0].events[-1].data, SessionClosed)
    with pytest.raises(EvidenceError, match="no action of an operator"):
        run_dataset(request_of(idle))


def test_a_dialog_is_written_as_its_actions_are_served(make_sessions, request_of):
    (record,) = make_sessions(1)
    form = request_of([record]).settings.form
    (segment,) = build_segments(record, form)
    span = segment.spans[0]
    assert segment.text[span.start : span.end] == encode_action(record.events[3].data.actions[0], form)
