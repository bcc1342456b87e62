"""What is read back: exports in order, labels as the core reads them, metrics after a restart, an unbroken chain."""

import asyncio
import gzip

import msgspec
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text
from stubs.gateway import STAR, SUBMIT, Case
from stubs.postgres import database_of

from pilotage_core.errors import ConflictError
from pilotage_core.events import Grade, ReviewItem, SessionReviewed, Verdict
from pilotage_core.record import SessionRecord, read_labels
from pilotage_core.stage import Stage
from pilotage_core.wire import LabelPage
from pilotage_gateway import export
from pilotage_gateway.queries import read_chain
from pilotage_gateway.store import Store, migrate
from pilotage_gateway.tables import SCHEMA_VERSION, metadata
from pilotage_gateway.writes import CHAIN_START, chain


async def _export(gateway, **query) -> list[SessionRecord]:
    status, text = await gateway.get("/v1/export", process_cluster=STAR, **query)
    assert status == 200
    return [msgspec.json.decode(line, type=SessionRecord) for line in text.splitlines()]


async def _busy_day(world, gateway) -> list[Case]:
    """Sessions with every kind of label: accepts, rejects, audits answered and not, reviews, corrections."""
    cases = [Case(gateway) for _ in range(5)]
    world.publish(Stage.COPILOT)
    await gateway.until(lambda s: s["process_clusters"][STAR]["stage"] == "Copilot")
    accepted = await cases[0].answer(await cases[0].begin(), Verdict.ACCEPT)
    world.models.action = None
    await cases[0].report(accepted)
    world.models.action = SUBMIT
    await cases[1].answer(await cases[1].begin(), Verdict.REJECT)
    await cases[1].act()
    world.publish(Stage.CALIBRATION)
    await gateway.until(lambda s: s["process_clusters"][STAR]["stage"] == "Calibration")
    ran = await cases[2].begin()
    world.models.action = None
    await cases[2].report(ran)
    reviewed = ReviewItem(ran.order.proposal_id, Verdict.REJECT, Grade.WRONG_ROUTE)
    await cases[2].post(SessionReviewed("kim", False, (reviewed,)))
    world.models.action = SUBMIT
    world.publish(Stage.CALIBRATION, audit_share=1.0)
    digest = world.controller.snapshot.digest
    await gateway.until(lambda s: s["snapshot_digest"] == digest and s["permit_remaining_ms"] > 0)
    await cases[3].begin()
    assert await gateway.why(cases[3].session_id) == ("propose", "audit")  # never answered
    await cases[4].answer(await cases[4].begin(), Verdict.EDIT)
    for case in cases:
        await case.close()
    return cases


async def test_labels_are_the_ones_the_core_reads_off_the_records(world):
    async with world.gateway() as gateway:
        cases = await _busy_day(world, gateway)
        records = await _export(gateway)
        expected = [label for record in records for label in read_labels(record)]
        page = msgspec.convert((await gateway.get("/v1/labels", process_cluster=STAR, pair="r1"))[1], LabelPage)
        order = [case.session_id for case in cases]
        assert sorted(page.labels, key=lambda lb: order.index(lb.session_id)) == expected
        assert [label.accepted for label in expected] == [True, False, False, False, False]
        assert [label.reviewed for label in expected] == [False, False, True, False, False]
        assert {label.operator for label in expected} == {"ann", "kim", ""}

        first = msgspec.convert((await gateway.get("/v1/labels", process_cluster=STAR, limit="2"))[1], LabelPage)
        rest = await gateway.get("/v1/labels", process_cluster=STAR, after=str(first.next))
        assert (*first.labels, *msgspec.convert(rest[1], LabelPage).labels) == page.labels
        assert msgspec.convert(rest[1], LabelPage).next == page.next
        assert (await gateway.get("/v1/labels", process_cluster=STAR, pair="r2"))[1]["labels"] == []


async def test_an_export_is_ordered_bounded_and_without_html(world):
    async with world.gateway() as gateway:
        cases = [Case(gateway) for _ in range(3)]
        for case in cases:
            await case.begin()
        for case in reversed(cases):
            await case.close()
        still_open = Case(gateway)
        await still_open.begin()
        records = await _export(gateway)
        assert [r.session_id for r in records] == [c.session_id for c in reversed(cases)]
        assert [r.closed_at for r in records] == sorted(r.closed_at for r in records)
        middle = records[1].closed_at
        assert [r.session_id for r in await _export(gateway, since=middle)] == [r.session_id for r in records[1:]]
        assert [r.session_id for r in await _export(gateway, until=middle)] == [records[0].session_id]
        assert [r.session_id for r in await _export(gateway, closed="false")] == [still_open.session_id]
        assert (await gateway.get("/v1/export", process_cluster="star/none")) == (200, "")
        assert [event.sequence for event in records[0].events] == list(range(4))


async def test_an_export_of_many_sessions_misses_none_and_packs_them(world, monkeypatch):
    monkeypatch.setattr(export, "SESSIONS_AT_ONCE", 2)
    world.publish(Stage.LOGGING)
    async with world.gateway() as gateway:
        for _ in range(5):
            case = Case(gateway)
            await case.begin()
            await case.close()
        assert len(await _export(gateway)) == 5
        url = f"{gateway.url}/v1/export?process_cluster={STAR}"
        async with gateway.client.get(url, headers={"accept-encoding": "gzip"}, auto_decompress=False) as response:
            assert response.headers["content-encoding"] == "gzip"
            assert len(gzip.decompress(await response.read()).splitlines()) == 5


async def test_counters_start_at_zero_and_survive_a_restart(world):
    async with world.gateway() as gateway:
        zero = {"process_cluster": "star/long-tail", "pair": ""}
        assert await gateway.metric("pilotage_sessions_closed_total", **zero, stage="Logging") == 0.0
        assert await gateway.metric("pilotage_corrections_total", process_cluster=STAR, pair="r1") == 0.0
        await _busy_day(world, gateway)
        before = await _counters(gateway)
    expected = {
        'pilotage_feedback_sessions_total{pair="r1",process_cluster="star/bookings"}': 2.0,
        'pilotage_executed_critical_total{pair="r1",process_cluster="star/bookings"}': 1.0,
        'pilotage_corrections_total{pair="r1",process_cluster="star/bookings"}': 1.0,
        'pilotage_finalizations_rejected_total{pair="r1",process_cluster="star/bookings"}': 1.0,
        'pilotage_demonstration_sessions_total{process_cluster="star/bookings"}': 1.0,
        'pilotage_labels_total{accepted="false",pair="r1",process_cluster="star/bookings",stratum="procedure"}': 4.0,
        'pilotage_sessions_closed_total{pair="r1",process_cluster="star/bookings",stage="Calibration"}': 5.0,
    }
    assert {series: before[series] for series in expected} == expected
    async with world.gateway() as gateway:
        assert await _counters(gateway) == before


async def _counters(gateway) -> dict[str, float]:
    found = {}
    for line in (await gateway.get("/metrics"))[1].splitlines():
        series, _, value = line.rpartition(" ")
        if "_total" in series and not line.startswith("#"):
            found[series] = float(value)
    return found


async def test_decisions_form_a_chain_and_can_be_explained(world):
    async with world.gateway() as gateway:
        case = Case(gateway)
        turn = await case.begin()
        await case.report(turn)
        store: Store = gateway.app.state.turns.store
        rows = await store.read(lambda connection: list(read_chain(connection)))
        former = CHAIN_START
        for _, before, digest, facts in rows:
            assert (before, digest) == (former, chain(former, facts))
            former = digest
        assert len(rows) == 2
        status, decision = await gateway.get(f"/v1/decisions/{turn.order.proposal_id}")
        assert status == 200
        assert decision["verdict"] == {
            "decision": "execute",
            "reason": "certified",
            "detail": "score 0.95 against τ 0.8",
        }
        assert decision["facts"]["permit_fresh"] is True
        assert decision["proposal"]["executed"] is True
        assert 0.0 <= decision["audit_draw"] <= 1.0


async def test_an_audited_proposal_keeps_its_propensity(world):
    world.publish(Stage.CALIBRATION, audit_share=0.5)
    async with world.gateway() as gateway:
        for _ in range(8):
            case = Case(gateway)
            await case.begin()
            await case.close()
        proposals = [p for record in await _export(gateway) for p in record.proposals]
        assert {p.propensity for p in proposals} == {0.5}
        assert all(p.audited == (p.decision == "propose") for p in proposals)


def test_migrations_end_in_the_schema_of_the_tables(tmp_path):
    engine = create_engine(database_of(tmp_path))
    for _ in range(2):
        with engine.connect() as connection:
            migrate(connection)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == SCHEMA_VERSION
        assert compare_metadata(context, metadata) == []


async def test_a_write_that_fails_takes_no_other_with_it(tmp_path):
    store = Store(database_of(tmp_path))
    await store.open()
    row = text("INSERT INTO snapshots (slot, body) VALUES (:slot, :body)")
    results = await asyncio.gather(
        *(store.write(lambda c, n=n: c.execute(row, {"slot": n, "body": b"x"}).rowcount) for n in (1, 2, 1, 3)),
        return_exceptions=True,
    )
    assert [r if isinstance(r, int) else type(r) for r in results] == [1, 1, ConflictError, 1]
    await store.close()


async def test_a_scrape_may_ask_for_some_samples_only(world):
    async with world.gateway() as gateway:
        text = (await gateway.get("/metrics?name[]=pilotage_executed_critical_total&name[]=pilotage_live_sessions"))[1]
        whole = (await gateway.get("/metrics"))[1]
    names = {line.partition("{")[0].partition(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names == {"pilotage_executed_critical_total", "pilotage_live_sessions"}
    assert "pilotage_labels_total" in whole
    assert "_created" not in whole
