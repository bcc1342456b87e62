"""A session belongs to the source whose credential opened it; no selector, priority or ttl reaches further."""

import json

import msgspec
import pytest
from stubs.gateway import FORM, Case, build_leave, build_snapshot, run_gateway
from stubs.postgres import database_of

from pilotage_core.errors import InvalidInputError
from pilotage_core.events import Author, MessagePosted
from pilotage_core.snapshot import Snapshot, find_leave
from pilotage_core.source import ANYONE, Source
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave
from pilotage_gateway.access import UnauthorizedError
from pilotage_gateway.callers import Callers
from pilotage_gateway.credentials import SecretFile
from pilotage_gateway.main import build_callers, main

SECRET, OTHER = "secret-of-the-bank-0001", "secret-of-the-shop-0001"


def leave(namespace: str, name: str = "x", priority: int = 0) -> Leave:
    return Leave(name, namespace, Stage.COPILOT, priority=priority)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (ANYONE, "evil/x"),
        (Source("bank", ("bank",)), "bank/x"),
        (Source("both", ("bank", "evil")), "bank/x"),
        (Source("both", ("evil", "bank")), "evil/x"),
        (Source("some", ("bank", "*")), "bank/x"),
        (Source("none", ("elsewhere",)), None),
        (Source("none", ()), None),
    ],
)
def test_a_selector_and_a_priority_reach_no_further_than_the_namespaces_of_the_source(source, key):
    snapshot = Snapshot((leave("evil", priority=1000), leave("bank")))
    found = find_leave(snapshot, {}, source)
    assert (found.key if found else None) == key


@pytest.fixture
def sources(tmp_path):
    path = tmp_path / "sources.json"
    path.write_text(json.dumps([
        {"source": "bank", "namespaces": ["star"], "secret": SECRET},
        {"source": "shop", "namespaces": ["shop"], "secret": OTHER},
    ]))  # fmt: skip
    return path


async def test_two_sources_may_call_their_sessions_the_same_and_neither_sees_the_others(world, sources, tmp_path):
    world.controller.publish(build_snapshot(build_leave(Stage.COPILOT, world.models.url)))
    database = database_of(tmp_path)
    callers = Callers(SecretFile(sources))
    async with run_gateway(database, world.controller_url, world.folder / "keys", callers) as gateway:
        await gateway.until_permit()
        bank, shop = Case(gateway, "36"), Case(gateway, "36")
        bank.headers = {"authorization": f"Bearer {SECRET}"}
        shop.headers = {"authorization": f"Bearer {OTHER}"}
        first = await bank.begin()
        assert (first.session_id, first.process_cluster, first.decision) == ("36", "star/bookings", "propose")
        second = await shop.begin()
        assert (second.session_id, second.process_cluster, second.decision) == ("36", "", "observe")
        assert (await bank.post(MessagePosted(Author.CUSTOMER, "Hello?"))).sequence == 4
        stranger = Case(gateway, "36")
        stranger.sequence = 4
        for headers in ({}, {"authorization": "Bearer nobody-knows-this-one"}, {"authorization": SECRET}):
            stranger.headers = headers
            status, problem = await stranger.refused(MessagePosted(Author.CUSTOMER, "hi"))
            assert (status, problem["where"]) == (401, "Authorization")


async def test_a_file_of_sources_is_read_again_and_the_last_good_one_stays(sources, tmp_path):
    import os

    callers = Callers(SecretFile(sources))
    assert (await callers.identify(f"Bearer {SECRET}")).source.name == "bank"
    sources.write_text("[")
    os.utime(sources, ns=(1, 1))
    assert (await callers.identify(f"Bearer {SECRET}")).source.name == "bank"
    sources.write_text(json.dumps([{"source": "new", "namespaces": ["*"], "secret": "x" * 16}]))
    os.utime(sources, ns=(2, 2))
    assert (await callers.identify("Bearer " + "x" * 16)).source.name == "new"
    with pytest.raises(UnauthorizedError):
        await callers.identify(f"Bearer {SECRET}")
    short = tmp_path / "short.json"
    short.write_text(json.dumps([{"source": "a", "namespaces": [], "secret": "short"}]))
    with pytest.raises(InvalidInputError, match="shorter"):
        SecretFile(short)


def test_beyond_loopback_a_gateway_starts_only_where_it_is_said_who_may_post(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--listen", "0.0.0.0:8080", "--database", f"sqlite:///{tmp_path}/g.db", "--keys", str(tmp_path)])
    assert "--sources" in capsys.readouterr().err
    with pytest.raises(InvalidInputError, match="is not there"):
        build_callers(tmp_path / "none.json", service_accounts=False)


async def test_a_gates_ttl_shortens_the_leave_of_its_own_process_clusters_alone(world):
    short = msgspec.structs.replace(build_leave(Stage.CALIBRATION, world.models.url), longest_ms=1)
    other = msgspec.structs.replace(build_leave(Stage.CALIBRATION, world.models.url), name="other", priority=1)
    world.controller.publish(build_snapshot(other, short))
    async with world.gateway() as gateway:
        turns = gateway.app.state.turns
        digest = world.controller.snapshot.digest
        await gateway.until(lambda s: s["snapshot_digest"] == digest and s["permit_remaining_ms"] > 0)
        leaves = {each.name: each for each in turns.permits.snapshot.leaves}
        assert turns.permits.remaining_of(leaves["other"]) > 5_000
        assert turns.permits.remaining_of(leaves["bookings"]) <= 1
        assert (await Case(gateway).begin(screen=FORM)).order.remaining_ms > 5_000
