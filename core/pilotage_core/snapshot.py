"""The snapshot gateways act on, in parts: what changes is sent, not ten thousand leaves for one that is taken back.

A leave stands in the part that its key falls into; its screens, which many share, once in the part of their digest. A
permit signs the digest of all parts' digests. Not here: how parts travel (wire.py).
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from pilotage_core.screen import ScreenSchema
from pilotage_core.source import ANYONE, Source
from pilotage_core.wire import Leave

PARTS = 64
"""So that one of ten thousand process clusters costs a gateway the reading of some 160, and a small fleet little."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part as it travels. A leave's `screens` are left out of it: `screens_digest` names them, in this part or
    another.
    """

    leaves: tuple[Leave, ...] = ()
    screens: dict[str, tuple[ScreenSchema, ...]] = {}


class _Encoded(msgspec.Struct, omit_defaults=True):
    """A Part whose items are encoded already."""

    leaves: tuple[msgspec.Raw, ...] = ()
    screens: dict[str, msgspec.Raw] = {}


DECODE_PART = msgspec.json.Decoder(Part).decode
EMPTY = msgspec.json.encode(Part())


class Snapshot(msgspec.Struct, frozen=True):
    """All process clusters, in the order sessions are matched: highest priority first, then by name."""

    leaves: tuple[Leave, ...]

    @property
    def digest(self) -> str:
        """Identity of the content, 32 hex digits: what a permit signs."""
        return Parts(self.leaves).digest


def find_leave(snapshot: Snapshot, metadata: dict[str, str], source: Source = ANYONE) -> Leave | None:
    """The process cluster a session of `source` with `metadata` belongs to.

    Among those of namespaces that may serve the source: the first match by place of the namespace, priority, name.
    """
    ranked = [(rank, leave) for leave in snapshot.leaves if (rank := source.rank(leave.namespace)) is not None]
    ranked.sort(key=lambda pair: pair[0])  # stable: within a namespace by priority, as the snapshot has it
    return next((leave for _, leave in ranked if leave.matches(metadata)), None)


def find_place(name: str) -> int:
    """The number of the part that a key or a digest of screens falls into."""
    return zlib.crc32(name.encode()) % PARTS


def digest_part(body: bytes) -> str:
    """Identity of one part's bytes, 32 hex digits."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def digest_snapshot(parts: Sequence[str]) -> str:
    """Identity of a snapshot, 32 hex digits, from the digests of its parts in order; empty for none."""
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest() if parts else ""


def digest_screens(screens: tuple[ScreenSchema, ...]) -> str:
    """The name that a set of screens goes by, 32 hex digits; empty for no screens."""
    return digest_part(msgspec.json.encode(screens)) if screens else ""


def assemble(parts: Iterable[Part]) -> Snapshot:
    """The snapshot that `parts` are of. A leave whose screens are in none of them has none: it reads nothing."""
    held = list(parts)
    screens = {name: found for part in held for name, found in part.screens.items()}
    leaves = [_join(leave, screens) for part in held for leave in part.leaves]
    return Snapshot(tuple(sorted(leaves, key=lambda leave: (-leave.priority, leave.key))))


def _join(leave: Leave, screens: Mapping[str, tuple[ScreenSchema, ...]]) -> Leave:
    if not leave.screens_digest:
        return leave
    return msgspec.structs.replace(leave, screens=screens.get(leave.screens_digest, ()), screens_digest="")


class Parts:
    """A snapshot as it is published: encoded, and encoded anew only where it changed."""

    def __init__(self, leaves: Iterable[Leave] = ()) -> None:
        self.bodies = [EMPTY] * PARTS
        self.digests = [digest_part(EMPTY)] * PARTS
        self._leaves: list[dict[str, bytes]] = [{} for _ in range(PARTS)]
        self._screens: list[dict[str, bytes]] = [{} for _ in range(PARTS)]
        self._used: dict[str, set[str]] = {}
        self._named: dict[str, str] = {}
        self._changed: set[int] = set()
        for leave in leaves:
            self.put(leave)
        self.settle()

    @property
    def digest(self) -> str:
        """Identity of what was last settled."""
        return digest_snapshot(self.digests)

    def put(self, leave: Leave) -> None:
        """Hold `leave` in the place of what was held of its process cluster."""
        key, name = leave.key, self._hold_screens(leave)
        body = msgspec.json.encode(msgspec.structs.replace(leave, screens=(), screens_digest=name))
        place = find_place(key)
        if self._leaves[place].get(key) != body:
            self._leaves[place][key] = body
            self._changed.add(place)

    def drop(self, key: str) -> None:
        """Hold nothing of `key` any more."""
        if self._leaves[find_place(key)].pop(key, None) is not None:
            self._release_screens(key)
            self._changed.add(find_place(key))

    def settle(self) -> bool:
        """Encode the parts that changed; whether there were any."""
        changed = False
        for place in self._changed:
            leaves, screens = self._leaves[place], self._screens[place]
            body = msgspec.json.encode(
                _Encoded(
                    tuple(msgspec.Raw(leaves[key]) for key in sorted(leaves)),
                    {name: msgspec.Raw(screens[name]) for name in sorted(screens)},
                )
            )
            if body != self.bodies[place]:
                self.bodies[place], self.digests[place], changed = body, digest_part(body), True
        self._changed.clear()
        return changed

    def read(self, key: str) -> Leave | None:
        """What is held of `key`, without its screens."""
        body = self._leaves[find_place(key)].get(key)
        return None if body is None else msgspec.json.decode(body, type=Leave)

    def _hold_screens(self, leave: Leave) -> str:
        name = leave.screens_digest or digest_screens(leave.screens)
        if self._named.get(leave.key, "") != name:
            self._release_screens(leave.key)
        if name:
            self._named[leave.key] = name
            self._used.setdefault(name, set()).add(leave.key)
            place = find_place(name)
            if name not in self._screens[place] and leave.screens:
                self._screens[place][name] = msgspec.json.encode(leave.screens)
                self._changed.add(place)
        return name

    def _release_screens(self, key: str) -> None:
        name = self._named.pop(key, "")
        if name:
            self._used[name].discard(key)
            if not self._used[name]:
                del self._used[name]
                del self._screens[find_place(name)][name]
                self._changed.add(find_place(name))
