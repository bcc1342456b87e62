"""Everything on the API server that the controller looks at, and which process clusters a change touches.

All of it is followed by raw watches. Screens are ConfigMaps: only their versions are followed, what they hold is read
where one changed. A Job's last words stand in its pod: they are read once it ended, and only of a Job that is awaited.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Iterator, Mapping

import msgspec

from pilotage_core.errors import PilotageError, UnavailableError
from pilotage_operator.api.fields import GROUP, KINDS, VERSION
from pilotage_operator.api.reading import Object
from pilotage_operator.facts import JobFact, JobState
from pilotage_operator.kubernetes_api import KubernetesApi
from pilotage_operator.manifests.job import LABEL_PROCESS_CLUSTER
from pilotage_operator.observe.kubernetes import needs_pod, read_endpoint, read_job, read_job_state, read_refusal
from pilotage_operator.observe.watch import Key, RawWatch, Store
from pilotage_operator.observe.world import Workloads

CUSTOM = f"/apis/{GROUP}/{VERSION}"
JOBS, SERVICES, CORE = "/apis/batch/v1", "/apis/serving.kserve.io/v1beta1", "/api/v1"
LIST_SECONDS = 60.0
AT_ONCE = 16
REFUSED_SECONDS = 10.0


class Named(msgspec.Struct, frozen=True):
    """A reference by name."""

    name: str = ""


class Screens(msgspec.Struct, frozen=True, rename="camel"):
    """Where screens are."""

    config_map: str = ""


class Refs(msgspec.Struct, frozen=True, rename="camel"):
    """What a ProcessCluster's spec refers to."""

    policy_critic_ref: Named = Named()
    gate_ref: Named = Named()
    screens: Screens = Screens()


NO_REFS = ("", "", "")


class Objects(Mapping[tuple[str, str, str], Object]):
    """PolicyCritics, AutomationGates and screens, each read out of its bytes when it is asked for."""

    def __init__(self, stores: Mapping[str, Store], screens: Mapping[Key, tuple[str, Object]]) -> None:
        self._stores = stores
        self._screens = screens

    def __getitem__(self, key: tuple[str, str, str]) -> Object:
        kind, *name = key
        at = (name[0], name[1])
        found = self._screens.get(at, ("", None))[1] if kind == "ConfigMap" else self._stores[kind].get(at)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        return ((kind, *key) for kind, store in self._stores.items() for key in store.items)

    def __len__(self) -> int:
        return sum(len(store.items) for store in self._stores.values())


class Clusters(Mapping[str, Object]):
    """ProcessClusters by namespace/name, each read out of its bytes when it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getitem__(self, key: str) -> Object:
        found = self._store.get(_split(key))
        if found is None:
            raise KeyError(key)
        return found

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _split(key) in self._store.items

    def __iter__(self) -> Iterator[str]:
        return ("/".join(key) for key in self._store.items)

    def __len__(self) -> int:
        return len(self._store.items)


class Fleet:
    """The stores and their watches. `changed` are process clusters (namespace/name) that something happened to.

    `namespaces` are those that are looked at; none: all.
    """

    def __init__(self, api: KubernetesApi, namespaces: Iterable[str] = ()) -> None:
        self.stores = {kind: Store(kind, is_by_spec=kind != "ProcessCluster") for kind in KINDS}
        self.jobs = Store("Job", LABEL_PROCESS_CLUSTER, is_made_here=True)
        self.services = Store("InferenceService", LABEL_PROCESS_CLUSTER, is_made_here=True)
        self.clusters = Clusters(self.stores["ProcessCluster"])
        self.changed: set[str] = set()
        self.referred: set[tuple[str, str, str]] = set()
        self.faults: dict[str, str] = {}
        self._api = api
        self._versions = Store("ConfigMap")
        self._screens: dict[Key, tuple[str, Object]] = {}
        self._refs: dict[Key, tuple[str, str, str]] = {}
        self._named: dict[Key, set[Key]] = {}
        self._ended: dict[Key, tuple[str, JobFact]] = {}
        self._without_pod: dict[Key, tuple[float, JobFact | None]] = {}
        self.watches = [watch for name in tuple(namespaces) or ("",) for watch in self._watch(name)]

    def _watch(self, namespace: str) -> Iterator[RawWatch]:
        at = f"/namespaces/{namespace}" if namespace else ""
        for kind, store in self.stores.items():
            yield RawWatch(self._api, f"{CUSTOM}{at}/{KINDS[kind]}", store, namespace=namespace)
        yield RawWatch(self._api, f"{CORE}{at}/configmaps", self._versions, as_metadata=True, namespace=namespace)
        for path, store in ((f"{JOBS}{at}/jobs", self.jobs), (f"{SERVICES}{at}/inferenceservices", self.services)):
            yield RawWatch(self._api, path, store, LABEL_PROCESS_CLUSTER, on_owner=self._touch, namespace=namespace)

    @property
    def is_synced(self) -> bool:
        """Whether everything was listed, and every watch was heard of lately."""
        return all(watch.is_fresh for watch in self.watches)

    def begin_again(self) -> None:
        """List everything once more; forget what was read of Jobs."""
        for known in (self._ended, self._without_pod):
            known.clear()
        for watch in self.watches:
            watch.begin_again()

    async def catch_up(self) -> None:
        """Wait until everything is listed, and read the screens that changed. Raises UnavailableError."""
        try:
            async with asyncio.timeout(LIST_SECONDS):  # wait_for may swallow the end of a term
                for watch in self.watches:
                    await watch.wait()
        except TimeoutError as error:
            raise UnavailableError("not everything has been listed yet", where="watches") from error
        if not self.is_synced:
            raise UnavailableError("a watch has told nothing for too long", where="watches")
        self.spread()
        await self._read_screens()

    def take_changed(self) -> set[str]:
        """The process clusters that something happened to since this was last asked."""
        changed, self.changed = self.changed, set()
        return changed

    def take_referred(self) -> set[tuple[str, str, str]]:
        """The PolicyCritics and gates whose spec changed since this was last asked, by kind, namespace and name."""
        referred, self.referred = self.referred, set()
        return referred

    def objects(self) -> Objects:
        """What process clusters refer to."""
        return Objects(self.stores, self._screens)

    def _touch(self, owner: str) -> None:
        if owner:
            self.changed.add(owner)

    def spread(self) -> None:
        """From what changed to the process clusters that it touches."""
        clusters = self.stores["ProcessCluster"]
        for key in clusters.changed:
            self.changed.add("/".join(key))
            self._note_refs(key)
        for name in self._versions.changed & self._named.keys():
            self.changed.update("/".join(key) for key in self._named[name])
        others = (self.stores["PolicyCritic"], self.stores["AutomationGate"])
        for kind in ("PolicyCritic", "AutomationGate"):
            self.referred.update((kind, *key) for key in self.stores[kind].changed)
        if any(store.changed for store in others):
            for key, refs in self._refs.items():
                if any((key[0], name) in store.changed for name, store in zip(refs, others, strict=False)):
                    self.changed.add("/".join(key))
        for key in self.jobs.changed - self.jobs.items.keys():
            self._ended.pop(key, None)
            self._without_pod.pop(key, None)
        for store in (clusters, *others, self._versions, self.jobs, self.services):
            store.changed.clear()

    def _note_refs(self, key: Key) -> None:
        before = self._refs.pop(key, None)
        if before is not None:
            named = self._named[key[0], before[2]]
            named.discard(key)
            if not named:
                del self._named[key[0], before[2]]
        if key in self.stores["ProcessCluster"].items:
            refs = self._refs[key] = self._read_refs(key)
            self._named.setdefault((key[0], refs[2]), set()).add(key)

    def _read_refs(self, key: Key) -> tuple[str, str, str]:
        spec = (self.stores["ProcessCluster"].get(key) or {}).get("spec")
        try:
            refs = msgspec.convert(spec, Refs)
        except msgspec.ValidationError:  # its own mistake: it is told when it is read
            return NO_REFS
        return refs.policy_critic_ref.name, refs.gate_ref.name, refs.screens.config_map

    # --- screens -----------------------------------------------------------------------------------------------------
    async def _read_screens(self) -> None:
        """Read the ConfigMaps of the process clusters that changed, where they are not what was read."""
        self.changed.update(self.faults)
        wanted = {(key[0], self._refs[key][2]) for key in map(_split, self.changed) if key in self._refs}
        stale = [name for name in wanted if self._version_of(name) != self._screens.get(name, ("", None))[0]]
        faults = await gather((name, self._read_config_map(name)) for name in stale)
        if not stale and not self.faults:
            return
        for name in self._screens.keys() - self._named.keys():
            del self._screens[name]
        self.faults = {
            "/".join(key): f"its screens cannot be read: {fault}"
            for name, fault in faults.items()
            for key in self._named.get(name, ())
        }

    def _version_of(self, name: Key) -> str:
        body = self._versions.items.get(name)
        return "" if body is None else str(msgspec.json.decode(body)["metadata"]["resourceVersion"])

    async def _read_config_map(self, name: Key) -> None:
        found = await self._api.get(f"/api/v1/namespaces/{name[0]}/configmaps/{name[1]}")
        self._screens.pop(name, None)
        if found is not None:
            kept = {"metadata": {"namespace": name[0], "name": name[1]}, "data": found.get("data")}
            self._screens[name] = (str(found["metadata"]["resourceVersion"]), kept)

    # --- Jobs and model servers --------------------------------------------------------------------------------------
    async def observe_workloads(self, namespace: str, name: str, job: str) -> Workloads:
        """The model servers of a process cluster, and the Job it waits for. Raises UnavailableError."""
        jobs = {}
        found = self.jobs.get((namespace, job)) if job else None
        if found is not None:
            jobs[job] = await self._observe_job((namespace, job), found)
        services = self.services.owned(namespace, name)
        return Workloads(jobs, {name: read_endpoint(item) for name, item in services.items()})

    async def _observe_job(self, key: Key, job: Object) -> JobFact:
        uid = job["metadata"]["uid"]
        if read_job_state(job) is not JobState.RUNNING:
            if self._ended.get(key, ("", None))[0] != uid:
                pods = await self._api.list(
                    f"/api/v1/namespaces/{key[0]}/pods", f"batch.kubernetes.io/job-name={key[1]}"
                )
                self._ended[key] = (uid, read_job(job, pods["items"]))
            return self._ended[key][1]
        if needs_pod(job):
            return await self._observe_refusal(key, uid) or read_job(job, [])
        return read_job(job, [])

    async def _observe_refusal(self, key: Key, uid: str) -> JobFact | None:
        """Why a Job gets no pod. A quota on pods refuses no Job: only its events tell."""
        asked_at, known = self._without_pod.get(key, (float("-inf"), None))
        if time.monotonic() - asked_at > REFUSED_SECONDS:
            path = f"/api/v1/namespaces/{key[0]}/events"
            found = await self._api.list(path, fields=f"involvedObject.uid={uid},reason=FailedCreate")
            known = read_refusal(found["items"])
            self._without_pod[key] = (time.monotonic(), known)
        return known


async def gather(asked: Iterable[tuple[Key, Awaitable[None]]]) -> dict[Key, str]:
    """Await all of `asked`, a few at once. Gives what went wrong, by key."""
    slots, faults = asyncio.Semaphore(AT_ONCE), {}

    async def ask(key: Key, what: Awaitable[None]) -> None:
        async with slots:
            try:
                await what
            except PilotageError as error:
                faults[key] = f"{type(error).__name__}: {error}"

    await asyncio.gather(*(ask(key, what) for key, what in asked))
    return faults


def _split(key: str) -> Key:
    namespace, _, name = key.partition("/")
    return namespace, name
