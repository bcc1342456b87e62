"""Preference tuning on overrides: the loss falls, what operators did gains, and a policy comes out that loads."""

import random

import msgspec
import pytest
from unit.trainer.conftest import KEY, RULES, Script, play
from unit.trainer.transformers.learned import QUICK, describe_rules, write_policy

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import EvidenceError
from pilotage_core.events import ActionTaken, FeedbackGiven, Grade
from pilotage_core.training import PreferenceTraining
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel
from pilotage_trainer.backends.transformers.policy.preference_job import (
    list_overrides,
    replay_pairs,
    run_preference,
    summarise,
    tune,
)
from pilotage_trainer.config import read_config
from pilotage_trainer.failures import NotANumberError
from pilotage_trainer.window import Window

SETTINGS = {**QUICK, "learning_rate": 5e-4, "global_batch": 8, "micro_batch": 8, "warm_up_batches": 1}


@pytest.fixture(scope="module")
def sessions():
    """40 for a policy, then 60 in which another policy proposed each submit, and was overridden now and then."""
    return [play(Script(i, random.Random(i)), False, "" if i < 40 else "other") for i in range(160)]


@pytest.fixture(scope="module")
def policy_folder(sessions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policy")
    write_policy(sessions[:40], folder / "policy", folder / "work", epochs=2)
    return folder / "policy"


@pytest.fixture(scope="module")
def pairs(sessions):
    return [pair for record in sessions for pair in list_overrides(record, DEFAULT_FORMAT)]


def test_pairs_are_what_was_done_and_what_was_proposed_instead(sessions, pairs):
    assert len(pairs) >= 10
    for pair in pairs:
        assert pair.prompt.endswith("\n>")
        assert pair.chosen == '{"tool":"send_text_to_chat","control_id":"reply:ask_city"}'
        assert pair.rejected == '{"tool":"click_control","control_id":"submit"}'
    assert not [pair for record in sessions[:40] for pair in list_overrides(record, DEFAULT_FORMAT)]


def test_replayed_proposals_make_pairs_where_the_operator_did_another_thing(policy_folder, sessions):
    policy = PolicyModel.load(policy_folder)
    found = replay_pairs(sessions[40:44], policy, RULES)
    assert found
    assert all(pair.chosen != pair.rejected and pair.prompt.endswith("\n>") for pair in found)


def test_an_acceptable_proposal_makes_no_pair(sessions):
    (record,) = [r for r in sessions[40:] if list(list_overrides(r, DEFAULT_FORMAT))][:1]
    graded = tuple(
        msgspec.structs.replace(e, data=msgspec.structs.replace(e.data, grade=Grade.ACCEPTABLE))
        if isinstance(e.data, FeedbackGiven)
        else e
        for e in record.events
    )
    assert any(isinstance(e.data, ActionTaken) for e in graded)
    assert not list(list_overrides(msgspec.structs.replace(record, events=graded), DEFAULT_FORMAT))


@pytest.mark.parametrize(
    ("loss", "chosen_rises"), [("dpo", True), ("apo_zero", True), ("apo_down", False)], ids=lambda each: str(each)
)
def test_the_loss_falls_and_what_was_done_gains(policy_folder, pairs, loss, chosen_rises):
    settings = PreferenceTraining(**SETTINGS, epochs=4, loss=loss)
    tuned = tune(PolicyModel.load(policy_folder), pairs, settings)
    figures = summarise(tuned.lines)
    assert figures["loss:last"] < figures["loss:first"]
    assert figures["reward_margin:last"] > figures["reward_margin:first"]
    assert figures["reward_margin:last"] > 0.0
    if chosen_rises:  # APO-down pushes both down, what was rejected more
        assert figures["reward_chosen:last"] > figures["reward_chosen:first"]


def test_a_policy_comes_out(policy_folder, sessions, tmp_path, write_export):
    given = {"rules": describe_rules(), "preference": {**SETTINGS, "epochs": 1, "lora": {"rank": 4}}}
    window = Window(write_export(sessions), KEY, "r1-dpo", tmp_path)
    result = run_preference(window, read_config(msgspec.json.encode(given).decode()), policy_folder)
    tuned = PolicyModel.load(window.folder("policy"))
    assert tuned.manifest.digest == result.digests["policy"]
    assert result.metrics["pairs"] == result.metrics["overrides"] >= 10
    assert result.held_out_after == sessions[-1].closed_at


def test_too_few_pairs_and_losses_that_are_no_numbers(policy_folder, sessions, pairs, tmp_path, write_export):
    window = Window(write_export(sessions[:40]), KEY, "r2", tmp_path)
    with pytest.raises(EvidenceError, match="0 overridden proposals"):
        run_preference(window, read_config(""), policy_folder)
    policy = PolicyModel.load(policy_folder)
    policy.model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(NotANumberError):
        tune(policy, pairs, PreferenceTraining(**SETTINGS))
