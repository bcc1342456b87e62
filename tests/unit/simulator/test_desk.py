"""The desk in closed loop: what a customer gets and says, what the BPM allows, and how a session is judged."""

import json

import msgspec
import pytest
from typer.testing import CliRunner

from pilotage_core.actions import Action, Tool
from pilotage_core.errors import EvidenceError, InvalidActionError, InvalidInputError
from pilotage_core.proposal import find_fault
from pilotage_core.reading import read_screen
from pilotage_simulator.desk.clerk import Clerk
from pilotage_simulator.desk.customer import Customer, read_goal
from pilotage_simulator.desk.desk import CLOSED, TRANSFERRED, Desk
from pilotage_simulator.desk.outcome import TIMED_OUT, read_goal_bookings
from pilotage_simulator.desk.play import MOST_ACTIONS, Witness, play, play_at
from pilotage_simulator.desk.screens import SCHEMA, build_page
from pilotage_simulator.desk.services import build_services
from pilotage_simulator.desk.sgd import (
    SCHEMA_FILE,
    SYSTEM,
    USER,
    Act,
    Call,
    Dialogue,
    Frame,
    Intent,
    LeftOut,
    Service,
    Slot,
    Turn,
    find_unplayable,
    read_dialogues,
)
from pilotage_simulator.main import app

ROOM = Service(
    "Rooms_1",
    (
        Slot("city", False),
        Slot("guests", True, ("1", "2")),
        Slot("bed", True, ("single", "double", "twin", "king")),
        Slot("hotel", False),
        Slot("phone", False),
    ),
    (
        Intent("FindRoom", False, ("city",), {"bed": "dontcare"}),
        Intent("BookRoom", True, ("hotel", "guests"), {"bed": "single"}),
    ),
)
SERVICES = {"Rooms_1": ROOM}
ROWS = ({"hotel": "Ibis", "city": "Metz", "phone": "12"}, {"hotel": "Ritz", "city": "Metz", "phone": "34"})


def act(name, slot="", value="", canonical=""):
    return Act(name, slot, (value,) if value else (), (canonical or value,) if value else ())


def turn(speaker, text, *acts, call=None, rows=None):
    return Turn(speaker, text, (Frame("Rooms_1", acts, call, rows, len(rows) if rows is not None else None),))


def find(name):
    return act("INFORM_INTENT", "intent", name)


BOOKED = Call("BookRoom", {"hotel": "Ritz", "guests": "2", "bed": "single"})
DIALOGUE = Dialogue(
    "1_00000",
    ("Rooms_1",),
    (
        turn(USER, "A room please.", find("FindRoom")),
        turn(SYSTEM, "Where?", act("REQUEST", "city")),
        turn(USER, "In Metz.", act("INFORM", "city", "Metz")),
        turn(SYSTEM, "Ibis?", act("OFFER", "hotel", "Ibis"), call=Call("FindRoom", {"city": "Metz"}), rows=ROWS),
        turn(USER, "Another?", act("REQUEST_ALTS")),
        turn(SYSTEM, "Ritz?", act("OFFER", "hotel", "Ritz")),
        turn(USER, "Its phone?", act("REQUEST", "phone")),
        turn(SYSTEM, "34.", act("INFORM", "phone", "34")),
        turn(USER, "Book it for a couple.", act("SELECT"), find("BookRoom"), act("INFORM", "guests", "a couple", "2")),
        turn(SYSTEM, "Ritz for 2?", act("CONFIRM", "hotel", "Ritz"), act("CONFIRM", "guests", "2")),
        turn(USER, "Yes.", act("AFFIRM")),
        turn(SYSTEM, "Done.", act("NOTIFY_SUCCESS"), call=BOOKED, rows=(BOOKED.parameters,)),
        turn(USER, "Thanks, that is all.", act("THANK_YOU"), act("GOODBYE")),
        turn(SYSTEM, "Bye.", act("GOODBYE")),
    ),
)


BOOK = Action(Tool.CLICK_CONTROL, "book")
COMPLETE = (
    Action(Tool.OPEN_PROCEDURE, "open:Rooms_1/BookRoom"),
    Action(Tool.FILL_INPUT, "slot:hotel", "Ritz"),
    Action(Tool.SELECT_RADIO_BUTTON, "slot:guests", "2"),
)


class Heard(Witness):
    """Keeps what was said and done."""

    def __init__(self):
        self.lines, self.actions = [], []

    def see_customer(self, text):
        self.lines.append(text)

    def see_action(self, action):
        self.actions.append(action)


class Scripted:
    """An operator who does one list of actions after another, one a turn, and then nothing."""

    def __init__(self, *turns):
        self.turns = list(turns)
        self.now = []

    def hear(self, said):
        self.now = list(self.turns.pop(0)) if self.turns else []

    def decide(self):
        return self.now.pop(0) if self.now else None


def say(control):
    return Action(Tool.SEND_TEXT_TO_CHAT, control)


def a_desk(dialogue=DIALOGUE):
    return Desk(build_services(dialogue, SERVICES))


def ready_to_confirm():
    """A desk whose booking form is complete."""
    desk = a_desk()
    for action in COMPLETE:
        desk.act(action)
    return desk


def played_by(*turns, dialogue=DIALOGUE):
    desk = a_desk(dialogue)
    return play_at(desk, dialogue, Scripted(*turns), Witness())


# --- a session --------------------------------------------------------------------------------------------------------
def test_a_session_comes_out_right_and_the_customer_speaks_its_own_words():
    heard = Heard()
    desk = a_desk()
    outcome = play_at(desk, DIALOGUE, Clerk(desk), heard)
    assert outcome.is_right
    assert outcome.ended == CLOSED
    assert outcome.goal == tuple(read_goal_bookings(DIALOGUE, SERVICES)) == tuple(desk.services.books)
    assert heard.lines == [turn.utterance for turn in DIALOGUE.turns[::2]]
    assert Action(Tool.SELECT_RADIO_BUTTON, "slot:guests", "2") in heard.actions
    assert heard.actions[-1] == Action(Tool.CLOSE_CHAT)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"customer_finished": False}, "left too early"),
        ({"wrong": "goal"}, "a wrong booking"),
        ({"missing": "goal"}, "a missing one"),
        ({"unserved": ("FindRoom",)}, "nothing searched for"),
        ({"unanswered": ("phone",)}, "a question unanswered"),
        ({"misinformed": ("phone",)}, "a wrong answer"),
        ({"ended": TIMED_OUT}, "no end"),
    ],
)
def test_each_thing_amiss_is_not_right(change, what):
    outcome = play(DIALOGUE, SERVICES)
    change = {key: outcome.goal if value == "goal" else value for key, value in change.items()}
    assert not msgspec.structs.replace(outcome, **change).is_right, what


def test_an_early_closing_is_wrong_and_its_bookings_are_missing():
    outcome = played_by([say("say:goodbye"), Action(Tool.CLOSE_CHAT)])
    assert (outcome.ended, outcome.customer_finished, len(outcome.missing), outcome.wrong) == (CLOSED, False, 1, ())
    assert not outcome.is_right


def test_another_booking_is_wrong_and_the_goals_is_missing():
    hurried = [
        Action(Tool.OPEN_PROCEDURE, "open:Rooms_1/BookRoom"),
        Action(Tool.FILL_INPUT, "slot:hotel", "Ibis"),
        Action(Tool.SELECT_RADIO_BUTTON, "slot:guests", "1"),
        BOOK,
        Action(Tool.TRANSFER_CHAT),
    ]
    outcome = played_by(hurried)
    assert [dict(booking.parameters)["hotel"] for booking in outcome.wrong] == ["Ibis"]
    assert [dict(booking.parameters)["hotel"] for booking in outcome.missing] == ["Ritz"]
    assert outcome.ended == TRANSFERRED


def test_a_booking_made_twice_is_wrong_once():
    outcome = play(DIALOGUE, SERVICES)
    desk = a_desk()
    for action in (*COMPLETE, BOOK, *COMPLETE, BOOK):
        desk.act(action)
    assert desk.services.books == [*outcome.goal, *outcome.goal]


def test_a_session_without_end_times_out():
    class Mute:
        def hear(self, said):
            pass

        def decide(self):
            return say("say:more")

    desk = a_desk()
    outcome = play_at(desk, DIALOGUE, Mute(), Witness())
    assert outcome.ended == TIMED_OUT
    assert sum(outcome.actions.values()) == MOST_ACTIONS
    assert not outcome.is_right


def test_an_operator_who_says_nothing_for_ever_is_left():
    """Turns without an action end too: the customer's patience does."""
    assert (played_by().ended, played_by().customer_finished) == (TIMED_OUT, False)


# --- the customer -----------------------------------------------------------------------------------------------------
def a_customer():
    customer = Customer(*read_goal(DIALOGUE))
    customer.begin()
    return customer


def test_a_customer_answers_another_question_than_the_recorded_one():
    customer = a_customer()
    assert customer.hear([act("REQUEST", "bed")]).text == "I do not mind about the bed."
    assert customer.hear([act("REQUEST", "city")]).text == "In Metz."
    assert customer.hear([act("REQUEST", "city")]).text == "The city is Metz."


def at_the_confirmation():
    customer = a_customer()
    for heard in (act("REQUEST", "city"), act("OFFER", "hotel", "Ritz"), act("INFORM", "phone", "34")):
        said = customer.hear([heard])
    assert said.text == "Book it for a couple."
    return customer


def test_a_customer_corrects_what_is_confirmed_wrongly_and_affirms_what_is_right():
    customer = at_the_confirmation()
    wrong = customer.hear([act("CONFIRM", "hotel", "Ibis"), act("CONFIRM", "guests", "2")])
    assert [meant.act for meant in wrong.acts] == ["NEGATE", "INFORM"]
    assert wrong.text == "No. The hotel is Ritz."
    assert customer.hear([act("CONFIRM", "hotel", "Ritz"), act("CONFIRM", "guests", "2")]).text == "Yes."


def test_a_customer_who_is_not_heard_corrects_twice_and_no_more():
    customer = at_the_confirmation()
    wrong = [act("CONFIRM", "hotel", "Ibis"), act("CONFIRM", "guests", "2")]
    assert [customer.hear(wrong).text[:3] for _ in range(3)] == ["No.", "No.", "Yes"]


def test_a_customer_does_not_leave_before_it_has_what_it_came_for():
    customer = at_the_confirmation()
    assert "BookRoom" in customer.hear([act("REQ_MORE")]).text
    assert not customer.has_left


def test_a_customers_patience_ends():
    customer = a_customer()
    for _ in range(100):
        customer.hear([act("REQ_MORE")])
    assert (customer.gave_up, customer.finished) == (True, False)


def test_a_wrong_answer_is_noted_as_one():
    customer = a_customer()
    customer.hear([act("REQUEST", "city")])
    customer.hear([act("OFFER", "hotel", "Ritz")])
    customer.hear([act("INFORM", "phone", "12")])
    assert [(question.slot, question.answered) for question in customer.questions] == [("phone", False)]


# --- what the BPM allows ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "action",
    [
        Action(Tool.OPEN_PROCEDURE, "open:Rooms_1/Nothing"),
        Action(Tool.OPEN_PROCEDURE, "open:Rooms_1"),
        BOOK,
        Action(Tool.CLICK_CONTROL, "row:0"),
        Action(Tool.FILL_INPUT, "slot:city", "Metz"),
        Action(Tool.CLOSE_CHAT),
        say(""),
        say("say:confirm"),
        say("say:inform:phone"),
    ],
)
def test_what_is_not_enabled_is_refused_and_changes_nothing(action):
    desk = a_desk()
    before = build_page(desk)
    with pytest.raises(InvalidActionError):
        desk.act(action)
    assert build_page(desk) == before


@pytest.mark.parametrize(
    "action",
    [
        Action(Tool.SELECT_RADIO_BUTTON, "slot:guests", "3"),
        Action(Tool.SELECT_RADIO_BUTTON, "slot:guests", ""),
        Action(Tool.FILL_INPUT, "slot:guests", "2"),
        Action(Tool.FILL_INPUT, "slot:hotel", "Ritz\nIbis"),
        Action(Tool.FILL_INPUT, "slot:city", "Metz"),
    ],
)
def test_a_field_takes_one_line_or_one_of_its_options(action):
    desk = ready_to_confirm()
    before = build_page(desk)
    with pytest.raises(InvalidActionError):
        desk.act(action)
    assert build_page(desk) == before
    assert find_fault(action, read_screen(before, (SCHEMA,))), "the gate sees it too"


def test_nothing_is_done_in_a_closed_session():
    (desk := a_desk()).act(Action(Tool.TRANSFER_CHAT))
    with pytest.raises(InvalidActionError, match="over"):
        desk.act(say("say:more"))


def test_a_form_is_not_submitted_twice():
    desk = ready_to_confirm()
    desk.act(BOOK)
    with pytest.raises(InvalidActionError):
        desk.act(BOOK)
    assert len(desk.services.books) == 1


# --- what can be played -----------------------------------------------------------------------------------------------
def without(dialogue, number):
    return msgspec.structs.replace(dialogue, turns=dialogue.turns[:number] + dialogue.turns[number + 1 :])


@pytest.mark.parametrize(
    ("dialogue", "reason"),
    [
        (without(DIALOGUE, 1), "do not take turns"),
        (without(DIALOGUE, 13), "do not take turns"),
        (msgspec.structs.replace(DIALOGUE, turns=DIALOGUE.turns[:2]), "goodbye"),
        (msgspec.structs.replace(DIALOGUE, turns=()), "goodbye"),
    ],
)
def test_dialogues_that_cannot_be_played_are_told_apart(dialogue, reason):
    assert reason in find_unplayable(dialogue, SERVICES)


def test_a_service_an_intent_a_slot_and_a_value_that_the_schema_lacks():
    assert "is not in the schema" in find_unplayable(DIALOGUE, {})
    bare = {"Rooms_1": msgspec.structs.replace(ROOM, intents=())}
    assert "has no intent FindRoom" in find_unplayable(DIALOGUE, bare)
    no_city = msgspec.structs.replace(ROOM, intents=(Intent("FindRoom", False), ROOM.intents[1]))
    assert "intent FindRoom has no slot city" in find_unplayable(DIALOGUE, {"Rooms_1": no_city})
    fewer = msgspec.structs.replace(ROOM, slots=(Slot("guests", True, ("1",)), *ROOM.slots))
    assert "guests of service Rooms_1 cannot be '2'" in find_unplayable(DIALOGUE, {"Rooms_1": fewer})


@pytest.fixture
def files(tmp_path):
    """A file of dialogues: one that can be played, one that cannot."""
    other = msgspec.structs.replace(DIALOGUE, turns=DIALOGUE.turns[:2])
    path = tmp_path / "dialogues.jsonl"
    path.write_bytes(b"\n".join(map(msgspec.json.encode, (other, DIALOGUE))) + b"\n")
    (tmp_path / SCHEMA_FILE).write_bytes(msgspec.json.encode([ROOM]))
    return path


def test_what_cannot_be_played_is_left_out_with_its_line(files):
    left_out = LeftOut()
    assert [dialogue.dialogue_id for dialogue in read_dialogues(files, SERVICES, left_out)] == ["1_00000"]
    assert (f"{files}:1" in str(left_out), left_out.counts.total()) == (True, 1)


def test_another_data_set_is_refused_by_its_line(files):
    files.write_text('{"DialogueID": 1, "Events": []}\n')
    with pytest.raises(InvalidInputError, match=":1"):
        list(read_dialogues(files, SERVICES, LeftOut()))


def test_a_file_with_nothing_to_play_is_refused(files):
    with pytest.raises(EvidenceError, match="not in the schema"):
        list(read_dialogues(files, {}, LeftOut()))


def test_the_command_says_how_sessions_came_out(files):
    told = CliRunner().invoke(app, ["desk", "--sgd", str(files), "--perfect", "--json"])
    summary = json.loads(told.stdout)
    assert (told.exit_code, summary["sessions"], summary["right"]) == (0, 1, 1.0)
    assert 2 * summary["operator_seconds"]["assumed"] == summary["operator_seconds"]["double"] > 50
    assert sum(summary["left_out"].values()) == 1
    assert "100.00% right" in CliRunner().invoke(app, ["desk", "--sgd", str(files), "--perfect"]).stdout
