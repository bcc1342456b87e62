"""The copier: what it hears, what it copies, what it ranks, and what it answers."""

from itertools import islice

import msgspec
import numpy as np
import pytest

from pilotage_core.actions import Action, Tool
from pilotage_core.proposal import build_action_schema, find_fault, read_reply
from pilotage_simulator.desk.recording import read_desk_records
from pilotage_simulator.desk.trial import RULES
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.copier.calls import Calls, name_call
from pilotage_trainer.backends.copier.candidates import build_moment
from pilotage_trainer.backends.copier.critic import Critic
from pilotage_trainer.backends.copier.critic_training import fit_critic, judge_sessions
from pilotage_trainer.backends.copier.fitting import build_rows, fit_ranker, fit_verdicts
from pilotage_trainer.backends.copier.hearing import find_kind, find_stem, find_tokens, list_arguments
from pilotage_trainer.backends.copier.known import Known, StoredKnown, gather_known
from pilotage_trainer.backends.copier.lessons import FORM, Heard, Lesson, build_lessons, hear_session
from pilotage_trainer.backends.copier.openings import Openings, Question, ask, build_choice
from pilotage_trainer.backends.copier.policy import Policy
from pilotage_trainer.backends.copier.policy_job import measure_policy
from pilotage_trainer.backends.copier.policy_training import Choices, fit_ears, fit_policy
from pilotage_trainer.backends.copier.served import ServedCritic, ServedPolicy, is_allowed
from pilotage_trainer.backends.copier.spans import Spans
from pilotage_trainer.backends.copier.values import Source, list_values
from pilotage_trainer.backends.interface import build_query
from pilotage_trainer.backends.plain import NOTHING
from pilotage_trainer.backends.situation import Turn, read_points, read_prompt
from pilotage_trainer.config import CopierCritic, CopierPolicy, Selection
from pilotage_trainer.sessions.export import human_points

SETTINGS = CopierPolicy(iterations=15, ranker_iterations=25)
MANIFEST = Manifest("policy", "desk/all", "r1", "copier", "", "", "", "", {})


@pytest.fixture(scope="module")
def records(sgd_path):
    return list(islice(read_desk_records(sgd_path, "desk/bookings", part=(0, 9)), 150))


@pytest.fixture(scope="module")
def policy(records):
    return fit_policy(build_lessons(records[:120]), SETTINGS)


@pytest.fixture(scope="module")
def points(records):
    return [point for record in records[120:135] for point in human_points(record, FORM)]


# --- hearing ----------------------------------------------------------------------------------------------------------
def test_words_keep_their_place_and_shape():
    tokens = find_tokens("Book O'Hare at 6:30 pm.")
    assert [token.word for token in tokens] == ["book", "o'hare", "at", "6", ":", "30", "pm", "."]
    assert [token.shape for token in tokens][:4] == ["Xx", "X'Xx", "x", "d"]
    assert "Book O'Hare at 6:30 pm."[tokens[1].start : tokens[5].end] == "O'Hare at 6:30"


@pytest.mark.parametrize(
    ("action", "stem", "kind"),
    [
        (Action(Tool.SEND_TEXT_TO_CHAT, "say:request:city"), "say:request", "send_text_to_chat say:request"),
        (Action(Tool.SEND_TEXT_TO_CHAT, "say:confirm"), "say:confirm", "send_text_to_chat say:confirm"),
        (Action(Tool.CLICK_CONTROL, "row:3"), "row:3", "click_control row"),
        (Action(Tool.FILL_INPUT, "slot:city", "Metz"), "slot:city", "fill_input"),
        (Action(Tool.CLOSE_CHAT), "", "close_chat"),
    ],
)
def test_an_action_is_named_by_what_is_done_not_by_what_it_is_about(action, stem, kind):
    assert (find_stem(action.control_id), find_kind(action)) == (stem, kind)


def test_a_request_for_several_is_about_each():
    assert list_arguments("say:request:city+date") == ("city", "date")
    assert list_arguments("say:more") == ("more",)
    assert list_arguments("") == ()


def test_what_was_typed_is_found_in_the_latest_turn_that_has_it():
    situation = read_prompt(
        '@ a=b\n% s\n+ input slot:city\n< to Metz\n>{"tool":"close_chat"}\n< No, to Metz please.\n>'
    )
    heard = hear_session(situation, Action(Tool.FILL_INPUT, "slot:city", "metz"))
    assert (heard[0].spans, heard[1].spans) == ([], [(3, 3, "slot:city")])
    heard = hear_session(situation, Action(Tool.FILL_INPUT, "slot:city", "Nancy"))
    assert name_call(Action(Tool.FILL_INPUT, "slot:city", "Nancy")) in heard[1].calls, (
        "nobody's words: it is called for"
    )


@pytest.mark.parametrize("text", ["", "...hi", "   "])
def test_a_blank_that_was_typed_is_nobodys_words(text):
    situation = read_prompt(f"% s\n+ input slot:city\n< {text}\n>")
    assert hear_session(situation, Action(Tool.FILL_INPUT, "slot:city", " "))[0].spans == []


def test_words_never_heard_before_are_copied(records):
    spans = Spans(fit_ears(build_lessons(records[:80]), SETTINGS).spans)
    found = spans.find("I would like it to be in Qwxzburg please.", "say:request:city")
    assert found[0].text == "Qwxzburg"
    assert max(found[0].fields, key=found[0].fields.get) == "slot:city"


def test_a_value_that_many_sessions_typed_is_known_and_one_that_few_did_is_not():
    pairs = [("new york", "city")] * 3 + [("new york", "origin"), ("lyon", "city"), ("lyon", "city")]
    stored, less = gather_known([[pair] for pair in pairs], 2)
    known = Known(stored)
    assert known.find("new york") == ("city",)
    assert known.begins("new")
    assert known.find("new") == ()
    assert not known.begins("new york")
    assert less == [frozenset()] * 4 + [{("lyon", "city")}] * 2  # known by their own session alone
    assert known.find("lyon") == ("city",)
    assert known.find("lyon", less[4]) == ()
    assert gather_known([[("lyon", "city")]], 2)[0] == StoredKnown({}, ())


def test_what_is_known_for_one_field_alone_is_hidden_for_it_though_others_typed_it_too():
    stored, less = gather_known([[("x", "city")], [("x", "city")], [("x", "origin")]], 2)
    known = Known(stored)
    assert (known.find("x"), known.find("x", less[0]), known.find("x", less[2])) == (("city",), (), ("city",))


def test_what_one_session_alone_says_is_in_no_model_however_often_it_says_it():
    rows = [["in=all", "first=secret"]] * 5 + [["in=all"]] * 3
    matrix, names = build_rows(rows, [0] * 5 + [1, 2, 3], 3)
    assert (names, matrix.shape) == (("in=all",), (8, 1))


def test_a_procedure_never_opened_before_is_found_by_the_parts_of_its_name():
    choices = Choices()
    names = ("open:Hotels_1/ReserveHotel", "open:Buses_1/FindBus", "open:Music_1/PlaySong")
    for kind, name in zip(("hotel", "bus", "song"), names, strict=True):
        choices.add(build_choice(Question(f"I would like a {kind} please", "", "", names)), names.index(name))
    openings = Openings(choices.fit(1.0, 60))
    other = ("open:Buses_3/FindBus", "open:Hotels_3/ReserveHotel", "open:Music_2/LookupMusic")
    found = openings.find(Question("a hotel", "", "", other))
    assert max(found, key=found.get) == other[1]
    assert sum(found.values()) == pytest.approx(1.0)
    assert openings.find(Question("a hotel", "", "", ())) == {}


def test_only_what_the_case_has_a_service_of_may_be_opened_where_it_has_any():
    plain = "+ procedure procedure:bank\n+ procedure procedure:trivia\n>"
    assert len(ask(read_prompt(f"@ domains=bank,hotel\n% s\n{plain}")).options) == 2, "no services there"
    shown = "+ procedure open:A_1/Find\n+ procedure open:A_2/Find\n>"
    assert ask(read_prompt(f"@ services=A_2,B_1\n% s\n{shown}")).options == ("open:A_2/Find",)
    assert ask(read_prompt(f"@ services=B_1\n% s\n{shown}")).options == ("open:A_1/Find", "open:A_2/Find")


# --- what may come next -----------------------------------------------------------------------------------------------
class Deaf:
    """Hears nothing."""

    def __init__(self):
        self.options = {}

    def find(self, text, reply):
        return {}

    def find_values(self, text, reply):
        return ()


FORM_SHOWN = (
    '>{"tool":"open_procedure","control_id":"open:Hotels_1/Book"}\n% s\n'
    "+ input slot:city=Lyon\n+ select slot:rooms\n+ fact chosen\\u0020city=Metz\n>"
)


def test_what_the_screen_shows_under_a_fields_name_may_be_typed():
    found = list_values(read_prompt(f"< hi\n{FORM_SHOWN}"), Deaf(), SpansOfNothing(), 0)
    assert [(value.action, value.source) for value in found] == [
        (Action(Tool.FILL_INPUT, "slot:city", "Metz"), Source.SHOWN)
    ]


def test_what_was_typed_before_may_be_typed_again_and_is_told_from_another_services():
    typed = '>{"tool":"select_element_in_select","control_id":"slot:rooms","value":"2"}'
    for service, here in (("Hotels_1", True), ("Trains_1", False)):
        before = f'>{{"tool":"open_procedure","control_id":"open:{service}/Find"}}\n{typed}'
        situation = read_prompt(f"< hi\n{before}\n{FORM_SHOWN}")
        found = [value for value in list_values(situation, Deaf(), SpansOfNothing(), 2) if value.source is Source.TYPED]
        assert [(value.action.value, value.here) for value in found] == [("2", here)]


class SpansOfNothing:
    def find(self, text, reply):
        return ()


def test_a_value_that_was_typed_after_it_was_said_is_not_offered_again(policy, points):
    for point in points:
        situation = read_prompt(point.prompt)
        moment = build_moment(situation, policy.calls, policy.spans, policy.openings, is_new=False)
        values = [each.action for each in moment.candidates if each.keys[0] == "value"]
        assert all(situation.fields[action.control_id].casefold() != action.value.casefold() for action in values)


def test_what_is_clicked_opened_or_typed_can_be_on_the_screen_shown(policy, points):
    """Options are not in a dialog: a choice is one that was made in a field of that name, and the gate looks again."""
    sure = {Tool.OPEN_PROCEDURE, Tool.CLICK_CONTROL, Tool.FILL_INPUT, Tool.CLOSE_CHAT, Tool.TRANSFER_CHAT}
    for point in points:
        for candidate in build_moment(
            read_prompt(point.prompt), policy.calls, policy.spans, policy.openings, is_new=False
        ).candidates:
            if candidate.action is not None and candidate.action.tool in sure:
                assert not find_fault(candidate.action, point.state.screen), candidate.action


# --- the models -------------------------------------------------------------------------------------------------------
def test_it_does_what_operators_do_on_sessions_it_never_saw(policy, records):
    metrics = measure_policy(records[135:], policy)
    assert metrics["points"] > 200
    assert metrics["action_accuracy"] > 0.5
    assert metrics["value_accuracy"] > 0.3
    assert metrics["proposable_share"] > 0.9


def test_reading_on_and_reading_anew_predict_the_same(policy, records):
    for record in records[120:124]:
        for point, situation in read_points(human_points(record, FORM)):
            on, anew = policy.predict(situation), policy.predict(read_prompt(point.prompt))
            assert on.moment == anew.moment
            assert (on.shares == anew.shares).all()


def test_shares_sum_to_one_and_a_stored_policy_answers_the_same(policy, points):
    again = Policy.decode(policy.encode())
    for point in points[:40]:
        prediction = policy.predict(read_prompt(point.prompt))
        assert prediction.shares.sum() == pytest.approx(1.0, abs=1e-5)
        assert (again.predict(read_prompt(point.prompt)).shares == prediction.shares).all()


def test_what_is_served_is_an_action_that_the_schema_allows_or_nothing(policy, points):
    served = ServedPolicy(MANIFEST, policy)
    proposed = 0
    for point in points:
        schema = build_action_schema(RULES, point.state.screen)
        reply, confidence = served.propose(point.prompt, schema)
        assert 0.0 < confidence <= 1.0
        action = read_reply(reply, point.state.screen)
        if action is not None:
            proposed += 1
            assert is_allowed(schema, action)
    assert proposed > len(points) / 2
    only_close = {"anyOf": [{"properties": {"tool": {"const": "close_chat"}}}]}
    assert served.propose(points[0].prompt, only_close)[0] == NOTHING
    with pytest.raises(ValueError, match="none of actions"):
        served.propose(points[0].prompt, {"anyOf": [{}]})


def test_damaged_weights_are_refused(policy):
    stored = msgspec.structs.replace(policy.stored, weights=policy.stored.weights[:-3])
    with pytest.raises(ValueError, match="buffer size"):
        Policy.decode(msgspec.msgpack.encode(stored))


@pytest.fixture(scope="module")
def critic(policy, records):
    labels = judge_sessions(records[120:], policy, "", RULES)
    return fit_critic(policy, labels, CopierCritic(), Selection(least_labels=40)), labels


def test_a_critic_ranks_what_is_accepted_higher(critic):
    judge, labels = critic
    scores = np.array([judge.weigh(label.places) for label in labels])
    accepted = np.array([label.accepted for label in labels])
    assert scores[accepted].mean() > scores[~accepted].mean() + 0.2


def test_a_critic_gives_no_score_to_what_the_policy_does_not_think_of(critic, policy, points):
    judge, _ = critic
    served = ServedCritic(MANIFEST, judge)
    assert served.score(build_query(points[0].prompt, Action(Tool.FILL_INPUT, "slot:nowhere", "x"))) == 0.0
    again = Critic.decode(policy, msgspec.json.encode(judge.stored), judge.weights.tobytes())
    query = build_query(points[3].prompt, points[3].taken)
    assert ServedCritic(MANIFEST, again).score(query) == served.score(query)
    with pytest.raises(ValueError, match="does not end"):
        served.score("% s\n>")


# --- fitting ----------------------------------------------------------------------------------------------------------
def test_the_ranker_learns_which_of_several_is_taken():
    rng = np.random.default_rng(5)
    places, gold = [], []
    for moment in range(300):
        marks = rng.permutation(4)
        places += [int(mark) for mark in marks]
        gold.append(moment * 4 + int(np.flatnonzero(marks == 2)[0]))
    weights = fit_ranker(
        np.array(places, dtype=np.int32), np.ones(1200, dtype=np.int32), np.full(300, 4), np.array(gold), 8,
        strength=10.0, iterations=50,
    )  # fmt: skip
    assert int(np.argmax(weights[:4])) == 2
    assert weights[2] - np.delete(weights[:4], 2).max() > 3


def test_verdicts_are_weighed_and_the_slope_is_the_losses():
    places = [np.array([0]), np.array([1])] * 100
    accepted = np.array([True, False] * 100)
    weights, intercept = fit_verdicts(places, accepted, np.ones(200), 4, strength=10.0, iterations=100)
    assert weights[0] + intercept > 1 > -1 > weights[1] + intercept
    heavier = np.where(accepted, 1.0, 0.05)
    _, leaning = fit_verdicts(places, accepted, heavier, 4, strength=0.01, iterations=100)
    assert leaning > intercept + 0.5


def test_too_few_sessions_are_refused(records):
    from pilotage_core.errors import EvidenceError

    with pytest.raises(EvidenceError, match="too few"):
        fit_policy(build_lessons(records[:5]), SETTINGS)
    lesson = build_lessons(records[:5])[0]
    with pytest.raises(EvidenceError, match="nobody typed"):
        fit_ears([Lesson(lesson.record, (Heard(lesson.heard[0].turn),), lesson.opened)], SETTINGS)


def test_calls_of_one_turn_are_remembered_by_what_they_answer(policy):
    calls = Calls(policy.stored.calls)
    first = calls.find("Yes, please.", "say:confirm")
    assert calls.find("Yes, please.", "say:confirm") is first
    assert calls.find("Yes, please.", "say:more") != first
    assert Turn("a", "b") == Turn("a", "b")
