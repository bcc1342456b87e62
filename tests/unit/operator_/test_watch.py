"""What a watch keeps, against an API server in memory that lists in pages, ends watches and forgets versions."""

import asyncio
import ssl

import msgspec
import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from facts import SPEC

from pilotage_core.errors import UnavailableError
from pilotage_operator.api.fields import GROUP, VERSION
from pilotage_operator.facts import JobState
from pilotage_operator.kubernetes_api import Credentials, KubernetesApi
from pilotage_operator.manifests.job import LABEL_PROCESS_CLUSTER
from pilotage_operator.observe import watch as module
from pilotage_operator.observe.fleet import Fleet
from pilotage_operator.observe.watch import RawWatch, Store

CUSTOM = f"/apis/{GROUP}/{VERSION}"
JOBS, SERVICES = "/apis/batch/v1/jobs", "/apis/serving.kserve.io/v1beta1/inferenceservices"


class Server:
    """Objects by path and name; every change has a version. `oldest`: versions before it are forgotten."""

    def __init__(self) -> None:
        self.version, self.oldest = 100, 0
        self.objects: dict[str, dict[str, dict]] = {}
        self.events: list[tuple[int, str, str, dict]] = []
        self.asked: list[tuple[str, str]] = []
        self.changed = asyncio.Event()
        self.page, self.life, self.down, self.shut = 2, 0.2, False, ""

    async def put(self, path: str, name: str, item: dict | None, namespace: str = "star", **metadata) -> None:
        self.version += 1
        known = self.objects.setdefault(path, {})
        what = "DELETED" if item is None else "MODIFIED" if name in known else "ADDED"
        told = known.get(name, {}) if item is None else dict(item)
        before = known.get(name, {})
        generation = before.get("metadata", {}).get("generation", 0) + (before.get("spec") != told.get("spec"))
        told["metadata"] = {"generation": generation} | told.get("metadata", {}) | metadata | {
            "namespace": namespace, "name": name, "uid": f"uid-{name}", "resourceVersion": str(self.version),
            "managedFields": [{"manager": "x" * 500}],
        }  # fmt: skip
        if item is None:
            known.pop(name, None)
        else:
            known[name] = told
        self.events.append((self.version, path, what, told))
        self.changed.set()
        self.changed = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if self.down:
            return web.Response(status=503, text="down")
        if self.shut and self.shut in path:
            return web.json_response({"message": "no rights"}, status=403)
        if "watch" in request.query:
            return await self._watch(request)
        self.asked.append((path, request.headers["Accept"]))
        if path not in self.objects and "/namespaces/" in path:
            at = path.replace("/namespaces/star", "").rsplit("/", 1)
            found = self.objects.get(at[0], {}).get(at[1])
            if at[0] == "/api/v1/configmaps" and not found:
                return web.json_response({"message": "not found"}, status=404)
            return web.json_response(found or {"items": [], "metadata": {}})
        items = sorted(self.objects.get(path, {}).values(), key=lambda item: item["metadata"]["name"])
        start = int(request.query.get("continue", 0))
        page = {"metadata": {"resourceVersion": str(self.version)}, "items": items[start : start + self.page]}
        if start + self.page < len(items):
            page["metadata"]["continue"] = str(start + self.page)
        return web.json_response(page)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        at, path = int(request.query["resourceVersion"]), request.path
        response = web.StreamResponse()
        await response.prepare(request)

        async def say(kind: str, item: dict) -> None:
            await response.write(msgspec.json.encode({"type": kind, "object": item}) + b"\n")

        if at < self.oldest:
            await say("ERROR", {"code": 410, "message": "too old"})
            return response
        until = asyncio.get_running_loop().time() + self.life
        while (left := until - asyncio.get_running_loop().time()) > 0:
            told = self.version
            for version, of, kind, item in list(self.events):
                if version > at and of == path:
                    await say(kind, item)
            at = told
            if at != self.version:
                continue  # something changed while this was told
            try:
                async with asyncio.timeout(left):
                    await self.changed.wait()
            except TimeoutError:
                break
        await say("BOOKMARK", {"metadata": {"resourceVersion": str(self.version), "creationTimestamp": None}})
        return response


@pytest.fixture
async def server(monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    found, app = Server(), web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    async with TestServer(app) as at, ClientSession() as client:
        found.api = KubernetesApi(Credentials(str(at.make_url("")).rstrip("/"), ssl.create_default_context()), client)
        yield found


async def until(holds) -> None:
    for _ in range(300):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about within three seconds")


@pytest.fixture
async def followed(server):
    """A store that is followed."""
    store, owners = Store("Job", LABEL_PROCESS_CLUSTER, is_made_here=True), []
    for name in ("a", "b", "c", "d", "e"):
        await server.put(JOBS, name, {"spec": {"suspend": name == "a", "template": {"x": 1}}, "status": {"active": 1}},
                         labels={LABEL_PROCESS_CLUSTER: "one"})  # fmt: skip
    watch = RawWatch(server.api, JOBS, store, on_owner=owners.append)
    task = asyncio.create_task(watch.run())
    await asyncio.wait_for(watch.wait(), 3)
    yield store, watch, owners
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_all_pages_are_listed_and_then_events_followed(server, followed):
    store, watch, owners = followed
    assert {name for _, name in store.items} == {"a", "b", "c", "d", "e"}
    assert set(owners) == {"star/one"}
    owners.clear()
    assert store.owned("star", "one").keys() == {"a", "b", "c", "d", "e"}
    await server.put(JOBS, "b", None)
    await server.put(JOBS, "f", {"status": {"active": 2}}, labels={LABEL_PROCESS_CLUSTER: "two"})
    await until(lambda: ("star", "f") in store.items and ("star", "b") not in store.items)
    assert store.owned("star", "one").keys() == {"a", "c", "d", "e"}
    assert store.owned("star", "two")["f"]["status"] == {"active": 2}
    assert set(owners) >= {"star/one", "star/two"}
    assert watch.is_fresh


async def test_little_is_kept_of_an_object(followed):
    store, _, _ = followed
    assert b"managedFields" not in store.items["star", "a"]
    assert store.get(("star", "a"))["spec"] == {"suspend": True}
    assert "spec" not in store.get(("star", "c"))


async def test_a_watch_that_ends_goes_on_from_where_it_was_and_lists_nothing_again(server, followed):
    store, _, _ = followed
    server.life = 0.05
    lists = len(server.asked)
    for n in range(4):
        await server.put(JOBS, f"new-{n}", {})
        await asyncio.sleep(0.06)
    await until(lambda: {("star", f"new-{n}") for n in range(4)} <= store.items.keys())
    assert len(server.asked) == lists


async def test_a_version_that_is_forgotten_is_listed_anew_and_what_is_gone_is_gone(server, followed):
    store, _, owners = followed
    await server.put(JOBS, "x", {})
    await until(lambda: ("star", "x") in store.items)
    del server.objects[JOBS]["e"]  # nobody was told
    server.version += 50
    server.oldest = server.version + 1
    owners.clear()
    await until(lambda: ("star", "e") not in store.items)
    assert "star/one" in owners
    server.oldest = 0
    await server.put(JOBS, "y", {})
    await until(lambda: ("star", "y") in store.items)


async def test_asked_to_begin_again_it_is_listed_once_more(server, followed):
    store, watch, _ = followed
    del server.objects[JOBS]["a"]
    watch.begin_again()
    assert not watch.is_fresh
    await asyncio.wait_for(watch.wait(), 3)
    assert ("star", "a") not in store.items
    await server.put(JOBS, "z", {})
    await until(lambda: ("star", "z") in store.items)


async def test_a_server_that_is_gone_makes_it_stale_and_nothing_is_forgotten(server, followed, monkeypatch):
    store, watch, _ = followed
    server.down = True
    monkeypatch.setattr(module, "FRESH_SECONDS", 0.3)
    await until(lambda: not watch.is_fresh)
    assert len(store.items) == 5
    server.down = False
    await until(lambda: watch.is_fresh)


# --- the fleet --------------------------------------------------------------------------------------------------------
@pytest.fixture
async def fleet(server):
    for n in range(3):
        spec = SPEC | {"gateRef": {"name": f"gate-{n}"}, "screens": {"configMap": f"screens-{n // 2}"}}
        await server.put(f"{CUSTOM}/processclusters", f"n{n}", {"spec": spec})
        await server.put(f"{CUSTOM}/automationgates", f"gate-{n}", {"spec": {}})
    await server.put(f"{CUSTOM}/policycritics", "one", {"spec": {}})
    for n in range(2):
        await server.put("/api/v1/configmaps", f"screens-{n}", {"data": {"a": f"text {n}"}})
    found = Fleet(server.api)
    tasks = [asyncio.create_task(watch.run()) for watch in found.watches]
    await found.catch_up()
    assert found.take_changed() == {"star/n0", "star/n1", "star/n2"}
    yield found
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_of_some_namespaces_each_is_listed_by_itself_and_takes_nothing_from_the_others(server):
    at = f"{CUSTOM}/namespaces/%s/processclusters"
    for namespace in ("a", "b", "c"):
        await server.put(at % namespace, "one", {"spec": SPEC}, namespace=namespace)
    found = Fleet(server.api, ("a", "b"))
    tasks = [asyncio.create_task(watch.run()) for watch in found.watches]
    await found.catch_up()
    assert set(found.clusters) == {"a/one", "b/one"}
    server.oldest = server.version + 1  # each is listed again
    await server.put(at % "a", "one", None, namespace="a")
    await until(lambda: set(found.clusters) == {"b/one"})
    asked = {path for path, _ in server.asked}
    assert asked >= {"/apis/batch/v1/namespaces/a/jobs", "/api/v1/namespaces/b/configmaps"}
    assert all("/namespaces/" in path for path in asked)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_namespace_that_is_gone_or_shut_costs_no_other_one_anything(server, monkeypatch):
    monkeypatch.setattr(module, "SHUT_SECONDS", 0.05)
    at = f"{CUSTOM}/namespaces/%s/processclusters"
    for namespace in ("a", "b"):
        await server.put(at % namespace, "one", {"spec": SPEC}, namespace=namespace)
    found = Fleet(server.api, ("a", "b"))
    tasks = [asyncio.create_task(watch.run()) for watch in found.watches]
    await found.catch_up()
    server.shut = "/namespaces/b/"
    await until(lambda: set(found.clusters) == {"a/one"})
    await found.catch_up()
    assert found.is_synced
    server.shut = ""
    await until(lambda: set(found.clusters) == {"a/one", "b/one"})
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def touched(fleet: Fleet) -> set[str]:
    await asyncio.sleep(0.1)
    await fleet.catch_up()
    return fleet.take_changed()


@pytest.mark.parametrize(
    ("path", "name", "wanted"),
    [
        (f"{CUSTOM}/processclusters", "n1", {"star/n1"}),
        (f"{CUSTOM}/automationgates", "gate-2", {"star/n2"}),
        (f"{CUSTOM}/policycritics", "one", {"star/n0", "star/n1", "star/n2"}),
        (f"{CUSTOM}/policycritics", "another", set()),
        ("/api/v1/configmaps", "screens-0", {"star/n0", "star/n1"}),
        ("/api/v1/configmaps", "somebody-elses", set()),
    ],
)
async def test_a_change_touches_those_it_is_about(server, fleet, path, name, wanted):
    spec = SPEC | {"gateRef": {"name": "gate-1"}, "screens": {"configMap": "screens-0"}}
    await server.put(path, name, {"spec": spec, "data": {"a": "new"}})
    assert await touched(fleet) == wanted
    await server.put(path, name, None)
    assert await touched(fleet) == wanted


async def test_another_status_of_what_a_fleet_refers_to_touches_nobody(server, fleet):
    path = f"{CUSTOM}/automationgates"
    spec = server.objects[path]["gate-2"]["spec"]
    fleet.take_referred()
    await server.put(path, "gate-2", {"spec": spec, "status": {"processClusters": 1}})
    await until(lambda: (fleet.stores["AutomationGate"].get(("star", "gate-2")) or {}).get("status"))
    assert (await touched(fleet), fleet.take_referred()) == (set(), set())
    await server.put(path, "gate-2", {"spec": spec | {"delta": "0.01"}, "status": {"processClusters": 1}})
    assert await touched(fleet) == {"star/n2"}
    assert fleet.take_referred() == {("AutomationGate", "star", "gate-2")}


async def test_screens_are_read_once_and_again_only_where_they_changed(server, fleet):
    def count() -> int:
        return sum("/namespaces/" in path for path, _ in server.asked)

    assert count() == 2
    assert fleet.objects()["ConfigMap", "star", "screens-0"]["data"] == {"a": "text 0"}
    await server.put(f"{CUSTOM}/processclusters", "n1", {"spec": SPEC | {"screens": {"configMap": "screens-0"}}})
    await touched(fleet)
    assert count() == 2
    await server.put("/api/v1/configmaps", "screens-0", {"data": {"a": "new"}})
    await touched(fleet)
    assert count() == 3
    assert fleet.objects()["ConfigMap", "star", "screens-0"]["data"] == {"a": "new"}
    assert any("PartialObjectMetadataList" in accept for path, accept in server.asked if path == "/api/v1/configmaps")


async def test_screens_that_cannot_be_read_are_the_fault_of_those_who_name_them_until_they_can(server, fleet):
    real = fleet._api.get

    async def refuse(path):
        raise UnavailableError("not now", where=path)

    fleet._api.get = refuse
    await server.put("/api/v1/configmaps", "screens-1", {"data": {"a": "new"}})
    assert await touched(fleet) == {"star/n2"}
    assert fleet.faults.keys() == {"star/n2"}
    fleet._api.get = real
    assert await touched(fleet) == {"star/n2"}
    assert fleet.faults == {}
    assert fleet.objects()["ConfigMap", "star", "screens-1"]["data"] == {"a": "new"}


async def test_a_job_that_ended_is_read_with_its_pod_and_only_where_it_is_waited_for(server, fleet):
    done = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    for name in ("old", "now"):
        await server.put(JOBS, name, done, labels={LABEL_PROCESS_CLUSTER: "n1"})
    await server.put(SERVICES, "n1-r1-policy", {}, labels={LABEL_PROCESS_CLUSTER: "n1"})
    assert await touched(fleet) == {"star/n1"}
    asked = len(server.asked)
    for _ in range(3):
        found = await fleet.observe_workloads("star", "n1", "now")
    assert found.jobs["now"].state is JobState.SUCCEEDED
    assert found.endpoints.keys() == {"n1-r1-policy"}
    assert "old" not in found.jobs
    assert len(server.asked) == asked + 1


async def test_a_watch_that_hangs_is_no_sight_of_the_world(fleet, monkeypatch):
    monkeypatch.setattr(module, "FRESH_SECONDS", -1.0)
    with pytest.raises(UnavailableError, match="too long"):
        await fleet.catch_up()


async def test_a_second_term_has_the_screens_of_the_first(server, fleet):
    fleet.begin_again()
    await fleet.catch_up()
    assert fleet.objects()["ConfigMap", "star", "screens-0"]["data"] == {"a": "text 0"}


async def test_a_job_that_is_given_to_another_touches_both(server, fleet):
    await server.put(JOBS, "job", {}, labels={LABEL_PROCESS_CLUSTER: "n0"})
    assert await touched(fleet) == {"star/n0"}
    await server.put(JOBS, "job", {}, labels={LABEL_PROCESS_CLUSTER: "n1"})
    assert await touched(fleet) == {"star/n0", "star/n1"}
    assert fleet.jobs.owned("star", "n0") == {}
    assert fleet.jobs.owned("star", "n1").keys() == {"job"}
