"""What the controller holds of one process cluster between sweeps: little, for there may be ten thousand.

A status and the manifests of the last whole bundle are held as JSON, and read when it is decided again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import msgspec

from pilotage_core.screen import ScreenSchema
from pilotage_core.snapshot import Parts
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave, Revocation
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.reading import Lookup, Object
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.decide.waking import without_counts
from pilotage_operator.facts import Bundle
from pilotage_operator.observe.bundle import build_bundle
from pilotage_operator.observe.figures import Limits, find_limits
from pilotage_operator.observe.labels import LabelFollower


@dataclass(frozen=True, slots=True)
class Document:
    """A status as JSON, by what it says: `whole`, and `major` without what merely counts."""

    whole: bytes
    major: bytes

    @staticmethod
    def of(document: Mapping[str, Any]) -> "Document":
        """That of `document`, whoever wrote it."""
        said = {name: value for name, value in document.items() if name != "permitEpoch"}
        return Document(_digest(said), _digest(without_counts(said)))


def _digest(value: object) -> bytes:
    body = msgspec.json.encode(value, order="deterministic")
    for end in (b",", b"}", b"]"):  # the API server writes 2 for 2.0
        body = body.replace(b".0" + end, end)
    return hashlib.blake2b(body, digest_size=12).digest()


@dataclass(slots=True)
class Cluster:
    """One process cluster. `body` is its status as it counts now, `document` what that says; `written` what is written
    down of it, since `at` (monotonic seconds).

    `pending` is the leave that is given once what is being written is; `superseded`: a later decision gave another one.
    `whole` holds the manifests of the last bundle that was whole, `fault` why there is none now. `published` is the
    stage of its leave. `moves` counts what was adopted before it was written. `wake` is when it has to be decided again
    (seconds since the epoch). `decided`: what is held may know more than what is written down. `reported` is what
    gateways say was taken back.
    """

    uid: str
    written: Document
    document: Document
    body: bytes = b""
    stage: Stage = Stage.LOGGING
    earned: Stage = Stage.LOGGING
    pair: str = ""
    tightened: tuple[str, ...] = ()
    job: str = ""
    at: float = float("-inf")
    whole: bytes = b""
    screens: tuple[ScreenSchema, ...] = ()
    fault: str = ""
    limits: Limits = ()
    published: Stage | None = None
    pending: Leave | None = None
    superseded: bool = False
    moves: int = 0
    wake: float = 0.0
    decided: bool = False
    reported: Revocation | None = None

    @staticmethod
    def of(uid: str, status: ProcessClusterStatus, written: Object) -> "Cluster":
        """A process cluster whose status counts as `status` and stands on the object as `written`."""
        told = Document.of(written)
        cluster = Cluster(uid, told, told)
        cluster.hold(status)
        return cluster

    @property
    def status(self) -> ProcessClusterStatus:
        """Its status as it counts now."""
        return ProcessClusterStatus.model_validate(msgspec.json.decode(self.body))

    def hold(self, status: ProcessClusterStatus) -> None:
        """Let `status` count from now on."""
        document = status.to_json()
        self.body, self.document = msgspec.json.encode(document), Document.of(document)
        self.stage, self.earned = status.stage, status.earned
        self.pair = status.pair.revision if status.pair else ""
        self.tightened = status.tightened
        self.job = status.pipeline.job if status.pipeline else ""

    def note_whole(self, bundle: Bundle, cluster: Object, objects: Lookup) -> None:
        """Remember what `bundle` was read from, and what its gate asks figures for."""
        spec = bundle.cluster
        names = (("PolicyCritic", spec.policy_critic_ref.name), ("AutomationGate", spec.gate_ref.name))
        referred = [(kind, name, objects[kind, bundle.namespace, name].get("spec")) for kind, name in names]
        kept = {"metadata": cluster["metadata"], "spec": cluster["spec"]}
        self.whole = msgspec.json.encode((kept, referred))
        self.screens = bundle.screens
        self.limits = share_limits(find_limits(bundle.gate))

    def rebuild(self, serving_image: str, now: Any) -> Bundle:
        """The last bundle that was whole, held back as the spec that is there `now` says: that counts at once."""
        cluster, referred = msgspec.json.decode(self.whole)
        namespace, screens = cluster["metadata"]["namespace"], cluster["spec"]["screens"]["configMap"]
        objects = {(kind, namespace, name): {"spec": spec} for kind, name, spec in referred}
        objects["ConfigMap", namespace, screens] = {}
        bundle = build_bundle(cluster, objects, serving_image)
        return replace(bundle, screens=self.screens, cluster=_hold_back(bundle.cluster, now))


def _hold_back(spec: ProcessClusterSpec, now: Any) -> ProcessClusterSpec:
    said = now if isinstance(now, dict) else {}
    stages = [spec.max_stage, *(stage for stage in Stage if stage.value == said.get("maxStage"))]
    update = {
        "suspend": spec.suspend or said.get("suspend") is True,
        "max_stage": min(stages, key=lambda stage: stage.rank),
    }
    return spec.model_copy(update=update)


@lru_cache(maxsize=1024)
def share_limits(limits: Limits) -> Limits:
    """One object for all that are alike: most gates ask for the same."""
    return limits


class Holdings:
    """All of them, by key, with the leaves that are published of them.

    `dirty` are those to be decided in the next sweep; `waiting` those that were, and wait for room to be written.
    `strays` were never read, and have a leave that only watches. `moved` are those of which more than counts changed.
    """

    def __init__(self, labels: LabelFollower) -> None:
        self.clusters: dict[str, Cluster] = {}
        self.strays: set[str] = set()
        self.dirty: set[str] = set()
        self.waiting: set[str] = set()
        self.moved: set[str] = set()
        self.parts = Parts()
        self.labels = labels

    def begin(self, key: str, uid: str, status: ProcessClusterStatus, written: Object) -> Cluster:
        """Hold a process cluster whose status counts as `status`, and stands on the object as `written`."""
        cluster = self.clusters[key] = Cluster.of(uid, status, written)
        self.labels.follow(key, status)
        self.strays.discard(key)
        self.moved.add(key)
        return cluster

    def hold(self, key: str, status: ProcessClusterStatus) -> None:
        """Let `status` count from now on."""
        before = self.clusters[key].document.major
        self.clusters[key].hold(status)
        if self.clusters[key].document.major != before:
            self.moved.add(key)
        self.labels.follow(key, status)

    def put(self, key: str, leave: Leave) -> None:
        """Make `leave` what is published of `key`."""
        self.clusters[key].published = leave.stage
        self.parts.put(leave)

    def put_stray(self, key: str, leave: Leave) -> None:
        """Make `leave` what is published of one that cannot be read."""
        self.strays.add(key)
        self.parts.put(leave)

    def forget(self, key: str) -> None:
        """`key` is gone."""
        self.clusters.pop(key, None)
        self.strays.discard(key)
        self.dirty.discard(key)
        self.waiting.discard(key)
        self.moved.discard(key)
        self.parts.drop(key)
        self.labels.forget(key)
