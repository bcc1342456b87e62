"""The running services as the command line asks them: gateway and controller over HTTP, objects from Kubernetes.

Every call has a limit in time and says what did not answer. Not here: what is made of the answers.
"""

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.wire import CREDENTIAL_HEADER, EXPORT_AUDIENCE, TOKEN_FILE_VARIABLE, GatewayStatus, Suspend

TIMEOUT_SECONDS = 5.0
EXPORT_TIMEOUT_SECONDS = 60.0
GROUP, VERSION = "pilotage.dev", "v1alpha1"
SYSTEM_NAMESPACE = "pilotage-system"
READER = "pilotage-reader"
GATEWAY_SERVICE, CONTROLLER_SERVICE = "pilotage-gateway", "pilotage-controller"

ApiObject = dict[str, Any]


def find_token() -> str:
    """The token in the file that PILOTAGE_TOKEN_FILE names; empty where it names none."""
    path = os.environ.get(TOKEN_FILE_VARIABLE, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else ""
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error}", where=TOKEN_FILE_VARIABLE) from error


def find_credential() -> dict[str, str]:
    """The header of who stops: PILOTAGE_CREDENTIAL, where there is one, else the token of a person."""
    if credential := os.environ.get("PILOTAGE_CREDENTIAL", ""):
        return {CREDENTIAL_HEADER: credential}
    token = find_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def only_credential() -> dict[str, str]:
    """The same without a person's token: the API server in between would take it for one of its own."""
    return {name: value for name, value in find_credential().items() if name == CREDENTIAL_HEADER}


class GatewayApi:
    """A gateway at `url`; `token` gives what says who reads, once something is read."""

    def __init__(self, url: str, token: Callable[[], str] = find_token) -> None:
        self.url = url.rstrip("/")
        self._token = cache(token)

    def _ask(self, path: str, timeout: float = TIMEOUT_SECONDS) -> bytes:
        headers = {"Authorization": f"Bearer {self._token()}"} if self._token() else {}
        return _read(urllib.request.Request(self.url + path, headers=headers), timeout)

    def status(self) -> GatewayStatus:
        """What the gateway knows of permits, stages and live sessions."""
        return _decode(self._ask("/v1/status"), GatewayStatus, self.url)

    def total(self, counter: str) -> int:
        """Sum of one of its counters over all labels."""
        lines = self._ask(f"/metrics?{urlencode({'name[]': counter})}").decode().splitlines()
        return round(sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{counter}{{")))

    def is_ready(self) -> bool:
        """Whether it answers /readyz."""
        return is_answering(f"{self.url}/readyz")

    def decision(self, proposal_id: str) -> bytes:
        """Everything the gate saw of one proposal (JSON). Raises InvalidInputError where it is unknown."""
        return self._ask(f"/v1/decisions/{proposal_id}")

    def suspend(self, process_cluster: str, suspended: bool, who: str, why: str) -> None:
        """Stop (or let go on) one process cluster, or all of them with "*": checked with every intent."""
        self.send_suspend(Suspend(process_cluster=process_cluster, suspended=suspended, who=who, why=why))

    def send_suspend(self, body: Suspend, timeout: float = TIMEOUT_SECONDS) -> bytes:
        """The same, answered within `timeout` seconds; gives the answer."""
        request = urllib.request.Request(
            f"{self.url}/v1/suspend",
            data=msgspec.json.encode(body),
            headers={"content-type": "application/json", **find_credential()},
            method="POST",
        )
        return _read(request, timeout)

    def export(self, process_cluster: str, *, closed: bool) -> Iterator[bytes]:
        """Sessions of one process cluster, one JSON line each: the closed ones, or those still open."""
        query = urlencode({"process_cluster": process_cluster, "closed": str(closed).lower()})
        yield from self._ask(f"/v1/export?{query}", EXPORT_TIMEOUT_SECONDS).splitlines(keepends=True)


class ControllerApi:
    """A controller at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def is_healthy(self) -> bool:
        """Whether it answers /healthz."""
        return is_answering(f"{self.url}/healthz")


class Kubernetes:
    """The current context's API server, through the official client."""

    def __init__(self) -> None:
        from kubernetes import client, config
        from kubernetes.config import ConfigException

        try:
            config.load_kube_config()
        except ConfigException as error:
            raise UnavailableError(
                f"no Kubernetes is configured: {error}", remedy="set KUBECONFIG, or use --local"
            ) from error
        self._objects = client.CustomObjectsApi()
        self._core = client.CoreV1Api()

    def list_objects(self, plural: str) -> list[ApiObject]:
        """All objects of one of our kinds, by its plural, in every namespace."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            found = self._objects.list_cluster_custom_object(GROUP, VERSION, plural, _request_timeout=TIMEOUT_SECONDS)
        except (ApiException, HTTPError) as error:
            raise UnavailableError(f"the API server does not list {plural}: {error}") from error
        items: list[ApiObject] = found["items"]
        return items

    def process_clusters(self) -> list[ApiObject]:
        """All process clusters: metadata, spec, status."""
        return self.list_objects("processclusters")

    def config_map(self, namespace: str, name: str) -> ApiObject | None:
        """A ConfigMap's name and data; None where there is none. Raises UnavailableError."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            found = self._core.read_namespaced_config_map(name, namespace, _request_timeout=TIMEOUT_SECONDS)
        except (ApiException, HTTPError) as error:
            if isinstance(error, ApiException) and error.status == 404:
                return None
            raise UnavailableError(f"the API server does not show it: {error}", where=f"ConfigMap {name}") from error
        return {"metadata": {"namespace": namespace, "name": name}, "data": found.data or {}}

    def reading_token(self) -> str:
        """A token that reads a gateway's records: the one named, else of service account pilotage-reader, for those
        who may make one.
        """
        if named := find_token():
            return named
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        wanted = client.AuthenticationV1TokenRequest(
            spec=client.V1TokenRequestSpec(audiences=[EXPORT_AUDIENCE], expiration_seconds=3600)
        )
        try:
            made = self._core.create_namespaced_service_account_token(
                READER, SYSTEM_NAMESPACE, wanted, _request_timeout=TIMEOUT_SECONDS
            )
        except (ApiException, HTTPError) as error:
            said = error.reason if isinstance(error, ApiException) else type(error).__name__
            raise UnavailableError(
                f"no token for service account {READER}: {said}",
                where=SYSTEM_NAMESPACE,
                remedy=f"name a file with a token of yours: {TOKEN_FILE_VARIABLE}",
            ) from error
        return str(made.status.token)

    def node_port_url(self, service_name: str) -> str:
        """Where a Service of ours is reached from outside, by its NodePort. Raises UnavailableError without one."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            service = self._core.read_namespaced_service(service_name, SYSTEM_NAMESPACE, _request_timeout=5)
            nodes = self._core.list_node(_request_timeout=5).items
        except (ApiException, HTTPError) as error:
            raise UnavailableError(f"the API server does not show it: {error}", where=service_name) from error
        ports = [port.node_port for port in service.spec.ports if port.node_port]
        addresses = [a.address for node in nodes for a in node.status.addresses if a.type == "InternalIP"]
        if not ports or not addresses:
            raise UnavailableError("it has no NodePort", where=service_name, remedy="name its URL with --gateway")
        return f"http://{addresses[0]}:{ports[0]}"


def read_statuses(folder: Path) -> list[ApiObject]:
    """Process clusters as a local controller keeps them in its folder: what `kubectl get` would show."""
    found = sorted((folder / "status").glob("*/*.json"))
    return [msgspec.json.decode(path.read_bytes(), type=ApiObject) for path in found]


def is_answering(url: str) -> bool:
    """Whether `url` answers 2xx within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return bool(200 <= answer.status < 300)
    except (OSError, urllib.error.URLError):
        return False


def read_manifests(folder: Path, kind: str) -> list[ApiObject]:
    """Objects of `kind` among the YAML files of a folder, with their namespace filled in from its kustomization."""
    import yaml

    documents = [
        document
        for path in sorted(folder.glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if isinstance(document, dict)
    ]
    namespace = next((d["namespace"] for d in documents if d.get("kind") == "Kustomization" and "namespace" in d), "")
    found = [document for document in documents if document.get("kind") == kind]
    for document in found:
        document["metadata"].setdefault("namespace", namespace or "default")
    return found


def _read(request: urllib.request.Request, timeout: float) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        said = error.read()[:500].decode(errors="replace")
        if 400 <= error.code < 500:
            raise InvalidInputError(f"refused ({error.code}): {said}", where=request.full_url) from error
        raise UnavailableError(f"answered {error.code}: {said}", where=request.full_url) from error
    except OSError as error:
        raise UnavailableError(f"no answer: {error}", where=request.full_url, remedy="is it running?") from error


Kind = TypeVar("Kind")


def _decode(body: bytes, kind: type[Kind], where: str) -> Kind:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise UnavailableError(f"not the answer expected: {error}", where=where) from error
