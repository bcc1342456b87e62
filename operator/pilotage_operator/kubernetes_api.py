"""The API server over HTTP: get, list, watch, server-side apply; only what the controller needs.

Credentials: this pod's ServiceAccount, or the current context of KUBECONFIG, which kopf reads. Not here: what is read
and written.
"""

import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

from pilotage_core.errors import ConflictError, InvalidInputError, UnavailableError

Object = dict[str, Any]
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT = aiohttp.ClientTimeout(total=5.0)
TOKEN_SECONDS = 60.0
WATCH_SECONDS = 20
"""A watch ends after so long and goes on from where it was: one that hangs is noticed by then."""
PAGE = 500
GONE = 410
METADATA_ONLY = "application/json;as=PartialObjectMetadata%s;g=meta.k8s.io;v=v1"


@dataclass(slots=True)
class Credentials:
    """Where the API server is and how to speak to it. A token is read again from its file, which the kubelet renews."""

    server: str
    tls: ssl.SSLContext
    token_file: Path | None = None
    token: str = ""
    read_at: float = field(default=0.0)

    def headers(self) -> dict[str, str]:
        """The Authorization header, if a token is used."""
        if self.token_file is not None and time.monotonic() - self.read_at > TOKEN_SECONDS:
            self.token, self.read_at = self.token_file.read_text().strip(), time.monotonic()
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def find_credentials() -> Credentials:
    """This pod's ServiceAccount, or KUBECONFIG's current context. Raises InvalidInputError without either."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if host and (SERVICE_ACCOUNT / "token").exists():
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
        return Credentials(f"https://{host}:{port}", tls, SERVICE_ACCOUNT / "token")
    return _read_kubeconfig()


def _read_kubeconfig() -> Credentials:
    import kopf  # 20 to 50 MB that no pod needs

    try:
        found = kopf.login_with_kubeconfig(settings=kopf.OperatorSettings())
    except (OSError, yaml.YAMLError, kopf.LoginError, KeyError, AttributeError, TypeError) as error:
        raise InvalidInputError(f"has no whole current context: {error!r}", where="KUBECONFIG") from error
    if found is None or not found.server:
        raise InvalidInputError("no cluster to speak to", where="KUBECONFIG", remedy="set it, or run in a pod")
    if not (found.token or found.certificate_path or found.certificate_data):
        raise InvalidInputError("the current user has neither a client certificate nor a token", where="KUBECONFIG")
    try:
        return Credentials(found.server, found.as_ssl_context(), token=found.token or "")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"a certificate or key cannot be read: {error}", where="KUBECONFIG") from error


class ForbiddenError(UnavailableError):
    """The API server answers, and will not have it: rights, a quota, an admission policy."""


class MissingError(UnavailableError):
    """Nothing is at that path."""


class GoneError(UnavailableError):
    """The version asked from is not known to the API server any more."""


class _Listed(msgspec.Struct):
    metadata: dict[str, Any]


class KubernetesApi:
    """Requests by path. Every method raises UnavailableError where the server does not answer or is too busy."""

    def __init__(self, credentials: Credentials, client: aiohttp.ClientSession) -> None:
        self._credentials = credentials
        self._client = client

    async def get(self, path: str) -> Object | None:
        """The object at `path`, or None."""
        return await self._request("GET", path, missing_is_none=True)

    async def list(self, path: str, selector: str = "", fields: str = "") -> Object:
        """The list at `path`, as the API gives it, of what has the labels of `selector` and the values of `fields`."""
        query = ({"labelSelector": selector} if selector else {}) | ({"fieldSelector": fields} if fields else {})
        found = await self._request("GET", path, query)
        return found or {"items": [], "metadata": {}}

    async def create(self, path: str, item: Object) -> Object | None:
        """Create `item`; None where one of that name is there already."""
        try:
            return await self._request("POST", path, {"fieldManager": "pilotage-controller"}, item)
        except ConflictError:
            return None

    async def replace(self, path: str, item: Object) -> Object | None:
        """Put `item` in the place of the version it names; raises ConflictError where that is not the current one."""
        return await self._request("PUT", path, {"fieldManager": "pilotage-controller"}, item)

    async def apply(self, path: str, item: Object, manager: str = "pilotage-controller") -> Object | None:
        """Server-side apply. With metadata.resourceVersion, raises ConflictError where that is not the current one."""
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("PATCH", path, query, item, "application/apply-patch+yaml")

    async def delete(self, path: str) -> None:
        """Delete what is at `path`, and what it owns, in the background."""
        await self._request("DELETE", path, {"propagationPolicy": "Background"}, missing_is_none=True)

    async def list_pages(self, path: str, selector: str = "", *, as_metadata: bool = False) -> AsyncIterator[bytes]:
        """The list at `path` as it comes, page by page, all of one version."""
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        accept = METADATA_ONLY % "List" if as_metadata else "application/json"
        while True:
            body = await self._ask("GET", path, query, accept=accept)
            yield body
            token = msgspec.json.decode(body, type=_Listed).metadata.get("continue")
            if not token:
                return
            query["continue"] = str(token)

    async def watch(
        self, path: str, version: str, selector: str = "", *, as_metadata: bool = False
    ) -> AsyncIterator[bytes]:
        """Events after `version`, one line each, until the server ends the watch. Raises GoneError for one too old."""
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        } | ({"labelSelector": selector} if selector else {})
        timeout = aiohttp.ClientTimeout(total=None, sock_read=WATCH_SECONDS + 5)
        try:
            async with self._client.get(
                self._credentials.server + path,
                params=query,
                ssl=self._credentials.tls,
                headers=self._credentials.headers()
                | {"Accept": METADATA_ONLY % "" if as_metadata else "application/json"},
                timeout=timeout,
                read_bufsize=4 << 20,
            ) as response:
                if response.status != 200:
                    raise _error(response.status, await response.read(), path)
                async for line in response.content:
                    if line.strip():
                        yield line
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"the watch broke: {type(error).__name__} {error}", where=path) from error

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        missing_is_none: bool = False,
    ) -> Object | None:
        try:
            found: Object = msgspec.json.decode(await self._ask(method, path, query, body, content_type))
        except MissingError:
            if not missing_is_none:
                raise
            return None
        return found

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        try:
            async with self._client.request(
                method,
                self._credentials.server + path,
                params=query,
                data=msgspec.json.encode(body) if body is not None else None,
                ssl=self._credentials.tls,
                headers=self._credentials.headers() | {"Content-Type": content_type, "Accept": accept},
                timeout=TIMEOUT,
            ) as response:
                answer = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnavailableError(f"the API server: {type(error).__name__} {error}", where=path) from error
        if status >= 300:
            raise _error(status, answer, path)
        return answer


def _error(status: int, answer: bytes, path: str) -> ConflictError | UnavailableError | InvalidInputError:
    try:
        message = str(msgspec.json.decode(answer)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = answer[:300].decode(errors="replace")
    if status == 409:
        return ConflictError(message, where=path)
    if status == 403:
        return ForbiddenError(f"HTTP 403: {message}", where=path)
    if status == 404:
        return MissingError(f"HTTP 404: {message}", where=path)
    if status == GONE:
        return GoneError(f"HTTP 410: {message}", where=path)
    if status in (401, 408, 429) or status >= 500:
        return UnavailableError(f"HTTP {status}: {message}", where=path)
    return InvalidInputError(f"HTTP {status}: {message}", where=path)
