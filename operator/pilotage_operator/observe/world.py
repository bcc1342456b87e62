"""What an installation gives and takes, be it Kubernetes or local processes; the rest sees no more of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pilotage_core.errors import UnavailableError
from pilotage_operator.api.reading import Lookup, Object
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.decide.telling import Happening
from pilotage_operator.facts import Bundle, EndpointFact, JobFact, LifecycleDecision

Ref = tuple[str, str, str]
"""(kind, namespace, name) of what process clusters refer to."""


class TermOverError(UnavailableError):
    """Another controller leads: what is seen here is not for this one to act on."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at everything. `clusters` are ProcessClusters as plain objects by key, `objects` what they refer to.

    `admission`: the policies that guard status and promotion are there. `faults`: what could not be seen of one process
    cluster, by key; it costs no other one anything. `changed` are the keys that something happened to since the last
    look (None: nobody can tell, any may be), `referred` the PolicyCritics and gates whose spec did.
    """

    clusters: Mapping[str, Object]
    objects: Lookup
    admission: bool = True
    faults: Mapping[str, str] = field(default_factory=dict)
    changed: frozenset[str] | None = None
    referred: frozenset[Ref] | None = frozenset()


@dataclass(frozen=True, slots=True)
class Workloads:
    """What runs for one process cluster, by name: Jobs, among them the one it waits for, and model servers."""

    jobs: Mapping[str, JobFact] = field(default_factory=dict)
    endpoints: Mapping[str, EndpointFact] = field(default_factory=dict)


class World(Protocol):
    """Observe and apply for one way of running."""

    serving_image: str

    async def observe_world(self) -> Sighting:
        """Everything, as of now. Raises UnavailableError where it cannot be seen, TermOverError where another leads."""
        ...

    async def observe_workloads(self, namespace: str, name: str, job: str) -> Workloads:
        """What runs for a process cluster that waits for `job` (empty: for none). Raises UnavailableError."""
        ...

    async def apply_workloads(self, bundle: Bundle, decision: LifecycleDecision) -> None:
        """Make Jobs and model servers be as decided. Raises UnavailableError."""
        ...

    async def tell_happening(self, cluster: Object, happening: Happening) -> None:
        """Say beside the object what happened to it. Raises UnavailableError."""
        ...

    async def apply_referred(self, kind: str, item: Object, status: Object) -> None:
        """Write `status` of a PolicyCritic or gate down. Raises UnavailableError."""
        ...

    async def tell_quarantine(self, cluster: Object, fault: str) -> None:
        """Say on the object that `fault` keeps it apart (empty: no more), leaving its status as it is."""
        ...

    async def apply_status(self, cluster: Object, status: ProcessClusterStatus) -> None:
        """Write `status` down. Raises UnavailableError, or ConflictError where the object has moved on."""
        ...
