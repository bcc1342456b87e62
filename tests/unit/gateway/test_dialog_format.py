"""A pair is asked in the format it was trained in: what live sessions write is what training read, switches and all."""

from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stubs.gateway import FORM, RESULT, STAR, SUBMIT, Case, build_certificate, build_leave

from pilotage_core import dialog
from pilotage_core.actions import Action, Tool
from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind
from pilotage_core.errors import UnavailableError
from pilotage_core.events import (
    ActionTaken,
    Author,
    Event,
    FeedbackGiven,
    MessagePosted,
    Outcome,
    OutcomeReported,
    ScreenShown,
    SessionOpened,
    Verdict,
)
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.score import CONFIDENCE_ALONE, CRITIC_ALONE, ScoreRule
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_core.stage import Stage
from pilotage_core.walk import SessionWalk, walk_session
from pilotage_core.wire import PairRef
from pilotage_gateway.asking import find_tau
from pilotage_gateway.sessions import Intent, LiveSession, StoredSession, rebuild

LONG = DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_000)
HELLO = Action(Tool.SEND_TEXT_TO_CHAT, "hello", text="Hello, how can I help?")
LATER = MessagePosted(Author.CUSTOMER, "And breakfast?")


def pair_of(world, form: DialogFormat, revision: str = "r1", **digests: str) -> PairRef:
    url = world.models.url
    return PairRef(revision, digests.get("policy", "p1"), digests.get("critic", "c1"), url, url, form)


async def switch(world, gateway, pair: PairRef | None) -> None:
    """Have `pair` current in Copilot, and wait until the gateway knows."""
    world.publish(Stage.COPILOT, pair=pair)
    digest = world.controller.snapshot.digest
    await gateway.until(lambda status: status["snapshot_digest"] == digest)


async def read_record(gateway, case: Case) -> SessionRecord:
    return msgspec.convert((await gateway.get(f"/v1/sessions/{case.session_id}"))[1], SessionRecord)


def trained_prompt(record: SessionRecord, form: DialogFormat) -> str:
    """What training reads of `record` up to its end: the prompt of the point that one more action makes of it."""
    acted = Event("x", len(record.events), "2026-03-01T10:00:00Z", ActionTaken((SUBMIT,), "ann"))
    *_, last = walk_session(msgspec.structs.replace(record, events=(*record.events, acted)), form)
    return last.prompt


@contextmanager
def counted_reads(gateway):
    """The jobs that were read from the store meanwhile."""
    store, reads = gateway.app.state.turns.store, []
    read = store.read

    async def count(job):
        reads.append(job)
        return await read(job)

    store.read = count
    yield reads
    store.read = read


# --- prompts ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", [DEFAULT_FORMAT, LONG, DialogFormat(SnapshotKind.WHOLE, 1_000, 333)])
async def test_a_session_that_begins_under_a_pair_is_written_for_it_from_the_start(world, form):
    async with world.gateway() as gateway:
        await switch(world, gateway, pair_of(world, form))
        with counted_reads(gateway) as reads:
            case = Case(gateway)
            await case.begin()
            await case.act(HELLO, screen=FORM)
            await case.post(LATER)
            prompts = list(world.models.prompts)
        record = await read_record(gateway, case)
        assert prompts[-1] == trained_prompt(record, form)
        assert len(reads) == 1, "whether the session is known, and never again"


async def test_a_session_is_written_anew_once_when_its_pair_changes(world):
    async with world.gateway() as gateway:
        await switch(world, gateway, None)
        case = Case(gateway)
        await case.begin()
        assert not world.models.prompts
        asked = []
        for revision, form in (("r1", LONG), ("r2", DialogFormat(SnapshotKind.WHOLE)), ("r3", LONG)):
            await switch(world, gateway, pair_of(world, form, revision))
            with counted_reads(gateway) as reads:
                for data in (LATER, ScreenShown(screen=RESULT), LATER):
                    assert (await case.post(data)).decision == "propose"
                    asked.append((form, case.sequence, world.models.prompts[-1]))
            assert len(reads) == 1, revision
        record = await read_record(gateway, case)
        assert [p.pair for p in record.proposals] == ["r1"] * 3 + ["r2"] * 3 + ["r3"] * 3
        for form, version, prompt in asked:
            assert prompt == trained_prompt(msgspec.structs.replace(record, events=record.events[:version]), form)


async def test_what_a_switch_leaves_alone(world):
    async with world.gateway() as gateway:
        await switch(world, gateway, pair_of(world, DEFAULT_FORMAT))
        case = Case(gateway)
        first = await case.begin()
        await case.answer(first, Verdict.REJECT)
        session = gateway.app.state.turns.live.find(case.session_id)
        kept = [name for name in session.__slots__ if name != "walk"]
        before, state = {name: repr(getattr(session, name)) for name in kept}, session.state
        session.rewrite_dialog(LONG, (await read_record(gateway, case)).events)
        assert {name: repr(getattr(session, name)) for name in kept} == before
        assert session.state == state
        assert session.walk.dialog.form == LONG


async def test_a_restarted_gateway_goes_on_in_the_pairs_format(world):
    async with world.gateway() as gateway:
        await switch(world, gateway, pair_of(world, LONG))
        case = Case(gateway)
        await case.begin()
    async with world.gateway() as gateway:
        case.gateway = gateway
        with counted_reads(gateway) as reads:
            await case.post(LATER)
        assert len(reads) == 1, "the session itself"
        assert world.models.prompts[-1] == trained_prompt(await read_record(gateway, case), LONG)


async def test_a_critic_is_asked_about_the_action_whole_as_it_would_run(world):
    world.models.action = HELLO
    told = '{"tool":"send_text_to_chat","control_id":"hello","text":"Hello, how can I help?"}'
    async with world.gateway() as gateway:
        for form in (DEFAULT_FORMAT, LONG):
            await switch(world, gateway, pair_of(world, form))
            await Case(gateway).begin()
            assert world.models.requests[-1]["query"] == world.models.prompts[-1] + told


async def test_records_that_do_not_answer_cost_the_proposal_and_nothing_else(world):
    async with world.gateway() as gateway:
        await switch(world, gateway, pair_of(world, DEFAULT_FORMAT))
        case = Case(gateway)
        await case.begin()
        await switch(world, gateway, pair_of(world, LONG, "r2"))
        store = gateway.app.state.turns.store
        read, asked = store.read, len(world.models.prompts)

        async def fail(job):
            raise UnavailableError("the database does not answer", where="database")

        store.read = fail
        turn = await case.post(LATER)
        assert (turn.decision, turn.reason, turn.proposal) == ("observe", "nothing-proposed", None)
        assert "the database does not answer" in turn.detail
        assert len(world.models.prompts) == asked, "never in the format of another pair"
        store.read = read
        assert (await case.post(LATER)).proposal is not None
        record = await read_record(gateway, case)
        assert world.models.prompts[-1] == trained_prompt(record, LONG)
        assert len(record.events) == 5


async def test_records_that_lack_events_are_no_session(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        await case.begin()
        session = gateway.app.state.turns.live.find(case.session_id)
        events, walk = (await read_record(gateway, case)).events, session.walk
        with pytest.raises(UnavailableError, match="lack events"):
            session.rewrite_dialog(LONG, events[:-1])
        assert session.walk is walk


# --- certificates -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("trained", "certified", "stands"),
    [
        (DEFAULT_FORMAT, DEFAULT_FORMAT, True),
        (LONG, LONG, True),
        (LONG, DEFAULT_FORMAT, False),
        (DEFAULT_FORMAT, LONG, False),
        (LONG, DialogFormat(SnapshotKind.DIFFERENCE, 60_000, 20_001), False),
    ],
)
def test_a_certificate_stands_for_prompts_as_the_pair_is_asked(trained, certified, stands):
    made = build_certificate(0.8)
    made = msgspec.structs.replace(made, digests=msgspec.structs.replace(made.digests, prompt_format=certified.digest))
    pair = PairRef("r1", "p1", "c1", "http://m", "http://m", trained)
    leave = build_leave(Stage.CALIBRATION, "http://m", pair=pair, certificates={"procedure": made})
    assert find_tau(leave, pair, "procedure") == (0.8 if stands else None)


@pytest.mark.parametrize("rule", [CRITIC_ALONE, CONFIDENCE_ALONE, ScoreRule(1.0, 1.0)])
@pytest.mark.parametrize("certified", [None, *ScoreSource])
def test_a_certificate_stands_for_the_score_that_is_computed(rule, certified):
    made = msgspec.structs.replace(build_certificate(0.8), score_from=certified)
    pair = PairRef("r1", "p1", "c1", "http://m", "http://m", score=rule)
    leave = build_leave(Stage.CALIBRATION, "http://m", pair=pair, certificates={"procedure": made})
    own_answers = (None, ScoreSource.CRITIC, ScoreSource.CONFIDENCE)  # a count critic that lost to confidence tells it
    stands = certified in (own_answers if rule == CRITIC_ALONE else (None, rule.source))
    assert find_tau(leave, pair, "procedure") == (0.8 if stands else None)


async def test_a_gateway_with_another_serialiser_proposes_only(world, monkeypatch):
    made = build_certificate(0.8)
    made = msgspec.structs.replace(made, digests=msgspec.structs.replace(made.digests, prompt_format=LONG.digest))
    async with world.gateway() as gateway:
        world.publish(Stage.CALIBRATION, pair=pair_of(world, LONG), certificates={"procedure": made})
        digest = world.controller.snapshot.digest
        await gateway.until(lambda s: s["snapshot_digest"] == digest and s["permit_remaining_ms"] > 0)
        assert (await Case(gateway).begin()).decision == "execute"
        monkeypatch.setattr(dialog, "VERSION", dialog.VERSION + "+")
        case = Case(gateway)
        assert (await case.begin()).decision == "propose"
        assert await gateway.why(case.session_id) == ("propose", "no-certificate")


# --- live text and trained text ---------------------------------------------------------------------------------------
FORMS = [DialogFormat(snapshot, chars, chars // 3) for snapshot in SnapshotKind for chars in (200, 900, 24_000)]
words = st.text(st.sampled_from("ab \n\\>"), max_size=20)
controls = st.builds(
    Control,
    st.sampled_from(("city", "day", "book")),
    st.sampled_from((ControlKind.INPUT, ControlKind.BUTTON)),
    label=words,
    value=words,
    enabled=st.booleans(),
    visible=st.booleans(),
)
screens = st.builds(
    Screen,
    st.sampled_from(("form", "result")),
    controls=st.lists(controls, max_size=4, unique_by=lambda control: control.control_id).map(tuple),
    facts=st.lists(st.tuples(st.sampled_from(("rate", "state")), words), max_size=3).map(tuple),
    announcements=st.lists(words, max_size=2).map(tuple),
)
actions = st.builds(Action, st.just(Tool.FILL_INPUT), st.sampled_from(("city", "day")), words, words)
happenings = st.one_of(
    st.builds(MessagePosted, st.sampled_from((Author.CUSTOMER, Author.BOT, Author.OPERATOR)), words),
    st.builds(lambda screen: ScreenShown(screen=screen), screens),
    st.builds(lambda some: ActionTaken(tuple(some), "ann"), st.lists(actions, min_size=1, max_size=3)),
    st.builds(lambda action: action, actions),  # one that is proposed, accepted and done
)


def write_record(parts) -> tuple[SessionRecord, tuple[Intent, ...]]:
    """A record in which `parts` happened, and its intents; an action is a proposal that was accepted and done."""
    events, proposals, intents = [], [], []

    def add(data) -> None:
        events.append(Event(f"e{len(events)}", len(events), f"2026-01-01T00:00:{len(events) % 60:02d}Z", data))

    add(SessionOpened({"domain": "hotel"}))
    for part in parts:
        if not isinstance(part, Action):
            add(part)
            continue
        name = f"p{len(proposals)}"
        proposals.append(
            ProposalRecord(
                name, len(events), part, "r1", "p", "c", Stage.COPILOT, "propose", "stage-copilot", True, "procedure",
                "s", "t", executed=True,
            )
        )  # fmt: skip
        intents.append(Intent(name, f"k{name}", len(events), "ann", 0, Outcome.DONE))
        add(FeedbackGiven(name, Verdict.ACCEPT, "ann"))
        add(OutcomeReported(name, f"k{name}", Outcome.DONE))
    return SessionRecord("s", STAR, "t", tuple(events), tuple(proposals)), tuple(intents)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(happenings, max_size=25),
    forms=st.lists(st.sampled_from(FORMS), min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 40), max_size=6),
    restarts=st.booleans(),
)
def test_a_live_dialog_is_the_trained_one_wherever_formats_were_switched(parts, forms, cuts, restarts):
    record, intents = write_record(parts)
    trained = {}
    for form in forms:
        walk, prompts = SessionWalk(form), []
        actions_of = {p.proposal_id: p.action for p in record.proposals}
        for event in record.events:
            ordered = actions_of.get(event.data.proposal_id) if isinstance(event.data, OutcomeReported) else None
            walk.step(event, ordered)
            prompts.append(walk.dialog.prompt())
        trained[form] = prompts
        points = {point.state.version - 1: point.prompt for point in walk_session(record, form)}
        assert points == {at: prompts[at] for at in points}
    live = LiveSession(record.session_id, STAR, "t", SessionWalk(forms[0]))
    live.proposals = {p.proposal_id: p for p in record.proposals}
    live.intents = {intent.proposal_id: intent for intent in intents}
    turn = 0
    for at, event in enumerate(record.events):
        live.apply(event)
        if at in cuts:
            turn += 1
            form = forms[turn % len(forms)]
            if restarts:
                so_far = msgspec.structs.replace(record, events=record.events[: at + 1])
                live = rebuild(StoredSession(so_far, intents, "", {}), form)
            else:
                live.rewrite_dialog(form, record.events)  # others may have been stored since
        assert live.walk.dialog.prompt() == trained[forms[turn % len(forms)]][at]
        assert live.state.version == at + 1
