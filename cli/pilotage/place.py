"""Where a command looks: the current Kubernetes, a local run that is under way, or the records of one that is over."""

import time
from pathlib import Path
from typing import Protocol

import msgspec

from pilotage.explain import explain_process_cluster
from pilotage.report.times import to_seconds
from pilotage.run import RunInfo, object_key
from pilotage.services import GATEWAY_SERVICE, ApiObject, GatewayApi, Kubernetes, read_statuses
from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.explaining import explain_decision
from pilotage_core.record import DecisionRecord
from pilotage_operator.public import ProcessClusterSpec, ProcessClusterStatus


class Place(Protocol):
    """Where process clusters and the gateway are found."""

    def process_clusters(self) -> list[ApiObject]:
        """All process clusters: metadata, spec, status."""
        ...

    def gateway(self) -> GatewayApi:
        """The gateway. Raises UnavailableError where there is none."""
        ...

    def now(self) -> float:
        """The time it is there, in seconds since the epoch: of a run that is over, its end."""
        ...


class KubernetesPlace:
    """The current context."""

    def __init__(self, gateway_url: str) -> None:
        self._kubernetes = Kubernetes()
        self._gateway_url = gateway_url

    def process_clusters(self) -> list[ApiObject]:
        """All of them, in every namespace."""
        return self._kubernetes.process_clusters()

    def gateway(self) -> GatewayApi:
        """The one named, else the Service's NodePort."""
        url = self._gateway_url or self._kubernetes.node_port_url(GATEWAY_SERVICE)
        return GatewayApi(url, self._kubernetes.reading_token)

    def now(self) -> float:
        """Now."""
        return time.time()


class LocalPlace:
    """A run of `demo --local`: its services while it lasts, its records afterwards."""

    def __init__(self, folder: Path, gateway_url: str) -> None:
        self._folder = folder
        path = folder / "run.json"
        if not path.exists():
            raise InvalidInputError(
                "there is no run here", where=str(folder), remedy="run `pilotage demo --local`, or name one with --run"
            )
        self._info = msgspec.json.decode(path.read_bytes(), type=RunInfo)
        self._gateway_url = gateway_url or self._info.gateway_url

    def process_clusters(self) -> list[ApiObject]:
        """From the controller while the run lasts, else as they stood at its end."""
        recorded = self._folder / "status.json"
        if self._info.ended_at and recorded.exists():
            items: list[ApiObject] = msgspec.json.decode(recorded.read_bytes())["items"]
            return items
        return read_statuses(self._folder / "live" / "controller")

    def gateway(self) -> GatewayApi:
        """The run's gateway. Raises UnavailableError once the run is over."""
        if self._info.ended_at:
            raise UnavailableError("this run is over, its gateway is gone", where=str(self._folder))
        return GatewayApi(self._gateway_url)

    def now(self) -> float:
        """Now, or the end of the run."""
        return to_seconds(self._info.ended_at) if self._info.ended_at else time.time()


def find_place(local: bool, folder: Path, gateway_url: str = "") -> Place:
    """Kubernetes, or the run in `folder`."""
    return LocalPlace(folder, gateway_url) if local else KubernetesPlace(gateway_url)


def explain_anything(place: Place, name: str) -> str:
    """A process cluster by (namespace and) name; else a decision by its proposal's id."""
    items = place.process_clusters()
    found = [item for item in items if name in (object_key(item), item["metadata"]["name"])]
    if len(found) == 1:
        spec = ProcessClusterSpec.model_validate(found[0]["spec"])
        status = ProcessClusterStatus.model_validate(found[0].get("status") or {})
        return explain_process_cluster(object_key(found[0]), spec, status, place.now())
    if found:
        raise InvalidInputError(f"there are {len(found)} of that name", where=name, remedy="write namespace/name")
    try:
        return explain_decision(msgspec.json.decode(place.gateway().decision(name), type=DecisionRecord))
    except InvalidInputError as error:
        known = ", ".join(object_key(item) for item in items) or "none"
        raise InvalidInputError(
            "neither a process cluster nor a proposal", where=name, remedy=f"process clusters: {known}"
        ) from error


def explain_stored(database: str, proposal_id: str) -> str:
    """A decision in plain words from the records, with no gateway to ask."""
    from pilotage_gateway.public import find_decision

    return explain_decision(msgspec.json.decode(find_decision(database, proposal_id), type=DecisionRecord))
