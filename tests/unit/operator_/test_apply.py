"""Model servers at the API server: applied where they are not as wanted, or where somebody else has changed them."""

import copy

import pytest
from facts import IMAGE, make_bundle

from pilotage_operator.apply.kubernetes import APPLIED, KubernetesWorld
from pilotage_operator.facts import JobPhase, LifecycleDecision, WantedEndpoint
from pilotage_operator.manifests.job import LABEL_PROCESS_CLUSTER
from pilotage_operator.observe.watch import DECODE_ITEM


class Api:
    """An API server's memory of what was applied; generations rise with the spec."""

    def __init__(self) -> None:
        self.applied: list[str] = []
        self.generation, self.spec = 0, None
        self.item: dict = {}

    async def apply(self, path: str, item: dict, manager: str = "") -> dict:
        self.applied.append(path)
        self.put(item)
        return self.item

    def put(self, item: dict) -> None:
        if item["spec"] != self.spec:
            self.generation, self.spec = self.generation + 1, copy.deepcopy(item["spec"])
        self.item = copy.deepcopy(item)
        self.item["metadata"] |= {"generation": self.generation, "uid": "u", "resourceVersion": "1"}


@pytest.fixture
def parts():
    api = Api()
    world = KubernetesWorld(api, "pilotage-system", IMAGE, "http://gateway")  # type: ignore[arg-type]
    wanted = WantedEndpoint("one-r1-policy", JobPhase.POLICY, "r1")
    decision = LifecycleDecision(status=None, leave=None, endpoints=(wanted,))  # type: ignore[arg-type]

    async def sweep() -> int:
        before = len(api.applied)
        await world.apply_workloads(make_bundle(), decision)
        see()
        return len(api.applied) - before

    def see() -> None:
        import msgspec

        world.fleet.services.put(DECODE_ITEM(msgspec.json.encode(api.item)))

    return api, world, sweep, see


async def test_a_server_is_applied_once_and_a_new_term_touches_it_not(parts):
    api, world, sweep, see = parts
    assert await sweep() == 1
    assert api.item["metadata"]["annotations"][APPLIED]
    assert api.item["metadata"]["labels"][LABEL_PROCESS_CLUSTER] == "one"
    assert [await sweep() for _ in range(3)] == [0, 0, 0]
    world.begin_term()
    see()
    assert await sweep() == 0


async def test_what_somebody_else_changes_is_put_back_once(parts):
    api, _, sweep, see = parts
    await sweep()
    ours = copy.deepcopy(api.spec)
    other = copy.deepcopy(api.item)
    other["spec"]["predictor"]["containers"][0]["image"] = "registry.example/somebody-elses"
    api.put(other)
    see()
    assert await sweep() == 1
    assert api.spec == ours
    assert [await sweep() for _ in range(3)] == [0, 0, 0]
