"""Terms of leading: begun with the Lease, ended before it is given back. Of several controllers one leads at a time.

Not here: the Lease (lease.py), what a leader does (sweep.py), what it may sign (permits.py).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from pilotage_core.errors import PilotageError
from pilotage_operator.lease import LOOK_SECONDS, Lease

log = logging.getLogger(__name__)


async def lead_for_ever(lease: Lease, lead: Callable[[bool], Coroutine[Any, Any, None]]) -> None:
    """`lead` while the Lease is held, again and again; it is told whether there was no Lease before.

    A term that cannot go on gives the Lease back; so does whoever is asked to stop, once its term has ended.
    """
    while True:
        await lease.acquire()
        log.info("leading")
        try:
            await _hold_term(lease, lead(lease.is_first))
        except PilotageError as error:
            log.warning("a term ends: %s", error)
        finally:
            await lease.release()
        log.warning("not leading any more")
        await asyncio.sleep(LOOK_SECONDS)


async def _hold_term(lease: Lease, term: Coroutine[Any, Any, None]) -> None:
    """Run `term` until it ends or the Lease is lost; nothing of it runs on after that."""
    tasks = [asyncio.ensure_future(term), asyncio.ensure_future(lease.keep())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
