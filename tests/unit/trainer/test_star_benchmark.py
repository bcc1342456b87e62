"""STAR's published measure: which points count, what a policy may choose from, and the numbers as they are printed."""

import json

import pytest
from typer.testing import CliRunner

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_trainer.backends.counts.chooser import CountsChooser
from pilotage_trainer.backends.interface import Choice, Chosen
from pilotage_trainer.evaluation.star import list_choices, name_label, read_benchmark
from pilotage_trainer.evaluation.star import score_choices as score
from pilotage_trainer.main import app

APIS = {"weather": {"input": [{"Name": "City", "Type": "ShortString"}], "required": ["City"]}}
TASKS = {"weather": {"responses": {"ask_city": "Which city?", "tell": "It is {Weather}.", "query": ""}}}


def user(text):
    return {"Agent": "User", "Action": "utter", "Text": text, "UnixTime": 1}


def pick(label):
    return {"Agent": "Wizard", "Action": "pick_suggestion", "ActionLabel": label, "Text": f"{label}!", "UnixTime": 2}


QUERY = [
    {"Agent": "Wizard", "Action": "query", "APIName": "weather", "Constraints": [{"City": '"Oslo"'}], "UnixTime": 3},
    {"Agent": "KnowledgeBase", "Action": "return_item", "Item": {"Weather": "Sunny"}, "TotalItems": 1},
]
WORDS = {"Agent": "Wizard", "Action": "utter", "Text": "in my own words", "UnixTime": 4}
GUIDE = {"Agent": "UserGuide", "Action": "instruct", "Text": "be confused", "UnixTime": 1}


def dialogue(number, *events, happy=True):
    return {
        "DialogueID": number,
        "AnonymizedWizardWorkerID": f"w{number % 3}",
        "Scenario": {
            "Domains": ["weather"],
            "Happy": happy,
            "MultiTask": False,
            "WizardCapabilities": [{"Task": "weather", "Domain": "weather"}],
        },
        "Events": [user("hello"), pick("ask_city"), user("Oslo"), *QUERY, pick("tell"), *events],
    }


@pytest.fixture
def star(tmp_path):
    folder = tmp_path / "star"
    folder.mkdir()
    (folder / "apis.json").write_text(json.dumps(APIS))
    (folder / "tasks.json").write_text(json.dumps(TASKS))
    lines = [dialogue(n) for n in range(30)]
    lines += [dialogue(30, user("thanks"), WORDS, GUIDE, pick("goodbye_1")), dialogue(31, pick("lost"), happy=False)]
    path = folder / "some.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


@pytest.mark.parametrize(
    ("action", "label"),
    [
        (Action(Tool.CLICK_CONTROL, "submit"), "query"),
        (Action(Tool.CLICK_CONTROL, "submit:check"), "query_check"),
        (Action(Tool.CLICK_CONTROL, "submit:book"), "query_book"),
        (Action(Tool.CLICK_CONTROL, "row:1"), ""),
        (Action(Tool.SEND_TEXT_TO_CHAT, "reply:tell", text="It is sunny."), "tell"),
        (Action(Tool.SEND_TEXT_TO_CHAT, text="in my own words"), ""),
        (Action(Tool.OPEN_PROCEDURE, "procedure:weather"), ""),
        (Action(Tool.FILL_INPUT, "input:City", value="Oslo"), ""),
        (Action(Tool.CLOSE_CHAT), ""),
    ],
)
def test_the_label_of_an_action(action, label):
    assert name_label(action) == label


def test_points_are_queries_and_templates_and_the_published_set_is_marked(star):
    sessions = list(read_benchmark(star))
    assert [standard for _, standard in sessions] == [True] * 30 + [False, False]
    choices = list(list_choices(sessions[30][0], DEFAULT_FORMAT))
    assert [choice.label for choice in choices] == ["ask_city", "query", "tell", "goodbye_1"]
    assert {"query", "ask_city", "tell", "hello"} <= set(choices[0].offered)
    assert not any(name.startswith(("row", "procedure")) for name in choices[0].offered)
    assert not any("confused" in choice.prompt for choice in choices)


def test_nothing_in_a_prompt_says_which_set_it_is_in(star):
    (first, _), *_, (last, _) = read_benchmark(star)
    assert next(list_choices(first, DEFAULT_FORMAT)).prompt == next(list_choices(last, DEFAULT_FORMAT)).prompt


def test_a_template_that_the_screen_does_not_offer_is_missed(star):
    *_, (last, _) = read_benchmark(star)
    lost = list(list_choices(last, DEFAULT_FORMAT))[-1]
    assert lost.label == "lost"
    told = score([(lost, Chosen("tell", 0.9)), (lost, Chosen("lost!", 0.1))], 1)
    assert (told.accuracy, told.not_offered, told.n) == (0.0, 2, 2)


def test_scores_by_hand():
    choices = [Choice("", label, {}) for label in "aaab"]
    told = score(list(zip(choices, [Chosen("a", c) for c in (0.9, 0.8, 0.7, 0.6)], strict=True)), 1)
    assert told.accuracy == 0.75
    assert told.weighted_f1 == pytest.approx(0.75 * 6 / 7)
    assert told.coverage == 0.75


@pytest.fixture
def counts(star, tmp_path):
    from pilotage_trainer.artefact import Manifest, write_artefact
    from pilotage_trainer.backends.counts import find_maker
    from pilotage_trainer.backends.counts.examples import build_examples
    from pilotage_trainer.backends.counts.policy_training import fit_policy
    from pilotage_trainer.backends.counts.served import POLICY_FILE
    from pilotage_trainer.config import CountsPolicy

    policy = fit_policy(build_examples(record for record, _ in read_benchmark(star)), CountsPolicy())
    folder = tmp_path / "r1" / "policy"
    manifest = Manifest("policy", "star/all", "r1", "counts", "", "", DEFAULT_FORMAT.digest, find_maker().code, {})
    write_artefact(folder, manifest, {POLICY_FILE: policy.encode()})
    return policy, folder


def test_a_count_model_chooses_among_labels_only(star, counts):
    chooser = CountsChooser(counts[0])
    record = next(iter(read_benchmark(star)))[0]
    choices = list(list_choices(record, DEFAULT_FORMAT))
    chosen = chooser.choose(choices)
    assert [one.label for one in chosen] == ["ask_city", "query", "tell"]
    assert all(0.0 < one.confidence <= 1.0 for one in chosen)


@pytest.mark.parametrize("whole_revision", [False, True])
def test_the_command_prints_the_published_names(star, counts, whole_revision):
    folder = counts[1].parent if whole_revision else counts[1]
    told = CliRunner().invoke(app, ["evaluate", "--star", str(star), "--policy", str(folder), "--json"])
    assert told.exit_code == 0, told.output
    printed = json.loads(told.stdout)
    assert set(printed["standard"]) >= {"accuracy", "weighted_f1", "coverage_at_precision_0.9", "n"}
    assert (printed["standard"]["n"], printed["all"]["n"]) == (90, 98)
    assert printed["standard"]["accuracy"] == 1.0
    assert printed["all"]["not_offered"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--star", "x"], 2, "--policy"),
        (["--star", "x", "--policy", "y", "--report", "z"], 2, "does not go with --star"),
        (["--policy", "y"], 2, "is missing (or give --star FILE or --desk FILE)"),
        (["--export", "x"], 2, "--policy"),
        (["--star", "/nowhere.jsonl", "--policy", "/nowhere"], 6, "cannot be read"),
    ],
)
def test_options_that_do_not_go_together_are_said(arguments, code, said):
    told = CliRunner().invoke(app, ["evaluate", *arguments])
    assert told.exit_code == code
    assert said in " ".join(told.output.split())
