"""The Lease as the API server keeps it (coordination.k8s.io/v1). Not here: what to conclude from it (lease.py)."""

import math
from datetime import datetime

from pilotage_core.errors import ConflictError
from pilotage_operator.kubernetes_api import KubernetesApi, Object
from pilotage_operator.lease import LEASE_SECONDS, Record

NAME = "pilotage-controller"


class KubernetesLease:
    """The one Lease of the controllers in `namespace`."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"

    async def read_lease(self) -> Record | None:
        """It as it is now; None where there is none. Raises UnavailableError."""
        found = await self._api.get(f"{self._path}/{NAME}")
        return _read(found) if found is not None else None

    async def write_lease(self, record: Record, renewed: datetime) -> Record:
        """Write `record` over the version it names (empty: create it). Raises ConflictError, UnavailableError."""
        at = renewed.isoformat(timespec="microseconds").replace("+00:00", "Z")
        item: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME} | ({"resourceVersion": record.version} if record.version else {}),
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": math.ceil(record.seconds),
                "leaseTransitions": record.terms,
                "renewTime": at,
            },
        }
        if record.version:
            written = await self._api.replace(f"{self._path}/{NAME}", item)
        else:
            written = await self._api.create(self._path, item)
        if written is None:
            raise ConflictError("another controller made it first", where=f"Lease {NAME}")
        return _read(written)


def _read(item: Object) -> Record:
    """A Lease without a duration lasts as long as ours do."""
    spec = item.get("spec") or {}
    seconds = float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)
    holder, terms = str(spec.get("holderIdentity") or ""), int(spec.get("leaseTransitions") or 0)
    return Record(holder, seconds, str(item["metadata"].get("resourceVersion", "")), terms)
