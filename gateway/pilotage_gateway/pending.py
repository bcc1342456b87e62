"""A post that memory has and the records have not yet: stored with what is decided about it, in one transaction.

Models that take long are not waited for: then it is stored alone, while they are asked.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection

from pilotage_gateway import writes
from pilotage_gateway.store import Store
from pilotage_gateway.writes import PostWrite

T = TypeVar("T")
PATIENCE_SECONDS = 0.1
"""How long a post waits for its decision before it is stored alone. A commit costs a third of a decision's time."""


class Pending:
    """One post. `on_stored` is called once, when it is on disk."""

    def __init__(self, store: Store, post: PostWrite, on_stored: Callable[[], None]) -> None:
        self.is_stored = False
        self._store = store
        self._post = post
        self._on_stored = on_stored
        self._saving: asyncio.Task[bool] | None = None
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._begin)

    async def save(self) -> None:
        """Store it alone, if it is not stored yet. Raises PilotageError; then it is not known whether it is."""
        self._timer.cancel()
        if self.is_stored:
            return
        await self._begin()
        self._note()

    async def save_with(self, job: Callable[[Connection], T]) -> T:
        """Store it and run `job`, in one transaction if it is not under way already. Raises as `save` does."""
        self._timer.cancel()
        if self.is_stored or self._saving is not None:
            await self.save()
            return await self._store.write(job)
        told = await self._store.write(partial(_write_both, post=self._post, then=job))
        self._note()
        return told

    async def settle(self) -> None:
        """Leave nothing under way: who loads this session next is to see how it ended."""
        self._timer.cancel()
        if self._saving is not None:
            await asyncio.wait([self._saving])

    def _begin(self) -> "asyncio.Task[bool]":
        if self._saving is None:
            self._saving = asyncio.ensure_future(self._store.write(partial(writes.write_post, post=self._post)))
            self._saving.add_done_callback(lambda done: done.cancelled() or done.exception())  # `save` raises it
        return self._saving

    def _note(self) -> None:
        if not self.is_stored:
            self.is_stored = True
            self._on_stored()


def _write_both(connection: Connection, post: PostWrite, then: Callable[[Connection], T]) -> T:
    writes.write_post(connection, post)
    return then(connection)
