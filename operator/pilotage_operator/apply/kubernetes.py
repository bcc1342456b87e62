"""The API server's part: what people wrote is followed, Jobs are created once, servers and status applied server-side.

Status has two field managers: `rollback` has its own, so that no writer that does not know it can delete it.
"""

import base64
import hashlib
import time
from typing import Any

import msgspec

from pilotage_core.errors import ConflictError, InvalidInputError, PilotageError, UnavailableError
from pilotage_operator.api.fields import API_VERSION, GROUP, KINDS, VERSION
from pilotage_operator.api.reading import Lookup, Object
from pilotage_operator.api.status import ProcessClusterStatus, write_time
from pilotage_operator.facts import Bundle, EndpointFact, JobFact, JobState, LifecycleDecision, WantedJob
from pilotage_operator.keys import decode_key, make_key
from pilotage_operator.kubernetes_api import ForbiddenError, KubernetesApi
from pilotage_operator.manifests.event import build_event
from pilotage_operator.manifests.inference_service import build_inference_service
from pilotage_operator.manifests.job import LABEL_PROCESS_CLUSTER, LABEL_REVISION, build_job
from pilotage_operator.observe.kubernetes import needs_pod, read_endpoint, read_job, read_job_state, read_refusal
from pilotage_operator.observe.watch import RawWatch, Store
from pilotage_operator.observe.world import Sighting, TermOverError
from pilotage_operator.permits import SigningKey

CUSTOM = f"/apis/{GROUP}/{VERSION}"
JOBS, SERVICES = "/apis/batch/v1", "/apis/serving.kserve.io/v1beta1"
POLICIES = "/apis/admissionregistration.k8s.io/v1"
ADMISSION = ("pilotage-promotion", "pilotage-status", "pilotage-gate")
RELIST_SECONDS = 15.0
REFUSED_SECONDS, FORGET_REFUSED_SECONDS = 10.0, 120.0
SCREENS_SECONDS = 10.0
COUNTERS_SECONDS = 5.0
"""Counts in status change all the time; only what a decision rests on is written at once."""
ROLLBACK_MANAGER = "pilotage-rollback"
QUARANTINE_MANAGER = "pilotage-quarantine"
ODD = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading an object of another shape than the API promises may raise."""


class KubernetesWorld:
    """The world of `pilotage-controller --kubernetes`. `image` is what Jobs and model servers run."""

    def __init__(self, api: KubernetesApi, namespace: str, image: str, gateway: str) -> None:
        self.serving_image = image
        self.stores = {kind: Store() for kind in KINDS}
        self.watches = [RawWatch(api, f"{JOBS}/jobs", LABEL_PROCESS_CLUSTER)]
        self.watches.append(RawWatch(api, f"{SERVICES}/inferenceservices", LABEL_PROCESS_CLUSTER))
        self.epoch = 0
        self._api = api
        self._namespace = namespace
        self._gateway = gateway
        self._listed_at = float("-inf")
        self._screens: dict[tuple[str, str], tuple[float, Object | None]] = {}
        self._ended: dict[str, JobFact] = {}
        self._refused: dict[tuple[str, str], tuple[float, str]] = {}
        self._without_pod: dict[str, tuple[float, JobFact | None]] = {}
        self._applied: dict[tuple[str, str], str] = {}
        self._written: dict[str, tuple[Object, float]] = {}
        self._versions: dict[str, int] = {}
        self._admission = False
        self._term = 0

    # --- identity ----------------------------------------------------------------------------------------------------
    async def load_domain(self) -> str:
        """This cluster's UID and the controller's namespace: permits of another installation are worth nothing here."""
        system = await self._api.get("/api/v1/namespaces/kube-system")
        uid = system["metadata"]["uid"] if system else ""
        return f"{uid}/{self._namespace}"

    async def load_key(self) -> SigningKey:
        """The signing key of Secret pilotage-permit-signing, made where there is none; its public half published.

        Beside it stands the installation's identity (the Secret's), by which a gateway names its records.
        """
        secrets, name = f"/api/v1/namespaces/{self._namespace}/secrets", "pilotage-permit-signing"
        found = await self._api.get(f"{secrets}/{name}")
        if found is None:
            raw = make_key().private.private_bytes_raw()
            secret: Object = {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name},
                "data": {"key": _encode(raw)},
            }
            await self._api.create(secrets, secret)
            found = await self._api.get(f"{secrets}/{name}")  # another controller may have been faster
        if found is None:
            raise UnavailableError("was made and is not there", where=f"Secret {self._namespace}/{name}")
        key = decode_key(base64.b64decode(found.get("data", {}).get("key", "")), f"Secret {self._namespace}/{name}")
        await self._api.apply(
            f"/api/v1/namespaces/{self._namespace}/configmaps/pilotage-permit-keys",
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "pilotage-permit-keys"},
                "data": {"installation": found["metadata"]["uid"]},
                "binaryData": {f"{key.kid}.pub": _encode(key.private.public_key().public_bytes_raw())},
            },
        )
        return key

    def begin_term(self) -> None:
        """Forget what an earlier term wrote: another leader may have written since."""
        self._listed_at = float("-inf")
        self._term += 1
        for known in (self._screens, self._ended, self._refused, self._without_pod, self._applied, self._written):
            known.clear()
        self._versions.clear()

    def is_synced(self) -> bool:
        """Whether everything a leader has to know has been listed."""
        return all(store.is_whole for store in (*self.stores.values(), *(watch.store for watch in self.watches)))

    async def raise_epoch(self) -> int:
        """The epoch of this term: one above the last. Raises ConflictError where another controller begins one too."""
        await self.remember_epoch((await self._read_epoch())[0] + 1)
        return self.epoch

    async def remember_epoch(self, epoch: int) -> None:
        """Write `epoch` down; it counts only once this has returned. Raises ConflictError where it would not rise."""
        path, name = f"/api/v1/namespaces/{self._namespace}/configmaps", "pilotage-permit-epoch"
        last, found = await self._read_epoch()
        if epoch <= last:
            raise ConflictError(f"epoch {last} has been begun, {epoch} is not above it", where=name)
        item: Object = found or {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        item["data"] = {"epoch": str(epoch)}
        written = await (self._api.replace(f"{path}/{name}", item) if found else self._api.create(path, item))
        if written is None:
            raise ConflictError("another controller starts at this moment", where=f"ConfigMap {name}")
        self.epoch = epoch

    async def _read_epoch(self) -> tuple[int, Object | None]:
        found = await self._api.get(f"/api/v1/namespaces/{self._namespace}/configmaps/pilotage-permit-epoch")
        text = found.get("data", {}).get("epoch", "0") if found else "0"
        return (int(text) if text.isdecimal() else 0), found

    # --- observe -----------------------------------------------------------------------------------------------------
    async def observe_world(self) -> Sighting:
        """Everything as the watches have it, after one consistent read that shows that the API server answers.

        Raises UnavailableError where it does not, or where another controller has begun a later epoch.
        """
        epoch, _ = await self._read_epoch()
        if epoch != self.epoch:
            raise TermOverError(f"epoch {epoch} was begun by another controller, ours is {self.epoch}", where="epoch")
        if time.monotonic() - self._listed_at > RELIST_SECONDS:
            await self.relist()
        if not all(watch.store.is_whole for watch in self.watches):
            raise UnavailableError("not everything has been listed yet", where="watches")
        jobs, services = (watch.store for watch in self.watches)
        clusters = {"/".join(key): item for key, item in self.stores["ProcessCluster"].items.items()}
        faults: dict[str, str] = {}
        return Sighting(
            clusters=clusters,
            objects=await self._observe_objects(clusters, faults),
            jobs=await self._observe_jobs(jobs, faults),
            endpoints=_observe_endpoints(services, faults),
            admission=self._admission,
            faults=faults,
        )

    async def relist(self) -> None:
        """A watch can miss a deletion between two connections; a list cannot. Raises UnavailableError.

        A list that was begun in an earlier term is older than what this one has to know: it is left.
        """
        term, lists = self._term, {}
        for kind, plural in KINDS.items():
            listed = await self._api.list(f"{CUSTOM}/{plural}")
            lists[kind] = [item | {"kind": kind} for item in listed["items"]]
        found = [await self._api.get(f"{POLICIES}/validatingadmissionpolicies/{name}") for name in ADMISSION]
        bound = [await self._api.get(f"{POLICIES}/validatingadmissionpolicybindings/{name}") for name in ADMISSION]
        if term != self._term:
            return
        for kind, items in lists.items():
            self.stores[kind].replace(items)
        self._admission = all(found) and all(bound)
        self._listed_at = time.monotonic()

    async def _observe_objects(self, clusters: dict[str, Object], faults: dict[str, str]) -> Lookup:
        objects = {
            (kind, *key): item
            for kind in ("PolicyCritic", "AutomationGate")
            for key, item in self.stores[kind].items.items()
        }
        for key, cluster in clusters.items():
            try:
                name = (cluster["metadata"]["namespace"], str(cluster["spec"]["screens"]["configMap"]))
                screens = await self._observe_screens(name)
                if screens is not None:
                    objects[("ConfigMap", *name)] = screens
            except (PilotageError, KeyError, TypeError) as error:  # its own mistake, or its namespace's
                faults[key] = f"its screens cannot be read: {type(error).__name__}: {error}"
        return objects

    async def _observe_screens(self, key: tuple[str, str]) -> Object | None:
        read_at, found = self._screens.get(key, (float("-inf"), None))
        if found is None or time.monotonic() - read_at > SCREENS_SECONDS:
            found = await self._api.get(f"/api/v1/namespaces/{key[0]}/configmaps/{key[1]}")
            self._screens[key] = (time.monotonic(), found)
        return found

    async def _observe_jobs(self, store: Store, faults: dict[str, str]) -> dict[str, dict[str, JobFact]]:
        jobs: dict[str, dict[str, JobFact]] = {}
        for (namespace, name), job in store.items.items():
            try:
                jobs.setdefault(namespace, {})[name] = await self._observe_job(namespace, name, job)
            except (PilotageError, *ODD) as error:
                faults[_owner_of(job)] = f"Job {name} cannot be read: {type(error).__name__}: {error}"
        for (namespace, name), (refused_at, why) in list(self._refused.items()):
            if time.monotonic() - refused_at > FORGET_REFUSED_SECONDS:  # nobody wants it any more
                del self._refused[namespace, name]
            elif name not in jobs.get(namespace, {}):
                jobs.setdefault(namespace, {})[name] = JobFact(JobState.REFUSED, reason=f"the Job is refused: {why}")
        living = {item["metadata"]["uid"] for item in store.items.values()}
        self._ended = {uid: fact for uid, fact in self._ended.items() if uid in living}
        self._without_pod = {uid: known for uid, known in self._without_pod.items() if uid in living}
        return jobs

    async def _observe_job(self, namespace: str, name: str, job: Object) -> JobFact:
        uid = job["metadata"]["uid"]
        if uid not in self._ended and read_job_state(job) is not JobState.RUNNING:
            path = f"/api/v1/namespaces/{namespace}/pods"
            pods = await self._api.list(path, f"batch.kubernetes.io/job-name={name}")
            self._ended[uid] = read_job(job, pods["items"])
        if uid not in self._ended and needs_pod(job):
            return await self._observe_refusal(namespace, uid) or read_job(job, [])
        return self._ended.get(uid) or read_job(job, [])

    async def _observe_refusal(self, namespace: str, uid: str) -> JobFact | None:
        """Why a Job gets no pod. A quota on pods refuses no Job: only its events tell."""
        asked_at, known = self._without_pod.get(uid, (float("-inf"), None))
        if time.monotonic() - asked_at > REFUSED_SECONDS:
            path = f"/api/v1/namespaces/{namespace}/events"
            found = await self._api.list(path, fields=f"involvedObject.uid={uid},reason=FailedCreate")
            known = read_refusal(found["items"])
            self._without_pod[uid] = (time.monotonic(), known)
        return known

    # --- apply -------------------------------------------------------------------------------------------------------
    async def apply_workloads(self, bundle: Bundle, decision: LifecycleDecision) -> None:
        """Create Jobs that are not there, apply servers that are not as wanted, delete what is wanted no more."""
        jobs, services = (watch.store for watch in self.watches)
        for job in decision.jobs:
            if (bundle.namespace, job.name) not in jobs.items:
                await self._create_job(bundle, job)
        for endpoint in decision.endpoints:
            await self._apply_service(build_inference_service(bundle, endpoint, image=bundle.serving_image), services)
        kept = {endpoint.name for endpoint in decision.endpoints} | decision.kept_endpoints
        for name in _find_made(services, bundle):
            if name not in kept:
                await self._api.delete(f"{SERVICES}/namespaces/{bundle.namespace}/inferenceservices/{name}")
        for name, item in _find_made(jobs, bundle).items():
            ended = name not in decision.kept_jobs and read_job_state(item) is not JobState.RUNNING
            if ended or item["metadata"]["labels"].get(LABEL_REVISION) not in decision.kept_revisions:
                await self._api.delete(f"{JOBS}/namespaces/{bundle.namespace}/jobs/{name}")

    async def _create_job(self, bundle: Bundle, job: WantedJob) -> None:
        """Create a Job. One that is refused is remembered, told as what its phase waits for, and tried again later."""
        key = (bundle.namespace, job.name)
        refused_at, _ = self._refused.get(key, (float("-inf"), ""))
        if time.monotonic() - refused_at < REFUSED_SECONDS:
            return
        item = build_job(bundle, job, image=self.serving_image, export=self._gateway)
        try:
            await self._api.create(f"{JOBS}/namespaces/{bundle.namespace}/jobs", item)
            self._refused.pop(key, None)
        except (ForbiddenError, InvalidInputError) as error:
            self._refused[key] = (time.monotonic(), error.what)

    async def _apply_service(self, item: Object, store: Store) -> None:
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        digest = hashlib.blake2b(msgspec.json.encode(item)).hexdigest()
        if self._applied.get(key) == digest and key in store.items:
            return
        await self._api.apply(f"{SERVICES}/namespaces/{key[0]}/inferenceservices/{key[1]}", item)
        self._applied[key] = digest

    async def apply_status(self, cluster: Object, status: ProcessClusterStatus) -> None:
        """Patch status where it changed; where only counts did, at most every few seconds."""
        metadata = cluster["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        document = status.to_json()
        written, at = self._written.get(key, (cluster.get("status") or {}, float("-inf")))
        if document == written or (
            without_counts(document) == without_counts(written) and time.monotonic() - at < COUNTERS_SECONDS
        ):
            return
        rollback = document.get("rollback")
        if rollback is not None and rollback != written.get("rollback"):
            await self._patch_status(key, metadata, {"rollback": rollback}, ROLLBACK_MANAGER)
        others = {name: value for name, value in document.items() if name != "rollback"}
        await self._patch_status(key, metadata, others, "pilotage-controller")
        self._written[key] = (document, time.monotonic())

    async def tell_quarantine(self, cluster: Object, fault: str) -> None:
        """Condition Quarantined, under a manager of its own: nothing else of the status is touched. And an event."""
        condition = {
            "type": "Quarantined",
            "status": "True" if fault else "False",
            "reason": "Failed" if fault else "Lifted",
            "message": fault or "everything of it goes through again",
            "lastTransitionTime": write_time(time.time()),
        }
        metadata = cluster["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        await self._patch_status(key, metadata, {"conditions": [condition]}, QUARANTINE_MANAGER)
        reason = "Quarantined" if fault else "QuarantineLifted"
        await self._api.create(
            f"/api/v1/namespaces/{metadata['namespace']}/events",
            build_event(cluster, reason, condition["message"], warning=bool(fault), now=time.time()),
        )

    async def _patch_status(self, key: str, metadata: Object, status: Object, manager: str) -> None:
        version = max(self._versions.get(key, 0), int(metadata["resourceVersion"]))
        item = {
            "apiVersion": API_VERSION,
            "kind": "ProcessCluster",
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": str(version),
            },
            "status": status,
        }
        path = f"{CUSTOM}/namespaces/{metadata['namespace']}/processclusters/{metadata['name']}/status"
        try:
            patched = await self._api.apply(path, item, manager)
        except ConflictError:
            self._listed_at = float("-inf")  # look again before the next try
            raise
        if patched is not None:
            self._versions[key] = int(patched["metadata"]["resourceVersion"])


def without_counts(document: Object) -> Object:
    """Status without what merely counts: what is left changes only when something happens."""
    pipeline: dict[str, Any] = document.get("pipeline") or {}
    return {name: value for name, value in document.items() if name not in ("supervision", "unmet", "metrics")} | {
        "pipeline": {name: value for name, value in pipeline.items() if name != "reason"},
        "guardrails": [(g["name"], g["verdict"]) for g in document.get("guardrails", [])],
        "conditions": [(c["type"], c["status"], c["reason"]) for c in document.get("conditions", [])],
    }


def _observe_endpoints(store: Store, faults: dict[str, str]) -> dict[str, dict[str, EndpointFact]]:
    endpoints: dict[str, dict[str, EndpointFact]] = {}
    for (namespace, name), service in store.items.items():
        try:
            endpoints.setdefault(namespace, {})[name] = read_endpoint(service)
        except ODD as error:
            faults[_owner_of(service)] = f"InferenceService {name} cannot be read: {type(error).__name__}: {error}"
    return endpoints


def _owner_of(item: Object) -> str:
    """The key of the process cluster that `item` was made for."""
    metadata = item["metadata"]
    return f"{metadata['namespace']}/{metadata.get('labels', {}).get(LABEL_PROCESS_CLUSTER, '')}"


def _find_made(store: Store, bundle: Bundle) -> dict[str, Object]:
    """What was made for `bundle`'s process cluster and is not on its way out."""
    return {
        name: item
        for (namespace, name), item in store.items.items()
        if namespace == bundle.namespace
        and item["metadata"]["labels"].get(LABEL_PROCESS_CLUSTER) == bundle.name
        and "deletionTimestamp" not in item["metadata"]
    }


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
