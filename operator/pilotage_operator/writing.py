"""Writing decisions down, several at once, those of one process cluster one after the other, and the newest only.

Writing is slow where the API server is: nothing that takes leave away waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

AT_ONCE, MOST = 16, 256
T = TypeVar("T")


class Writer(Generic[T]):
    """Calls `write` for what is put, until it is closed."""

    def __init__(self, write: Callable[[str, T], Awaitable[None]]) -> None:
        self._write = write
        self._wanted: dict[str, T] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def put(self, key: str, what: T) -> None:
        """Write `what` of `key` as soon as what is being written of it is done, in the place of what waits for that."""
        self._wanted[key] = what
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._run(key))

    def is_busy(self, key: str) -> bool:
        """Whether something of `key` is being written, or waits to be."""
        return key in self._tasks

    @property
    def room(self) -> int:
        """How much more may be put before it had better wait elsewhere: what is put takes memory."""
        return max(0, MOST - len(self._tasks))

    @property
    def is_full(self) -> bool:
        """Whether there is no room."""
        return self.room == 0

    async def settle(self, seconds: float) -> None:
        """Wait until everything is written, but no longer than that; the rest goes on."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=seconds)
        else:
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Write nothing more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: str) -> None:
        try:
            while key in self._wanted:
                async with self._slots:
                    await self._write(key, self._wanted.pop(key))
        finally:
            self._wanted.pop(key, None)
            self._tasks.pop(key, None)
