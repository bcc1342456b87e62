"""The Jobs end to end on synthetic sessions: results, splits, refusals, exit codes."""

import base64
import gzip
import json
import re
import zlib

import msgspec
import pytest
from typer.testing import CliRunner
from unit.trainer.conftest import ISSUED, KEY, make_pair, window

from pilotage_core.certificate import ScoreSource
from pilotage_core.errors import InvalidInputError
from pilotage_core.wire import MOST_CERTIFICATES, PACKED, JobResult, read_result
from pilotage_trainer.artefact import MANIFEST, read_artefact, read_manifest
from pilotage_trainer.backends.counts.critic_job import run_critic
from pilotage_trainer.backends.counts.policy_job import run_policy
from pilotage_trainer.backends.open import load_models
from pilotage_trainer.certify import job as certify_job
from pilotage_trainer.certify.job import CURVES, run_certify
from pilotage_trainer.certify.scorers import InProcess
from pilotage_trainer.config import read_config
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.main import app
from pilotage_trainer.results import LONGEST_MESSAGE, shorten_result


def test_a_pair_is_made_and_certified_on_sessions_it_has_not_seen(climbed, config):
    sessions, export, out, policy, critic = climbed
    assert policy.passed
    assert policy.metrics["action_accuracy"] > 0.6
    assert policy.held_out_after == sessions[59].closed_at
    assert critic.held_out_after == sessions[109].closed_at
    assert critic.metrics["labels"] > 100
    result = run_certify(window(export, out), read_config(config), None, ISSUED)
    assert result.metrics["held_out_sessions"] == 80
    certificate = next(c for c in result.certificates if c.stratum == "procedure")
    assert result.passed
    assert certificate.bound >= certificate.target == 0.7
    assert certificate.delta == pytest.approx(0.05)
    assert certificate.labels_from == "replay"
    assert certificate.digests.policy == policy.digests["policy"]
    assert certificate.digests.critic == critic.digests["critic"]
    assert certificate.digests.actions == "rules-digest"
    assert 0 < certificate.median_session_actions < 10
    assert len(msgspec.json.encode(result)) < LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("certainty", "source", "said"),
    [
        (0.0, ScoreSource.CRITIC, "the score is the critic"),
        (1.1, ScoreSource.CONFIDENCE, "the score is the action confidence"),
    ],
)
def test_certificates_say_whether_the_score_is_the_critic_or_confidence(climbed, config, certainty, source, said):
    sessions, export, out, *_ = climbed
    given = read_config(config)
    given = msgspec.structs.replace(given, selection=msgspec.structs.replace(given.selection, certainty=certainty))
    run_critic(window(export, out, until=sessions[110].closed_at), given)
    result = run_certify(window(export, out), given, None, ISSUED)
    assert result.certificates
    assert {certificate.score_from for certificate in result.certificates} == {source}
    assert result.reason.endswith(said)


def test_curves_are_left_for_the_report(climbed, config):
    _, export, out, *_ = climbed
    given = window(export, out)
    result = run_certify(given, read_config(config), None, ISSUED)
    _, files = read_artefact(given.folder("calibration"), "calibration")
    curve = json.loads(files[CURVES])["strata"]["procedure"]
    assert curve["scores"] == sorted(curve["scores"], reverse=True)
    assert len(curve["accepted"]) == len(curve["scores"]) == result.metrics["n:procedure"]
    assert curve["points"][-1]["coverage"] == 1.0
    assert curve["points"][-1]["precision"] == pytest.approx(sum(curve["accepted"]) / len(curve["accepted"]))


def test_live_feedback_to_this_policy_is_what_counts(make_sessions, write_export, config, tmp_path, climbed):
    sessions, export, out, policy, _ = climbed
    live = make_sessions(130, first=60, seed=1, live=policy.digests["policy"])
    export = write_export(sessions[:60] + live, "live.ndjson.gz")
    critic = run_critic(window(export, out, since=live[0].closed_at, held_out_share=0.4), read_config(config))
    assert critic.metrics["live_labels"] == critic.metrics["labels"] == 78
    result = run_certify(window(export, out), read_config(config), None, ISSUED)
    assert result.metrics["labels"] == result.metrics["live_labels"] == 52
    assert all(c.labels_from == "live" for c in result.certificates)


def test_renaming_every_session_case_and_customer_changes_no_score(climbed, write_export, config, tmp_path):
    sessions, export, out, policy, _ = climbed
    text = b"\n".join(msgspec.json.encode(record) for record in sessions).decode()
    renamed_text = re.sub(r"(session|case|customer)-(\d+)", lambda m: f"{m[1]}-x{int(m[2]) * 7919 % 1000}", text)
    renamed = [msgspec.json.decode(line, type=type(sessions[0])) for line in renamed_text.splitlines()]
    assert renamed != sessions
    other = tmp_path / "other"
    policy2, _ = make_pair(write_export(renamed, "renamed.ndjson"), other, config, renamed)
    assert policy2.metrics == policy.metrics
    one, two = (load_models(folder / KEY / "r1") for folder in (out, other))
    assert one[0].policy.encode() == two[0].policy.encode()
    assert one[1].critic.stored == two[1].critic.stored
    scored = run_certify(window(export, out), read_config(config), None, ISSUED)
    scored2 = run_certify(window(write_export(renamed), other), read_config(config), None, ISSUED)
    assert [c.tau for c in scored.certificates] == [c.tau for c in scored2.certificates]
    curves = [(folder / KEY / "r1/calibration" / CURVES).read_bytes() for folder in (out, other)]
    assert curves[0] == curves[1]


def test_the_same_window_gives_the_same_artefacts(climbed, config, tmp_path):
    sessions, export, _, policy, critic = climbed
    policy2, critic2 = make_pair(export, tmp_path / "again", config, sessions)
    assert (policy2.digests, critic2.digests) == (policy.digests, critic.digests)


def test_after_a_rollback_only_fresh_sessions_are_held_out_and_the_old_process_is_forgotten(
    make_sessions, write_export, config, tmp_path
):
    old, fresh = make_sessions(80), make_sessions(120, first=80, changed=True)
    export, rollback = write_export(old + fresh), old[-1].closed_at
    policy = run_policy(window(export, tmp_path, fresh_after=rollback, held_out_share=0.5), read_config(config))
    assert policy.metrics["sessions_before_rollback"] == 0
    assert policy.metrics["sessions"] == 60
    assert policy.held_out_after == fresh[59].closed_at
    critic = run_critic(window(export, tmp_path, held_out_after=policy.held_out_after), read_config(config))
    assert critic.metrics["sessions"] == 60
    result = run_certify(
        window(export, tmp_path, held_out_after=policy.held_out_after), read_config(config), None, ISSUED
    )
    assert result.metrics["held_out_sessions"] == 60


def test_after_a_rollback_older_sessions_are_kept_where_they_help(make_sessions, write_export, config, tmp_path):
    sessions = make_sessions(180)
    export = write_export(sessions)
    given = window(export, tmp_path, fresh_after=sessions[149].closed_at, held_out_share=0.5)
    policy = run_policy(given, read_config(config))  # 15 fresh sessions to learn from: too few alone
    assert policy.metrics["sessions_before_rollback"] == 150
    assert policy.held_out_after == sessions[164].closed_at


def test_a_served_pair_is_not_loaded_to_certify_it(climbed, config, monkeypatch):
    _, export, out, *_ = climbed
    here = run_certify(window(export, out), read_config(config), None, ISSUED)
    policy, critic = load_models(out / KEY / "r1")

    class Answers(InProcess):
        def __init__(self, *urls):
            super().__init__(policy, critic)

        def read_digests(self):
            return {"policy": policy.manifest.digest, "critic": critic.manifest.digest}

    monkeypatch.setattr(certify_job, "ServedPair", Answers)
    for name in ("open_policy", "open_critic"):
        monkeypatch.setattr(certify_job, name, lambda folder: pytest.fail("loads a model"))
    assert run_certify(window(export, out), read_config(config), ("http://p", "http://c"), ISSUED) == here


def test_held_out_sessions_that_were_learned_from_are_refused(climbed, config):
    sessions, export, out, *_ = climbed
    with pytest.raises(InvalidInputError, match="learned from"):
        run_certify(window(export, out, held_out_after=sessions[80].closed_at), read_config(config), None, ISSUED)


def test_a_critic_of_another_policy_is_refused(climbed, config, make_sessions, write_export):
    sessions, export, out, *_ = climbed
    run_policy(window(export, out, until=sessions[50].closed_at), read_config(config))
    with pytest.raises(DamagedArtefactError, match="judges policy"):
        run_certify(window(export, out), read_config(config), None, ISSUED)


def test_too_few_held_out_labels_certify_nothing_and_say_so(climbed, config):
    sessions, export, out, *_ = climbed
    result = run_certify(window(export, out, until=sessions[125].closed_at), read_config(config), None, ISSUED)
    assert not result.passed
    assert "procedure: TooFewLabels" in result.reason
    assert result.certificates == ()


def test_a_policy_below_the_bar_does_not_pass(make_sessions, write_export, tmp_path, config):
    export = write_export(make_sessions(60))
    settings = msgspec.structs.replace(read_config(config), min_action_accuracy=0.999)
    result = run_policy(window(export, tmp_path), settings)
    assert not result.passed
    assert "is below 0.999" in result.reason


def test_a_long_result_is_shortened_to_what_kubernetes_keeps():
    result = JobResult("critic", "r1", True, reason="x" * 100, metrics={f"m{i}": float(i) for i in range(500)})
    short = shorten_result(result)
    assert len(short) <= LONGEST_MESSAGE
    assert read_result(short).passed


def test_a_result_of_many_strata_reaches_the_controller_whole(climbed, config):
    """Certificates were cut at 4,096 bytes from six strata on: the Job had worked and was tried again for ever."""
    _, export, out, *_ = climbed
    calibration = run_certify(window(export, out), read_config(config), None, ISSUED)
    one = calibration.certificates[0]
    names = [f"click:book_{n:02d} in the booking form" for n in range(MOST_CERTIFICATES)]
    strata = tuple(msgspec.structs.replace(one, stratum=name) for name in names)
    result = msgspec.structs.replace(calibration, certificates=strata, metrics={f"m{i}": i / 7 for i in range(100)})
    packed = shorten_result(result)
    assert len(msgspec.json.encode(result)) > LONGEST_MESSAGE
    assert len(packed) <= LONGEST_MESSAGE
    assert read_result(packed).certificates == strata
    for cut in range(0, len(packed), 97):
        with pytest.raises(ValueError, match=r".+"):
            read_result(packed[:cut])


def test_no_message_can_blow_up_in_the_controller():
    bomb = PACKED + base64.b64encode(zlib.compress(b'{"phase":"' + b"x" * (64 << 20) + b'"}', 9))
    deep = PACKED + base64.b64encode(zlib.compress(b'{"metrics":' + b"[" * 200_000))
    for message in (bomb, deep, b"[" * 200_000, b"\xff", PACKED, PACKED + b"!!"):
        with pytest.raises(ValueError, match=r".+"):
            read_result(message)


def run_cli(*arguments):
    """Exit code and everything printed."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def test_exit_codes_tell_failures_apart(make_sessions, write_export, config, tmp_path):
    export = write_export(make_sessions(60))
    common = ("--process-cluster", KEY, "--revision", "r1", "--out", tmp_path, "--config", config)
    few = write_export(make_sessions(3), "few.ndjson.gz")
    cut = tmp_path / "cut.ndjson.gz"
    cut.write_bytes(gzip.compress(b"x" * 9999)[:20])
    result = tmp_path / "result.json"
    assert run_cli("policy", "--export", export, *common, "--result", result)[0] == 0
    assert json.loads(result.read_text())["passed"] is True
    assert run_cli("policy", "--export", tmp_path / "absent", *common, "--result", tmp_path)[0] == 7  # before it reads
    assert run_cli("policy", "--export", few, *common, "--result", result)[0] == 3
    assert "too few" in json.loads(result.read_text())["reason"]
    assert run_cli("policy", "--export", tmp_path / "absent", *common)[0] == 5
    assert run_cli("policy", "--export", cut, *common)[0] == 5
    assert run_cli("policy", "--export", "http://127.0.0.1:9", *common)[0] == 5
    assert run_cli("policy", "--export", export, *common, "--backend", "magic")[0] == 2
    assert run_cli("policy", "--export", export, *common, "--since", "soon")[0] == 2
    for option in ("--dataset", "--start-from", "--time-budget-seconds", "--processes"):
        assert run_cli("policy", "--export", export, *common, option, 2)[0] == 2  # transformers only
    assert run_cli("certify", "--export", export, *common, "--local")[0] == 6  # no critic yet
    assert run_cli("certify", "--export", export, *common, "--policy-url", "http://x")[0] == 2
    (tmp_path / KEY / "r1/policy" / MANIFEST).write_text("{")
    assert run_cli("critic", "--export", export, *common)[0] == 6
    (tmp_path / "file").write_text("")
    blocked = ("--process-cluster", KEY, "--revision", "r1", "--out", tmp_path / "file", "--config", config)
    assert run_cli("policy", "--export", export, *blocked)[0] == 7


def test_a_policy_learns_from_the_newest_sessions_of_its_rolling_window(make_sessions, write_export, config, tmp_path):
    sessions = make_sessions(120)
    rolling = msgspec.structs.replace(read_config(config), rolling_window_sessions=70)
    export = write_export(sessions)
    policy = run_policy(window(export, tmp_path), rolling)
    manifest = read_manifest(tmp_path / KEY / "r1" / "policy")
    assert policy.metrics["sessions"] == 70
    assert manifest.trained_since == sessions[50].closed_at
