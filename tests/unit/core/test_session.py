"""State, dialog, proposals and records: what a session is, and what a model and a trainer see of it."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.actions import UNCRITICAL, Action, ActionPattern, ActionRules, StratumRule, Tool, classify_action
from pilotage_core.dialog import DEFAULT_FORMAT, Dialog, DialogFormat, SnapshotKind, decode_action, encode_action
from pilotage_core.errors import ConflictError, InvalidActionError, InvalidEventError
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    FeedbackGiven,
    Happening,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ReviewItem,
    ScreenShown,
    SessionClosed,
    SessionOpened,
    SessionReviewed,
    Verdict,
)
from pilotage_core.proposal import build_action_schema, find_fault, read_reply
from pilotage_core.record import ProposalRecord, SessionRecord, read_labels
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_core.stage import Stage
from pilotage_core.state import State, digest_state, fold_event
from pilotage_core.walk import SessionWalk, is_decision_point, walk_session

FORM = Screen(
    name="weather_form",
    controls=(
        Control("input:City", ControlKind.SELECT, options=("Chicago", "Detroit")),
        Control("submit", ControlKind.BUTTON, label="Query"),
        Control("reply:hello", ControlKind.REPLY, value="Hello, how can I help?"),
        Control("hidden", ControlKind.BUTTON, visible=False),
        Control("off", ControlKind.BUTTON, enabled=False),
    ),
)
HELLO = Action(Tool.SEND_TEXT_TO_CHAT, control_id="reply:hello", text="Hello, how can I help?")
SUBMIT = Action(Tool.CLICK_CONTROL, control_id="submit")


def fold_events(happened, ordered=None):
    """The state after `happened`; `ordered` maps proposal ids to the actions they proposed."""
    state = State()
    for event in happened:
        state = fold_event(state, event, (ordered or {}).get(getattr(event.data, "proposal_id", "")))
    return state


def events(*happenings: Happening) -> tuple[Event, ...]:
    return tuple(
        Event(id=f"e{i}", sequence=i, at=f"2026-01-01T00:00:{i:02d}Z", data=h) for i, h in enumerate(happenings)
    )


def proposal(proposal_id: str, version: int, action: Action, **more: object) -> ProposalRecord:
    fields = {
        "pair": "r1", "policy_digest": "p", "critic_digest": "c", "stage": Stage.COPILOT, "decision": "propose",
        "reason": "stage-copilot", "critical": True, "stratum": "procedure", "state_digest": "s", "at": "t",
    }  # fmt: skip
    return ProposalRecord(proposal_id=proposal_id, at_version=version, action=action, **(fields | more))  # type: ignore[arg-type]


OPENED = SessionOpened(metadata={"domains": "weather", "session_id": "s-1"}, profile={"customer_id": "c-9"})
SESSION = events(
    OPENED,
    MessagePosted(Author.CUSTOMER, "hi\nthere"),
    ScreenShown(screen=FORM),
    ActionTaken((HELLO,), operator="ann"),
    MessagePosted(Author.CUSTOMER, "Chicago"),
    ActionTaken((Action(Tool.SELECT_ELEMENT_IN_SELECT, control_id="input:City", value="Chicago"),), operator="ann"),
    FeedbackGiven("p1", Verdict.ACCEPT, "ann"),
    OutcomeReported("p1", "k1", Outcome.DONE),
    SessionReviewed("ann", approved=True, items=(ReviewItem("p1", Verdict.ACCEPT),)),
    SessionClosed(Closing.CLOSED),
)
RECORD = SessionRecord("s-1", "star/information", "t", SESSION, (proposal("p1", 6, SUBMIT),), closed_at="t9")


def test_a_session_folds_to_the_state_its_events_describe():
    state = fold_events(SESSION, {"p1": SUBMIT})
    assert state.version == len(SESSION)
    assert [m.text for m in state.messages] == ["hi\nthere", "Hello, how can I help?", "Chicago"]
    assert (state.last_action, state.last_author, state.closing) == (SUBMIT, Author.MODEL, Closing.CLOSED)
    assert not state.is_open


@pytest.mark.parametrize(
    ("before", "event", "error", "where"),
    [
        (0, Event("x", 0, "t", MessagePosted(Author.CUSTOMER, "hi")), InvalidEventError, "data.type"),
        (1, Event("x", 5, "t", MessagePosted(Author.CUSTOMER, "hi")), ConflictError, "sequence"),
        (1, Event("x", 1, "t", OPENED), InvalidEventError, "data.type"),
        (1, Event("x", 1, "t", ScreenShown(html="<p>")), InvalidEventError, "data.screen"),
        (1, Event("x", 1, "t", OutcomeReported("p9", "k", Outcome.DONE)), InvalidEventError, "data.proposal_id"),
        (10, Event("x", 10, "t", MessagePosted(Author.CUSTOMER, "hi")), ConflictError, "session"),
    ],
)
def test_an_event_that_cannot_follow_is_refused_by_field(before, event, error, where):
    state = fold_events(SESSION[:before], {"p1": SUBMIT})
    with pytest.raises(error) as caught:
        fold_event(state, event)
    assert caught.value.where == where
    assert caught.value.what


def test_after_its_own_message_the_policy_waits_for_the_customer():
    assert is_decision_point(fold_events(SESSION[:3]))
    assert not is_decision_point(fold_events(SESSION[:4]))
    assert is_decision_point(fold_events(SESSION[:5]))
    assert not is_decision_point(fold_events(SESSION, {"p1": SUBMIT}))


def test_ids_reach_neither_digest_nor_dialog():
    renamed = events(
        SessionOpened(metadata={"domains": "weather", "session_id": "s-2"}, profile={"customer_id": "c-10"}),
        *(e.data for e in SESSION[1:5]),
    )
    mine, other = SessionWalk(DEFAULT_FORMAT), SessionWalk(DEFAULT_FORMAT)
    for event, twin in zip(SESSION[:5], renamed, strict=True):
        mine.step(event)
        other.step(twin)
    assert digest_state(mine.state) == digest_state(other.state)
    assert mine.dialog.prompt() == other.dialog.prompt()
    assert "s-1" not in mine.dialog.prompt()


def test_a_walk_gives_every_decision_point_with_what_was_done_then():
    points = list(walk_session(RECORD, DEFAULT_FORMAT))
    assert [p.taken for p in points] == [HELLO, SESSION[5].data.actions[0], SUBMIT]
    assert points[2].proposal == RECORD.proposals[0]
    assert points[2].feedback == SESSION[6].data
    assert points[2].operator == "ann"
    assert points[0].later == (SESSION[5].data.actions[0], SUBMIT)


def test_the_dialog_is_the_text_the_format_promises():
    walk = SessionWalk(DEFAULT_FORMAT)
    for event in SESSION[:5]:
        walk.step(event)
    assert walk.dialog.prompt().split("\n") == [
        "@ domains=weather",
        "< hi\\nthere",
        "% weather_form",
        "+ select input:City",
        "+ button submit",
        "+ reply reply:hello=Hello, how can I help?",
        "+ button off disabled",
        '>{"tool":"send_text_to_chat","control_id":"reply:hello"}',
        "< Chicago",
        ">",
    ]


texts = st.text(max_size=30)
happenings = st.one_of(
    st.builds(MessagePosted, author=st.sampled_from([Author.CUSTOMER, Author.BOT]), text=texts),
    st.builds(
        ScreenShown,
        screen=st.builds(
            Screen,
            name=st.sampled_from(["a", "b"]),
            controls=st.lists(
                st.builds(Control, control_id=st.sampled_from("xyz"), kind=st.sampled_from(ControlKind), value=texts),
                max_size=4,
            ).map(tuple),
        ),
    ),
    st.builds(
        ActionTaken, actions=st.tuples(st.builds(Action, tool=st.sampled_from(Tool), text=texts)), operator=texts
    ),
)


@given(st.lists(happenings, max_size=12), st.sampled_from(SnapshotKind))
@settings(max_examples=150, deadline=None)
def test_each_prompt_extends_the_last_one_until_a_trim(sequence, snapshot):
    walk = SessionWalk(DialogFormat(snapshot=snapshot))
    prompts = []
    for event in events(OPENED, *sequence):
        walk.step(event)
        prompts.append(walk.dialog.prompt()[:-1])
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(prompts))


def test_a_trim_is_recorded_and_keeps_the_case_line():
    walk = SessionWalk(DialogFormat(max_chars=400, block_chars=200))
    for event in events(OPENED, *(MessagePosted(Author.CUSTOMER, "x" * 50) for _ in range(40))):
        walk.step(event)
    assert len(walk.dialog.prompt()) < 500
    assert walk.dialog.lines[0] == "@ domains=weather"
    assert sum(t.lines for t in walk.dialog.trims) + len(walk.dialog.lines) == 41
    assert Dialog(DialogFormat(max_chars=400)).form.digest != Dialog(DEFAULT_FORMAT).form.digest


def test_after_a_trim_the_screen_shown_is_written_whole_and_marked():
    walk = SessionWalk(DialogFormat(max_chars=300, block_chars=150))
    shown = Screen(name="case", controls=(Control("submit", ControlKind.BUTTON, label="Submit"),))
    chat = [MessagePosted(Author.CUSTOMER, "x" * 50) for _ in range(8)]
    trimmed_at = 0
    for event in events(OPENED, ScreenShown(screen=shown), *chat):
        walk.step(event)
        if len(walk.dialog.trims) > trimmed_at:
            trimmed_at = len(walk.dialog.trims)
            assert walk.dialog.lines[-2:] == ["%! case", "+ button submit"]
    assert trimmed_at


@given(
    st.builds(Action, tool=st.sampled_from(Tool), control_id=texts, value=texts, text=texts),
    st.sampled_from(SnapshotKind),
)
def test_an_action_survives_being_written(action, snapshot):
    written = encode_action(action, DialogFormat(snapshot=snapshot))
    if snapshot is SnapshotKind.COMPACT and action.control_id:  # the template says it all
        action = msgspec.structs.replace(action, text="")
    assert decode_action(written) == action
    assert "\n" not in written


def test_the_schema_lists_only_what_is_visible_and_allowed():
    schema = build_action_schema(ActionRules(tools=(Tool.CLICK_CONTROL, Tool.CLOSE_CHAT)), FORM)
    tools = {branch["properties"]["tool"]["const"]: branch["properties"] for branch in schema["anyOf"]}
    assert set(tools) == {"click_control", "close_chat", ""}
    assert tools["click_control"]["control_id"]["enum"] == ["submit"]


@pytest.mark.parametrize(
    ("action", "fault"),
    [
        (SUBMIT, ""),
        (HELLO, ""),
        (Action(Tool.CLOSE_CHAT), ""),
        (Action(Tool.SEND_TEXT_TO_CHAT), "a message without text"),
        (Action(Tool.CLICK_CONTROL, control_id="nope"), "control 'nope' is not on screen 'weather_form'"),
        (Action(Tool.CLICK_CONTROL, control_id="hidden"), "control 'hidden' is hidden"),
        (Action(Tool.CLICK_CONTROL, control_id="off"), "control 'off' is disabled"),
        (Action(Tool.CLICK_CONTROL, control_id="input:City"), "is a select, not something for click_control"),
        (
            Action(Tool.SELECT_ELEMENT_IN_SELECT, control_id="input:City", value="Rome"),
            "value 'Rome' is not among the options of control 'input:City'",
        ),
    ],
)
def test_a_fault_names_the_control_and_what_is_wrong_with_it(action, fault):
    assert fault in find_fault(action, FORM)
    assert bool(find_fault(action, FORM)) is bool(fault)


def test_a_reply_is_an_action_nothing_or_an_error():
    assert read_reply('{"tool":"send_text_to_chat","control_id":"reply:hello"}', FORM) == HELLO
    assert read_reply('{"tool":""}', FORM) is None
    for bad in ("", "[]", '{"tool":"fly"}', '{"tool":"click_control","who":"me"}', "not json"):
        with pytest.raises(InvalidActionError):
            read_reply(bad, FORM)


def test_labels_are_unedited_accepts_and_unanswered_audits_are_rejects():
    labels = read_labels(RECORD)
    assert [(x.proposal_id, x.accepted, x.reviewed) for x in labels] == [("p1", True, False), ("p1", True, True)]
    audited = msgspec.structs.replace(RECORD, proposals=(*RECORD.proposals, proposal("p2", 4, HELLO, audited=True)))
    assert [(x.proposal_id, x.accepted) for x in read_labels(audited)][-1] == ("p2", False)


def test_a_record_survives_its_export():
    assert msgspec.json.decode(msgspec.json.encode(RECORD), type=SessionRecord) == RECORD


CLASSED = ActionRules(
    uncritical=(*UNCRITICAL, ActionPattern(tool="click_control", control="row:*", screen="desk")),
    finalizing=(ActionPattern(control="cancel_*"),),
    strata=(StratumRule(ActionPattern(control="submit*"), "submits"),),
)
DESK = Screen(
    name="desk",
    controls=(
        Control("submit_order", ControlKind.BUTTON),
        Control("submit_twice", ControlKind.BUTTON),
        Control("submit_twice", ControlKind.BUTTON),
        Control("row:1", ControlKind.ROW),
        Control("delete", ControlKind.BUTTON),
        Control("unruled", ControlKind.BUTTON, known=False),
        Control("cancel_contract", ControlKind.BUTTON),
        Control("city", ControlKind.INPUT),
        Control("weather", ControlKind.PROCEDURE),
        Control("reply", ControlKind.REPLY, "Hi"),
    ),
    recognised=True,
)


@pytest.mark.parametrize(
    ("action", "critical", "finalizing", "stratum"),
    [
        (Action(Tool.SEND_TEXT_TO_CHAT, text="Hi"), True, False, "message"),
        (Action(Tool.SEND_TEXT_TO_CHAT, control_id="reply"), True, False, "message"),
        (Action(Tool.CLICK_CONTROL, control_id="submit_order"), True, False, "submits"),
        (Action(Tool.CLICK_CONTROL, control_id="row:1"), False, False, ""),
        (Action(Tool.CLICK_CONTROL, control_id="delete"), True, False, ""),
        (Action(Tool.CLICK_CONTROL, control_id="unruled"), True, False, ""),
        (Action(Tool.CLICK_CONTROL, control_id="submit_twice"), True, False, ""),
        (Action(Tool.CLICK_CONTROL, control_id="submit_gone"), True, False, ""),
        (Action(Tool.FILL_INPUT, control_id="city", value="Oslo"), False, False, ""),
        (Action(Tool.OPEN_PROCEDURE, control_id="weather"), False, False, ""),
        (Action(Tool.OPEN_PROCEDURE, control_id="nowhere"), True, False, ""),
        (Action(Tool.CLOSE_CHAT), True, True, "finalizing"),
        (Action(Tool.TRANSFER_CHAT), True, True, "finalizing"),
        (Action(Tool.CLICK_CONTROL, control_id="cancel_contract"), True, True, "finalizing"),
    ],
)
def test_what_is_not_listed_known_and_unique_is_critical(action, critical, finalizing, stratum):
    made = classify_action(CLASSED, action, DESK)
    assert (made.critical, made.finalizing, made.stratum) == (critical, finalizing, stratum)
    for changes in ({"recognised": False}, {"fault": "no form"}):
        doubted = classify_action(CLASSED, action, msgspec.structs.replace(DESK, **changes))
        assert (doubted.critical, doubted.stratum, bool(doubted.doubt)) == (True, "", True)


@pytest.mark.parametrize(
    "pattern", [ActionPattern(), ActionPattern(tool="*"), ActionPattern(control="*"), ActionPattern(screen="desk")]
)
def test_no_pattern_lists_a_click_without_control_and_screen_or_ever_a_message(pattern):
    rules = ActionRules(uncritical=(pattern, ActionPattern(tool="send_text_to_chat", control="*", screen="*")))
    for action in (Action(Tool.CLICK_CONTROL, "row:1"), Action(Tool.SEND_TEXT_TO_CHAT, "reply")):
        assert classify_action(rules, action, DESK).critical


@pytest.mark.parametrize("text", ["(", "(a+", r"\\C{9999999}", "a{1000}{1000}"])
def test_a_stop_text_that_cannot_be_run_stops_everything(text):
    rules = ActionRules(stop_texts=(text,))
    assert classify_action(rules, Action(Tool.SEND_TEXT_TO_CHAT, text="Hi"), DESK).stopped


def test_a_stop_text_takes_time_linear_in_the_text():
    rules = ActionRules(stop_texts=("(a+)+$", r"\pL+z"))
    assert not classify_action(rules, Action(Tool.SEND_TEXT_TO_CHAT, text="a" * 50_000 + "!"), DESK).stopped
    assert classify_action(rules, Action(Tool.SEND_TEXT_TO_CHAT, text="ÄZ"), DESK).stopped


def test_the_empty_state_is_not_open():
    assert not State().is_open


shown_controls = st.builds(
    Control,
    control_id=st.sampled_from("abc"),
    kind=st.sampled_from([ControlKind.BUTTON, ControlKind.INPUT]),
    value=st.sampled_from(["", "1", "2"]),
    enabled=st.booleans(),
)
shown_facts = st.tuples(st.sampled_from("kl"), st.sampled_from("xy"))
screens = st.builds(
    Screen,
    name=st.just("case"),
    controls=st.lists(shown_controls, max_size=4).map(tuple),
    facts=st.lists(shown_facts, max_size=3).map(tuple),
    announcements=st.lists(st.sampled_from(["one", "two"]), max_size=1).map(tuple),
)


@given(st.lists(screens, min_size=1, max_size=6), st.sampled_from([60, 24_000]))
def test_a_reader_of_differences_knows_every_element_of_the_screen_shown(shown, max_chars):
    walk = SessionWalk(DialogFormat(max_chars=max_chars, block_chars=40))
    for event in events(OPENED, *(ScreenShown(screen=screen) for screen in shown)):
        walk.step(event)
    read: dict[str, list[str]] = {}
    fresh: set[str] = set()
    for line in walk.dialog.lines:
        name = line[2:].partition("=")[0].removesuffix(" disabled")
        match line[0]:
            case "%":
                read, fresh = {} if line[1] == "!" else read, set()
            case "-":
                read.pop(name, None)
            case "+":
                read[name] = [*(read.get(name, []) if name in fresh else []), line[2:]]
                fresh.add(name)
    whole = SessionWalk(DialogFormat(snapshot=SnapshotKind.COMPACT))
    for event in events(OPENED, ScreenShown(screen=shown[-1])):
        whole.step(event)
    expected = [line[2:] for line in whole.dialog.lines if line[0] == "+"]
    assert sorted(line for lines in read.values() for line in lines) == sorted(expected)
