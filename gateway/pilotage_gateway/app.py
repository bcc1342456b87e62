"""The application: parts made in the order they need each other, restored from the records, let go of in reverse."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from pilotage_core.errors import PilotageError
from pilotage_gateway import queries, writes
from pilotage_gateway.credentials import Callers, StopFile
from pilotage_gateway.metrics import Metrics
from pilotage_gateway.models import Models
from pilotage_gateway.permits import Keys, Permits
from pilotage_gateway.problems import answer_error, answer_fault, answer_http_error
from pilotage_gateway.routes import ROUTES
from pilotage_gateway.store import Store
from pilotage_gateway.turns import Turns


@asynccontextmanager
async def open_turns(database: str, controller: str, keys: Path, token: Path | None = None) -> AsyncIterator[Turns]:
    """A working gateway without its HTTP surface: migrated, restored, polling for permits."""
    store, models, metrics = Store(database), Models(), Metrics()
    await store.open()
    await models.open()

    async def remember_epoch(domain: str, epoch: int) -> None:
        await store.write(partial(writes.write_epoch, domain=domain, epoch=epoch, seen_at=time.time()))

    async def remember_parts(parts: dict[int, bytes]) -> None:
        await store.write(partial(writes.write_parts, parts=parts))

    permits = Permits(
        controller,
        Keys(keys),
        remember_epoch=remember_epoch,
        remember_parts=remember_parts,
        on_leaves=metrics.create,
        token=token,
    )
    metrics.restore(await store.read(lambda connection: list(queries.read_counts(connection))))
    permits.restore(await store.read(queries.read_epochs), await store.read(queries.read_parts))
    turns = Turns(store, permits, models, metrics, await store.read(queries.read_suspended))
    polling = asyncio.create_task(permits.run())
    try:
        yield turns
    finally:
        polling.cancel()
        with suppress(asyncio.CancelledError):
            await polling
        await models.close()
        await store.close()


def build_app(
    database: str,
    controller: str,
    keys: Path,
    callers: Callers | None = None,
    token: Path | None = None,
    stops: StopFile | None = None,
) -> Starlette:
    """The ASGI application. `callers` tell who posts, `stops` who may stop; `token` is of this gateway itself."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with open_turns(database, controller, keys, token) as turns:
            app.state.turns, app.state.callers, app.state.stops = turns, callers or Callers(), stops
            yield

    return Starlette(
        routes=ROUTES,
        lifespan=lifespan,
        exception_handlers={PilotageError: answer_error, HTTPException: answer_http_error, Exception: answer_fault},
    )
