"""Whatever asks a policy or its critic asks in the format its manifest names, and an artefact says which that is."""

import json
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from unit.trainer.conftest import KEY, RULES

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind, encode_action
from pilotage_core.training import CriticTraining
from pilotage_core.walk import walk_session
from pilotage_trainer.artefact import Manifest, read_manifest, write_artefact
from pilotage_trainer.backends.counts.policy_job import run_policy
from pilotage_trainer.backends.interface import Reply, ScoreCard
from pilotage_trainer.backends.transformers.asking.inference import Proposal
from pilotage_trainer.backends.transformers.critic.data import judge_sessions
from pilotage_trainer.backends.transformers.policy.choosing import judge_candidate
from pilotage_trainer.backends.transformers.policy.preference_job import list_overrides, replay_pairs
from pilotage_trainer.backends.transformers.training.sft import Candidate
from pilotage_trainer.certify import job as certify_job
from pilotage_trainer.certify.job import run_certify
from pilotage_trainer.config import read_config
from pilotage_trainer.evaluation import run as evaluation_run
from pilotage_trainer.evaluation.request import SessionsRequest
from pilotage_trainer.evaluation.star import list_choices
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.sessions.labels import list_moments
from pilotage_trainer.window import Window

FORM = DialogFormat(SnapshotKind.DIFFERENCE, 900, 300)
ASK = Action(Tool.SEND_TEXT_TO_CHAT, "reply:ask_city", text="Text of ask_city")
MADE = Manifest("policy", KEY, "r1", "counts", "d", "c", FORM.digest, "", {}, dialog=FORM, digest="p" * 32)


class Asked:
    """A policy and its critic, of `MADE`, that propose ASK and keep what they are asked."""

    made, manifest, end = MADE, msgspec.structs.replace(MADE, policy=MADE.digest), 0
    card = ScoreCard()

    def __init__(self):
        self.prompts, self.queries = [], []

    def encode(self, texts):
        return [[ord(letter) for letter in text] for text in texts]

    def score_many(self, queries):
        self.queries += queries
        return [1.0 - number / 1e6 for number in range(len(queries))]


class AskedAtOnce(Asked):
    """As calibration and evaluation ask."""

    def propose_many(self, asks):
        self.prompts += [prompt for prompt, _ in asks]
        return [(encode_action(ASK, FORM), 0.9) for _ in asks]

    def reply_many(self, asks):
        return [Reply(text, p, p, p, p) for text, p in self.propose_many(asks)]


class AskedByJobs(Asked):
    """As the Jobs of transformers ask."""

    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=100_000))

    def propose_many(self, asks, room):
        self.prompts += [prompt for prompt, _ in asks]
        text = encode_action(ASK, FORM)
        ids = (*map(ord, text), self.end)
        return [Proposal(text, ids, (-0.1,) * len(ids), 1, True) for _ in asks]


@pytest.fixture
def records(make_sessions):
    return make_sessions(30, live="another policy")


@pytest.fixture
def trained(records):
    """The prompts at which a person acted, as a policy of FORM read them in training."""
    found = [point.prompt for record in records for point in walk_session(record, FORM) if point.operator]
    assert any(prompt.count("%!") for prompt in found), "trimmed"
    return found


def queries(prompts):
    """What the critic is asked of ASK at each of `prompts`: in a difference an action is written whole."""
    written = '{"tool":"send_text_to_chat","control_id":"reply:ask_city","text":"Text of ask_city"}'
    return [prompt + written for prompt in prompts]


def test_certificates_rest_on_the_policys_prompts(records, trained, write_export, config, tmp_path, monkeypatch):
    pair = AskedAtOnce()
    pair.manifest = msgspec.structs.replace(pair.manifest, trained_until="2026-01-01T00:00:00Z")
    for name in ("open_policy", "open_critic"):
        monkeypatch.setattr(certify_job, name, lambda folder: pair)
    monkeypatch.setattr(certify_job, "check_artefact", lambda folder, kind: pair.manifest)
    monkeypatch.setattr(certify_job, "read_score_card", lambda folder: pair.card)
    given = json.loads(config) | {"strata": [{"name": "message"}], "precision_target": "0.01"}
    window = Window(write_export(records), KEY, "r1", tmp_path)
    result = run_certify(window, read_config(json.dumps(given)), None, "2026-03-05")
    assert pair.prompts == trained
    assert pair.queries == queries(trained)
    assert {certificate.digests.prompt_format for certificate in result.certificates} == {FORM.digest}
    assert read_manifest(window.folder("calibration")).dialog == FORM


def test_a_policy_is_evaluated_in_its_own_format(records, trained, write_export, config, tmp_path, monkeypatch):
    pair = AskedAtOnce()
    for name in ("open_policy", "open_critic"):
        monkeypatch.setattr(evaluation_run, name, lambda folder: pair)
    request = SessionsRequest(write_export(records), tmp_path, config=config, critic=tmp_path)
    evaluation_run.run_evaluation(request)
    assert pair.prompts == trained * 2, "the policy's own figures, then its critic's labels"
    assert pair.queries == queries(trained)


def test_sessions_that_a_policy_has_learned_from_are_told(records, config, write_export, tmp_path, monkeypatch, capsys):
    policy = AskedAtOnce()
    policy.manifest = msgspec.structs.replace(MADE, trained_until=records[11].closed_at)
    monkeypatch.setattr(evaluation_run, "open_policy", lambda folder: policy)
    request = SessionsRequest(write_export(records), tmp_path, config=config)
    evaluation_run.run_evaluation(request)
    assert f"12 of {len(records)} sessions closed by {records[11].closed_at}" in capsys.readouterr().err
    evaluation_run.run_evaluation(msgspec.structs.replace(request, held_out_after=records[11].closed_at))
    assert "sessions closed by" not in capsys.readouterr().err


def test_a_critic_learns_from_prompts_of_its_policys_format(records, trained):
    policy = AskedByJobs()
    labels = judge_sessions(records, policy, RULES, CriticTraining()).labels
    assert policy.prompts == trained
    assert [label.query for label in labels] == queries(trained)


def test_live_labels_are_of_prompts_as_they_were_asked(records, trained):
    other = records[0].proposals[0].policy_digest
    found = [moment for record in records for moment in list_moments(record, other, FORM)]
    assert len(found) == len(records)
    assert all(moment.is_live and moment.prompt in trained for moment in found)


def test_a_candidate_is_chosen_in_the_format_it_was_trained_in(records, trained, config):
    policy = AskedByJobs()
    judge_candidate(Candidate(1, 0.0, Path()), policy, records, FORM, read_config(config))
    assert policy.prompts == trained


def test_preferences_and_points_of_the_benchmark_are_written_as_they_are_told(records, trained):
    policy = AskedByJobs()
    pairs = replay_pairs(records, policy, RULES)
    assert policy.prompts == trained
    assert {pair.rejected for pair in pairs} == {encode_action(ASK, FORM)}
    overrides = [pair for record in records for pair in list_overrides(record, FORM)]
    assert overrides
    for pair in [*pairs, *overrides]:
        assert pair.prompt in trained
        assert "reply:" not in pair.chosen or '"text":"Text of' in pair.chosen
    choices = [choice for record in records for choice in list_choices(record, FORM)]
    assert {choice.prompt for choice in choices} <= set(trained)
    assert choices[0].offered["ask_city"] == ASK


# --- artefacts --------------------------------------------------------------------------------------------------------
def test_a_policy_of_counts_reads_compact_dialogs_whatever_is_configured(make_sessions, write_export, config, tmp_path):
    given = json.loads(config) | {"transformers": {"dataset": {"snapshot": "whole", "max_chars": 60_000}}}
    window = Window(write_export(make_sessions(40)), KEY, "r1", tmp_path)
    result = run_policy(window, read_config(json.dumps(given)))
    made = read_manifest(window.folder("policy"))
    assert result.dialog == made.dialog == DEFAULT_FORMAT
    assert made.prompt_format == DEFAULT_FORMAT.digest


def test_an_artefact_is_read_where_its_dialogs_are_written_as_they_were(tmp_path, monkeypatch):
    write_artefact(tmp_path / "a", MADE, {})
    assert read_manifest(tmp_path / "a").dialog == FORM
    monkeypatch.setattr("pilotage_core.dialog.VERSION", "of another serialiser")
    with pytest.raises(DamagedArtefactError, match=f"trained on prompt format {MADE.prompt_format}, this is"):
        read_manifest(tmp_path / "a")


def test_a_digest_that_is_not_of_the_format_beside_it_is_refused_unless_asked_for(tmp_path):
    write_artefact(tmp_path / "a", msgspec.structs.replace(MADE, prompt_format="f" * 16), {})
    with pytest.raises(DamagedArtefactError, match="prompt format"):
        read_manifest(tmp_path / "a")
    assert read_manifest(tmp_path / "a", "f" * 16).dialog == FORM
