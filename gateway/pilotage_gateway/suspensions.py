"""What people have stopped, in memory: a mirror of the records. Intents look at the records themselves, as they are
stored (writes.is_suspended).
"""

import asyncio
from collections.abc import Iterable, Iterator

from pilotage_core.errors import UnavailableError
from pilotage_gateway import writes
from pilotage_gateway.queries import read_suspended
from pilotage_gateway.store import Store

FOLLOW_SECONDS = 1.0


class Suspensions:
    """Keys of process clusters that are stopped; "*" is all of them."""

    def __init__(self, stopped: Iterable[str] = ()) -> None:
        self._stopped = set(stopped)
        self._changes = 0

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._stopped))

    def __contains__(self, process_cluster: str) -> bool:
        return process_cluster in self._stopped

    def holds(self, process_cluster: str) -> bool:
        """Whether `process_cluster` is stopped, by its name or with all."""
        return process_cluster in self._stopped or writes.ALL in self._stopped

    def note(self, process_cluster: str, suspended: bool) -> None:
        """Stopping is noted before it is stored, so that it counts at once; letting go after it is."""
        self._changes += 1
        (self._stopped.add if suspended else self._stopped.discard)(process_cluster)

    async def follow(self, store: Store) -> None:
        """Where other gateways write what is stopped too: look for it, for ever."""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            before = self._changes
            try:
                stored = await store.read(read_suspended)
            except UnavailableError:
                continue  # the store has said so; nothing is ordered meanwhile
            if before == self._changes:
                self._stopped = stored
