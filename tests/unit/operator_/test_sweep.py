"""The order of a sweep: what takes leave away is published before it is written, what gives leave only afterwards."""

from dataclasses import replace

import pytest
from facts import GATE, IMAGE, SPEC, MemoryWorld, climb_to, healthy, make_bundle

from pilotage_core.errors import ConflictError, UnavailableError
from pilotage_core.guardrail import Reading
from pilotage_core.stage import Stage
from pilotage_core.wire import PermitRequest
from pilotage_operator.api.status import ProcessClusterStatus, RollbackStatus, write_time
from pilotage_operator.facts import MonitorFact
from pilotage_operator.keys import make_key
from pilotage_operator.metrics import Metrics
from pilotage_operator.observe.figures import Figures
from pilotage_operator.observe.world import Sighting, TermOverError, Workloads
from pilotage_operator.permits import Authority
from pilotage_operator.sweep import Sweeper, sweep_for_ever

WINDOW = (make_bundle().gate.guardrails[0].builtin, 30)
OBJECTS = {
    ("PolicyCritic", "star", "one"): {"spec": {"backend": "counts"}},
    ("AutomationGate", "star", "one"): {"spec": GATE},
    ("ConfigMap", "star", "screens"): {"data": {}},
}


class World:
    """A world that keeps a diary; `fault` is raised instead of writing, `blind` instead of seeing."""

    serving_image = IMAGE

    def __init__(self, memory: MemoryWorld, diary: list[str]) -> None:
        self.memory, self.diary = memory, diary
        self.fault: Exception | None = None
        self.blind = False
        self.objects = dict(OBJECTS)
        self.status = memory.status
        self.happenings: list = []
        self.referred: dict[str, dict] = {}

    async def observe_world(self) -> Sighting:
        if self.blind:
            raise UnavailableError("no API server")
        metadata = {"namespace": "star", "name": "one", "uid": "u1", "generation": 1}
        cluster = {"metadata": metadata, "spec": SPEC, "status": self.status.to_json()}
        return Sighting({"star/one": cluster}, self.objects)

    async def observe_workloads(self, namespace: str, name: str, job: str) -> Workloads:
        facts = self.memory.facts
        return Workloads(facts.jobs, facts.endpoints) if namespace == "star" else Workloads()

    async def tell_happening(self, cluster, happening) -> None:
        self.happenings.append(happening)

    async def apply_referred(self, kind: str, item, status) -> None:
        self.referred[kind] = status

    async def tell_quarantine(self, cluster, fault: str) -> None:
        self.diary.append(f"quarantine {cluster['metadata']['name']}: {fault}")

    async def apply_workloads(self, bundle, decision) -> None:
        self.diary.append("workloads")

    async def apply_status(self, cluster, status: ProcessClusterStatus) -> None:
        if self.fault:
            raise self.fault
        self.diary.append(f"write {status.stage}")
        self.status = status


class FiguresNow:
    def __init__(self, memory: MemoryWorld) -> None:
        self.memory = memory

    async def observe_figures(self, windows) -> Figures:
        reading = self.memory.facts.readings.get("corrections")
        readings = {WINDOW: {("star/one", "r1"): reading}} if reading else {}
        return Figures({"star/one": self.memory.facts.counts}, readings)


class Labels:
    def follow(self, key, status) -> None:
        return

    def forget(self, key) -> None:
        return

    async def listen(self, seconds: float) -> set[str]:
        return set()

    async def close(self) -> None:
        return

    def read(self, key) -> MonitorFact:
        return MonitorFact()


class Diarist(Authority):
    diary: list[str]

    def publish(self, parts) -> None:
        before = self.digest
        super().publish(parts)
        if before != self.digest:
            self.diary.append(f"publish {self.snapshot.leaves[0].stage}")

    def has_waited(self) -> bool:
        return True


@pytest.fixture
def parts(request):
    """A process cluster in Automation (or the stage asked for), and everything around a sweep of it."""
    memory = climb_to(MemoryWorld(make_bundle()), getattr(request, "param", "Automation"))
    diary: list[str] = []

    async def remember(epoch: int) -> None:
        return

    authority = Diarist("d", 1, make_key(), remember)
    authority.diary = diary
    world = World(memory, diary)
    return world, Sweeper(world, FiguresNow(memory), Labels(), authority, Metrics()), authority, memory, diary


def breach(memory: MemoryWorld) -> None:
    memory.facts = replace(memory.facts, readings={"corrections": Reading(0.6, 40)})


async def test_a_quiet_sweep_writes_nothing_and_confirms_what_it_saw(parts):
    _, sweeper, authority, _, diary = parts
    await sweeper.sweep()
    assert diary == ["publish Automation", "workloads"]
    assert authority.validity_ms() > 0


async def test_a_breach_is_published_before_it_is_written(parts):
    _, sweeper, _, memory, diary = parts
    await sweeper.sweep()
    diary.clear()
    breach(memory)
    await sweeper.sweep()
    assert diary == ["publish Copilot", "write Copilot", "workloads"]


@pytest.mark.parametrize("fault", [UnavailableError("down"), ConflictError("moved on")])
async def test_a_breach_that_cannot_be_written_stays_in_force_and_is_written_later(parts, fault):
    world, sweeper, authority, memory, diary = parts
    await sweeper.sweep()
    breach(memory)
    world.fault = fault
    await sweeper.sweep()
    memory.facts = replace(memory.facts, readings=healthy())
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.COPILOT, "latched in memory"
    world.fault = None
    await sweeper.sweep()
    assert diary[-2:] == ["write Copilot", "workloads"]
    assert world.status.rollback.guardrail == "corrections"


async def test_a_breach_takes_leave_back_with_the_api_server_gone_and_permits_lapse(parts):
    world, sweeper, authority, memory, _ = parts
    await sweeper.sweep()
    world.blind = True
    breach(memory)
    seen = authority._fresh_at
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.COPILOT
    assert authority._fresh_at == seen, "nothing was seen again: what was signed grows old"
    world.blind = False
    memory.facts = replace(memory.facts, readings=healthy())
    await sweeper.sweep()
    assert world.status.rollback.latched


@pytest.mark.parametrize("parts", ["Calibration"], indirect=True)
async def test_a_promotion_is_published_only_once_it_is_written(parts):
    world, sweeper, authority, memory, diary = parts
    await sweeper.sweep()
    memory.count_pair("r1", calibration_sessions=200, reviewed=200, rejected=2, executed=400, corrections=3)
    memory.facts = replace(memory.facts, readings=healthy())
    world.fault = UnavailableError("down")
    diary.clear()
    await sweeper.sweep()
    await sweeper.sweep()
    assert diary == []
    assert authority.snapshot.leaves[0].stage is Stage.CALIBRATION
    world.fault = None
    await sweeper.sweep()
    assert diary == ["write Automation", "workloads", "publish Automation"]


async def test_a_gate_that_is_gone_leaves_the_last_one_in_force_and_tells_people(parts):
    world, sweeper, authority, _, _ = parts
    await sweeper.sweep()
    del world.objects[("AutomationGate", "star", "one")]
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.AUTOMATION
    ready = next(c for c in world.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason) == ("False", "Invalid")
    assert "AutomationGate one is not there" in ready.message


async def test_a_process_cluster_that_names_nothing_only_watches_and_keeps_its_sessions(parts):
    world, sweeper, authority, _, _ = parts
    world.objects.clear()
    await sweeper.sweep()
    leave = authority.snapshot.leaves[0]
    assert (leave.stage, leave.key) == (Stage.LOGGING, "star/one")
    assert world.status.conditions[0].reason == "Invalid"


async def test_nothing_is_published_before_anything_was_seen(parts):
    world, sweeper, authority, _, _ = parts
    world.blind = True
    await sweeper.sweep()
    assert authority.snapshot is None


# --- terms of leading -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("parts", ["Calibration"], indirect=True)
async def test_the_first_sweep_of_a_term_gives_no_more_leave_than_is_written_down(parts):
    world, sweeper, authority, memory, diary = parts
    memory.count_pair("r1", calibration_sessions=200, reviewed=200, rejected=2, executed=400, corrections=3)
    memory.facts = replace(memory.facts, readings=healthy())
    world.fault = UnavailableError("down")
    await sweeper.sweep()
    assert diary == ["publish Calibration"]
    world.fault = None
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.AUTOMATION


async def test_a_rollback_that_an_earlier_leader_wrote_last_counts(parts):
    world, sweeper, authority, memory, _ = parts
    await sweeper.sweep()
    at = write_time(memory.now)
    rollback = RollbackStatus(id="corrections-1", reason="told late", at=at, guardrail="corrections", pair="r1")
    world.status = world.status.model_copy(update={"rollback": rollback.model_copy(update={"latched": True})})
    await sweeper.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.COPILOT
    assert (world.status.earned, world.status.rollback.latched) == (Stage.COPILOT, True)


async def test_what_a_dead_leader_took_back_is_taken_up_from_gateways_before_anything_is_signed_for_them(parts):
    world, sweeper, authority, memory, diary = parts
    await sweeper.sweep()
    first = Sweeper(world, FiguresNow(memory), Labels(), authority, Metrics())
    breach(memory)
    world.fault = UnavailableError("down")
    await first.sweep()
    remembered = {"star/one": authority.snapshot.leaves[0].revoked}
    assert remembered["star/one"].guardrail == "corrections"
    assert (await authority.answer(PermitRequest("g", "n", revoked=remembered))).signed, "who took it back knows"

    memory.facts, world.fault = replace(memory.facts, readings=healthy()), None
    authority.begin_term(2, waits=False)
    second = Sweeper(world, FiguresNow(memory), Labels(), authority, Metrics())
    await second.sweep()
    assert authority.snapshot.leaves[0].stage is Stage.AUTOMATION, "nothing is written, and nothing is wrong any more"
    with pytest.raises(UnavailableError, match="looked at first"):
        await authority.answer(PermitRequest("g", "n", revoked=remembered))
    diary.clear()
    await second.sweep()
    assert diary == ["publish Copilot", "write Copilot", "workloads"]
    assert (await authority.answer(PermitRequest("g", "n", revoked=remembered))).signed
    assert "as gateways remember" in world.status.rollback.reason


async def test_a_term_that_is_over_ends_the_sweeps_and_writes_nothing_more(parts):
    world, sweeper, authority, _, diary = parts
    authority._lease_left = lambda: 0.0
    await sweeper.sweep()
    assert not [line for line in diary if line.startswith("write")]

    async def another_leads():
        raise TermOverError("epoch 9 was begun by another controller", where="epoch")

    world.observe_world = another_leads
    with pytest.raises(TermOverError):
        await sweep_for_ever(sweeper, 0.0)


async def test_pace_follows_the_pipeline(parts):
    _, sweeper, _, _, _ = parts
    await sweeper.sweep()
    (pace,) = sweeper.list_paces()
    assert (pace.name, pace.stage, pace.pipeline, pace.wants_sessions) == ("one", "Automation", "Certified", True)
