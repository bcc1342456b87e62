"""The API server's part: what people wrote is followed, Jobs are created once, servers and status applied server-side.

Status has two field managers: `rollback` has its own, so that no writer that does not know it can delete it.
"""

import base64
import hashlib
import logging
import time

import msgspec

from pilotage_core.errors import ConflictError, InvalidInputError, UnavailableError
from pilotage_operator.api.fields import API_VERSION, KINDS
from pilotage_operator.api.reading import Object
from pilotage_operator.api.status import ProcessClusterStatus, write_time
from pilotage_operator.decide.telling import Happening
from pilotage_operator.facts import Bundle, JobFact, JobState, LifecycleDecision, WantedJob
from pilotage_operator.keys import decode_key, make_key
from pilotage_operator.kubernetes_api import ForbiddenError, KubernetesApi
from pilotage_operator.manifests.event import build_event
from pilotage_operator.manifests.inference_service import build_inference_service
from pilotage_operator.manifests.job import LABEL_REVISION, build_job
from pilotage_operator.observe.fleet import CUSTOM, JOBS, SERVICES, Fleet
from pilotage_operator.observe.kubernetes import read_job_state
from pilotage_operator.observe.watch import Key
from pilotage_operator.observe.world import Sighting, TermOverError, Workloads
from pilotage_operator.permits import SigningKey

log = logging.getLogger(__name__)
POLICIES = "/apis/admissionregistration.k8s.io/v1"
ADMISSION = ("pilotage-promotion", "pilotage-status", "pilotage-gate", "pilotage-pair")
ADMISSION_SECONDS = 15.0
REFUSED_SECONDS, FORGET_REFUSED_SECONDS = 10.0, 120.0
ROLLBACK_MANAGER = "pilotage-rollback"
QUARANTINE_MANAGER = "pilotage-quarantine"
APPLIED = "pilotage.dev/applied"
"""What an InferenceService was last applied as: whether it has to be again is seen without asking."""


class KubernetesWorld:
    """The world of `pilotage-controller --kubernetes`. `image` is what Jobs and model servers run.
    Process clusters of `namespaces` alone; none: of all."""

    def __init__(
        self, api: KubernetesApi, namespace: str, image: str, gateway: str, namespaces: tuple[str, ...] = ()
    ) -> None:
        self.serving_image = image
        self.fleet = Fleet(api, namespaces)
        self.epoch = 0
        self._api = api
        self._namespace = namespace
        self._gateway = gateway
        self._refused: dict[Key, tuple[float, str]] = {}
        self._versions: dict[str, int] = {}
        self._generations: dict[Key, int] = {}
        self._admission = False
        self._asked_at = float("-inf")
        self._is_first_look = True

    # --- identity ----------------------------------------------------------------------------------------------------
    async def load_domain(self) -> str:
        """This cluster's UID and the controller's namespace: permits of another installation are worth nothing here."""
        system = await self._api.get("/api/v1/namespaces/kube-system")
        uid = system["metadata"]["uid"] if system else ""
        return f"{uid}/{self._namespace}"

    async def load_key(self) -> SigningKey:
        """The signing key of Secret pilotage-permit-signing, made where there is none; its public half published.

        Beside it stands the installation's identity, by which a gateway names its records: the Secret's when it was
        first made. It outlives the key: a new key is no reason to begin new records.
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
        published = f"/api/v1/namespaces/{self._namespace}/configmaps/pilotage-permit-keys"
        known = (await self._api.get(published) or {}).get("data") or {}
        await self._api.apply(
            published,
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "pilotage-permit-keys"},
                "data": {"installation": known.get("installation") or found["metadata"]["uid"]},
                "binaryData": {f"{key.kid}.pub": _encode(key.private.public_key().public_bytes_raw())},
            },
        )
        return key

    def begin_term(self) -> None:
        """Forget what an earlier term wrote: another leader may have written since. Everything is listed once more."""
        self.fleet.begin_again()
        self._refused.clear()
        self._versions.clear()
        self._generations.clear()
        self._asked_at, self._is_first_look = float("-inf"), True

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
        if time.monotonic() - self._asked_at > ADMISSION_SECONDS:
            await self._look_for_policies()
        await self.fleet.catch_up()
        changed, referred = frozenset(self.fleet.take_changed()), frozenset(self.fleet.take_referred())
        sighting = Sighting(
            clusters=self.fleet.clusters,
            objects=self.fleet.objects(),
            admission=self._admission,
            faults=self.fleet.faults,
            changed=None if self._is_first_look else changed,
            referred=None if self._is_first_look else referred,
        )
        self._is_first_look = False
        return sighting

    async def _look_for_policies(self) -> None:
        found = [await self._api.get(f"{POLICIES}/validatingadmissionpolicies/{name}") for name in ADMISSION]
        bound = [await self._api.get(f"{POLICIES}/validatingadmissionpolicybindings/{name}") for name in ADMISSION]
        self._admission = all(found) and all(bound)
        self._asked_at = time.monotonic()

    async def observe_workloads(self, namespace: str, name: str, job: str) -> Workloads:
        """What runs for a process cluster; a Job that was refused is told as one. Raises UnavailableError."""
        found = await self.fleet.observe_workloads(namespace, name, job)
        _, why = self._refused.get((namespace, job), (0.0, ""))
        if job in found.jobs or not why:
            return found
        return Workloads({job: JobFact(JobState.REFUSED, reason=f"the Job is refused: {why}")}, found.endpoints)

    # --- apply -------------------------------------------------------------------------------------------------------
    async def apply_workloads(self, bundle: Bundle, decision: LifecycleDecision) -> None:
        """Create Jobs that are not there, apply servers that are not as wanted, delete what is wanted no more."""
        jobs = self.fleet.jobs.owned(bundle.namespace, bundle.name)
        services = self.fleet.services.owned(bundle.namespace, bundle.name)
        for job in decision.jobs:
            if job.name not in jobs:
                await self._create_job(bundle, job)
        for endpoint in decision.endpoints:
            item = build_inference_service(bundle, endpoint, image=bundle.serving_image)
            await self._apply_service(item, services.get(endpoint.name))
        kept = {endpoint.name for endpoint in decision.endpoints} | decision.kept_endpoints
        for name, item in services.items():
            if name not in kept and not _is_going(item):
                await self._api.delete(f"{SERVICES}/namespaces/{bundle.namespace}/inferenceservices/{name}")
        for name, item in jobs.items():
            ended = name not in decision.kept_jobs and read_job_state(item) is not JobState.RUNNING
            is_old = item["metadata"]["labels"].get(LABEL_REVISION) not in decision.kept_revisions
            if (ended or is_old) and not _is_going(item):
                await self._api.delete(f"{JOBS}/namespaces/{bundle.namespace}/jobs/{name}")

    async def _create_job(self, bundle: Bundle, job: WantedJob) -> None:
        """Create a Job. One that is refused is remembered, told as what its phase waits for, and tried again later."""
        key = (bundle.namespace, job.name)
        refused_at, _ = self._refused.get(key, (float("-inf"), ""))
        now = time.monotonic()
        if now - refused_at < REFUSED_SECONDS:
            return
        self._refused = {k: told for k, told in self._refused.items() if now - told[0] < FORGET_REFUSED_SECONDS}
        item = build_job(bundle, job, image=self.serving_image, export=self._gateway)
        try:
            await self._api.create(f"{JOBS}/namespaces/{bundle.namespace}/jobs", item)
            self._refused.pop(key, None)
        except (ForbiddenError, InvalidInputError) as error:
            self._refused[key] = (time.monotonic(), error.what)

    async def _apply_service(self, item: Object, there: Object | None) -> None:
        """Apply `item`, unless what is there was applied as the same and is of that generation still.

        A restart touches none of them. Whoever changes one while a controller leads changes what certificates rest on:
        it is put back. (Who may change them at all is for the namespace's rights.)
        """
        digest, metadata = digest_of(item), item["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if there is not None and there["metadata"].get("annotations", {}).get(APPLIED) == digest:
            generation = there["metadata"].get("generation", 1)
            if generation <= self._generations.setdefault(key, generation):
                return
            log.warning("%s/%s was changed by somebody else: it is put back", *key)
        metadata["annotations"][APPLIED] = digest
        path = f"{SERVICES}/namespaces/{metadata['namespace']}/inferenceservices/{metadata['name']}"
        applied = await self._api.apply(path, item)
        self._generations[key] = (applied or {}).get("metadata", {}).get("generation", 1)

    async def apply_status(self, cluster: Object, status: ProcessClusterStatus) -> None:
        """Write `status` down, `rollback` under its own manager and first."""
        document, written = status.to_json(), cluster.get("status") or {}
        rollback = document.get("rollback")
        if rollback is not None and rollback != written.get("rollback"):
            await self._patch_status(cluster, {"rollback": rollback}, ROLLBACK_MANAGER)
        others = {name: value for name, value in document.items() if name != "rollback"}
        await self._patch_status(cluster, others, "pilotage-controller")

    async def tell_quarantine(self, cluster: Object, fault: str) -> None:
        """Condition Quarantined, under a manager of its own: nothing else of the status is touched. And an event."""
        condition = {
            "type": "Quarantined",
            "status": "True" if fault else "False",
            "reason": "Failed" if fault else "Lifted",
            "message": fault or "everything of it goes through again",
            "lastTransitionTime": write_time(time.time()),
        }
        await self._patch_status(cluster, {"conditions": [condition]}, QUARANTINE_MANAGER)
        reason = "Quarantined" if fault else "QuarantineLifted"
        await self.tell_happening(cluster, Happening(reason, condition["message"], is_warning=bool(fault)))

    async def tell_happening(self, cluster: Object, happening: Happening) -> None:
        """As an Event."""
        event = build_event(cluster, happening.reason, happening.message, warning=happening.is_warning, now=time.time())
        await self._api.create(f"/api/v1/namespaces/{cluster['metadata']['namespace']}/events", event)

    async def apply_referred(self, kind: str, item: Object, status: Object) -> None:
        """Server-side apply of the status alone, whatever version the object is of: nobody else writes it."""
        metadata = item["metadata"]
        path = f"{CUSTOM}/namespaces/{metadata['namespace']}/{KINDS[kind]}/{metadata['name']}/status"
        named = {name: metadata[name] for name in ("name", "namespace", "uid")}
        await self._api.apply(path, {"apiVersion": API_VERSION, "kind": kind, "metadata": named, "status": status})

    async def _patch_status(self, cluster: Object, status: Object, manager: str) -> None:
        metadata = cluster["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
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
        patched = await self._api.apply(path, item, manager)
        if patched is not None:
            self._versions[key] = int(patched["metadata"]["resourceVersion"])


def digest_of(item: Object) -> str:
    """What an object is applied as, 32 hex digits."""
    return hashlib.blake2b(msgspec.json.encode(item), digest_size=16).hexdigest()


def _is_going(item: Object) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
