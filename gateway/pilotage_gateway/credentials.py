"""Secrets in files: of sources that post, of programs with a role, and of people who stop process clusters.

Tokens that somebody else has signed are in tokens.py.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from pilotage_core.source import Source
from pilotage_core.wire import CREDENTIAL_HEADER
from pilotage_gateway.access import Caller, ForbiddenError, UnauthorizedError
from pilotage_gateway.rereading import Reread

SHORTEST_SECRET = 16
OF_ACCOUNTS = "sa:"
"""Begins the names of sources that are service accounts: a namespace may be called as another source is."""
SHA256 = re.compile("[0-9a-fA-F]{64}")


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a file of sources."""

    source: str
    namespaces: tuple[str, ...]
    secret: str


def check_names(sources: Iterable[str]) -> None:
    """Raise ValueError for a source that calls itself as another kind does."""
    if bad := next((name for name in sources if name.startswith(OF_ACCOUNTS) or "~" in name), None):
        raise ValueError(f"a source cannot be called {bad!r}")


def _check_secrets(secrets: tuple[Secret, ...]) -> None:
    check_names(each.source for each in secrets)
    if short := next((each for each in secrets if len(each.secret) < SHORTEST_SECRET), None):
        raise ValueError(f"the secret of source {short.source!r} is shorter than {SHORTEST_SECRET} characters")


class SecretFile:
    """A JSON list of {"source", "namespaces", "secret"}."""

    def __init__(self, path: Path) -> None:
        self._file = Reread(path, tuple[Secret, ...], _check_secrets)
        if path.exists():
            self._file.read()

    async def identify(self, token: str) -> Caller | None:
        """The source whose secret `token` is."""
        given = token.encode()
        found = None
        for each in self._file.find() or ():  # all of them, in the same time whichever it is
            if hmac.compare_digest(each.secret.encode(), given):
                found = Caller(each.source, Source(each.source, each.namespaces))
        return found


class Digested(Protocol):
    """What is known of somebody's secret: `sha256` of it, in hex."""

    @property
    def sha256(self) -> str:
        """The digest."""
        ...


D = TypeVar("D", bound=Digested)


def find_by_digest(known: Iterable[D], secret: str) -> D | None:
    """Whose secret it is. Looks at all of them, in the same time whichever it is."""
    given = hashlib.sha256(secret.encode()).hexdigest()
    found = None
    for each in known:
        if hmac.compare_digest(each.sha256.lower(), given):
            found = each
    return found


class Stopper(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may stop process clusters, and perhaps let them go on. `sha256` is of the credential, in hex."""

    name: str
    sha256: str
    resumes: bool = False


def _check_stoppers(stoppers: tuple[Stopper, ...]) -> None:
    if bad := next((each for each in stoppers if not SHA256.fullmatch(each.sha256)), None):
        raise ValueError(f"sha256 of {bad.name!r} is not 64 hex digits")


class StopFile:
    """A JSON list of Stopper. Nobody else has to be asked.

    Until there has been a file everybody may; once there was one it counts, whatever becomes of it.
    A credential without `resumes` can only make things safer: it may lie where somebody who is woken finds it.
    """

    def __init__(self, path: Path) -> None:
        self._file = Reread(path, tuple[Stopper, ...], _check_stoppers)
        if path.exists():
            self._file.read()

    @property
    def is_kept(self) -> bool:
        """Whether somebody has said who may."""
        return self._file.find() is not None

    def identify(self, credential: str, *, stops: bool) -> str:
        """The name behind `credential`. Raises UnauthorizedError, ForbiddenError."""
        found = find_by_digest(self._file.read(), credential)
        if found is None:
            raise UnauthorizedError(
                "who is this?", where=CREDENTIAL_HEADER, remedy="send a credential that may stop: PILOTAGE_CREDENTIAL"
            )
        if not stops and not found.resumes:
            raise ForbiddenError(
                f"{found.name} may stop and not let go on", where=CREDENTIAL_HEADER, remedy="ask one who may"
            )
        return found.name
