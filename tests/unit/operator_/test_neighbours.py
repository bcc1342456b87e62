"""One team's mistake is that team's: whatever stands in its objects, its neighbour's leave does not blink."""

import json
import time

import msgspec
import pytest
from facts import GATE, SPEC, MemoryWorld, climb_to, make_bundle, merge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_sweep import FiguresNow, Labels, World

from pilotage_core.stage import Stage
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.keys import make_key
from pilotage_operator.metrics import Metrics
from pilotage_operator.observe.world import Sighting
from pilotage_operator.permits import Authority
from pilotage_operator.sweep import Sweeper

BANK = {
    ("PolicyCritic", "bank", "one"): {"spec": {"backend": "counts"}},
    ("AutomationGate", "bank", "one"): {"spec": GATE},
    ("ConfigMap", "bank", "screens"): {"data": {}},
}
METADATA = {"namespace": "bank", "name": "two", "uid": "u2", "generation": 1, "resourceVersion": "5"}


class Two(World):
    """star/one in Automation, beside bank/two, which is whatever a test says."""

    def __init__(self, memory) -> None:
        super().__init__(memory, [])
        self.other, self.other_objects, self.written = None, dict(BANK), []

    async def observe_world(self) -> Sighting:
        seen = await super().observe_world()
        clusters = dict(seen.clusters) | ({"bank/two": self.other} if self.other is not None else {})
        return Sighting(clusters, dict(seen.objects) | self.other_objects)

    async def apply_status(self, cluster, status) -> None:
        if cluster["metadata"]["namespace"] == "bank":
            self.written.append(status)
        else:
            await super().apply_status(cluster, status)


def make_parts():
    async def remember(epoch: int) -> None:
        return

    world = Two(climb_to(MemoryWorld(make_bundle()), "Automation"))
    authority = Authority("d", 1, make_key(), remember)
    authority.has_waited = lambda: True
    return world, Sweeper(world, FiguresNow(world.memory), Labels(), authority, Metrics()), authority


def cluster_of(spec=None, status=None, **metadata):
    return {"metadata": METADATA | metadata, "spec": merge(SPEC, spec or {}), "status": status or {}}


def neighbour(authority) -> bytes:
    (leave,) = [leave for leave in authority.snapshot.leaves if leave.key == "star/one"]
    return msgspec.json.encode(leave)


def screens(text):
    return {**BANK, ("ConfigMap", "bank", "screens"): {"data": {"schemas.yaml": text}}}


DEEP = "[" * 3000
MISTAKES = {
    "a ConfigMap of brackets": (cluster_of(), screens(DEEP)),
    "aliases": (cluster_of(), screens("a: &a [x,x,x]\nb: &b [*a,*a,*a]\nc: [*b,*b,*b]")),
    "a date that is none": (cluster_of(), screens("a: 2024-13-45")),
    "a tag that does not fit": (cluster_of(), screens("!!int x")),
    "a bool that is none": (cluster_of(), screens("!!bool maybe")),
    "digits": (cluster_of(), screens("9" * 5000)),
    "null for a text": (cluster_of(), {**BANK, ("ConfigMap", "bank", "screens"): {"data": {"a": None}}}),
    "a selector that is none": (cluster_of(), screens("- {name: a, applies: 'body['}")),
    "too large": (cluster_of(), screens("# " + "x" * 70_000)),
    "too many rules": (
        cluster_of(),
        screens(json.dumps([{"name": "a", "applies": "b", "controls": [{"selector": "a", "kind": "row"}] * 257}])),
    ),
    "a newer status phase": (cluster_of(status={"pipeline": {"revision": "r1", "phase": "Newer", "state": "Running",
                                                            "since": ""}}), BANK),
    "a revision that is none": (cluster_of(status={"pipeline": {"revision": "rX", "phase": "Policy",
                                                               "state": "Failed", "since": ""}}), BANK),
    "a metric that is none": (cluster_of(status={"metrics": {"a": "x"}, "pipeline": {
        "revision": "r1", "phase": "Policy", "state": "Running", "since": ""}}), BANK),
    "a time that is none": (cluster_of(status={"firstSeen": "yesterday"}), BANK),
    "a newer restriction": (cluster_of({"actions": {"neverOnSundays": True}}), BANK),
    "a spec without screens": ({"metadata": METADATA, "spec": {"maxStage": "Automation"}, "status": {}}, BANK),
    "no spec": ({"metadata": METADATA}, BANK),
    "a critic without spec": (cluster_of(), {**BANK, ("PolicyCritic", "bank", "one"): {}}),
    "a gate that is a list": (cluster_of(), {**BANK, ("AutomationGate", "bank", "one"): {"spec": []}}),
    "a certificate of a newer release": (cluster_of(status={"certificates": [{"n": 1, "newer": True}], "earned":
                                         "Automation", "stage": "Automation", "pair": {"revision": "r1"},
                                         "pipeline": {"revision": "r1", "phase": "Certified", "state": "Done",
                                                      "since": ""}}), BANK),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("was_whole", [False, True])
async def test_a_mistake_costs_its_own_process_cluster_its_leave_and_no_other_anything(mistake, was_whole):
    world, sweeper, authority = make_parts()
    if was_whole:
        world.other = cluster_of()
    await sweeper.sweep()
    before = neighbour(authority)
    world.other, world.other_objects = MISTAKES[mistake]
    world.written.clear()
    began = time.monotonic()
    for _ in range(3):
        await sweeper.sweep()
        assert neighbour(authority) == before
        assert authority.validity_ms() > 0
    assert time.monotonic() - began < 5.0
    assert all(leave.stage.rank <= Stage.COPILOT.rank for leave in authority.snapshot.leaves if leave.key != "star/one")
    given = world.other.get("status") or {}
    if "pipeline" in given or "firstSeen" in given:  # a status that cannot be read is never written over
        assert ProcessClusterStatus() not in world.written


async def test_what_is_mended_comes_back_by_itself_and_people_are_told_both(monkeypatch):
    world, sweeper, authority = make_parts()
    monkeypatch.setattr(sweeper._quarantine, "_clock", lambda: 0.0 + next(clock))
    clock = iter(range(0, 10_000, 60))
    world.other = cluster_of(status={"firstSeen": "yesterday"})
    await sweeper.sweep()
    assert [line for line in world.diary if line.startswith("quarantine two: ValueError")]
    assert authority.snapshot.leaves
    world.other = cluster_of()
    await sweeper.sweep()
    assert world.diary[-1] == "quarantine two: "
    assert {leave.key for leave in authority.snapshot.leaves} == {"star/one", "bank/two"}


async def test_fields_of_a_newer_release_are_kept_in_status_and_passed_over_in_spec():
    world, sweeper, authority = make_parts()
    world.other = cluster_of({"newer": {"a": 1}}, status={"newer": {"b": 2}, "supervision": {"newerCount": 3}})
    await sweeper.sweep()
    written = world.written[-1].to_json()
    assert written["newer"] == {"b": 2}
    assert "bank/two" in {leave.key for leave in authority.snapshot.leaves}


scalars = (
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.sampled_from(["", "x", "Automation", "rX", "[", "1e9"])
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["a", "spec", "status", "metadata", "phase", "revision", "pair", "pipeline", "actions", "critical", "data"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
fields = st.sampled_from(
    ["stage", "earned", "pair", "pipeline", "certificates", "metrics", "conditions", "guardrails", "firstSeen", "tau",
     "rollback", "baseline", "supervision", "retiring", "transitions", "selector", "actions", "screens", "gateRef",
     "policyCriticRef", "supervision", "promotion", "priority", "maxStage", "strata", "permit", "calibration"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spec=st.dictionaries(fields, values, max_size=3) | values,
    status=st.dictionaries(fields, values, max_size=3) | values,
    critic=values,
    gate=values,
    text=st.text(max_size=80) | st.just(DEEP) | st.sampled_from(["- {name: a, applies: body}", "&a [*a]"]),
    whole=st.booleans(),
)
async def test_no_object_of_any_shape_reaches_a_neighbour(spec, status, critic, gate, text, whole):
    world, sweeper, authority = make_parts()
    if whole:
        world.other = cluster_of()
    await sweeper.sweep()
    before = neighbour(authority)
    told = merge(SPEC, spec) if isinstance(spec, dict) else spec
    world.other = {"metadata": METADATA, "spec": told, "status": status}
    world.other_objects = {
        ("PolicyCritic", "bank", "one"): critic if isinstance(critic, dict) else {"spec": critic},
        ("AutomationGate", "bank", "one"): gate if isinstance(gate, dict) else {"spec": gate},
        ("ConfigMap", "bank", "screens"): {"data": {"a": text}},
    }
    for _ in range(2):
        await sweeper.sweep()
        assert neighbour(authority) == before
    assert authority.validity_ms() > 0
