"""A post is stored with its decision where models are quick, alone where they are slow, and never half."""

import asyncio

import pytest
from stubs.gateway import FORM, Case, until

from pilotage_core.errors import UnavailableError
from pilotage_core.events import Author, MessagePosted
from pilotage_core.stage import Stage
from pilotage_core.wire import PostEvents
from pilotage_gateway import pending


@pytest.fixture
async def gateway(world):
    world.publish(Stage.CALIBRATION)
    async with world.gateway() as made:
        yield made


def record_writes(gateway) -> list[str]:
    """The names of what is written, a line for each transaction's job."""
    store, seen = gateway.app.state.turns.store, []
    write = store.write

    async def written(job):
        named = [name for name in ("write_post", "write_ruling", "_write_both") if name in repr(job)]
        if named:  # PostgreSQL looks at suspensions by the connection that writes
            seen.append(", ".join(named))
        return await write(job)

    store.write = written
    return seen


async def test_quick_models_cost_one_transaction(gateway, monkeypatch):
    monkeypatch.setattr(pending, "PATIENCE_SECONDS", 60.0)  # quick is what comes before that, on any machine
    seen = record_writes(gateway)
    assert (await Case(gateway).begin(screen=FORM)).order is not None
    assert seen == ["write_ruling, _write_both"]


async def test_slow_models_are_asked_while_the_post_is_stored_alone(gateway, world, monkeypatch):
    monkeypatch.setattr(pending, "PATIENCE_SECONDS", 0.001)
    seen = record_writes(gateway)
    world.models.delay = 0.5
    assert (await Case(gateway).begin(screen=FORM)).order is not None
    assert seen == ["write_post", "write_ruling"]


async def test_what_decides_nothing_is_stored_before_it_is_answered(gateway):
    seen = record_writes(gateway)
    case = Case(gateway)
    await case.begin(screen=FORM)
    await case.post(MessagePosted(Author.CUSTOMER, "Hello?"), wants_decision=False)
    assert seen[1:] == ["write_post"]
    assert len((await gateway.get(f"/v1/sessions/{case.session_id}"))[1]["events"]) == case.sequence


@pytest.mark.parametrize("delay", [0.0, 0.1])
async def test_a_write_that_fails_leaves_neither_events_nor_memory_nor_counts(gateway, world, delay):
    world.models.delay = delay
    case = Case(gateway)
    await case.begin(screen=FORM)
    store = gateway.app.state.turns.store
    write = store.write
    before = (await gateway.get("/metrics", **{"name[]": "pilotage_orders_total"}))[1]

    async def fails(job):
        raise UnavailableError("the disk is full", where="database")

    store.write = fails
    status, problem = await case.refused(MessagePosted(Author.CUSTOMER, "Hello?"))
    assert (status, problem["detail"]) == (503, "the disk is full")
    store.write = write
    assert (await gateway.get("/metrics", **{"name[]": "pilotage_orders_total"}))[1] == before
    await asyncio.sleep(0)
    turn = await case.post(MessagePosted(Author.CUSTOMER, "Hello?"))
    assert turn.sequence == case.sequence


@pytest.mark.parametrize("again", [True, False], ids=["the same again", "what comes next"])
async def test_what_waits_behind_a_write_that_fails_begins_with_what_is_stored(gateway, again):
    case = Case(gateway)
    await case.begin(screen=FORM)
    store = gateway.app.state.turns.store
    write, begun, hanging = store.write, asyncio.Event(), asyncio.Event()
    session = gateway.app.state.turns.live.find(case.session_id)

    async def fails(job):
        begun.set()
        await hanging.wait()
        store.write = write
        raise UnavailableError("the disk is full", where="database")

    store.write = fails
    first = PostEvents((case.event(MessagePosted(Author.CUSTOMER, "Hello?")),), "a", wants_decision=False)
    after = PostEvents((case.event(MessagePosted(Author.CUSTOMER, "There?")),), "b", wants_decision=False)
    sent = [asyncio.create_task(case.send(first))]
    async with asyncio.timeout(10):
        await begun.wait()
    sent.append(asyncio.create_task(case.send(first if again else after)))
    await until(lambda: bool(session.lock._waiters))
    hanging.set()
    (failed, _), (second, answer) = await asyncio.gather(*sent)
    assert (failed, second) == (503, 200 if again else 409), answer
    _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
    assert [event["sequence"] for event in record["events"]] == list(range(4 if again else 3))
    if not again:
        assert (await case.send(first))[0] == 200
    assert (await case.send(after))[0] == 200
    _, record = await gateway.get(f"/v1/sessions/{case.session_id}")
    assert [event["sequence"] for event in record["events"]] == list(range(5))


async def test_memory_that_is_ahead_of_the_records_stores_nothing(gateway):
    case = Case(gateway)
    await case.begin(screen=FORM)
    turns = gateway.app.state.turns
    await turns.store.write(
        lambda connection: connection.exec_driver_sql(
            f"DELETE FROM events WHERE session_id = '{case.session_id}' AND sequence = 2"
        )
    )
    status, problem = await case.refused(MessagePosted(Author.CUSTOMER, "Hello?"))
    assert (status, problem["detail"]) == (409, "the records and what is remembered of this session differ")
