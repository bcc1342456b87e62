"""Sessions as tokens: which carry loss, decoded; prompts begin their sessions; trims begin new segments."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind, encode_action
from pilotage_core.events import (
    ActionTaken,
    Author,
    Closing,
    Event,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionClosed,
    SessionOpened,
    Verdict,
)
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_core.stage import Stage
from pilotage_core.walk import walk_session
from pilotage_trainer.backends.transformers.rows.sequences import (
    IGNORED,
    NOTHING,
    Encoder,
    PointSource,
    Target,
    build_segments,
    is_proposable,
)
from pilotage_trainer.backends.transformers.rows.tokenizer import learn_tokenizer

CLICK = Action(Tool.CLICK_CONTROL, "submit")
HELLO = Action(Tool.SEND_TEXT_TO_CHAT, "reply:hello", text="Hello, how can I help?")
OWN_WORDS = Action(Tool.SEND_TEXT_TO_CHAT, text='I "quote", and {"tool":"x"}')
TYPING = (Action(Tool.FILL_INPUT, "input:City", value="Rome"), Action(Tool.FILL_INPUT, "input:Day", value="Monday"))


def screen(city=""):
    controls = (
        Control("submit", ControlKind.BUTTON),
        Control("input:City", ControlKind.INPUT, value=city),
        Control("reply:hello", ControlKind.REPLY, label="Hello, how can I help?"),
    )
    return Screen("form", controls=controls)


def record_of(*happenings, proposals=()):
    opened = (SessionOpened({"domains": "weather"}), ScreenShown(screen=screen()))
    events = [
        Event(f"e{n}", n, f"2026-03-01T10:{n // 60:02}:{n % 60:02}+00:00", data)
        for n, data in enumerate((*opened, *happenings, SessionClosed(Closing.CLOSED)))
    ]
    return SessionRecord("s-1", "star/weather", events[0].at, tuple(events), tuple(proposals), events[-1].at)


def say(text="hi"):
    return MessagePosted(Author.CUSTOMER, text)


def act(*actions):
    return ActionTaken(actions, "w-1")


def propose(identity, version, action, executed=False):
    return ProposalRecord(
        identity, version, action, "r1", "", "", Stage.COPILOT, "propose", "r", True, "", "", "t", executed=executed
    )


PLAIN = record_of(say(), act(HELLO), say("Rome"), act(*TYPING), ScreenShown(screen=screen("Rome")), act(CLICK))
TOKENIZER = learn_tokenizer([segment.text for segment in build_segments(PLAIN, DEFAULT_FORMAT)] * 3, 400)


def taught(record, form=DEFAULT_FORMAT, tokenizer=TOKENIZER):
    """What carries loss in `record`, decoded, run by run."""
    runs = []
    for segment in build_segments(record, form):
        labels = encode_segment(segment, tokenizer).labels
        for at, label in enumerate(labels):
            if label != IGNORED:
                if at == 0 or labels[at - 1] == IGNORED:
                    runs.append("")
                runs[-1] += tokenizer.decode([label])
    return runs


def encode_segment(segment, tokenizer):
    return Encoder.of(tokenizer).encode((segment,))[0]


def test_loss_is_on_the_actions_and_their_ends_and_on_nothing_else():
    assert taught(PLAIN) == [
        encode_action(HELLO, DEFAULT_FORMAT) + "<|end|>",
        NOTHING,  # typing: a policy cannot know what to write
        encode_action(CLICK, DEFAULT_FORMAT) + "<|end|>",
    ]


def test_labels_stand_where_the_tokens_do_and_the_end_where_the_text_goes_on():
    (segment,) = build_segments(PLAIN, DEFAULT_FORMAT)
    sequence = encode_segment(segment, TOKENIZER)
    assert len(sequence.input_ids) == len(sequence.labels)
    end = TOKENIZER.eos_token_id
    at = sequence.labels.index(end)
    assert sequence.input_ids[at] != end
    for token, label in zip(sequence.input_ids, sequence.labels, strict=True):
        assert label in (IGNORED, token, end, TOKENIZER.convert_tokens_to_ids(NOTHING))
    assert sequence.input_ids[-1] == sequence.labels[-1] == end


def test_free_text_teaches_that_there_is_nothing_to_propose():
    assert taught(record_of(say(), act(OWN_WORDS))) == [NOTHING]
    assert not is_proposable(OWN_WORDS)
    everything = build_segments(record_of(say(), act(OWN_WORDS)), DEFAULT_FORMAT, may_propose=lambda action: True)
    labels = encode_segment(next(iter(everything)), TOKENIZER).labels
    assert TOKENIZER.decode([x for x in labels if x != IGNORED]) == encode_action(OWN_WORDS, DEFAULT_FORMAT) + "<|end|>"


def test_an_action_while_the_customer_is_waited_for_carries_no_loss():
    assert taught(record_of(say(), act(HELLO), act(HELLO))) == [encode_action(HELLO, DEFAULT_FORMAT) + "<|end|>"]


@pytest.mark.parametrize(
    ("happenings", "executed", "target", "source", "rejected"),
    [
        ((act(CLICK),), False, Target.ACTION, PointSource.COPILOT, True),
        ((FeedbackGiven("p", Verdict.REJECT, "w-1"), act(CLICK)), False, Target.ACTION, PointSource.COPILOT, True),
        ((FeedbackGiven("p", Verdict.EDIT, "w-1"), act(CLICK)), False, Target.ACTION, PointSource.COPILOT, True),
        ((FeedbackGiven("p", Verdict.REJECT, "w-1"), act(HELLO)), False, Target.ACTION, PointSource.COPILOT, False),
        ((FeedbackGiven("p", Verdict.ACCEPT, "w-1"), act(HELLO)), False, Target.ACTION, PointSource.COPILOT, False),
        (
            (FeedbackGiven("p", Verdict.ACCEPT, "w-1"), OutcomeReported("p", "k", Outcome.DONE)),
            True,
            Target.ACTION,
            PointSource.COPILOT,
            False,
        ),
        ((OutcomeReported("p", "k", Outcome.DONE),), True, Target.SILENT, PointSource.AUTOMATED, False),
    ],
)
def test_whose_an_action_was_decides_whether_it_teaches(happenings, executed, target, source, rejected):
    record = record_of(say(), *happenings, proposals=[propose("p", 3, HELLO, executed)])
    (segment,) = build_segments(record, DEFAULT_FORMAT)
    (span,) = segment.spans
    assert (span.target, span.source, span.rejected) == (target, source, rejected)


def test_what_was_ordered_and_not_done_is_not_in_the_text():
    proposals = [propose("p", 3, HELLO)]
    record = record_of(say(), OutcomeReported("p", "k", Outcome.FAILED, "it broke"), act(CLICK), proposals=proposals)
    (segment,) = build_segments(record, DEFAULT_FORMAT)
    assert [segment.text[s.start : s.end] for s in segment.spans] == [encode_action(CLICK, DEFAULT_FORMAT)]


FORMS = [DialogFormat(snapshot, chars, chars // 3) for snapshot in SnapshotKind for chars in (300, 900, 24_000)]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HAPPENINGS = st.one_of(
    TEXTS.map(say),
    st.sampled_from([act(CLICK), act(HELLO), act(*TYPING), act(OWN_WORDS)]),
    TEXTS.map(lambda city: ScreenShown(screen=screen(city))),
)


@settings(max_examples=60, deadline=None)
@given(happenings=st.lists(HAPPENINGS, max_size=25), form=st.sampled_from(FORMS))
def test_every_prompt_begins_its_segment_in_text_and_in_tokens(happenings, form):
    record = record_of(*happenings)
    segments = list(build_segments(record, form))
    asked = [(segment, span) for segment in segments for span in segment.spans if span.target is not Target.SILENT]
    points = list(walk_session(record, form))
    assert len(points) == len(asked)
    for point, (segment, span) in zip(points, asked, strict=True):
        assert segment.text[: span.start] == point.prompt
        assert segment.text[span.start : span.end] == encode_action(point.taken, form)
        prompt = TOKENIZER(point.prompt, add_special_tokens=False)["input_ids"]
        sequence = encode_segment(segment, TOKENIZER)
        assert sequence.input_ids[: len(prompt)] == prompt
        expected = encode_action(point.taken, form) if is_proposable(point.taken) else NOTHING
        rest = sequence.labels[len(prompt) :]
        stops = (at for at, label in enumerate(rest) if label in (IGNORED, TOKENIZER.eos_token_id))
        assert TOKENIZER.decode(rest[: next(stops, len(rest))]) == expected


def test_a_trim_begins_a_new_segment_and_is_recorded():
    form = DialogFormat(SnapshotKind.COMPACT, 600, 200)
    record = record_of(*(step for n in range(20) for step in (say(f"word {n} " * 5), act(HELLO))))
    segments = list(build_segments(record, form))
    assert len(segments) > 3
    assert all(segment.trim for segment in segments[:-1])
    assert segments[0].trimmed_chars == 0
    dropped = [0, *(segment.trim.chars for segment in segments[:-1])]
    assert [segment.trimmed_chars for segment in segments] == [sum(dropped[: n + 1]) for n in range(len(segments))]
    assert all("%! form" in segment.text for segment in segments[1:])
    assert len(taught(record, form)) == 20
    assert max(len(segment.text) for segment in segments) < 600 + 300


def test_a_batch_gives_what_one_by_one_gives():
    segments = [
        *build_segments(PLAIN, DEFAULT_FORMAT),
        *build_segments(record_of(say("ünï 你好 🙂"), act(HELLO)), DEFAULT_FORMAT),
    ]
    assert Encoder.of(TOKENIZER).encode(segments) == [encode_segment(segment, TOKENIZER) for segment in segments]


def test_a_long_session_takes_time_in_proportion():
    """Text pieces are joined once a segment: 4,000 turns are ten times 400, not a hundred times."""
    happenings = [step for n in range(4000) for step in (say(f"word {n}"), act(HELLO))]
    (segment,) = build_segments(record_of(*happenings), DialogFormat(SnapshotKind.COMPACT, 10**9, 10**9))
    assert len(segment.spans) == 4000
    assert all(segment.text[s.start : s.end] == encode_action(HELLO, DEFAULT_FORMAT) for s in segment.spans)
