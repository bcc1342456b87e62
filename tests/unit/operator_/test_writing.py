"""Writes beside the sweep: the newest of each, in order, a few at once; and a breach waits for none of them."""

import asyncio
from dataclasses import replace

import msgspec
from facts import SPEC, MemoryWorld, climb_to, healthy, make_bundle
from test_sweep import Diarist, FiguresNow, Labels, World, breach

from pilotage_core.stage import Stage
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.enact import Decided
from pilotage_operator.held import Cluster, Document
from pilotage_operator.keys import make_key
from pilotage_operator.metrics import Metrics
from pilotage_operator.observe.world import Sighting
from pilotage_operator.sweep import Sweeper
from pilotage_operator.writing import AT_ONCE, Writer


async def test_of_each_the_newest_is_written_after_what_is_being_written_and_others_beside_it():
    gate, done, most = asyncio.Event(), [], []

    async def write(key: str, what: int) -> None:
        most.append(sum(1 for each in running if each))
        running.append(key)
        await gate.wait()
        running.remove(key)
        done.append((key, what))

    running: list[str] = []
    writer: Writer[int] = Writer(write)
    for n in range(3):
        writer.put("a", n)
        await asyncio.sleep(0)
    for n in range(3 * AT_ONCE):
        writer.put(f"b{n}", 0)
    await asyncio.sleep(0)
    await writer.settle(0.01)
    assert writer.is_busy("a")
    assert len(running) == AT_ONCE
    gate.set()
    await writer.settle(5)
    assert [what for key, what in done if key == "a"] == [0, 2]
    assert len(done) == 2 + 3 * AT_ONCE
    assert not writer.is_busy("a")


async def test_closed_it_writes_nothing_more():
    begun, done = [], []

    async def write(key: str, what: int) -> None:
        begun.append(what)
        await asyncio.sleep(60)
        done.append(what)

    writer: Writer[int] = Writer(write)
    writer.put("a", 1)
    await asyncio.sleep(0)
    writer.put("a", 2)
    await writer.close()
    assert (begun, done) == ([1], [])


class SlowWorld(World):
    """Writing waits until it is let go. `spec` and `uid` are the object's."""

    spec, uid = SPEC, "u1"

    async def observe_world(self) -> Sighting:
        metadata = {"namespace": "star", "name": "one", "uid": self.uid, "generation": 1}
        cluster = {"metadata": metadata, "spec": self.spec, "status": self.status.to_json()}
        return Sighting({"star/one": cluster}, self.objects)

    def __init__(self, memory, diary) -> None:
        super().__init__(memory, diary)
        self.go = asyncio.Event()
        self.go.set()

    async def apply_status(self, cluster, status) -> None:
        await self.go.wait()
        await super().apply_status(cluster, status)


def make_parts(stage: str):
    memory, diary = climb_to(MemoryWorld(make_bundle()), stage), []

    async def remember(epoch: int) -> None:
        return

    authority = Diarist("d", 1, make_key(), remember)
    authority.diary = diary
    world = SlowWorld(memory, diary)
    return world, Sweeper(world, FiguresNow(memory), Labels(), authority, Metrics()), authority, memory, diary


async def test_a_breach_while_a_promotion_is_being_written_is_published_at_once_and_written_last():
    world, sweeper, authority, memory, diary = make_parts("Calibration")
    await sweeper.sweep()
    memory.count_pair("r1", calibration_sessions=200, reviewed=200, rejected=2, executed=400, corrections=3)
    memory.facts = replace(memory.facts, readings=healthy())
    world.go.clear()
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.CALIBRATION, "not written yet"
    breach(memory)
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.COPILOT
    world.go.set()
    await sweeper.sweep()
    await sweeper.sweep()
    written = [line for line in diary if line.startswith("write")]
    assert written[0] == "write Automation"
    assert written[-1] == "write Copilot"
    assert "publish Automation" not in diary
    assert world.status.rollback.latched
    assert authority.snapshot.leaves[0].stage is Stage.COPILOT
    await sweeper.close()


async def test_a_write_that_hangs_costs_no_sweep_more_than_a_second_and_permits_go_on():
    world, sweeper, authority, memory, _ = make_parts("Calibration")
    await sweeper.sweep()
    memory.count(sessions=999)
    memory.facts = replace(memory.facts, readings=healthy())
    memory.count_pair("r1", calibration_sessions=200, reviewed=200, rejected=2, executed=400, corrections=3)
    world.go.clear()
    began = asyncio.get_running_loop().time()
    await sweeper.sweep()
    await sweeper.sweep()
    assert asyncio.get_running_loop().time() - began < 4.0
    assert authority.validity_ms() > 8_000
    await sweeper.close()


async def test_counts_alone_are_written_seldom_and_then_all_of_them(monkeypatch):
    world, sweeper, _, memory, diary = make_parts("Copilot")
    await sweeper.sweep()
    memory.count(sessions=200)
    await sweeper.sweep()
    before = diary.count("write Copilot")
    for sessions in (201, 202, 203):
        memory.count(sessions=sessions)
        await sweeper.sweep()
    assert diary.count("write Copilot") == before
    monkeypatch.setattr("pilotage_operator.enact.COUNTERS_SECONDS", 0.0)
    monkeypatch.setattr("pilotage_operator.enact.COUNTERS_A_SECOND", 10**9)
    await sweeper.sweep()
    assert world.status.supervision.sessions == 203
    await sweeper.close()


async def test_what_was_published_while_a_promotion_was_written_is_not_put_back_by_it():
    """Out of Copilot, where nothing is revoked, a suspension comes while the promotion is on its way."""
    world, sweeper, authority, memory, _ = make_parts("Copilot")
    await sweeper.sweep()
    enactor, holdings, sighting = sweeper._enactor, sweeper._holdings, sweeper._sighting
    cluster, leave = holdings.clusters["star/one"], memory.last.leave
    promoted = cluster.status.model_copy(update={"stage": Stage.CALIBRATION, "earned": Stage.CALIBRATION})
    world.go.clear()
    for status, given in (
        (promoted, msgspec.structs.replace(leave, stage=Stage.CALIBRATION)),
        (cluster.status, msgspec.structs.replace(leave, stage=Stage.LOGGING, suspended=True)),
    ):
        decided = Decided(cluster, status, Document.of(status.to_json()), cluster.moves, leave=given)
        enactor.enact("star/one", decided, sighting, whole=True, answered=0.0)
        await asyncio.sleep(0)
    world.go.set()
    await enactor.settle(1.0)
    enactor.publish()
    assert world.status.earned is Stage.CALIBRATION, "it was on its way"
    assert (authority.snapshot.leaves[0].stage, authority.snapshot.leaves[0].suspended) == (Stage.LOGGING, True)
    assert "star/one" in holdings.dirty
    await sweeper.close()


async def test_a_decision_that_waits_is_not_written_onto_another_one_of_that_name():
    world, sweeper, authority, memory, diary = make_parts("Calibration")
    await sweeper.sweep()
    memory.count_pair("r1", calibration_sessions=200, reviewed=200, rejected=2, executed=400, corrections=3)
    memory.facts = replace(memory.facts, readings=healthy())
    slots = [await sweeper._enactor._writer._slots.acquire() for _ in range(AT_ONCE)]
    await sweeper.sweep()
    assert sweeper._enactor._writer.is_busy("star/one"), "it waits for a slot"
    world.uid, world.status = "u2", ProcessClusterStatus()
    memory.facts = replace(memory.facts, counts=None, readings={}, jobs={}, endpoints={})
    await sweeper.sweep()
    for _ in slots:
        sweeper._enactor._writer._slots.release()
    await sweeper.sweep()
    await sweeper.sweep()
    assert world.status.earned is Stage.LOGGING
    assert authority.snapshot.leaves[0].stage is Stage.LOGGING
    assert "write Automation" not in diary
    await sweeper.close()


async def test_one_that_was_made_anew_between_two_looks_has_nothing_of_the_first():
    world, sweeper, authority, memory, _ = make_parts("Automation")
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.AUTOMATION
    world.uid, world.status = "u2", ProcessClusterStatus()
    memory.facts = replace(memory.facts, counts=None, readings={}, jobs={}, endpoints={})
    await sweeper.sweep()
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.LOGGING
    assert world.status.first_seen
    await sweeper.close()


async def test_suspending_counts_while_what_it_names_is_not_there():
    world, sweeper, authority, _, _ = make_parts("Automation")
    await sweeper.sweep()
    del world.objects[("ConfigMap", "star", "screens")]
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.AUTOMATION
    world.spec = SPEC | {"suspend": True}
    await sweeper.sweep()
    leave = authority.snapshot.leaves[0]
    assert (leave.stage, leave.suspended) == (Stage.LOGGING, True)
    world.spec = SPEC | {"maxStage": "Copilot"}
    await sweeper.sweep()
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.COPILOT
    await sweeper.close()


async def test_a_breach_is_remembered_whatever_waits_to_be_written(monkeypatch):
    world, sweeper, _, memory, _ = make_parts("Automation")
    await sweeper.sweep()
    world.spec = SPEC | {"maxStage": "Copilot"}
    await sweeper.sweep()
    await sweeper.sweep()
    monkeypatch.setattr("pilotage_operator.writing.MOST", 0)
    breach(memory)
    await sweeper.sweep()
    monkeypatch.setattr("pilotage_operator.writing.MOST", 256)
    memory.facts = replace(memory.facts, readings=healthy())
    world.spec = SPEC
    await sweeper.sweep()
    await sweeper.sweep()
    assert world.status.earned is Stage.COPILOT
    assert world.status.rollback.latched
    await sweeper.close()


async def test_what_waits_for_room_is_decided_again_when_there_is_some(monkeypatch):
    _, sweeper, authority, memory, _ = make_parts("Calibration")
    await sweeper.sweep()
    monkeypatch.setattr("pilotage_operator.writing.MOST", 0)
    memory.count_pair("r1", calibration_sessions=200, reviewed=200, rejected=2, executed=400, corrections=3)
    memory.facts = replace(memory.facts, readings=healthy())
    await sweeper.sweep()
    assert sweeper._holdings.waiting == {"star/one"}
    assert authority.snapshot.leaves[0].stage is Stage.CALIBRATION
    monkeypatch.setattr("pilotage_operator.writing.MOST", 256)
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.AUTOMATION
    await sweeper.close()


async def test_numbers_that_the_api_server_writes_otherwise_are_no_reason_to_write():
    memory = climb_to(MemoryWorld(make_bundle()), "Automation")
    told = memory.status.to_json()
    certificate = told["certificates"][0]
    assert certificate["median_session_actions"] == 2.0
    cluster = Cluster.of("u1", memory.status, told | {"certificates": [certificate | {"median_session_actions": 2}]})
    assert cluster.written == cluster.document
    assert Cluster.of("u1", memory.status, told | {"permitEpoch": 77}).written == cluster.document
    assert Cluster.of("u1", memory.status, told | {"stage": "Copilot"}).written != cluster.document


async def test_a_promotion_that_waits_is_not_written_once_leave_was_taken_back():
    world, sweeper, _, memory, _ = make_parts("Copilot")
    await sweeper.sweep()
    enactor, holdings, sighting = sweeper._enactor, sweeper._holdings, sweeper._sighting
    cluster = holdings.clusters["star/one"]
    promoted = cluster.status.model_copy(update={"stage": Stage.CALIBRATION, "earned": Stage.CALIBRATION})
    slots = [await enactor._writer._slots.acquire() for _ in range(AT_ONCE)]
    decided = Decided(cluster, promoted, Document.of(promoted.to_json()), cluster.moves, leave=memory.last.leave)
    enactor.enact("star/one", decided, sighting, whole=True, answered=0.0)
    await asyncio.sleep(0)
    cluster.moves += 1
    for _ in slots:
        enactor._writer._slots.release()
    await enactor.settle(1.0)
    assert world.status.earned is Stage.COPILOT
    assert "star/one" in holdings.dirty
    await sweeper.close()


async def test_a_tau_that_is_tightened_counts_whether_or_not_it_can_be_written():
    world, sweeper, _, _, _ = make_parts("Automation")
    await sweeper.sweep()
    cluster, sighting = sweeper._holdings.clusters["star/one"], sweeper._sighting
    world.go.clear()
    tightened = cluster.status.model_copy(update={"tightened": ("procedure",)})
    decided = Decided(cluster, tightened, Document.of(tightened.to_json()), cluster.moves)
    sweeper._enactor.enact("star/one", decided, sighting, whole=True, answered=0.0)
    assert cluster.status.tightened == ("procedure",)
    await sweeper.close()
