"""Who may ask for permits: a gateway, by its credential. Epochs are believed from nobody else.

Locally a shared secret in a file beside the keys; on Kubernetes the gateway's service account, by TokenReview.
"""

import hashlib
import hmac
import secrets
import time
from pathlib import Path
from typing import Protocol

from pilotage_core.errors import UnavailableError
from pilotage_core.wire import CONTROLLER_AUDIENCE, GATEWAY_SECRET
from pilotage_operator.files import write_file
from pilotage_operator.kubernetes_api import KubernetesApi

KNOWN_SECONDS = 60.0


class Callers(Protocol):
    """One way of telling gateways from others."""

    async def is_gateway(self, token: str) -> bool:
        """Whether `token` is a gateway's. Raises UnavailableError where that cannot be told now."""
        ...


class SharedSecret:
    """Whoever can read the file that a local controller makes at its first start."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    def load(cls, folder: Path) -> "SharedSecret":
        """The secret in `folder`, made where there is none."""
        path = folder / GATEWAY_SECRET
        if not path.exists():
            write_file(path, secrets.token_urlsafe(32).encode(), mode=0o600)
        return cls(path.read_text().strip())

    async def is_gateway(self, token: str) -> bool:
        """Whether `token` is the secret."""
        return bool(self._secret) and hmac.compare_digest(self._secret, token.encode())


class ServiceAccounts:
    """The gateway's service account in the controller's own namespace, as the API server reviews its tokens."""

    def __init__(self, api: KubernetesApi, namespace: str, account: str = "pilotage-gateway") -> None:
        self._api = api
        self._wanted = f"system:serviceaccount:{namespace}:{account}"
        self._known: dict[bytes, float] = {}

    async def is_gateway(self, token: str) -> bool:
        """Whether `token` is of that account and meant for controllers."""
        key, now = hashlib.sha256(token.encode()).digest(), time.monotonic()
        self._known = {digest: until for digest, until in self._known.items() if now < until}
        if key in self._known:
            return True
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [CONTROLLER_AUDIENCE]},
        }
        found = await self._api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)
        if found is None:
            raise UnavailableError("the API server reviews no token", where="TokenReview")
        status = found.get("status") or {}
        heard = CONTROLLER_AUDIENCE in (
            status.get("audiences") or ()
        )  # an API server that knows no audiences takes any token
        known = (
            heard and bool(status.get("authenticated")) and (status.get("user") or {}).get("username") == self._wanted
        )
        if known:
            self._known[key] = now + KNOWN_SECONDS
        return known
