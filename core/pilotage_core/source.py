"""Where sessions come from: a source, told by the credential that posts and never by the post. Pure.

A source is bound to the namespaces that may serve it: no selector, priority or ttl reaches further.
"""

import msgspec


class Source(msgspec.Struct, frozen=True):
    """Whoever holds one credential. `namespaces` may serve its sessions, the first before the others; "*": all may.

    The nameless source is an installation's only one: its session ids stand as they are.
    """

    name: str = ""
    namespaces: tuple[str, ...] = ()

    def rank(self, namespace: str) -> int | None:
        """The place of `namespace` among those that may serve this source; None where it may not."""
        if namespace in self.namespaces:
            return self.namespaces.index(namespace)
        return len(self.namespaces) if "*" in self.namespaces else None

    def key(self, session_id: str) -> str:
        """The id of a session in the records: two sources may call their sessions the same."""
        return f"{self.name}~{session_id}" if self.name else session_id


ANYONE = Source("", ("*",))
"""Every caller, where an installation knows no credentials: loopback, tests."""


def session_of(key: str) -> str:
    """What its source calls the session with this id in the records."""
    return key.rpartition("~")[2]
