"""Ablations: one split for all arms, resumed, failures told, noise called noise, and nothing served by mistake."""

import json
from types import SimpleNamespace

import msgspec
import pytest
from typer.testing import CliRunner
from unit.trainer.conftest import KEY

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.errors import InvalidInputError
from pilotage_trainer.ablations import learning, running
from pilotage_trainer.ablations.answers import Answer, ask_policy
from pilotage_trainer.ablations.arms import ABLATIONS, find_ablation
from pilotage_trainer.ablations.noise import Word, compare_arms, measure_ranks, measure_share
from pilotage_trainer.ablations.study import AblationRequest, add_plan, read_study
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel, Proposal
from pilotage_trainer.config import read_config
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.main import app

POLICY = {
    "epochs": 2, "global_batch": 1, "learning_rate": 4e-3, "warm_up_batches": 2, "evaluate_every": 1000,
    "precision": "fp32", "activation_checkpointing": False,
}  # fmt: skip
SHAPE = {"hidden": 64, "layers": 1, "heads": 1, "key_value_heads": 1, "intermediate": 64, "vocabulary": 400}


@pytest.fixture
def settings(config):
    given = json.loads(config) | {"base_model": ""}
    given["selection"] = {"draws": 50, "least_labels": 5}
    tuned = {**POLICY, "epochs": 1, "global_batch": 8, "micro_batch": 8, "learning_rate": 1e-3}
    transformers = {
        "policy": POLICY,
        "shape": SHAPE,
        "dataset": {"max_tokens": 1024},
        "critic": {**POLICY, "epochs": 1},
    }
    return json.dumps(given | {"transformers": transformers, "preference": tuned})


@pytest.fixture
def ablate(make_sessions, write_export, settings, tmp_path):
    def run(name, *options, live="other"):
        export = write_export(make_sessions(50, live=live))
        command = ["ablate", name, "--export", export, "--out", str(tmp_path / "out"), "--config", settings]
        done = CliRunner().invoke(app, [*command, "--held-out-share", "0.2", *options])
        path = tmp_path / "out" / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}
        return done, results, {row["arm"]: row for row in results.get("rows", ())}

    return run


def test_arms_share_a_split_and_a_budget_and_are_run_once(ablate, tmp_path, monkeypatch):
    options = ("--arms", "50% tool", "--budget-tokens", "4000")
    done, results, rows = ablate("size", *options)
    assert done.exit_code == 0, done.output
    whole, half = rows["100% natural"], rows["50% tool"]
    assert (whole["word"], len(rows)) == ("reference", 2)
    assert half["word"] in {"better", "worse", "within noise"}
    assert half["figures"]["training_sessions"] == whole["figures"]["training_sessions"] / 2
    assert [one["figures"]["points"] for one in rows.values()] == [whole["figures"]["points"]] * 2
    for one in rows.values():
        assert 4000 <= one["figures"]["tokens_trained"] < 5100
    sides = [results["split"][name]["sessions"] for name in ("train", "development", "held-out")]
    assert sides == [32, 8, 10]
    assert (tmp_path / "out" / "plot.svg").read_text().count("50% tool")
    assert "4,000 tokens a policy" in (tmp_path / "out" / "table.md").read_text()

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(running, "train_policy", never)
    _, again, _ = ablate("size", *options)
    assert again["rows"] == results["rows"]
    other, _, _ = ablate("size", "--budget-tokens", "7000")
    assert other.exit_code == 2


def test_an_arm_that_fails_is_told_and_stops_nothing(ablate):
    done, _, rows = ablate("mix", "--arms", "1:1,3:1", "--budget-tokens", "2000", live="")
    assert done.exit_code == 0, done.output
    assert rows["natural"]["word"] == "reference"
    assert rows["3:1"]["word"] == "failed"
    assert "no proposal was rejected" in rows["1:1"]["failures"][0]


def load_both(rows, folder, name, arm):
    """The policies of the reference and of `arm`, as whoever serves them loads them."""
    first, second = (learning.name_run(one, 0) for one in find_ablation(name).choose(arm))
    reference, other = rows.values()
    assert reference["prompt_format"] == DEFAULT_FORMAT.digest != other["prompt_format"]
    yield PolicyModel.load(folder / KEY / first / "policy").made, reference
    yield PolicyModel.load(folder / KEY / second / "policy").made, other


def test_a_policy_that_was_told_the_plan_is_never_served(ablate, tmp_path):
    done, _, rows = ablate("oracle", "--arms", "gold screen plan", "--budget-tokens", "2000")
    assert done.exit_code == 0, done.output
    both = load_both(rows, tmp_path / "out", "oracle", "gold screen plan")
    made, row = next(both)
    assert made.digest == row["policies"][0]
    with pytest.raises(DamagedArtefactError, match="prompt format"):
        next(both)


def test_an_arm_of_another_format_says_which_and_is_asked_in_it(ablate, tmp_path):
    done, _, rows = ablate("snapshot", "--arms", "whole", "--budget-tokens", "2000")
    assert done.exit_code == 0, done.output
    for (made, row), snapshot in zip(
        load_both(rows, tmp_path / "out", "snapshot", "whole"), ("compact", "whole"), strict=True
    ):
        assert (made.dialog.snapshot, made.prompt_format) == (snapshot, row["prompt_format"])


@pytest.mark.parametrize("name", ["size", "trim", "oracle"])
def test_arms_are_written_as_configured_unless_they_say_otherwise(name, make_sessions, write_export, config, tmp_path):
    given = json.loads(config) | {"transformers": {"dataset": {"snapshot": "difference", "max_chars": 60_000}}}
    study = read_study(AblationRequest(name, write_export(make_sessions(50)), tmp_path, json.dumps(given)))
    for arm in study.arms:
        form = study.find_form(arm)
        assert form.snapshot == "difference"
        assert form.max_chars == arm.dataset.get("max_chars", 60_000)
        assert (study.find_prompt_format(arm) == form.digest) is not arm.plan


def test_a_prompt_that_is_too_long_is_not_asked_and_not_right(make_sessions):
    class Short:
        model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=400))

        def encode(self, texts):
            return [list(text) for text in texts]

        def propose_many(self, asks, room):
            assert room == 100
            assert all(len(prompt) <= 300 for prompt, _ in asks)
            return [Proposal('{"tool":""}', (0,), (-0.1,), 1, True) for _ in asks]

    answers = ask_policy(Short(), make_sessions(3), DEFAULT_FORMAT, read_config(""))
    assert {each.unread for each in answers} == {True, False}
    assert not [each for each in answers if each.unread and each.right]


def test_scores_are_compared_on_the_same_labels(ablate):
    done, _, rows = ablate("critic", "--budget-tokens", "6000", live="")
    assert done.exit_code == 0, done.output
    assert [row["word"] for row in rows.values()].count("failed") == 0, done.output
    assert len({row["figures"]["labels"] for row in rows.values()}) == 1
    assert len({row["figures"]["auroc"] for row in rows.values()}) > 1


def test_preferences_go_on_from_the_supervised_policy(ablate):
    done, _, rows = ablate("preference", "--arms", "dpo", "--budget-tokens", "3000")
    assert done.exit_code == 0, done.output
    assert [row["word"] for row in rows.values()].count("failed") == 0, done.output
    assert rows["dpo"]["figures"]["pairs"] >= 10
    assert len({row["policies"][0] for row in rows.values()}) == 2


def test_the_plan_names_the_screens_to_come(make_sessions):
    (record,) = make_sessions(1)
    assert add_plan(record).events[0].data.metadata["plan"] == "procedure_search > weather_form"
    assert msgspec.structs.replace(add_plan(record), events=record.events) == record


def test_equal_arms_are_within_noise_and_a_better_one_is_not():
    right = [Answer(i // 4, i % 3 > 0, i % 7 / 7, "s") for i in range(400)]
    better = [Answer(i // 4, i % 12 > 0, 1.0 if i % 3 else 0.0, "s") for i in range(400)]
    sessions = [each.session for each in right]
    same = compare_arms([measure_share(right)], [measure_share(right)], sessions, 1)
    assert (same.value, same.low, same.high, same.word) == (0.0, 0.0, 0.0, Word.NOISE)
    assert compare_arms([measure_share(better)], [measure_share(right)], sessions, 3).word is Word.BETTER
    assert compare_arms([measure_share(right)], [measure_share(better)], sessions, 3).word is Word.WORSE
    ranked = [Answer(each.session, each.right, float(each.right), "s") for each in right]
    assert compare_arms([measure_ranks(ranked)], [measure_ranks(right)], sessions, 1).word is Word.BETTER


def test_arms_have_names_of_their_own_and_unknown_ones_are_refused(make_sessions, write_export, tmp_path):
    for one in ABLATIONS.values():
        folders = [learning.name_folder(arm.name) for arm in one.arms]
        assert len(set(folders)) == len(folders)
        assert one.choose(",".join(arm.name for arm in one.arms)) == one.arms
    with pytest.raises(InvalidInputError, match="no arm of trim"):
        read_study(AblationRequest("trim", "", tmp_path, arms="nothing"))
    with pytest.raises(InvalidInputError, match="no ablation"):
        read_study(AblationRequest("nothing", "", tmp_path))
