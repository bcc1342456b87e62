"""Who posts: a bearer token becomes a source. A file of shared secrets, Kubernetes service accounts, or both.

A session belongs to the source whose credential opened it; nothing that is posted says so. Who stops process clusters
has a credential of another kind. Those of people and programs that read are not here yet.
"""

import hashlib
import hmac
import logging
import re
import ssl
import time
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import aiohttp
import msgspec

from pilotage_core.errors import InvalidInputError, PilotageError, UnavailableError
from pilotage_core.source import ANYONE, Source
from pilotage_core.wire import CREDENTIAL_HEADER, GATEWAY_AUDIENCE

log = logging.getLogger(__name__)
ACCOUNT = "system:serviceaccount:"
SHORTEST_SECRET = 16
_SHA256 = re.compile("[0-9a-fA-F]{64}")
KNOWN_SECONDS, UNKNOWN_SECONDS = 60.0, 5.0
KNOWN_KEPT = 4096
TIMEOUT = aiohttp.ClientTimeout(total=2.0)


class UnauthorizedError(PilotageError):
    """No credential, or one that nobody knows."""


class ForbiddenError(PilotageError):
    """A credential that is known, and may not do this."""


class Credentials(Protocol):
    """One way of telling who posts."""

    async def identify(self, token: str) -> Source | None:
        """The source that `token` is of; None where it is none of this way's. Raises UnavailableError."""
        ...


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file of sources."""

    source: str
    namespaces: tuple[str, ...]
    secret: str


class SecretFile:
    """A JSON list of {"source", "namespaces", "secret"}, read again when it changes; the last good one stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = 0
        self._secrets: tuple[Secret, ...] = ()
        self._read()

    async def identify(self, token: str) -> Source | None:
        """The source whose secret `token` is."""
        self._read()
        given = token.encode()
        found = None
        for each in self._secrets:  # all of them, in the same time whichever it is
            if hmac.compare_digest(each.secret.encode(), given):
                found = Source(each.source, each.namespaces)
        return found

    def _read(self) -> None:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            secrets = msgspec.json.decode(self._path.read_bytes(), type=tuple[Secret, ...])
            if short := next((each for each in secrets if len(each.secret) < SHORTEST_SECRET), None):
                raise ValueError(f"the secret of source {short.source!r} is shorter than {SHORTEST_SECRET} characters")
            self._secrets, self._stamp = secrets, stamp
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            if not self._secrets:
                raise InvalidInputError(f"cannot be read: {error}", where=str(self._path)) from error
            log.warning("%s cannot be read, the last good one stays: %s", self._path, error)


class Stopper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may stop process clusters, and perhaps let them go on. `sha256` is of the credential, in hex."""

    name: str
    sha256: str
    resumes: bool = False


class StopFile:
    """A JSON list of Stopper, read again when it changes; the last good one stays. Nobody else has to be asked.

    Until there has been a file everybody may; once there was one it counts, whatever becomes of it.
    A credential without `resumes` can only make things safer: it may lie where somebody who is woken finds it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = 0
        self._stoppers: tuple[Stopper, ...] = ()
        if path.exists():
            self._read()

    def identify(self, credential: str, *, stops: bool) -> str:
        """The name behind `credential`; empty where everybody may. Raises UnauthorizedError, ForbiddenError."""
        if not self._stamp and not self._path.exists():
            return ""
        self._read()
        given = hashlib.sha256(credential.encode()).hexdigest()
        found = None
        for each in self._stoppers:  # all of them, in the same time whichever it is
            if hmac.compare_digest(each.sha256.lower(), given):
                found = each
        if found is None:
            raise UnauthorizedError(
                "who is this?", where=CREDENTIAL_HEADER, remedy="send a credential that may stop: PILOTAGE_CREDENTIAL"
            )
        if not stops and not found.resumes:
            raise ForbiddenError(
                f"{found.name} may stop and not let go on", where=CREDENTIAL_HEADER, remedy="ask one who may"
            )
        return found.name

    def _read(self) -> None:
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            stoppers = msgspec.json.decode(self._path.read_bytes(), type=tuple[Stopper, ...])
            if bad := next((each for each in stoppers if not _SHA256.fullmatch(each.sha256)), None):
                raise ValueError(f"sha256 of {bad.name!r} is not 64 hex digits")
            self._stoppers, self._stamp = stoppers, stamp
        except (OSError, ValueError) as error:
            if not self._stamp:
                raise InvalidInputError(f"cannot be read: {error}", where=str(self._path)) from error
            log.warning("%s cannot be read, the last good one stays: %s", self._path, error)


class _Review(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: dict[str, object] = {}
    audiences: tuple[str, ...] = ()


class _TokenReview(msgspec.Struct, frozen=True):
    status: _Review = _Review()


class TokenReviews:
    """Service accounts, asked of the API server: a source is the account's namespace, and served by it alone."""

    def __init__(self, server: str, token: Path, certificate: Path, audience: str = GATEWAY_AUDIENCE) -> None:
        self._url = server.rstrip("/") + "/apis/authentication.k8s.io/v1/tokenreviews"
        self._token, self._certificate, self._audience = token, certificate, audience
        self._known: OrderedDict[bytes, tuple[float, Source | None]] = OrderedDict()

    async def identify(self, token: str) -> Source | None:
        """The namespace of the service account that `token` is of."""
        key, now = hashlib.sha256(token.encode()).digest(), time.monotonic()
        until, source = self._known.get(key, (0.0, None))
        if now < until:
            return source
        source = await self._ask(token)
        self._known[key] = (now + (UNKNOWN_SECONDS if source is None else KNOWN_SECONDS), source)
        while len(self._known) > KNOWN_KEPT:
            self._known.popitem(last=False)
        return source

    def _ssl(self) -> ssl.SSLContext | bool:
        return ssl.create_default_context(cafile=str(self._certificate))

    async def _ask(self, token: str) -> Source | None:
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                "spec": {"token": token, "audiences": [self._audience]}}  # fmt: skip
        try:
            headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": "application/json"}
            async with (
                aiohttp.ClientSession(timeout=TIMEOUT) as client,
                client.post(self._url, data=msgspec.json.encode(body), headers=headers, ssl=self._ssl()) as answer,
            ):
                answer.raise_for_status()
                review = msgspec.json.decode(await answer.read(), type=_TokenReview)
        except (OSError, aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            raise UnavailableError(f"tokens cannot be reviewed: {error}", where=self._url) from error
        name = str(review.status.user.get("username", "")) if review.status.authenticated else ""
        if self._audience not in review.status.audiences:  # an API server that knows no audiences takes any token
            return None
        if not name.startswith(ACCOUNT):
            return None
        namespace = name.removeprefix(ACCOUNT).partition(":")[0]
        return Source(namespace, (namespace,))


class Callers:
    """All ways together; none at all: whoever can reach the gateway is its one source."""

    def __init__(self, *ways: Credentials) -> None:
        self._ways = ways

    async def identify(self, authorization: str) -> Source:
        """The source behind an Authorization header. Raises UnauthorizedError, UnavailableError."""
        if not self._ways:
            return ANYONE
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            for way in self._ways:
                if (source := await way.identify(token.strip())) is not None:
                    return source
        raise UnauthorizedError(
            "who is this?", where="Authorization", remedy="send Bearer and the credential of a source"
        )
