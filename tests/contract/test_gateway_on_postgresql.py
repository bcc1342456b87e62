"""Records in a real PostgreSQL: the gateway's own tests hold there, one gateway holds them, and another takes over."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import psycopg
import pytest
from stubs.gateway import FORM, LONG_TAIL, Case, Gateway, StubController, build_leave, build_snapshot, run_controller
from stubs.gateway import run_models as run_stub_models
from stubs.gateway_process import Ledger, Process, adapt
from stubs.postgres import SERVER_VARIABLE, run_postgres

from pilotage_core.errors import UnavailableError
from pilotage_core.events import Author, MessagePosted, ScreenShown
from pilotage_core.stage import Stage
from pilotage_core.wire import PostEvents
from pilotage_gateway.store import HOLDER

ROOT = Path(__file__).resolve().parents[2]
CHOSEN = ("life_of_a_session", "orders_close", "records", "pending", "answers")
KEY = "star/bookings"


@pytest.fixture(scope="module")
def server():
    with run_postgres() as found:
        yield found


@pytest.fixture
def database(server, tmp_path):
    name = f"d{time.monotonic_ns()}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url.rpartition("/")[0] + "/" + name


@asynccontextmanager
async def two_gateways(folder, database):
    """One that holds the records, and one that stands by."""
    async with run_stub_models() as models, aiohttp.ClientSession() as client:
        controller = StubController(build_snapshot(build_leave(Stage.CALIBRATION, models.url), LONG_TAIL))
        controller.write_key(folder / "keys")
        async with run_controller(controller) as url:
            first, second = (Process(folder, url, database) for _ in range(2))
            await first.start(Gateway(first.url, client))
            second.process = await asyncio.create_subprocess_exec(sys.executable, *second.arguments)
            other = Gateway(second.url, client)
            await until_answered(other, "/healthz", 200)
            try:
                yield (first, Gateway(first.url, client)), (second, other)
            finally:
                for process in (first, second):
                    if process.process.returncode is None:
                        await process.end(signal.SIGKILL)


async def until_answered(gateway: Gateway, path: str, wanted: int, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                if (await gateway.get(path))[0] == wanted:
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)


def test_what_holds_on_sqlite_holds_on_postgresql(server):
    files = [f"tests/unit/gateway/test_{name}.py" for name in CHOSEN]
    env = os.environ | {SERVER_VARIABLE: server.url}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


async def test_one_holds_the_records_and_the_other_takes_over_with_what_was_stored(tmp_path, database):
    async with two_gateways(tmp_path, database) as ((first, holder), (_, standby)):
        case = Case(holder)
        assert (await case.begin(screen=FORM)).order is not None
        assert (await standby.get("/readyz"))[0] == 200
        assert (await standby.get("/metrics"))[1] == "", "what is counted is counted once"
        other = Case(standby)
        turn = await other.begin(screen=FORM)
        assert turn.order is not None, "what is asked of the one that stands by is passed on"
        assert (await holder.get(f"/v1/sessions/{other.session_id}"))[1] == (
            await standby.get(f"/v1/sessions/{other.session_id}")
        )[1]
        whole = await holder.get("/v1/export", process_cluster=KEY, closed="false")
        assert await standby.get("/v1/export", process_cluster=KEY, closed="false") == whole
        assert (await standby.get("/v1/labels", limit="none"))[0] == 422
        started = time.monotonic()
        await first.end(signal.SIGKILL)
        case.gateway = standby
        status, problem = await case.refused(MessagePosted(Author.CUSTOMER, "Hello?"))
        assert (status, problem["detail"]) == (503, "the gateway that holds the records does not answer")
        assert "retry_after_seconds" in problem
        await until_answered(standby, "/v1/status", 200)
        taken_after = time.monotonic() - started
        print(f"the standby answers {taken_after:.2f} s after SIGKILL")
        assert taken_after < 10
        turn = await case.post(ScreenShown(screen=FORM))
        assert turn.detail == "an order has no outcome: look at what happened before going on"


async def test_a_stop_at_the_one_that_stands_by_stops_the_one_that_works(tmp_path, database):
    async with two_gateways(tmp_path, database) as ((_, holder), (_, standby)):
        assert (await Case(holder).begin(screen=FORM)).order is not None
        body = {"process_cluster": KEY, "suspended": True, "who": "kim", "why": "drill"}
        assert (await standby.post("/v1/suspend", body))[0] == 200
        turn = await Case(holder).begin(screen=FORM)
        assert (turn.order, turn.decision) == (None, "observe")
        assert (await holder.until(lambda status: status["suspended"] == [KEY]))["suspended"] == [KEY]
        assert (await standby.post("/v1/suspend", body | {"suspended": False}))[0] == 200
        await holder.until(lambda status: status["suspended"] == [])
        assert (await Case(holder).begin(screen=FORM)).order is not None


async def test_the_console_is_the_holders_whichever_gateway_a_browser_reaches(tmp_path, database):
    async with two_gateways(tmp_path, database) as ((_, holder), (second, standby)):
        await Case(holder).begin(screen=FORM)
        cookies, ours = {"pilotage_operator": "ann"}, {"Origin": standby.url}
        async with standby.client.get(f"{standby.url}/console/?queue", cookies=cookies) as answer:
            assert (answer.status, "Queue" in await answer.text()) == (200, True)
        async with standby.client.get(f"{standby.url}/console/", allow_redirects=False) as answer:
            assert (answer.status, answer.headers["location"]) == (303, "/console/sign-in")
        url = f"{standby.url}/console/next"
        async with standby.client.post(url, cookies=cookies, headers=ours, allow_redirects=False) as answer:
            assert answer.status == 303
        async with standby.client.post(url, cookies=cookies, headers={"Origin": holder.url}) as answer:
            assert answer.status == 403, "this browser is at the other one"
        stream = f"{standby.url}/console/stream"
        async with standby.client.get(stream, cookies=cookies) as answer:
            assert b"event" in await answer.content.readuntil(b"queue")
            started = time.monotonic()
            await second.end(signal.SIGTERM)
            assert time.monotonic() - started < 8, "streams do not hold who ends"


async def test_who_has_lost_the_lock_to_another_writes_nothing_and_ends(tmp_path, database):
    async with two_gateways(tmp_path, database) as ((first, holder), _):
        case = Case(holder)
        await case.begin(screen=FORM)
        with psycopg.connect(database, autocommit=True) as admin:
            query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s"
            pid = admin.execute(query, (HOLDER & 0xFFFFFFFF,)).fetchone()[0]
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert await asyncio.wait_for(first.process.wait(), 20) == 0, "it ends, and is started again to stand by"


async def test_a_server_that_crashes_and_comes_back_costs_answers_and_no_event(tmp_path):
    with run_postgres() as server:
        async with run_stub_models() as models, aiohttp.ClientSession() as client:
            controller = StubController(build_snapshot(build_leave(Stage.CALIBRATION, models.url), LONG_TAIL))
            controller.write_key(tmp_path / "keys")
            async with run_controller(controller) as url:
                process, ledger, stop = Process(tmp_path, url, server.url), Ledger(), asyncio.Event()
                gateway = Gateway(process.url, client)
                await process.start(gateway)
                adapters = [asyncio.create_task(adapt(gateway, ledger, stop)) for _ in range(3)]
                await asyncio.sleep(0.5)
                server.stop(signal.SIGQUIT)
                await asyncio.sleep(0.3)
                assert (await gateway.get("/readyz"))[0] == 503
                await asyncio.to_thread(server.start)
                await until_answered(gateway, "/readyz", 200)
                await asyncio.sleep(0.5)
                stop.set()
                await asyncio.gather(*adapters)
                with psycopg.connect(server.url) as connection:
                    rows = connection.execute("SELECT session_id, event_id FROM events ORDER BY session_id, sequence")
                    stored: dict[str, list[str]] = {}
                    for session_id, event_id in rows:
                        stored.setdefault(session_id, []).append(event_id)
                assert stored == {key: ids for key, ids in ledger.acknowledged.items() if ids}
                assert len(ledger.executed) > 3
                await process.end(signal.SIGTERM)


async def test_a_page_with_a_character_that_postgresql_cannot_hold_is_read_as_html_reads_it(tmp_path, database):
    async with two_gateways(tmp_path, database) as ((_, holder), _):
        case = Case(holder)
        await case.begin(screen=FORM)
        turn = await case.post(ScreenShown(html="<div id=form>a\0b</div>"))
        assert turn.sequence == case.sequence
        _, record = await holder.get(f"/v1/sessions/{case.session_id}", html="true")
        assert "a\ufffdb" in record["events"][-1]["data"]["html"]


async def test_a_migration_that_fails_is_tried_again_and_locks_nobody_out(database):
    from pilotage_gateway import store as module

    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("CREATE TABLE sessions (x int)")
        mine, other = module.Store(database), module.Store(database)
        opening = asyncio.create_task(mine.open())
        await asyncio.sleep(1.5)
        assert not opening.done()
        admin.execute("DROP TABLE sessions")
        async with asyncio.timeout(20):
            await opening
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await other.open()
        await mine.close()


async def test_who_comes_back_after_another_held_the_records_is_told(database):
    from pilotage_gateway.store import Store

    lost: list[str] = []
    first, second = Store(database, lambda: lost.append("first")), Store(database)
    await first.open("http://a")
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        async with asyncio.timeout(20):
            await second.open("http://b")
            await second.close()
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await first.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
        assert lost, "what it remembers is older than the records"
        assert admin.execute("SELECT address, generation FROM holders").fetchone() == ("http://b", 2)
        await first.close()


async def test_a_stop_is_seen_whatever_isolation_the_database_prefers(server, database):
    from functools import partial

    from pilotage_gateway import writes
    from pilotage_gateway.store import Store

    name = database.rpartition("/")[2]
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    store = Store(database)
    await store.open()
    stop = partial(writes.write_suspension, process_cluster=KEY, suspended=True, who="kim", why="drill", at="t")
    loop = asyncio.get_running_loop()

    def look(connection):
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        connection.exec_driver_sql("SELECT count(*) FROM sessions").scalar()  # a snapshot would begin here
        asyncio.run_coroutine_threadsafe(store.write_beside(stop), loop).result(10)
        return writes.is_suspended(connection, KEY)

    assert await store.write(look)
    await store.close()


async def test_a_post_that_the_records_cannot_hold_costs_nobody_the_lock(tmp_path, database):
    async with two_gateways(tmp_path, database) as ((first, holder), _):
        case = Case(holder)
        await case.begin(screen=FORM)
        event = msgspec.structs.replace(case.event(MessagePosted(Author.CUSTOMER, "x")), source="s" * 9000)
        status, problem = await case.send(PostEvents((event,)))
        assert (status, problem["where"]) == (422, "events[0].source")
        await asyncio.sleep(1.5)
        assert first.process.returncode is None
        assert (await Case(holder).begin(screen=FORM)).order is not None


async def test_the_one_that_stands_by_asks_nobody_but_the_holder(tmp_path, database):
    async with two_gateways(tmp_path, database) as (_, (_, standby)):
        host, port = standby.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET *@127.0.0.1:1/latest HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
        assert (await standby.get("/v1/sessions/../../v1/status"))[0] == 200
        assert (await standby.get("/v1//127.0.0.1:1/x"))[0] == 404
