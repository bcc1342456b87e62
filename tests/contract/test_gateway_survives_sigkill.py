"""The gateway as a process, killed with SIGKILL while posts are under way: nothing acknowledged is lost or repeated."""

import asyncio
import random
import signal

import msgspec
import pytest
from stubs.gateway_process import Ledger, adapt, run_everything
from stubs.postgres import run_postgres

from pilotage_core.record import SessionRecord

KILLS = 2
ADAPTERS = 6


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/g.db"
        return
    with run_postgres() as server:
        yield server.url


async def test_sigkill_in_the_middle_of_posts_loses_and_repeats_nothing(tmp_path, database):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance, ledger, stop = random.Random(seed), Ledger(), asyncio.Event()
    async with run_everything(tmp_path, database) as (process, gateway):
        await process.start(gateway)
        adapters = [asyncio.create_task(adapt(gateway, ledger, stop)) for _ in range(ADAPTERS)]
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            await process.end(signal.SIGKILL)
            await process.start(gateway)
        await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*adapters)

        _, text = await gateway.get("/v1/export", process_cluster="star/bookings")
        records = {
            r.session_id: r for r in (msgspec.json.decode(line, type=SessionRecord) for line in text.splitlines())
        }
        assert len(ledger.executed) > 10
        for session_id, acknowledged in ledger.acknowledged.items():
            stored = records[session_id]
            assert [event.id for event in stored.events] == acknowledged
            assert [event.sequence for event in stored.events] == list(range(len(stored.events)))
        executed = {p.proposal_id for record in records.values() for p in record.proposals if p.executed}
        assert executed == set(ledger.executed.values())
        assert await process.end(signal.SIGTERM) == 0
