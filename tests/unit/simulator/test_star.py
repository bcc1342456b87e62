"""Reading STAR, and scripts made from it: a small dialogue by hand, and properties over real ones."""

import gzip
import json

import pytest

from pilotage_core.actions import Tool
from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.proposal import find_fault
from pilotage_core.reading import read_screen
from pilotage_simulator.case import Case
from pilotage_simulator.dialogue import StepKind, build_script
from pilotage_simulator.forms import read_constraints, read_value
from pilotage_simulator.records import records_from_star
from pilotage_simulator.screens import SCHEMAS, Renderer
from pilotage_simulator.star import find_star, load_star, read_dialogues


def test_a_script_has_the_wizards_steps_with_typing_right_after_the_customers_last_word(fx):
    script = fx.script_of(fx.TWO_FORECASTS)
    assert script.opening == ("Hello!",)
    assert [(step.kind.value, len(step.actions), step.replies) for step in script.steps] == [
        ("open", 1, ()),
        ("message", 1, ("Weather in Detroit?",)),
        ("message", 1, ("Monday.",)),
        ("fill", 2, ()),
        ("submit", 1, ()),
        ("message", 1, ("And Tuesday?",)),
        ("fill", 1, ()),
        ("submit", 1, ()),
        ("message", 1, ("Thanks.",)),
        ("message", 1, ()),
        ("close", 1, ()),
    ]
    assert [step.active_seconds for step in script.steps] == [1, 10, 5, 9, 1, 5, 59, 1, 10, 5, 1]


def test_typing_precedes_what_the_wizard_said_between_the_customers_last_word_and_the_query(fx):
    events = [*fx.TWO_FORECASTS[:5], fx.pick("hello", "One moment.", 135), *fx.TWO_FORECASTS[5:]]
    kinds = [step.kind for step in fx.script_of(events).steps][2:6]
    assert kinds == [StepKind.MESSAGE, StepKind.FILL, StepKind.MESSAGE, StepKind.SUBMIT]


def test_a_run_of_leafing_through_procedures_counts_as_its_last_and_a_query_opens_its_own(fx):
    def select(task, at):
        return {"Agent": "Wizard", "Action": "select_task", "Task": task, "UnixTime": at}

    events = [
        fx.user("Hi", 1),
        select("weather", 2),
        select("hotel_book", 3),
        fx.pick("hotel_ask_name", "Which hotel?", 4),
        fx.user("Hyatt", 5),
        fx.query("hotel_book", 6, Name="Hyatt", RequestType="Check"),
        fx.result(Message="Available"),
        fx.query("weather", 7, City="Boston"),
        fx.result(Weather="Rain"),
        fx.pick("hotel_inform_booked", "It is booked.", 9),
    ]
    script = fx.script_of(events, multi=True)
    controls = [step.actions[0].control_id for step in script.steps]
    assert controls == [
        "procedure:hotel_book",
        "reply:hotel_ask_name",
        "input:Name",
        "submit:check",
        "procedure:weather",
        "input:City",
        "submit",
        "procedure:hotel_book",  # the template is only there
        "reply:hotel_inform_booked",
        "",
    ]


def test_a_label_without_template_is_free_text(fx):
    script = fx.script_of([*fx.TWO_FORECASTS, fx.pick("custom", "Have fun!", 330)])
    assert (script.steps[-2].actions[0].control_id, script.steps[-2].actions[0].text) == ("", "Have fun!")


def test_a_stated_share_is_transferred_instead_of_closed(fx):
    tools = [
        build_script(fx.dialogue(fx.TWO_FORECASTS, identity=n), fx.PROCEDURES, 0.25).steps[-1].actions[0].tool
        for n in range(400)
    ]
    assert 70 < tools.count(Tool.TRANSFER_CHAT) < 130


@pytest.mark.parametrize(
    "events", [[], [("user", "Hi", 1)], [("pick", "hello", "Hello", 1), ("pick", "hello", "Hello", 2)]]
)
def test_a_dialogue_with_too_little_in_it_has_no_script(fx, events):
    made = [fx.user(*e[1:]) if e[0] == "user" else fx.pick(*e[1:]) for e in events]
    assert build_script(fx.dialogue(made), fx.PROCEDURES) is None


@pytest.mark.parametrize(
    ("given", "typed"),
    [
        ('"PNC"', "PNC"),
        ('api.is_equal_to("Yes")', "Yes"),
        ("api.is_equal_to()", ""),
        ("api.is_at_most(3)", "at most 3"),
        ('api.is_one_of(["a","b"])', "one of a, b"),
        ('api.contains("Park")', "contains Park"),
        ("0314", "0314"),
        ("93418043810", "93418043810"),
        ("True", "True"),
        ("null", ""),
        ('""', ""),
    ],
)
def test_a_constraint_is_read_as_one_would_type_it(given, typed):
    assert read_value(given) == typed


def test_the_request_type_names_the_button_and_is_no_value():
    assert read_constraints(({"Name": '"Hyatt"'}, {"RequestType": '"Book"'})) == ({"Name": "Hyatt"}, "submit:book")


@pytest.mark.parametrize("bad", ["{", "[]", '{"DialogueID": 1}', '{"DialogueID": 1, "Events": 3}'])
def test_a_malformed_line_is_an_error_that_names_file_and_line(tmp_path, bad):
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(gzip.compress(f"\n{bad}\n".encode()))
    with pytest.raises(InvalidInputError, match=r"d\.jsonl\.gz:2"):
        list(read_dialogues(path))


def test_a_damaged_archive_and_a_missing_path_say_so(tmp_path):
    path = tmp_path / "d.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"text": list(range(5000))}).encode() * 9)[:3000])
    with pytest.raises(UnavailableError, match=r"d\.jsonl\.gz"):
        list(read_dialogues(path))
    with pytest.raises(InvalidInputError, match="no such file"):
        find_star(str(tmp_path / "absent"))
    with pytest.raises(InvalidInputError, match="none of"):
        load_star(tmp_path)


def test_a_file_of_dialogues_alone_uses_the_data_sets_procedures(star_path, tmp_path):
    lines = [line for line, _ in zip(read_raw(star_path), range(3), strict=False)]
    other = tmp_path / "other.jsonl.gz"
    other.write_bytes(gzip.compress("\n".join(lines).encode()))
    star = load_star(other)
    assert (star.dialogues, len(star.procedures)) == (other, 24)
    assert len(list(read_dialogues(other))) == 3


def read_raw(star_path):
    with gzip.open(star_path / "dialogues.jsonl.gz", "rt") as lines:
        yield from (line.rstrip("\n") for line in lines)


@pytest.fixture(scope="module")
def real(star_path):
    star = load_star(star_path)
    found = [dialogue for n, dialogue in enumerate(read_dialogues(star.dialogues)) if n % 40 == 0]
    return star, found


def test_every_real_script_can_be_done_on_its_screens_and_ends(real):
    star, dialogues = real
    renderer = Renderer(star.procedures)
    texts = 0
    for dialogue in dialogues:
        script = build_script(dialogue, star.procedures)
        if script is None:
            continue
        case = Case(script, renderer)
        while not case.closed:
            index, step = case.next_step()
            screen = read_screen(case.html(), SCHEMAS)
            assert screen.unknown_controls == 0
            for action in step.actions:
                assert find_fault(action, screen) == "" or action.value
                assert action.tool in (Tool.CLOSE_CHAT, Tool.TRANSFER_CHAT, Tool.SEND_TEXT_TO_CHAT) or screen.control(
                    action.control_id
                )
            if step.kind is StepKind.SUBMIT:
                assert {k: v for k, v in case.values.items() if v} == dict(step.values)
            case.tick(index)
            for action in step.actions:
                case.apply(action, step)
            texts += step.kind is StepKind.MESSAGE
    assert texts > 500


def test_what_was_hidden_from_the_customer_side_is_on_no_screen_and_in_no_event(star_path):
    raw = {
        json.loads(line)["DialogueID"]: json.loads(line)
        for line, _ in zip(read_raw(star_path), range(400), strict=False)
    }
    procedures = load_star(star_path).procedures.values()
    templates = {" ".join(text.split()) for procedure in procedures for text in procedure.replies.values()}
    for record in records_from_star(star_path, limit=60):
        events = raw[int(record.session_id.removeprefix("star-"))]["Events"]
        said = {e.get("Text", "").strip() for e in events if e["Action"] in ("utter", "pick_suggestion")}
        said |= {str(value) for e in events for value in (e.get("Item") or {}).values()}
        hidden = (
            {
                e["Text"].strip()
                for e in events
                if e["Action"] in ("request_suggestions", "instruct") and len(e["Text"]) > 25
            }
            - said
            - templates
        )
        written = repr(record.events)
        assert not [text for text in hidden if text in written and not any(text in other for other in said)]


def test_records_by_domain_are_whole_sessions_of_the_logging_stage(star_path):
    records = list(records_from_star(star_path, ["weather", "trivia", "spaceship", "bank"], limit=5))
    assert len(records) == 5
    for record in records:
        assert record.closed_at
        assert [event.sequence for event in record.events] == list(range(len(record.events)))
        assert record.proposals == ()


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_times_are_read_in_whatever_unit_they_were_written(star_path, tmp_path, unit):
    lines = [json.loads(line) for line, _ in zip(read_raw(star_path), range(3), strict=False)]
    plain, other = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    plain.write_text("\n".join(map(json.dumps, lines)))
    for event in (event for line in lines for event in line["Events"] if event.get("UnixTime") is not None):
        event["UnixTime"] = round(event["UnixTime"]) * unit
    other.write_text("\n".join(map(json.dumps, lines)))
    times = [
        [round(event.unix_time) for dialogue in read_dialogues(path) for event in dialogue.events if event.unix_time]
        for path in (plain, other)
    ]
    assert times[0] == times[1]


def test_a_time_that_is_none_is_named_by_its_line(star_path, tmp_path):
    line = json.loads(next(iter(read_raw(star_path))))
    line["Events"][0]["UnixTime"] = 1e300
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(InvalidInputError, match=r"d\.jsonl:1: UnixTime 1e\+300 is no Unix time"):
        list(read_dialogues(path))


def test_a_dialogue_that_is_there_twice_is_read_once_and_two_of_one_id_are_refused(star_path, tmp_path, caplog):
    lines = [json.loads(line) for line, _ in zip(read_raw(star_path), range(3), strict=False)]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, [*lines, *lines])))
    assert len(list(read_dialogues(path))) == 3
    assert "3 dialogues were there again" in caplog.text
    lines[2]["DialogueID"] = lines[0]["DialogueID"]
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InvalidInputError, match=r"d\.jsonl:3: DialogueID .* is also in line 1"):
        list(read_dialogues(path))
