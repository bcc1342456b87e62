"""A raw watch over one kind of object: listed, then followed; plain dicts by (namespace, name).

kopf follows what people write (custom_resources.py); this follows what is made for it, by label, at a tenth of the
cost.
"""

import asyncio
import logging
from typing import Any

from pilotage_core.errors import PilotageError
from pilotage_operator.kubernetes_api import KubernetesApi, Object

log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0


class Store:
    """Objects of one kind by (namespace, name); `is_whole` once all of them have been seen."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Object] = {}
        self.is_whole = False

    def take(self, kind: str | None, item: Object) -> None:
        """One watch event: what it says replaces what was known."""
        key = key_of(item)
        if kind == "DELETED":
            self.items.pop(key, None)
        else:
            self.items[key] = item

    def replace(self, items: list[Object]) -> None:
        """A whole list: what is not in it is gone."""
        self.items = {key_of(item): item for item in items}
        self.is_whole = True


class RawWatch:
    """Keeps a Store like the API server's, for objects at `path` that match `selector`."""

    def __init__(self, api: KubernetesApi, path: str, selector: str) -> None:
        self.store = Store()
        self._api = api
        self._path = path
        self._selector = selector

    async def run(self) -> None:
        """Follow for ever. A watch that breaks is begun again from a list."""
        while True:
            try:
                await self._follow()
            except PilotageError as error:
                log.warning("watch of %s begins again: %s", self._path, error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        listed = await self._api.list(self._path, self._selector)
        self.store.replace(listed["items"])
        version = str(listed["metadata"].get("resourceVersion", ""))
        async for event in self._api.watch(self._path, version, self._selector):
            if event["type"] == "ERROR":
                return
            if event["type"] != "BOOKMARK":
                self.store.take(event["type"], event["object"])


def key_of(item: dict[str, Any]) -> tuple[str, str]:
    """(namespace, name) of an object."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
