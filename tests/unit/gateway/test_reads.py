"""Who read what is in the records before it is shown."""

import aiohttp
import pytest
from stubs.gateway import Case

from pilotage_core.stage import Stage
from pilotage_gateway.reads import Reads


async def test_what_people_see_is_written_down_once_a_minute(world):
    world.publish(Stage.COPILOT)
    async with world.gateway() as gateway, aiohttp.ClientSession() as client:
        case = Case(gateway, "s-1")
        turn = await case.begin()
        cookies, url = {"pilotage_operator": "ann"}, f"{gateway.url}/console"
        for path in ("/?queue", "/sessions/s-1", "/sessions/s-1", "/ledger?session=s-1"):
            async with client.get(url + path, cookies=cookies) as answer:
                assert answer.status == 200, path
        await gateway.get("/v1/sessions/s-1")
        await gateway.get("/v1/export", process_cluster="star/bookings")
        await gateway.get(f"/v1/decisions/{turn.proposal.proposal_id}")  # waits for its verdict: nothing is shown
        found = [(row.who, row.kind, row.what) for row in await gateway.app.state.turns.reads.list()]
        assert found == [
            ("", "export", "star/bookings"),
            ("ann", "ledger", "s-1"),
            ("ann", "session", "s-1"),
            ("ann", "queue", ""),
        ]
        async with client.get(f"{url}/reads?what=s-1", cookies=cookies) as answer:
            page = await answer.text()
        assert (answer.status, page.count("<td>ann</td>")) == (200, 2)


async def test_what_cannot_be_written_down_is_not_shown(world, monkeypatch):
    async with world.gateway() as gateway:
        case = Case(gateway, "s-1")
        await case.begin()

        async def fail(*_: object) -> None:
            from pilotage_core.errors import UnavailableError

            raise UnavailableError("the database does not answer", where="database")

        monkeypatch.setattr(gateway.app.state.turns.store, "write", fail)
        status, problem = await gateway.get("/v1/export", process_cluster="star/bookings")
        assert (status, problem["where"]) == (503, "database")


@pytest.mark.parametrize(("seconds", "rows"), [(59.0, 1), (61.0, 2)])
async def test_a_minute_later_it_is_written_again(world, seconds, rows):
    async with world.gateway() as gateway:
        now = [0.0]
        reads = Reads(gateway.app.state.turns.store, lambda: now[0])
        await reads.note("ann", "session", "s-1")
        now[0] = seconds
        await reads.note("ann", "session", "s-1")
        assert len(await reads.list(who="ann")) == rows
