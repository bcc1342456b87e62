"""Leave comes only from a fresh signature over our own nonce; everything else can at most take it away."""

import time

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from stubs.gateway import (
    LONG_TAIL,
    STAR,
    Case,
    StubController,
    build_leave,
    build_parts,
    build_snapshot,
    run_gateway,
    until,
)
from stubs.postgres import database_of

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.errors import PermitError
from pilotage_core.stage import Stage
from pilotage_core.wire import PermitReply, Revocation
from pilotage_gateway import permits as permits_module
from pilotage_gateway.permits import Keys, Permits, tighten

SNAPSHOT = build_snapshot(build_leave(Stage.CALIBRATION, "http://models"), LONG_TAIL)


class Seat:
    """Permits without their network: `take` hands them an answer."""

    def __init__(self, folder, controller):
        self.controller, self.stored = controller, []
        controller.write_key(folder)
        self.permits = Permits(
            "http://controller",
            Keys(folder),
            remember_epoch=self.remember,
            remember_parts=self.remember,
            on_leaves=list,
        )

    async def remember(self, *values):
        self.stored.append(values)

    async def take(self, signed=None, *, nonce="mine", age=0.0, snapshot=SNAPSHOT, wall=None):
        now = boot_seconds()
        reply = PermitReply(signed or self.controller.sign("mine"), build_parts(snapshot))
        await self.permits.take(reply, nonce, now - age, time.time() - age if wall is None else wall)


@pytest.fixture
def seat(tmp_path):
    return Seat(tmp_path, StubController(SNAPSHOT))


async def test_a_permit_is_aged_from_before_its_nonce_left(seat):
    await seat.take(age=4.0)
    assert 5_000 < seat.permits.remaining_ms() <= 6_000
    assert seat.permits.remaining_ms(boot_seconds() + 7) == 0
    assert ("test/pilotage-system", 1) in seat.stored


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"signed": {"nonce": "theirs"}}, "wrong-nonce"),
        ({"signed": {"validity_ms": 0}}, "expired"),
        ({"signed": {"epoch": 4}}, "old-epoch"),
        ({"signed": {"domain": "elsewhere/pilotage-system"}}, "wrong-domain"),
        ({"signed": {"snapshot_digest": "0" * 32}}, "wrong-snapshot"),
        ({"age": 11.0}, "expired"),
        ({"age": -1.0}, "expired"),
        ({"wall": 0.0}, "clock-drift"),
    ],
)
async def test_a_permit_with_a_fault_gives_no_leave(seat, fault, word):
    seat.permits.restore({"test/pilotage-system": 5}, None)
    seat.controller.epoch = 5
    changes = fault.pop("signed", {})
    with pytest.raises(PermitError, match=word):
        await seat.take(seat.controller.sign(changes.pop("nonce", "mine"), **changes), **fault)
    assert seat.permits.remaining_ms() == 0


async def test_a_forged_permit_gives_no_leave(seat):
    seat.controller.key = Ed25519PrivateKey.generate()
    with pytest.raises(PermitError, match="signature"):
        await seat.take()
    seat.controller.kid = "../k1"
    with pytest.raises(PermitError, match="no key"):
        await seat.take()
    assert seat.permits.snapshot is None


async def test_a_permit_changed_after_it_was_signed_gives_no_leave(seat):
    signed = seat.controller.sign("mine")
    longer = msgspec.structs.replace(signed, permit=signed.permit.replace(b"10000", b"99999"))
    with pytest.raises(PermitError, match="signature"):
        await seat.take(longer)


async def test_a_new_key_is_read_when_it_is_first_needed(seat, tmp_path):
    seat.controller.key, seat.controller.kid = Ed25519PrivateKey.generate(), "k2"
    (tmp_path / "torn.pub").write_bytes(b"half a key")
    with pytest.raises(PermitError):
        await seat.take()
    seat.controller.write_key(tmp_path)
    await seat.take()
    assert seat.permits.remaining_ms() > 0


async def test_a_clock_that_jumps_ends_leave(seat, monkeypatch):
    await seat.take()
    real = time.time
    monkeypatch.setattr(permits_module.time, "time", lambda: real() + 0.6)
    assert seat.permits.remaining_ms() == 0


async def test_an_answer_that_proves_nothing_can_still_lower(seat):
    await seat.take()
    lower = build_snapshot(build_leave(Stage.COPILOT, "http://models"), LONG_TAIL)
    with pytest.raises(PermitError):
        await seat.take(seat.controller.sign("not mine"), snapshot=lower)
    assert seat.permits.leave_of(STAR).stage is Stage.COPILOT
    assert seat.permits.remaining_ms() == 0
    await seat.take()  # the next proof brings back what it proves
    assert seat.permits.leave_of(STAR).stage is Stage.CALIBRATION


def test_tighten_never_raises():
    held = build_snapshot(build_leave(Stage.COPILOT, ""), LONG_TAIL)
    heard = build_snapshot(build_leave(Stage.AUTOMATION, "", suspended=True))
    tightened = tighten(held, heard)
    assert [leave.stage for leave in tightened.leaves] == [Stage.COPILOT, Stage.LOGGING]
    assert [leave.suspended for leave in tightened.leaves] == [True, False]


async def test_a_rollback_reaches_the_gateway_at_once(world):
    async with world.gateway() as gateway:
        assert (await Case(gateway).begin()).decision == "execute"
        started = time.monotonic()
        world.publish(Stage.COPILOT)
        await gateway.until(lambda status: status["process_clusters"][STAR]["stage"] == "Copilot")
        assert time.monotonic() - started < 1.0
        assert (await Case(gateway).begin()).decision == "propose"


async def test_leave_lapses_with_a_dead_controller_and_sessions_go_on(world):
    world.controller.ttl_ms = 700
    async with world.gateway() as gateway:
        world.controller.down = True
        await gateway.until(lambda status: status["permit_remaining_ms"] == 0)
        case = Case(gateway)
        turn = await case.begin()
        assert (turn.decision, turn.stage) == ("propose", Stage.COPILOT)
        assert await gateway.why(case.session_id) == ("propose", "no-permit")
        world.controller.down = False
        await gateway.until_permit()
        assert (await Case(gateway).begin()).decision == "execute"


async def test_replayed_answers_give_no_leave(world):
    world.controller.ttl_ms = 700
    first = []

    def replay(request, reply):
        first.append(reply)
        return first[0]

    async with world.gateway() as gateway:
        world.controller.bend = replay
        world.publish(Stage.AUTOMATION)
        await gateway.until(lambda status: status["permit_remaining_ms"] == 0)
        world.controller.bend = lambda _, reply: reply
        await gateway.until_permit()


async def test_a_restart_remembers_epoch_and_snapshot_but_no_permit(world):
    world.controller.epoch = 7
    async with world.gateway():
        pass
    database = database_of(world.folder)
    async with run_gateway(database, "http://127.0.0.1:9", world.folder / "keys") as alone:
        _, status = await alone.get("/v1/status")
        assert (status["epoch"], status["permit_remaining_ms"]) == (7, 0)
        case = Case(alone)
        turn = await case.begin()
        assert (turn.process_cluster, turn.decision) == (STAR, "propose")
        assert await alone.why(case.session_id) == ("propose", "no-permit")
    world.controller.epoch = 6
    async with world.gateway(permit=False) as gateway:
        await gateway.until(lambda status: len(world.controller.polls) > 2)
        assert (await gateway.get("/v1/status"))[1]["permit_remaining_ms"] == 0
        assert world.controller.polls[-1].highest_epoch == 7


async def test_without_any_snapshot_ever_a_session_waits(tmp_path):
    (tmp_path / "keys").mkdir()
    async with run_gateway(database_of(tmp_path), "http://127.0.0.1:9", tmp_path / "keys") as gateway:
        opened = b'{"events":[{"id":"a","sequence":0,"at":"2026-01-01T00:00:00Z","data":{"type":"session_opened"}}]}'
        status, problem = await gateway.post("/v1/sessions/s1/events", opened)
        assert (status, problem["where"], problem["retry_after_seconds"]) == (503, "controller", 1.0)
        assert (await gateway.get("/readyz"))[0] == 200


async def test_a_key_that_was_taken_away_counts_no_more_and_neither_does_what_it_signed(seat, tmp_path):
    await seat.take()
    assert seat.permits.remaining_ms() > 0
    (tmp_path / "k1.pub").unlink()
    with pytest.raises(PermitError, match="no key"):
        await seat.take()
    assert seat.permits.remaining_ms() == 0
    seat.controller.key, seat.controller.kid = Ed25519PrivateKey.generate(), "k2"
    seat.controller.write_key(tmp_path)
    await seat.take()
    assert seat.permits.remaining_ms() > 0


async def test_leave_that_was_taken_back_lately_is_told_to_whoever_signs_next(world):
    now = time.time()
    old, new = Revocation("loops", now - 7200), Revocation("corrections", now - 5, "breached", 0.5)
    leaves = [
        msgspec.structs.replace(build_leave(Stage.COPILOT, world.models.url), name=name, revoked=told)
        for name, told in (("old", old), ("new", new), ("none", None))
    ]
    world.controller.publish(build_snapshot(*leaves))
    async with world.gateway() as gateway:
        await until(lambda: world.controller.polls[-1].revoked == {"star/new": new})
    async with world.gateway(permit=False) as again:
        seen = len(world.controller.polls)
        await until(lambda: len(world.controller.polls) > seen)
        assert world.controller.polls[seen].revoked == {"star/new": new}, "its records remember it too"
        assert gateway is not again


async def test_a_key_that_cannot_be_read_for_a_moment_is_not_taken_away(seat, tmp_path, monkeypatch):
    await seat.take()
    (tmp_path / "k1.pub").write_bytes(b"half")
    await seat.take()
    monkeypatch.setattr(permits_module.Path, "read_bytes", lambda _: (_ for _ in ()).throw(OSError("too many files")))
    await seat.take()
    assert seat.permits.remaining_ms() > 0
