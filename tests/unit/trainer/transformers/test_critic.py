"""A transformer's critic: labels, rows that say what serving says, the comparison, and a Job from end to end."""

import dataclasses
import json
import math
import random

import msgspec
import pytest
import torch
from typer.testing import CliRunner
from unit.trainer.conftest import KEY, RULES, Script, play
from unit.trainer.transformers.learned import QUICK, describe_rules, write_policy

from pilotage_core.certificate import ScoreSource
from pilotage_core.events import FeedbackGiven, Grade
from pilotage_core.job_exit import JobExit
from pilotage_core.score import CONFIDENCE_ALONE, CRITIC_ALONE
from pilotage_core.training import CriticTraining, GradeWeights, Lora
from pilotage_trainer.artefact import read_manifest
from pilotage_trainer.backends.open import read_score_card
from pilotage_trainer.backends.transformers.asking.critic_card import (
    SERVED_BY_US,
    CardedCritic,
    CriticCard,
    Measure,
    tell_rates,
)
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.backends.transformers.critic.data import build_rows, crossfit_rates, judge_sessions, score_replies
from pilotage_trainer.backends.transformers.critic.fit import fit_better, fit_rule, split_labels, train_critic
from pilotage_trainer.backends.transformers.critic.job import run_critic
from pilotage_trainer.backends.transformers.training.batches import collate
from pilotage_trainer.backends.transformers.training.tree import read_targets, use_trees
from pilotage_trainer.certify.job import run_certify
from pilotage_trainer.config import Selection, read_config
from pilotage_trainer.failures import NotANumberError
from pilotage_trainer.main import app
from pilotage_trainer.window import Window

CHOOSING = Selection(draws=50)
TRAINING = CriticTraining(**{**QUICK, "evaluate_every": 25}, epochs=6)


@pytest.fixture(scope="module")
def sessions():
    return [play(Script(i, random.Random(i)), False, "") for i in range(200)]


@pytest.fixture(scope="module")
def folder(sessions, tmp_path_factory):
    """A policy that has learned from the first 60 sessions."""
    root = tmp_path_factory.mktemp("artefacts") / KEY / "r1"
    write_policy(sessions[:60], root / "policy", root / "work", epochs=8)
    return root / "policy"


@pytest.fixture(scope="module")
def policy(folder):
    return PolicyModel.load(folder)


@pytest.fixture(scope="module")
def labels(policy, sessions):
    return judge_sessions(sessions[60:160], policy, RULES, TRAINING).labels


# --- labels -----------------------------------------------------------------------------------------------------------
def test_a_replayed_proposal_is_judged_by_what_the_operator_did(labels, policy):
    assert {each.stratum for each in labels} >= {"procedure", "message"}
    assert {each.accepted for each in labels} == {True, False}
    assert not any(each.live for each in labels)
    prompts = [each.query[: each.query.rfind("\n>") + 2] for each in labels[:20]]
    told = score_replies(policy, [prompt + each.reply.reply for prompt, each in zip(prompts, labels[:20], strict=True)])
    for label, reply in zip(labels[:20], told, strict=True):
        assert label.reply.ids == reply.ids
        assert label.reply.logprobs == pytest.approx(reply.logprobs, abs=1e-4)
        assert 0.0 < Measure.WHOLE.of(reply) <= Measure.LEAST.of(reply) <= Measure.MEAN.of(reply) <= 1.0
        assert label.confidence == Measure.TOLD.of(label.reply)


def test_live_feedback_weighs_by_its_grade(policy):
    digest = policy.manifest.digest
    records = [play(Script(i, random.Random(i)), False, digest) for i in range(40)]
    graded = [
        msgspec.structs.replace(
            record,
            events=tuple(
                msgspec.structs.replace(e, data=msgspec.structs.replace(e.data, grade=Grade.ACCEPTABLE))
                if isinstance(e.data, FeedbackGiven) and e.data.verdict != "accept"
                else e
                for e in record.events
            ),
        )
        for record in records
    ]
    plain = judge_sessions(records, policy, RULES, TRAINING).labels
    weighed = judge_sessions(graded, policy, RULES, TRAINING).labels
    assert len(plain) == 40
    assert all(each.live for each in plain)
    told = {p.proposal_id: p.confidence for record in records for p in record.proposals}
    assert sorted(str(each.confidence) for each in plain) == sorted(str(told[i]) for i in told)  # as it was recorded
    assert {each.weight for each in plain} == {1.0}
    assert [each.accepted for each in weighed] == [each.accepted for each in plain]
    assert all(each.weight == float(each.accepted) for each in weighed)  # it was not a wrong action
    assert sum(len(collate([row]).targets) for row in build_rows(weighed, policy, 2048)) == sum(
        each.accepted for each in plain
    )
    half = TRAINING.model_copy(update={"grades": GradeWeights(acceptable=0.5)})
    assert {each.weight for each in judge_sessions(graded, policy, RULES, half).labels} == {0.5, 1.0}


def test_replays_can_be_left_out(policy, sessions):
    live_only = TRAINING.model_copy(update={"replayed": False})
    assert not judge_sessions(sessions[60:70], policy, RULES, live_only).labels


# --- rows -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("evidence", [False, True], ids=["plain", "with acceptance rates"])
def test_a_row_says_what_the_served_critic_says(folder, labels, evidence):
    policy = PolicyModel.load(folder)
    some = labels[:30]
    rates, tell = crossfit_rates(some, 4)[0] if evidence else None, (lambda each: "")
    if evidence:
        tell = lambda each: tell_rates(rates, each.query)  # noqa: E731
    critic = CardedCritic(policy.model, policy.tokenizer, None, CriticCard(rates=rates))
    wanted = critic.score_many([each.query for each in some])
    use_trees(policy.model)
    found, accept, reject = [], *critic.labels
    with torch.no_grad():
        for row in build_rows(some, policy, 2048, tell):
            batch = collate([row])
            logits = read_targets(policy.model, batch)[:, [accept, reject]]
            found += zip(logits.softmax(-1)[:, 0].tolist(), (batch.targets == accept).tolist(), strict=True)
    assert sorted(score for score, _ in found) == pytest.approx(sorted(wanted), abs=1e-5)
    assert sum(accepted for _, accepted in found) == sum(each.accepted for each in some)


def test_rates_come_from_other_folds(labels):
    rates, tell = crossfit_rates(labels, 4)
    assert rates.tables[0][""][1] == len(labels)
    assert any(tell(each) != tell_rates(rates, each.query) for each in labels)
    flipped = [dataclasses.replace(labels[0], accepted=not labels[0].accepted), *labels[1:]]
    assert crossfit_rates(flipped, 4)[1](flipped[0]) == tell(labels[0])


# --- fitting ----------------------------------------------------------------------------------------------------------
def test_a_critic_that_knows_more_is_the_score(folder, labels, tmp_path):
    """Operators here accept every submit and every answer, and no ending, however sure the policy is."""
    told = [
        dataclasses.replace(each, stratum="all", accepted=any(w in each.reply.reply for w in ("submit", "inform")))
        for each in labels
    ]
    fitted = fit_better(lambda: PolicyModel.load(folder), told, TRAINING, CHOOSING, tmp_path)
    assert fitted.compared.auroc > 0.95
    assert fitted.compared.auroc > fitted.compared.confidence_auroc
    assert fitted.compared.share_better >= 0.95
    assert fitted.card.rule.critic > 0.0
    assert fitted.card.source is fitted.card.rule.source
    split = split_labels(told, CHOOSING.critic_development_share)
    critic = CardedCritic(fitted.model, PolicyModel.load(folder).tokenizer, None, fitted.card)
    again = critic.score_many([each.query for each in split.comparing])
    right = [(score > 0.5) == each.accepted for score, each in zip(again, split.comparing, strict=True)]
    assert sum(right) / len(right) > 0.8  # what was compared is what is served


def test_adapters_are_merged_into_what_is_served(folder, labels, tmp_path):
    lora = TRAINING.model_copy(update={"lora": Lora(rank=4), "epochs": 1})
    critic, _, step = train_critic(lambda: PolicyModel.load(folder), split_labels(labels, 0.35), lora, tmp_path)
    plain = PolicyModel.load(folder).model.state_dict()
    served = critic.model.state_dict()
    assert step > 0
    assert set(served) == set(plain)
    assert not torch.equal(
        served["model.layers.0.self_attn.q_proj.weight"], plain["model.layers.0.self_attn.q_proj.weight"]
    )
    assert torch.equal(served["model.embed_tokens.weight"], plain["model.embed_tokens.weight"])


def test_too_few_older_labels_leave_confidence(folder, labels, tmp_path):
    few = [each for each in labels if each.session < 12]
    fitted = fit_better(lambda: PolicyModel.load(folder), few, TRAINING, Selection(least_labels=1000), tmp_path)
    assert fitted.card.source is ScoreSource.CONFIDENCE
    assert fitted.step == 0


def test_a_loss_that_is_no_number_stops(folder, labels, tmp_path):
    damaged = [dataclasses.replace(labels[0], weight=math.inf), *labels[1:]]
    with pytest.raises(NotANumberError):
        fit_better(lambda: PolicyModel.load(folder), damaged, TRAINING, CHOOSING, tmp_path)


# --- the Job ----------------------------------------------------------------------------------------------------------
def configure(**critic):
    given = {
        "rules": describe_rules(),
        "strata": [{"name": "procedure"}, {"name": "finalizing"}],
        "precision_target": "0.7",
        "selection": {"draws": 50, **critic},
        "transformers": {"critic": {**QUICK, "epochs": 1}},
    }
    return json.dumps(given)


@pytest.mark.parametrize(
    ("answers", "confidences", "rule"),
    [
        pytest.param([0.9, 0.8, 0.2, 0.1] * 5, [0.5] * 20, CRITIC_ALONE, id="confidence says nothing"),
        pytest.param([0.5] * 20, [0.9, 0.8, 0.2, 0.1] * 5, CONFIDENCE_ALONE, id="the critic says nothing"),
        pytest.param([0.1, 0.2, 0.8, 0.9] * 5, [0.9, 0.8, 0.3, 0.1] * 5, CONFIDENCE_ALONE, id="the critic is wrong"),
        pytest.param([0.9, 0.4, 0.6, 0.1] * 5, [0.4, 0.9, 0.1, 0.6] * 5, ScoreSource.BOTH, id="both say something"),
        pytest.param([0.5, 0.6] * 10, [None] * 20, CRITIC_ALONE, id="confidence is not told"),
    ],
)
def test_what_says_nothing_has_no_weight(labels, answers, confidences, rule):
    accepted = [True, True, False, False] * 5
    told = [
        dataclasses.replace(labels[0], accepted=a, confidence=c) for a, c in zip(accepted, confidences, strict=True)
    ]
    found = fit_rule(told, answers)
    assert rule in (found, found.source)


def test_labels_of_one_class_weigh_nothing(labels):
    assert fit_rule([dataclasses.replace(labels[0], accepted=True)] * 3, [0.1, 0.2, 0.3]) == CRITIC_ALONE


@pytest.mark.parametrize(("certainty", "is_critic"), [(0.0, True), (1.1, False)], ids=["critic", "confidence"])
def test_a_job_leaves_the_score_it_names(folder, sessions, write_export, certainty, is_critic):
    export = write_export(sessions)
    given = Window(export, KEY, "r1", folder.parents[3], until=sessions[160].closed_at)
    config = read_config(configure())
    config = msgspec.structs.replace(config, selection=msgspec.structs.replace(config.selection, certainty=certainty))
    result = run_critic(given, config)
    assert result.metrics["beats_confidence"] == float(is_critic)
    assert {"labels", "live_labels", "accept_rate", "auroc", "confidence_auroc", "share_better"} <= set(result.metrics)
    assert result.held_out_after == sessions[159].closed_at
    assert result.metrics["sessions"] == 100  # those that the policy has not learned from
    made = read_manifest(given.folder("critic"))
    assert (made.digest, made.policy) == (result.digests["critic"], read_manifest(folder).digest)
    assert SERVED_BY_US not in (given.folder("critic") / "config.json").read_text()
    card = read_score_card(given.folder("critic"))
    assert (card.rule, card.source) == (result.score, result.score.source)
    assert (result.score == CONFIDENCE_ALONE) is not is_critic
    assert result.reason.startswith(f"the score is the {card.source.words}: ")
    certified = run_certify(Window(export, KEY, "r1", folder.parents[3]), read_config(configure()), None, "2026-03-05")
    assert certified.metrics["held_out_sessions"] == 40
    assert certified.metrics["n:procedure"] > 10
    assert all(certificate.score_from is card.source for certificate in certified.certificates)
    assert certified.reason.endswith(f"the score is the {card.source.words}")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        pytest.param({"until": 62}, JobExit.TOO_LITTLE, id="too few labels"),
        pytest.param({"until": 40}, JobExit.TOO_LITTLE, id="no session but what the policy learned from"),
        pytest.param({"until": 160, "only": ()}, JobExit.ONE_CLASS, id="one class"),
    ],
)
def test_bad_windows_have_their_exit_codes(folder, sessions, write_export, tmp_path, changed, code):
    records = sessions[: changed["until"]]
    if "only" in changed:  # live feedback that accepts everything
        digest = read_manifest(folder).digest
        live = [play(Script(i, random.Random(i)), False, digest) for i in range(60, 160)]
        records = [
            r for r in live if all(e.data.verdict == "accept" for e in r.events if isinstance(e.data, FeedbackGiven))
        ]
    options = {"export": write_export(records), "process-cluster": KEY, "revision": "r1", "out": folder.parents[3]}
    options |= {"config": configure(), "backend": "transformers", "result": tmp_path / "result.json"}
    told = CliRunner().invoke(app, ["critic", *(str(p) for k, v in options.items() for p in (f"--{k}", v))])
    assert told.exit_code == code, told.output
