"""PolicyCritics and gates say who uses them and what came of it; a quiet time writes nothing."""

import pytest
from facts import GATE as SPEC_OF_GATE
from facts import IMAGE, SPEC, MemoryWorld, climb_to, make_bundle
from test_conditions import read_kstatus

from pilotage_core.guardrail import Reading
from pilotage_core.stage import Stage
from pilotage_operator.api.referred import MOST
from pilotage_operator.api.status import Condition, ProcessClusterStatus
from pilotage_operator.decide.referred import choose_listed, describe_gate, describe_policy_critic
from pilotage_operator.held import Holdings
from pilotage_operator.observe.bundle import build_bundle
from pilotage_operator.observe.world import Sighting
from pilotage_operator.referred import Referred

GATE, PAIR = ("AutomationGate", "star", "one"), ("PolicyCritic", "star", "one")


@pytest.fixture(scope="module")
def lived() -> ProcessClusterStatus:
    return climb_to(MemoryWorld(make_bundle()), "Automation").status


def test_a_policy_critic_lists_what_serves_and_what_is_being_made(lived):
    told = describe_policy_critic(4, "", {"one": lived.stage}, {"one": lived}, (), 0.0)
    row = told.revisions[0]
    assert (row.process_cluster, row.revision, row.phase) == ("one", "r1", "InService")
    assert (row.policy_digest, row.critic_endpoint) == ("policy-r1", lived.pair.critic_endpoint)
    assert (told.serving, told.process_clusters, told.observed_generation) == ("r1", 1, 4)
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.step(readings={"corrections": Reading(0.5, 40)})
    world.count(sessions=1000)
    world.step(readings={})
    both = describe_policy_critic(4, "", {"one": Stage.COPILOT}, {"one": world.status}, (), 0.0)
    assert [(row.revision, row.phase) for row in both.revisions] == [("r1", "InService"), ("r2", "Policy")]


def test_a_gate_lists_tau_with_its_certificate_and_what_is_wrong_where(lived):
    world = climb_to(MemoryWorld(make_bundle()), "Automation")
    world.step(readings={"corrections": Reading(0.5, 40)})
    stages = {"fine": Stage.AUTOMATION, "fallen": Stage.COPILOT}
    told = describe_gate(2, "", stages, {"fallen": world.status, "fine": lived}, (), 0.0)
    assert (told.stages, told.lowest) == ({"Copilot": 1, "Automation": 1}, Stage.COPILOT)
    assert {(row.process_cluster, row.stratum, row.tau) for row in told.certificates} >= {
        ("fine", "procedure", "0.800")
    }
    assert [(row.process_cluster, row.name, row.verdict) for row in told.guardrails] == [
        ("fallen", "corrections", "Breached")
    ]
    assert [(row.process_cluster, row.guardrail) for row in told.rollbacks] == [("fallen", "corrections")]


@pytest.mark.parametrize(
    ("fault", "stages", "ready", "read"),
    [
        ("", {}, ("True", "NotUsed"), "Current"),
        ("", {"one": Stage.COPILOT}, ("True", "InUse"), "Current"),
        ("spec.delta: is wrong", {"one": Stage.COPILOT}, ("False", "Invalid"), "Failed"),
    ],
)
@pytest.mark.parametrize("describe", [describe_gate, describe_policy_critic])
def test_conditions_hold_up_nothing_that_is_only_not_used_yet(describe, fault, stages, ready, read):
    told = describe(1, fault, stages, {}, (), 1000.0)
    assert (told.conditions[0].status, told.conditions[0].reason) == ready
    assert read_kstatus(told.to_json()) == read


def test_a_condition_keeps_the_time_of_its_last_change():
    said = (Condition(type="Ready", status="True", reason="NotUsed", last_transition_time="long ago"),)
    assert describe_gate(1, "", {"a": Stage.COPILOT}, {}, said, 1000.0).conditions[0].last_transition_time == "long ago"
    assert describe_gate(1, "bad", {}, {}, said, 1000.0).conditions[0].last_transition_time != "long ago"


def test_of_a_thousand_some_are_listed_and_all_are_counted(lived):
    stages = {f"n{number:04}": Stage.AUTOMATION for number in range(1000)}
    names = choose_listed(stages)
    assert (len(names), names[0]) == (MOST, "n0000")
    told = describe_gate(1, "", stages, dict.fromkeys(names, lived), (), 0.0)
    assert (told.process_clusters, told.stages) == (1000, {"Automation": 1000})


class World:
    serving_image = IMAGE

    def __init__(self) -> None:
        self.written: list[tuple[str, dict]] = []
        self.objects: dict = {}

    async def apply_referred(self, kind: str, item: dict, status: dict) -> None:
        self.written.append((kind, status))
        item["status"] = status


class Labels:
    def follow(self, key, status) -> None:
        return

    def forget(self, key) -> None:
        return


class Authority:
    def may_act(self) -> bool:
        return True


async def test_what_moves_is_written_once_and_a_quiet_time_writes_nothing(lived, monkeypatch):
    monkeypatch.setattr("pilotage_operator.referred.PAUSE_SECONDS", 0.0)
    world, holdings = World(), Holdings(Labels())
    metadata = {"namespace": "star", "name": "one", "uid": "u1", "generation": 1}
    objects = {
        PAIR: {"metadata": metadata, "spec": {"backend": "counts"}},
        GATE: {"metadata": metadata, "spec": SPEC_OF_GATE},
        ("ConfigMap", "star", "screens"): {"data": {}},
    }
    cluster = {"metadata": metadata, "spec": SPEC}
    sighting = Sighting({"star/one": cluster}, objects)
    referred = Referred(holdings, world, Authority())
    holdings.begin("star/one", "u1", ProcessClusterStatus(), {})
    referred.note(build_bundle(cluster, objects, IMAGE))

    async def tell() -> list[str]:
        world.written.clear()
        referred.mark(sighting)
        referred.tell(sighting)
        await referred.settle(5)
        return sorted(kind for kind, _ in world.written)

    assert await tell() == ["AutomationGate", "PolicyCritic"]
    assert await tell() == []
    holdings.hold("star/one", lived)
    assert await tell() == ["AutomationGate", "PolicyCritic"]
    assert objects[GATE]["status"]["stages"] == {"Automation": 1}
    objects[GATE]["spec"] = SPEC_OF_GATE | {"delta": "5"}
    sighting = Sighting(sighting.clusters, objects, referred=frozenset({GATE}))
    assert await tell() == ["AutomationGate"]
    assert "delta" in objects[GATE]["status"]["conditions"][0]["message"]
    referred.forget("star/one")
    assert await tell() == ["AutomationGate", "PolicyCritic"]
    assert objects[PAIR]["status"]["conditions"][0]["reason"] == "NotUsed"
    await referred.close()
