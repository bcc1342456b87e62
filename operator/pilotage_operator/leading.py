"""Terms of leading: begun with the Lease, ended before it is given back. Of several controllers one leads at a time.

Not here: the Lease (lease.py), what a leader does (sweep.py), what it may sign (permits.py).
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from pilotage_core.errors import PilotageError
from pilotage_operator.lease import LOOK_SECONDS, Lease

log = logging.getLogger(__name__)
OTHERS_FIRST = 4
"""Looks at the Lease that others have before who gave it back looks again."""


async def lead_for_ever(
    lease: Lease,
    lead: Callable[[bool], Coroutine[Any, Any, None]],
    is_ready: Callable[[], bool] = lambda: True,
    is_at_work: Callable[[], bool] = lambda: True,
) -> None:
    """`lead` while the Lease is held, again and again; it is told whether there was no Lease before.

    Who is not `is_ready` takes none. A term that cannot go on, or is not `is_at_work`, gives the Lease back, and lets
    another one have it first; so does whoever is asked to stop, once its term has ended.
    """
    while True:
        await lease.acquire(is_ready)
        log.info("leading")
        try:
            await _hold_term(lease, lead(lease.is_first), is_at_work)
        except PilotageError as error:
            log.warning("a term ends: %s", error)
        finally:
            await lease.release()
        log.warning("not leading any more")
        await asyncio.sleep(OTHERS_FIRST * LOOK_SECONDS)


async def _hold_term(lease: Lease, term: Coroutine[Any, Any, None], is_at_work: Callable[[], bool]) -> None:
    """Run `term` until it ends or the Lease is lost; nothing of it runs on after that."""
    tasks = [asyncio.ensure_future(term), asyncio.ensure_future(lease.keep(is_at_work))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end_tasks(tasks)


async def run_until_stopped(*work: Coroutine[Any, Any, None]) -> None:
    """Run all of `work` until SIGTERM or SIGINT; what one of them raises before is raised here."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    tasks = [asyncio.ensure_future(each) for each in work]
    waiter = asyncio.ensure_future(stopped.wait())
    try:
        done, _ = await asyncio.wait([*tasks, waiter], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await end_tasks([*tasks, waiter])


async def end_tasks(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel `tasks`, and wait until nothing of them runs."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
