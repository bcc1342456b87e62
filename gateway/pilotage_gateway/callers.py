"""Who makes a request: its bearer token becomes a caller, with the source and the roles that it has.

In this order: secrets of sources, service accounts of Kubernetes, and what the file of --access names: issuers of
tokens, programs with a secret. What a caller may do is decided in access.py.
"""

from pathlib import Path

import msgspec

from pilotage_core.source import Source
from pilotage_core.wire import EXPORT_AUDIENCE, GATEWAY_AUDIENCE
from pilotage_gateway.access import EVERYWHERE, NOBODY_ASKS, Caller, Grant, Held, Role, UnauthorizedError
from pilotage_gateway.credentials import OF_ACCOUNTS, SHA256, SecretFile, check_names, find_by_digest
from pilotage_gateway.rereading import Reread
from pilotage_gateway.tokens import Identity, Issuer, Tokens, check_url

ACCOUNT = "system:serviceaccount:"


class Poster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A source that shows tokens of `issuer` in one of `names`."""

    source: str
    namespaces: tuple[str, ...]
    issuer: str
    names: tuple[str, ...]


class Program(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program with a secret and a role. `sha256` is of the secret, in hex."""

    name: str
    sha256: str
    role: Role
    namespaces: tuple[str, ...]


class Access(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of --access. `open_metrics`: whoever reaches /metrics may read it, which has figures and no content."""

    issuers: tuple[Issuer, ...] = ()
    grants: tuple[Grant, ...] = ()
    sources: tuple[Poster, ...] = ()
    programs: tuple[Program, ...] = ()
    open_metrics: bool = True


def check_access(access: Access) -> None:
    """Raise ValueError for a file that says what cannot be meant."""
    known = {each.issuer for each in access.issuers}
    for each in access.issuers:
        if not each.jwks.startswith("/"):
            check_url(each.jwks or each.issuer)
        if not each.audience.strip():
            raise ValueError(f"issuer {each.issuer}: for which audience? Another service's tokens would count")
    said: tuple[Grant | Poster, ...] = (*access.grants, *access.sources)
    for issuer, namespaces in ((each.issuer, each.namespaces) for each in said):
        if issuer not in known:
            raise ValueError(f"{issuer!r} is not among the issuers")
        if not namespaces:
            raise ValueError(f"what is granted by {issuer!r} counts in no namespace")
    check_names(each.source for each in access.sources)
    for program in access.programs:
        if not SHA256.fullmatch(program.sha256):
            raise ValueError(f"sha256 of {program.name!r} is not 64 hex digits")


class AccessFile:
    """Issuers, grants, sources and programs by the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._file = Reread(path, Access, check_access)
        self._of = Access()
        self._tokens = Tokens(())
        if path.exists():
            self._file.read()

    @property
    def open_metrics(self) -> bool:
        """Whether /metrics asks for nothing."""
        return self._read().open_metrics

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """Whose tokens count."""
        return self._read().issuers

    def _read(self) -> Access:
        """What the file says; nothing, until there has been one."""
        access = self._file.find() or self._of
        if access is not self._of:
            if access.issuers != self._of.issuers:
                self._tokens = Tokens(access.issuers)
            self._of = access
        return access

    async def identify(self, token: str) -> Caller | None:
        """The caller that `token` is of. Raises UnauthorizedError, UnavailableError."""
        access = self._read()
        if (program := _find_program(access, token)) is not None:
            return program
        identity = await self._tokens.identify(token)
        return None if identity is None else _find_person(access, identity)


def _find_program(access: Access, token: str) -> Caller | None:
    found = find_by_digest(access.programs, token)
    return None if found is None else Caller(found.name, None, (Held(found.role, found.namespaces),))


def _find_person(access: Access, identity: Identity) -> Caller:
    who = (identity.issuer, identity.name)
    posters = (each for each in access.sources if each.issuer == who[0] and who[1] in each.names)
    poster = next(posters, None)
    held = tuple(Held(g.role, g.namespaces) for g in access.grants if g.is_for(*who, identity.groups))
    return Caller(identity.name, Source(poster.source, poster.namespaces) if poster else None, held)


class ServiceAccounts:
    """Tokens of service accounts, by what they were made for: to post, or to read records, of their own namespace.

    Those of `home`, the installation's own namespace, read the records of all.
    """

    def __init__(self, tokens: Tokens, home: str) -> None:
        self._tokens = tokens
        self._home = home

    async def identify(self, token: str) -> Caller | None:
        """The caller that `token` is of. Raises UnauthorizedError, UnavailableError."""
        identity = await self._tokens.identify(token)
        if identity is None or not identity.name.startswith(ACCOUNT):
            return None
        namespace = identity.name.removeprefix(ACCOUNT).partition(":")[0]
        reads = (EVERYWHERE,) if namespace == self._home else (namespace,)
        return Caller(
            identity.name,
            Source(OF_ACCOUNTS + namespace, (namespace,)) if GATEWAY_AUDIENCE in identity.audiences else None,
            (Held(Role.READER, reads),) if EXPORT_AUDIENCE in identity.audiences else (),
        )


class Callers:
    """All ways together, in order; none at all: whoever can reach the gateway may do everything."""

    def __init__(self, *ways: SecretFile | ServiceAccounts | AccessFile) -> None:
        self._ways = ways

    @property
    def knows_anybody(self) -> bool:
        """Whether it is said who may do what."""
        return bool(self._ways)

    @property
    def open_metrics(self) -> bool:
        """Whether /metrics asks for nothing."""
        return all(way.open_metrics for way in self._ways if isinstance(way, AccessFile))

    @property
    def issuers(self) -> list[Issuer]:
        """Whose tokens of people count."""
        return [issuer for way in self._ways if isinstance(way, AccessFile) for issuer in way.issuers]

    async def identify(self, authorization: str) -> Caller:
        """The caller behind an Authorization header. Raises UnauthorizedError, UnavailableError."""
        if not self._ways:
            return NOBODY_ASKS
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            for way in self._ways:
                if (caller := await way.identify(token.strip())) is not None:
                    return caller
        raise UnauthorizedError("who is this?", where="Authorization", remedy="send Bearer and a credential")
