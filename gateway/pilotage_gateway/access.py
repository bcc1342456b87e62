"""Who may do what: roles, what each of them may, and in which namespaces. Pure: who somebody is, stands in callers.py.

Nobody may post by a role: that takes a source, which a session then belongs to.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from pilotage_core.errors import PilotageError
from pilotage_core.source import ANYONE, Source

EVERYWHERE = "*"


class UnauthorizedError(PilotageError):
    """No credential, or one that nobody knows."""


class ForbiddenError(PilotageError):
    """A credential that is known, and may not do this."""


class Role(StrEnum):
    """What people and programs are here."""

    OPERATOR = "operator"  # works sessions
    SUPERVISOR = "supervisor"  # and stops process clusters
    AUDITOR = "auditor"  # reads everything
    READER = "reader"  # a program that learns or counts: exports and labels
    MONITOR = "monitor"  # scrapes


class Act(StrEnum):
    """What an endpoint lets somebody do."""

    READ_SESSIONS = "read sessions"
    ANSWER = "answer proposals"
    READ_DECISIONS = "read decisions"
    SEARCH = "search the ledger"
    EXPORT = "export records"
    READ_STATUS = "read the status"
    SCRAPE = "read the metrics"
    STOP = "stop process clusters, or let them go on"


ROLES: dict[Act, frozenset[Role]] = {
    Act.READ_SESSIONS: frozenset({Role.OPERATOR, Role.SUPERVISOR, Role.AUDITOR}),
    Act.ANSWER: frozenset({Role.OPERATOR, Role.SUPERVISOR}),
    Act.READ_DECISIONS: frozenset({Role.OPERATOR, Role.SUPERVISOR, Role.AUDITOR}),
    Act.SEARCH: frozenset({Role.SUPERVISOR, Role.AUDITOR}),
    Act.EXPORT: frozenset({Role.AUDITOR, Role.READER}),
    Act.READ_STATUS: frozenset(Role),
    Act.SCRAPE: frozenset({Role.MONITOR, Role.AUDITOR}),
    Act.STOP: frozenset({Role.SUPERVISOR}),
}


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A role in some namespaces ("*": all of them), for those who have one of `names` or are in one of `groups`.

    Names and groups count within the issuer that says them: those of one are nobody for another.
    """

    role: Role
    namespaces: tuple[str, ...]
    issuer: str
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def is_for(self, issuer: str, name: str, groups: Sequence[str]) -> bool:
        """Whether `issuer`'s `name`, who is in `groups`, has this."""
        return issuer == self.issuer and (name in self.names or not set(groups).isdisjoint(self.groups))


class Held(msgspec.Struct, frozen=True):
    """A role that somebody has, and where."""

    role: Role
    namespaces: tuple[str, ...]


class Caller(msgspec.Struct, frozen=True):
    """Who makes a request: `source` where it may post sessions, `held` where it may do more."""

    name: str
    source: Source | None = None
    held: tuple[Held, ...] = ()

    def may(self, act: Act, namespace: str = "") -> bool:
        """Whether it may do `act` in `namespace`; without one, in all of them at once.

        A session that no process cluster serves has none: it is for those who may everywhere.
        """
        return any(
            held.role in ROLES[act] and (EVERYWHERE in held.namespaces or (namespace and namespace in held.namespaces))
            for held in self.held
        )

    def may_somewhere(self, act: Act) -> bool:
        """Whether it may do `act` in some namespace."""
        return any(held.role in ROLES[act] for held in self.held)

    def where(self, act: Act) -> frozenset[str] | None:
        """Namespaces in which it may do `act`; None: everywhere."""
        found = [held.namespaces for held in self.held if held.role in ROLES[act]]
        return None if any(EVERYWHERE in each for each in found) else frozenset(name for each in found for name in each)

    def sees(self, namespace: str) -> bool:
        """Whether the status of what is in `namespace` is for it: as its source, or by a role there."""
        mine = self.source is not None and self.source.rank(namespace) is not None
        return mine or self.may(Act.READ_STATUS, namespace)

    def require_somewhere(self, act: Act) -> None:
        """Raise ForbiddenError where it may not do `act` in any namespace."""
        if not self.may_somewhere(act):
            self.require(act)

    def require(self, act: Act, namespace: str = "") -> None:
        """Raise ForbiddenError where it may not do `act` in `namespace`."""
        if not self.may(act, namespace):
            place = f"in namespace {namespace}" if namespace else "everywhere"
            raise ForbiddenError(
                f"{self.name} may not {act} {place}", where="Authorization", remedy=f"needs one of: {_name(ROLES[act])}"
            )


def _name(roles: Iterable[Role]) -> str:
    return ", ".join(sorted(roles))


NOBODY_ASKS = Caller("", ANYONE, tuple(Held(role, (EVERYWHERE,)) for role in Role))
"""Every caller of a gateway that was told of no credentials: loopback, tests."""


def namespace_of(process_cluster: str) -> str:
    """The namespace of a process cluster's key; empty for none."""
    return process_cluster.partition("/")[0]
