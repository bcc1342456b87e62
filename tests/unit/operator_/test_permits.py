"""The authority behind permits: what it signs, for how long, in which epoch, and when it answers."""

import asyncio

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.permit import Permit, PermitFacts, find_permit_fault, signing_input
from pilotage_core.snapshot import DECODE_PART, Parts, Snapshot, assemble
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave, PermitReply, PermitRequest, Revocation
from pilotage_operator.keys import decode_key, load_local_key, make_key, read_local_epoch
from pilotage_operator.permits import BLIND_SECONDS, LARGEST_EPOCH, LARGEST_JUMP, Authority


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Remembered(list):
    async def __call__(self, epoch: int) -> None:
        self.append(epoch)


def snapshot(stage: Stage = Stage.COPILOT) -> Parts:
    return Parts((Leave("one", "star", stage),))


def make_authority(clock: Clock, epoch: int = 5, remembered: Remembered | None = None) -> Authority:
    return Authority("cluster/ns", epoch, make_key(), remembered if remembered is not None else Remembered(), clock)


def ready(clock: Clock) -> Authority:
    authority = make_authority(clock)
    authority.publish(snapshot())
    authority.confirm(clock.now)
    return authority


def ask(nonce: str = "n1", **fields: object) -> PermitRequest:
    return PermitRequest("gateway-1", nonce, **fields)


def told(reply: PermitReply) -> Snapshot:
    return assemble(DECODE_PART(body) for body in reply.parts.values())


def read(reply) -> Permit:
    return msgspec.json.decode(reply.signed.permit, type=Permit)


async def test_a_permit_answers_its_nonce_and_verifies():
    authority = ready(Clock())
    reply = await authority.answer(ask())
    permit = read(reply)
    assert (permit.nonce, permit.epoch, permit.domain) == ("n1", 5, "cluster/ns")
    assert permit.snapshot_digest == told(reply).digest == authority.digest
    authority._key.private.public_key().verify(reply.signed.signature, signing_input(permit))


async def test_a_forged_permit_does_not_verify():
    authority = ready(Clock())
    reply = await authority.answer(ask())
    public = authority._key.private.public_key()
    for forged in (
        msgspec.structs.replace(read(reply), validity_ms=60_000),
        msgspec.structs.replace(read(reply), epoch=99),
        msgspec.structs.replace(read(reply), snapshot_digest="0" * 32),
    ):
        with pytest.raises(InvalidSignature):
            public.verify(reply.signed.signature, signing_input(forged))
    with pytest.raises(InvalidSignature):
        make_key().private.public_key().verify(reply.signed.signature, signing_input(read(reply)))


async def test_a_replayed_permit_answers_another_nonce():
    reply = await ready(Clock()).answer(ask("old"))
    facts = PermitFacts(0.1, "new", 0.0, 0, read(reply).snapshot_digest)
    assert find_permit_fault(read(reply), facts) == "wrong-nonce"


async def test_nothing_is_signed_before_the_first_full_sweep():
    with pytest.raises(UnavailableError):
        await make_authority(Clock()).answer(ask())


@pytest.mark.parametrize(("age", "validity"), [(0.0, 10_000), (4.0, 6_000), (9.5, 500), (10.0, 0), (600.0, 0)])
async def test_a_permit_is_as_short_as_what_is_known_is_old(age, validity):
    clock = Clock()
    authority = ready(clock)
    clock.now += age
    assert read(await authority.answer(ask())).validity_ms == validity


async def test_a_clock_that_ran_backwards_gives_no_validity():
    clock = Clock()
    authority = ready(clock)
    clock.now -= 5
    assert read(await authority.answer(ask())).validity_ms == 0


async def test_an_unchanged_snapshot_is_not_sent_again():
    authority = ready(Clock())
    assert (await authority.answer(ask(held=authority.digests))).parts == {}
    assert (await authority.answer(ask(held=("other",)))).parts != {}


async def test_a_waiting_gateway_is_answered_at_once_when_leave_is_taken_back():
    authority = ready(Clock())
    authority.publish(snapshot(Stage.AUTOMATION))
    waiting = asyncio.ensure_future(authority.answer(ask(held=authority.digests, wait_seconds=10)))
    await asyncio.sleep(0)
    assert not waiting.done()
    authority.publish(snapshot(Stage.COPILOT))
    reply = await asyncio.wait_for(waiting, 1)
    assert told(reply).leaves[0].stage is Stage.COPILOT
    assert read(reply).snapshot_digest == told(reply).digest


async def test_a_waiting_gateway_is_answered_after_its_wait_with_a_permit_for_what_it_holds():
    authority = ready(Clock())
    reply = await asyncio.wait_for(authority.answer(ask(held=authority.digests, wait_seconds=0.01)), 1)
    assert reply.parts == {}
    assert read(reply).snapshot_digest == authority.digest


async def test_publishing_the_same_again_wakes_nobody():
    authority = ready(Clock())
    waiting = asyncio.ensure_future(authority.answer(ask(held=authority.digests, wait_seconds=0.05)))
    await asyncio.sleep(0)
    authority.publish(snapshot())
    await asyncio.sleep(0)
    assert not waiting.done()
    await waiting


async def test_nothing_rises_above_copilot_until_every_earlier_permit_has_lapsed():
    clock = Clock()
    authority = ready(clock)
    assert not authority.has_waited()
    clock.now += 9.9
    assert not authority.has_waited()
    clock.now += 0.2
    assert authority.has_waited()


@pytest.mark.parametrize(("seen", "epoch", "remembered"), [(0, 5, []), (5, 5, []), (6, 7, [7]), (900, 901, [901])])
async def test_the_epoch_jumps_above_the_highest_a_gateway_has_seen_and_is_remembered_first(seen, epoch, remembered):
    clock, kept = Clock(), Remembered()
    authority = make_authority(clock, remembered=kept)
    authority.publish(snapshot())
    authority.confirm(clock.now)
    clock.now += 20
    assert read(await authority.answer(ask(highest_epoch=seen))).epoch == epoch
    assert kept == remembered
    assert authority.has_waited() is (not remembered), "a jump waits out one permit again"


async def test_an_epoch_that_cannot_be_remembered_is_not_used():
    async def fail(epoch: int) -> None:
        raise UnavailableError("no")

    authority = Authority("d", 5, make_key(), fail, Clock())
    authority.publish(snapshot())
    with pytest.raises(UnavailableError):
        await authority.answer(ask(highest_epoch=8))
    assert authority.epoch == 5


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"highest_epoch": -1}, "highest_epoch"),
        ({"highest_epoch": LARGEST_EPOCH + 1}, "highest_epoch"),
        ({"nonce": ""}, "nonce"),
        ({"nonce": "x" * 257}, "nonce"),
    ],
)
async def test_an_impossible_request_is_refused_with_its_field(fields, where):
    with pytest.raises(InvalidInputError) as refused:
        await ready(Clock()).answer(ask(**fields))
    assert refused.value.where == where


def test_a_local_key_is_made_once_and_its_public_half_published(tmp_path):
    key = load_local_key(tmp_path)
    assert load_local_key(tmp_path).kid == key.kid
    assert (tmp_path / f"{key.kid}.pub").read_bytes() == key.private.public_key().public_bytes_raw()
    assert (tmp_path / "signing.key").stat().st_mode & 0o077 == 0


def test_a_damaged_key_or_epoch_says_where_and_what_to_do(tmp_path):
    with pytest.raises(InvalidInputError) as refused:
        decode_key(b"short", "signing.key")
    assert refused.value.where == "signing.key"
    (tmp_path / "epoch").write_text("many")
    with pytest.raises(InvalidInputError, match="holds no epoch"):
        read_local_epoch(tmp_path / "epoch")
    assert read_local_epoch(tmp_path / "none") == 0


async def test_a_number_that_somebody_made_up_does_not_use_up_all_epochs():
    clock, remembered = Clock(), Remembered()
    authority = make_authority(clock, 5, remembered)
    authority.publish(snapshot())
    for seen in (5 + LARGEST_JUMP + 1, 2**52):
        with pytest.raises(InvalidInputError, match="above ours") as raised:
            await authority.answer(ask(highest_epoch=seen))
        assert raised.value.where == "highest_epoch"
    assert read(await authority.answer(ask(highest_epoch=5 + LARGEST_JUMP))).epoch == 6 + LARGEST_JUMP
    with pytest.raises(UnavailableError, match="just now"):  # a drip would hold everything at Copilot
        await authority.answer(ask(highest_epoch=7 + LARGEST_JUMP))
    clock.now += authority.ttl_seconds
    assert read(await authority.answer(ask(highest_epoch=7 + LARGEST_JUMP))).epoch == 8 + LARGEST_JUMP
    assert authority.epoch < LARGEST_EPOCH


# --- terms ------------------------------------------------------------------------------------------------------------
async def test_no_permit_outlasts_the_lease_of_who_signed_it():
    clock, left = Clock(), [4.5]
    authority = Authority("d", 5, make_key(), Remembered(), clock, lease_left=lambda: left[0])
    authority.publish(snapshot())
    authority.confirm(clock.now)
    assert read(await authority.answer(ask())).validity_ms == 4500
    left[0] = 0.0
    with pytest.raises(UnavailableError, match="another one leads"):
        await authority.answer(ask("n2"))


async def test_who_lost_the_lease_takes_no_epoch_from_who_holds_it():
    """A paused leader wakes up to gateways that have seen its successor's epoch."""
    clock, left, remembered = Clock(), [4.5], Remembered()
    authority = Authority("d", 5, make_key(), remembered, clock, lease_left=lambda: left[0])
    authority.publish(snapshot())
    authority.confirm(clock.now)
    left[0] = 0.0
    with pytest.raises(UnavailableError):
        await authority.answer(ask(highest_epoch=6))
    assert (remembered, authority.epoch) == ([], 5)


def test_a_term_that_sees_nothing_for_long_is_not_at_work():
    clock = Clock()
    authority = make_authority(clock)
    authority.begin_term(6, waits=False)
    clock.now += BLIND_SECONDS - 1
    assert authority.is_at_work()
    authority.note_sight()
    clock.now += BLIND_SECONDS - 1
    assert authority.is_at_work()
    clock.now += 1
    assert not authority.is_at_work()


async def test_between_terms_nothing_is_signed_and_who_waits_is_told():
    authority = ready(Clock())
    waiting = asyncio.ensure_future(authority.answer(ask(held=authority.digests, wait_seconds=20.0)))
    await asyncio.sleep(0)
    authority.end_term()
    with pytest.raises(UnavailableError, match="another one leads"):
        await waiting
    with pytest.raises(UnavailableError):
        await authority.answer(ask())


@pytest.mark.parametrize(("waits", "at_once"), [(True, False), (False, True)])
def test_a_term_waits_for_earlier_permits_where_no_lease_says_that_they_have_lapsed(waits, at_once):
    clock = Clock()
    authority = make_authority(clock)
    authority.begin_term(6, waits=waits)
    assert (authority.epoch, authority.has_waited(), authority.validity_ms()) == (6, at_once, 0)
    clock.now += authority.ttl_seconds
    assert authority.has_waited()


TAKEN_BACK = {"star/one": Revocation("corrections", 2000.0, "breached")}


async def test_nothing_is_signed_for_who_knows_of_leave_taken_back_until_a_sweep_has_looked_at_it():
    authority = ready(Clock())
    for _ in range(2):
        with pytest.raises(UnavailableError, match="looked at first"):
            await authority.answer(ask(revoked=TAKEN_BACK))
    assert (await authority.answer(ask())).signed, "others are answered"
    assert authority.reported() == TAKEN_BACK
    authority.note_heard(authority.reported())
    assert authority.reported() == {}
    assert (await authority.answer(ask(revoked=TAKEN_BACK))).signed
    newer = {"star/one": Revocation("loops", 2001.0)}
    with pytest.raises(UnavailableError):
        await authority.answer(ask(revoked=newer))
    authority.note_heard(TAKEN_BACK)
    assert authority.reported() == newer, "what came while a sweep looked at the older one is still to be looked at"
    authority.begin_term(6, waits=False)
    assert authority.reported() == {}


async def test_what_no_time_can_be_told_of_is_no_news_and_too_many_are_refused():
    authority = ready(Clock())
    assert (await authority.answer(ask(revoked={"star/one": Revocation("x", float("nan"))}))).signed
    with pytest.raises(InvalidInputError, match="limit"):
        await authority.answer(ask(revoked={f"star/{n}": Revocation("x", 1.0) for n in range(20_001)}))
