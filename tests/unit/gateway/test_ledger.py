"""The chain of decisions: what was changed, removed, reordered or lost is told; where rows lack nothing runs alone."""

import asyncio
import sqlite3

import msgspec
import pytest
from stubs.gateway import FORM, Case, run_gateway, until
from stubs.postgres import database_of
from typer.testing import CliRunner

from pilotage.main import app
from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.stage import Stage
from pilotage_gateway.ledger import Head, check_at_start, keep, read_kept, verify_chain
from pilotage_gateway.public import find_decision, verify_database
from pilotage_gateway.writes import CHAIN_START, chain


def build_rows(n: int) -> list[tuple[int, str, str, bytes]]:
    rows, former = [], CHAIN_START
    for number in range(1, n + 1):
        facts = b"%d" % number
        rows.append((number, former, former := chain(former, facts), facts))
    return rows


ROWS = build_rows(6)
KEPT = Head(5, ROWS[4][2])


@pytest.mark.parametrize(
    ("rows", "kept", "whole", "fault"),
    [
        (ROWS, None, 6, ""),
        (ROWS, KEPT, 6, ""),
        ([], None, 0, ""),
        ([*ROWS[:2], (*ROWS[2][:3], b"else"), *ROWS[3:]], None, 2, "row 3 was changed"),
        ([*ROWS[:2], *ROWS[3:]], None, 2, "rows after 2 are gone, or stand in another order"),
        (ROWS[2:], None, 0, "what stood before row 3 is gone, or stand in another order"),
        ([ROWS[0], ROWS[2], ROWS[1]], None, 1, "rows after 1 are gone, or stand in another order"),
        (ROWS[:3], KEPT, 3, "the records end at row 3, and were known to go on to 5"),
        ([], KEPT, 0, "the records end at row 0, and were known to go on to 5"),
        (ROWS, Head(5, "f" * 32), 4, "row 5 is another than the one that was known"),
        ([*ROWS[:4], (9, *ROWS[4][1:])], KEPT, 5, "row 5, which was known, is not there"),
    ],
)
def test_what_is_wrong_with_a_chain_is_said_with_where_it_begins(rows, kept, whole, fault):
    found = verify_chain(rows, kept)
    assert (found.rows, found.fault) == (whole, fault)


def test_a_head_is_kept_whole_or_as_it_was(tmp_path):
    path = tmp_path / "g.db.head"
    assert read_kept(path) is None
    keep(path, KEPT)
    assert read_kept(path) == KEPT
    path.write_text("[")
    with pytest.raises(InvalidInputError, match="no head"):
        read_kept(path)


async def test_records_that_lost_what_was_stored_run_nothing_unattended_until_somebody_has_looked(world, tmp_path):
    world.publish(Stage.CALIBRATION)
    url, path = database_of(tmp_path), tmp_path / "kept"

    def gateway():
        return run_gateway(url, world.controller_url, world.folder / "keys", chain_head=path)

    async with gateway() as first:
        await first.until_permit()
        assert (await Case(first).begin(screen=FORM)).order is not None
        await until(path.exists)
        kept = read_kept(path)
    assert verify_database(url, path).fault == ""
    async with gateway() as again:
        await again.until_permit()
        assert (await Case(again).begin(screen=FORM)).order is not None
    keep(path, Head(kept.number + 50, kept.digest))
    async with gateway() as short:
        turn = await Case(short).begin(screen=FORM)
        assert (turn.decision, turn.order) == ("propose", None)
        status = (await short.get("/v1/status"))[1]
        assert "pilotage audit verify" in status["withheld"]
        assert status["permit_remaining_ms"] == 0
        polls = len(world.controller.polls)
        await asyncio.sleep(0.5)
        assert len(world.controller.polls) - polls < 5, "who gives no leave asks no more often than others"
    assert "were known to go on" in verify_database(url, path).fault
    path.unlink()
    async with gateway() as mended:
        await mended.until_permit()
        assert (await Case(mended).begin(screen=FORM)).order is not None


async def test_a_head_that_cannot_be_read_is_no_leave(tmp_path):
    (tmp_path / "kept").write_text("[")
    assert "no head of a chain" in await check_at_start(None, tmp_path / "kept")


async def test_an_auditor_verifies_and_explains_from_the_file_alone(world, tmp_path):
    world.publish(Stage.CALIBRATION)
    url = f"sqlite:///{tmp_path}/g.db"
    async with run_gateway(url, world.controller_url, world.folder / "keys") as gateway:
        await gateway.until_permit()
        turns = [await Case(gateway).begin(screen=FORM) for _ in range(3)]
    run = CliRunner().invoke
    done = run(app, ["audit", "verify", url])
    assert (done.exit_code, done.stdout[:22]) == (0, "3 decisions are whole:")
    told = run(app, ["explain", turns[1].order.proposal_id, "--database", url])
    assert told.exit_code == 0
    assert "EXECUTE" in told.stdout
    with sqlite3.connect(tmp_path / "g.db") as connection:
        connection.execute("UPDATE decisions SET facts = replace(facts, '0.95', '0.99') WHERE number = 2")
    done = run(app, ["audit", "verify", url, "--json"])
    assert done.exit_code == 1
    assert msgspec.json.decode(done.stdout)["fault"] == "row 2 was changed"
    with pytest.raises(InvalidInputError, match="unknown"):
        find_decision(url, "nothing")
    with pytest.raises(UnavailableError, match="cannot be read"):
        verify_database(f"sqlite:///{tmp_path}/none/else.db")
    with pytest.raises(InvalidInputError, match="use sqlite or postgresql"):
        verify_database("mysql://x/y")


async def test_a_chain_that_gets_shorter_while_a_gateway_works_is_told_and_what_was_kept_stays(world, tmp_path):
    world.publish(Stage.CALIBRATION)
    url, path = database_of(tmp_path), tmp_path / "kept"
    async with run_gateway(url, world.controller_url, world.folder / "keys", chain_head=path) as gateway:
        await gateway.until_permit()
        for _ in range(3):
            await Case(gateway).begin(screen=FORM)
        await until(lambda: path.exists() and read_kept(path).number == 3)
        kept = read_kept(path)
        turns = gateway.app.state.turns
        await turns.store.write(lambda c: c.exec_driver_sql("DELETE FROM decisions WHERE number > 1"))
        await until(lambda: bool(turns.permits.withheld))
        assert (await Case(gateway).begin(screen=FORM)).decision == "propose"
        assert read_kept(path) == kept
    assert read_kept(path) == kept


def test_looking_changes_nothing(tmp_path):
    path = tmp_path / "g.db"
    url = f"sqlite:///{path}"
    with pytest.raises(UnavailableError, match="cannot be read"):
        verify_database(url)
    assert list(tmp_path.iterdir()) == []
    with sqlite3.connect(path) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE decisions (number INTEGER PRIMARY KEY, former, digest, facts, proposal_id)")
        made.executemany("INSERT INTO decisions VALUES (?, ?, ?, ?, '')", ROWS)
        made.commit()
        before = {item.name: item.read_bytes() for item in tmp_path.iterdir() if not item.name.endswith("-shm")}
        assert "g.db-wal" in before
        keep(tmp_path / "g.db.head", Head(9, "0" * 32))
        assert "known to go on to 9" in verify_database(url).fault, "the head beside the file is looked at by itself"
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
