"""Jobs that cannot do what they are asked: each says what, where, and ends with its code."""

import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest
from unit.trainer.conftest import ISSUED, KEY, window

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import ConflictError, EvidenceError, InvalidInputError, PermitError, PilotageError
from pilotage_trainer.artefact import Manifest, read_manifest, write_artefact
from pilotage_trainer.backends.counts.critic_job import run_critic
from pilotage_trainer.backends.counts.policy_job import run_policy
from pilotage_trainer.backends.counts.served import POLICY_FILE, load_critic, load_policy
from pilotage_trainer.certify.job import run_certify
from pilotage_trainer.commands.options import run_job
from pilotage_trainer.config import read_config
from pilotage_trainer.failures import DamagedArtefactError, explain_error, find_exit_code
from pilotage_trainer.sessions.export import read_export
from pilotage_trainer.window import Window


def test_a_job_that_is_asked_to_stop_stops_and_leaves_no_result(tmp_path):
    def job(window, config):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("it went on")

    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            run_job("policy", lambda: window("none", tmp_path), job, "{}", tmp_path / "result.json")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left.value.code == 143
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        {"since": "yesterday"},
        {"until": "2026-01-01T00:00:00"},
        {"held_out_share": 1.0},
        {"revision": "../r1"},
        {"revision": ""},
    ],
)
def test_a_window_that_cannot_be_meant_is_refused(options, tmp_path):
    with pytest.raises(InvalidInputError):
        window("x", tmp_path, **options)


@pytest.mark.parametrize("name", ["weather", "/", "star/", "/weather", "../weather", "star/..", "a/b/c"])
def test_a_process_cluster_is_two_names(name, tmp_path):
    with pytest.raises(InvalidInputError, match="is not namespace/name"):
        Window("x", name, "r1", tmp_path)


@pytest.mark.parametrize(
    "given",
    [
        "{",
        '{"delta": "much"}',
        '{"delta": "nan"}',
        '{"unknown": 1}',
        '{"precision_target": 7}',
        '{"min_action_accuracy": "nan"}',
        '{"rolling_window_sessions": -5}',
        '{"selection": {"policy_development_share": 1.5}}',
        '{"counts": {"policy": {"strength": 0}}}',
        '{"counts": {"critic": {"folds": 1}}}',
        '{"selection": {"draws": 0}}',
        '{"selection": {"seed": -1}}',
        '{"strata": []}',
        '{"strata": [{"name": "message"}, {"name": "message"}]}',
        '{"strata": [{"name": "message", "target": 3}]}',
        '{"rules": {"critcal": []}}',
        '{"rules": {"critical": [{"contrl": "submit*"}]}}',
        '{"rules": {"strata": [{"pattern": {"contrl": "submit*"}, "stratum": "procedure"}]}}',
        "/no/such/file",
        sys.executable,
    ],
)
def test_a_bad_configuration_is_refused(given):
    with pytest.raises(InvalidInputError, match="config"):
        read_config(given)


@pytest.mark.parametrize("closed_at", ["yesterday", "2026-03-01T12:00:00"])
def test_a_session_that_closed_at_no_time_is_named(closed_at, make_sessions, write_export):
    sessions = make_sessions(3)
    sessions[1] = msgspec.structs.replace(sessions[1], closed_at=closed_at)
    with pytest.raises(EvidenceError, match=sessions[1].session_id):
        read_export(write_export(sessions), KEY)


def test_a_session_whose_events_do_not_follow_one_another_is_named(make_sessions, write_export, config, tmp_path):
    sessions = make_sessions(20)
    lost = sessions[7].events[:3] + sessions[7].events[4:]
    sessions[7] = msgspec.structs.replace(sessions[7], events=lost)
    with pytest.raises(EvidenceError, match=f"session {sessions[7].session_id}: cannot be walked again"):
        run_policy(window(write_export(sessions), tmp_path), read_config(config))


def test_a_session_that_was_exported_twice_is_read_once_and_as_it_was_last(make_sessions, write_export, caplog):
    sessions = make_sessions(9)
    shorter = msgspec.structs.replace(sessions[3], events=sessions[3].events[:4], closed_at=sessions[3].events[3].at)
    assert read_export(write_export([sessions[5], shorter, *sessions]), KEY) == sessions
    assert "2 sessions were there again" in caplog.text
    other = msgspec.structs.replace(sessions[4], session_id=sessions[3].session_id)
    with pytest.raises(InvalidInputError, match=f"{sessions[3].session_id} of {KEY} is the id of two sessions"):
        read_export(write_export([other, *sessions]), KEY)


def test_an_artefact_of_another_revision_is_refused(climbed, config, tmp_path):
    _, export, out, *_ = climbed
    shutil.copytree(out / KEY / "r1", tmp_path / KEY / "r2")
    moved = window(export, tmp_path, revision="r2")
    for judge in (run_critic, partial(run_certify, urls=None, issued_at=ISSUED)):
        with pytest.raises(DamagedArtefactError, match=r"is of star/weather r1, not star/weather r2"):
            judge(moved, read_config(config))


def test_a_policy_of_another_backend_is_no_count_model(tmp_path):
    made = Manifest("policy", KEY, "r1", "transformers", "", "", DEFAULT_FORMAT.digest, "", {})
    write_artefact(tmp_path / "policy", made, {"model.safetensors": b""})
    with pytest.raises(DamagedArtefactError, match="is of backend transformers, not counts"):
        load_policy(tmp_path / "policy")


@pytest.mark.parametrize("kind", [PilotageError, ConflictError, PermitError, OSError])
def test_whatever_a_job_may_raise_has_an_exit_code_and_words(kind):
    assert find_exit_code(kind("said")) in (2, 7)
    assert "said" in explain_error(kind("said"))


def test_a_damaged_export_line_is_named(make_sessions, tmp_path):
    path = tmp_path / "export.ndjson"
    path.write_bytes(msgspec.json.encode(make_sessions(1)[0]) + b'\n{"session_id": 3}\n')
    with pytest.raises(InvalidInputError, match=r"export\.ndjson:2.*each line is one session record"):
        read_export(str(path), KEY)


def test_an_interrupted_write_leaves_the_old_artefact_loadable(climbed, config, monkeypatch):
    sessions, export, out, policy, _ = climbed
    given = window(export, out, until=sessions[50].closed_at)

    def fail(self, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        run_policy(given, read_config(config))
    monkeypatch.undo()
    assert load_policy(given.folder("policy")).manifest.digest == policy.digests["policy"]
    assert not [p for p in given.folder("policy").parent.iterdir() if p.name.startswith(".")]


def test_a_manifest_names_what_it_was_made_of(climbed):
    sessions, _, out, *_ = climbed
    manifest = read_manifest(out / KEY / "r1/policy")
    assert (manifest.trained_since, manifest.trained_until) == (sessions[0].closed_at, sessions[59].closed_at)
    assert manifest.files.keys() == {POLICY_FILE}
    assert load_critic(out / KEY / "r1/critic").manifest.policy == manifest.digest
