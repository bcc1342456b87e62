"""A raw watch over one kind of object: listed in pages, then followed. Objects are kept as bytes, without what nobody
here reads; most are never looked at again before they change.

A watch ends every few seconds and goes on from the version it has reached, so that one that hangs is noticed. Nothing
is listed again while that version is known to the server: no list overwrites what an event told since.
"""

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from pilotage_core.errors import PilotageError, UnavailableError
from pilotage_operator.kubernetes_api import GONE, ForbiddenError, GoneError, KubernetesApi, MissingError, Object

log = logging.getLogger(__name__)
RETRY_SECONDS, SHUT_SECONDS = 1.0, 10.0
FRESH_SECONDS = 45.0
"""After so long without a word of a watch, what it told is not what is there: two of its lives and a little more."""
Key = tuple[str, str]
"""(namespace, name)."""


class Noted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The annotation that is read here, of all there may be."""

    applied: str = msgspec.field(default="", name="pilotage.dev/applied")


class Metadata(msgspec.Struct, rename="camel", omit_defaults=True):
    """What is kept of an object's metadata: not who manages which field, which is half of what is sent."""

    name: str = ""  # a bookmark has none
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 1
    labels: dict[str, str] = {}
    annotations: Noted = Noted()
    deletion_timestamp: str = ""


class Item(msgspec.Struct, omit_defaults=True):
    """What is kept of an object. `spec` and `status` stay as they came."""

    metadata: Metadata
    kind: str = ""
    spec: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    status: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @property
    def key(self) -> Key:
        """(namespace, name)."""
        return self.metadata.namespace, self.metadata.name


class Suspension(msgspec.Struct):
    """What is kept of the spec of a Job."""

    suspend: bool | None = None


class ListMetadata(msgspec.Struct, rename="camel"):
    """Of which version a list is, and where its next page begins."""

    resource_version: str = ""
    next_page: str = msgspec.field(default="", name="continue")


class Page(msgspec.Struct):
    """One page of a list."""

    metadata: ListMetadata
    items: list[Item] | None = None


class Failure(msgspec.Struct):
    """What the object of an ERROR is."""

    code: int = 0


class WatchEvent(msgspec.Struct):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


DECODE_PAGE = msgspec.json.Decoder(Page).decode
DECODE_ITEM = msgspec.json.Decoder(Item).decode
DECODE_EVENT = msgspec.json.Decoder(WatchEvent).decode


class Store:
    """Objects of one kind. `owner_label` names the process cluster that one was made for: `owned` finds them by it.

    `is_made_here`: of their spec, which this controller wrote, only `suspend` is kept. `is_by_spec`: only another spec
    is a change.
    """

    def __init__(
        self, kind: str = "", owner_label: str = "", *, is_made_here: bool = False, is_by_spec: bool = False
    ) -> None:
        self.items: dict[Key, bytes] = {}
        self.changed: set[Key] = set()
        self._kind = kind
        self._owner_label = owner_label
        self._is_made_here = is_made_here
        self._is_by_spec = is_by_spec
        self._owned: dict[Key, set[str]] = {}

    def get(self, key: Key) -> Object | None:
        """The object as the API server gave it, less what is not kept; None where there is none."""
        body = self.items.get(key)
        return None if body is None else msgspec.json.decode(body)

    def owned(self, namespace: str, owner: str) -> dict[str, Object]:
        """The objects made for the process cluster `owner`, by name."""
        names = self._owned.get((namespace, owner), ())
        return {name: item for name in names if (item := self.get((namespace, name))) is not None}

    def owner_of(self, key: Key) -> str:
        """The key of the process cluster that an object was made for; empty where it is not known."""
        body = self.items.get(key)
        owner = "" if body is None else DECODE_ITEM(body).metadata.labels.get(self._owner_label, "")
        return f"{key[0]}/{owner}" if owner else ""

    def put(self, item: Item) -> None:
        """Keep `item` as it is now."""
        item.kind = self._kind
        if self._is_made_here:
            item.spec = _keep_suspension(item.spec)
        body = msgspec.json.encode(item)
        if self.items.get(item.key) == body:
            return
        if self._owner_label and item.key in self.items:
            self._disown(item.key, self.owner_of(item.key))
        if not self._is_by_spec or self._spec_of(item.key) != (item.metadata.uid, item.metadata.generation):
            self.changed.add(item.key)
        self.items[item.key] = body
        owner = item.metadata.labels.get(self._owner_label)
        if owner:
            self._owned.setdefault((item.metadata.namespace, owner), set()).add(item.metadata.name)

    def _spec_of(self, key: Key) -> tuple[str, int]:
        """Which object, and which generation of its spec, is held."""
        body = self.items.get(key)
        metadata = Metadata() if body is None else DECODE_ITEM(body).metadata
        return metadata.uid, metadata.generation

    def drop(self, key: Key) -> str:
        """Forget an object that is gone. Gives whose it was, as `owner_of`."""
        owner = self.owner_of(key)
        if self.items.pop(key, None) is not None:
            self.changed.add(key)
        self._disown(key, owner)
        return owner

    def _disown(self, key: Key, owner: str) -> None:
        of = self._owned.get((key[0], owner.partition("/")[2]))
        if of is not None:
            of.discard(key[1])
            if not of:
                del self._owned[key[0], owner.partition("/")[2]]


def _keep_suspension(spec: msgspec.Raw | msgspec.UnsetType) -> msgspec.Raw | msgspec.UnsetType:
    is_suspended = isinstance(spec, msgspec.Raw) and msgspec.json.decode(spec, type=Suspension).suspend
    return msgspec.Raw(b'{"suspend":true}') if is_suspended else msgspec.UNSET


class RawWatch:
    """Keeps a Store like the API server's, for objects at `path` that match `selector`.

    `on_owner` is told the process cluster (namespace/name) of each object that changed. `as_metadata`: of objects
    nothing else is sent. `namespace` is the one that `path` is of, where it is of one: the store may hold others too.
    """

    def __init__(
        self,
        api: KubernetesApi,
        path: str,
        store: Store,
        selector: str = "",
        as_metadata: bool = False,
        on_owner: Callable[[str], None] = lambda owner: None,
        namespace: str = "",
    ) -> None:
        self.store = store
        self._api = api
        self._path = path
        self._selector = selector
        self._as_metadata = as_metadata
        self._on_owner = on_owner
        self._namespace = namespace
        self._listed = asyncio.Event()
        self._version = ""
        self._heard_at = float("-inf")
        self.fault = ""
        self._following: asyncio.Task[None] | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether everything was listed, and the server was heard of since, lately; or its one namespace is shut."""
        return bool(self.fault) or (self._listed.is_set() and time.monotonic() - self._heard_at < FRESH_SECONDS)

    async def wait(self) -> None:
        """Until everything has been listed."""
        await self._listed.wait()

    def begin_again(self) -> None:
        """List everything once more, as of now: what a watch has told may be late."""
        self._listed.clear()
        self._version = ""
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        """Follow for ever."""
        while True:
            self._following = asyncio.create_task(self._follow())
            try:
                await asyncio.wait([self._following])
            finally:
                self._following.cancel()
            if self._following.cancelled():
                continue  # asked to begin again
            try:
                self._following.result()
            except (ForbiddenError, MissingError) as error:
                self._shut(str(error))
                await asyncio.sleep(SHUT_SECONDS if self._namespace else RETRY_SECONDS)
            except GoneError:
                self._version = ""  # too old for the server: it is listed again, in a moment
                await asyncio.sleep(RETRY_SECONDS)
            except (PilotageError, msgspec.MsgspecError) as error:
                log.warning("watch of %s goes on in a moment: %s", self._path, error)
                if not self.is_fresh:
                    self._version = ""  # it may be this version that cannot be gone on from
                await asyncio.sleep(RETRY_SECONDS)

    def _shut(self, why: str) -> None:
        """A namespace that is gone, or that rights were taken away of, has nothing, and costs no other one anything.

        Where all namespaces are looked at, being refused is no sight of the world at all.
        """
        log.warning("watch of %s: %s", self._path, why)
        self._version = ""
        if self._namespace:
            self.fault = why
            for key in [key for key in self.store.items if key[0] == self._namespace]:
                self._on_owner(self.store.drop(key))
            self._listed.set()

    async def _follow(self) -> None:
        if not self._version:
            self._version = await self._list()
            self._heard_at = time.monotonic()
            self.fault = ""
            self._listed.set()
        began = time.monotonic()
        async for line in self._api.watch(self._path, self._version, self._selector, as_metadata=self._as_metadata):
            self._take(DECODE_EVENT(line))
            self._heard_at = time.monotonic()
        if time.monotonic() - began < RETRY_SECONDS:
            raise UnavailableError("it ended as soon as it had begun", where=self._path)
        self._heard_at = time.monotonic()

    def _take(self, event: WatchEvent) -> None:
        if event.type == "ERROR":
            what = bytes(event.object)[:200].decode(errors="replace")
            is_gone = msgspec.json.decode(event.object, type=Failure).code == GONE
            raise (GoneError if is_gone else UnavailableError)(what, where=self._path)
        item = DECODE_ITEM(event.object)
        self._version = item.metadata.resource_version
        if event.type == "DELETED":
            self._on_owner(self.store.drop(item.key))
        elif event.type != "BOOKMARK":
            self._on_owner(self.store.owner_of(item.key))  # whose it was, should it be another's now
            self.store.put(item)
            self._on_owner(self.store.owner_of(item.key))

    async def _list(self) -> str:
        """Every object there is, page by page; what is in none of them is gone. Gives the version of the list."""
        seen: set[Key] = set()
        version = ""
        async for body in self._api.list_pages(self._path, self._selector, as_metadata=self._as_metadata):
            page = DECODE_PAGE(body)
            version = version or page.metadata.resource_version
            for item in page.items or ():
                seen.add(item.key)
                self.store.put(item)
                self._on_owner(self.store.owner_of(item.key))
        for key in self.store.items.keys() - seen:
            if self._namespace in ("", key[0]):
                self._on_owner(self.store.drop(key))
        return version
