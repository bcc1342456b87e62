"""The application: parts made in the order they need each other, restored from the records, let go of in reverse."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from pilotage_core.errors import PilotageError
from pilotage_core.lists import WaitingCard
from pilotage_gateway import queries, writes
from pilotage_gateway.callers import Callers
from pilotage_gateway.console import looking, pages, showing
from pilotage_gateway.console.board import DUE, Board
from pilotage_gateway.credentials import StopFile
from pilotage_gateway.ledger import check_at_start, follow_head, keep_head
from pilotage_gateway.lists import CARDS, read_cards
from pilotage_gateway.metrics import Metrics
from pilotage_gateway.models import Models
from pilotage_gateway.permits import Keys, Permits
from pilotage_gateway.problems import answer_error, answer_fault, answer_http_error
from pilotage_gateway.routes import ROUTES
from pilotage_gateway.standby import PassOn, end_passed_on
from pilotage_gateway.store import Store
from pilotage_gateway.suspensions import Suspensions
from pilotage_gateway.turns import Turns

log = logging.getLogger(__name__)


def _build_permits(store: Store, controller: str, keys: Keys, metrics: Metrics, token: Path | None) -> Permits:
    """The permits that this gateway holds; what has to outlive it is in the records."""

    async def remember_epoch(domain: str, epoch: int) -> None:
        await store.write(partial(writes.write_epoch, domain=domain, epoch=epoch, seen_at=time.time()))

    async def remember_parts(parts: dict[int, bytes]) -> None:
        await store.write(partial(writes.write_parts, parts=parts))

    return Permits(
        controller,
        keys,
        remember_epoch=remember_epoch,
        remember_parts=remember_parts,
        on_leaves=metrics.create,
        token=token,
    )


@asynccontextmanager
async def open_turns(
    store: Store,
    controller: str,
    keys: Path,
    token: Path | None = None,
    address: str = "",
    chain_head: Path | None = None,
) -> AsyncIterator[Turns]:
    """A working gateway without its HTTP surface: migrated, restored, polling for permits.

    Those that stand by pass on to `address`. `chain_head` keeps the last decision outside of the records: where they
    lack it nothing runs unattended.
    """
    models, metrics = Models(), Metrics()
    await store.open(address)
    await models.open()

    permits = _build_permits(store, controller, Keys(keys), metrics, token)
    metrics.restore(await store.read(lambda connection: list(queries.read_counts(connection))))
    if chain_head is not None:
        permits.withheld = await check_at_start(store, chain_head)
        if permits.withheld:
            log.critical("nothing runs unattended here: %s", permits.withheld)
    permits.restore(await store.read(queries.read_epochs), await store.read(queries.read_parts))
    turns = Turns(store, permits, models, metrics, Suspensions(await store.read(queries.read_suspended)))
    await turns.answers.restore()
    running = [asyncio.create_task(permits.run())]
    if chain_head is not None and not permits.withheld:
        running.append(asyncio.create_task(follow_head(store, chain_head, permits.withhold)))
    if store.is_shared:
        running += [asyncio.create_task(turns.suspended.follow(store)), asyncio.create_task(store.watch())]
    try:
        yield turns
    finally:
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if chain_head is not None and not permits.withheld:
            await keep_head(store, chain_head)
        await models.close()
        await store.close()


def _read_waiting(connection: Connection, after: str) -> tuple[list[tuple[WaitingCard, str, str]], str]:
    """A page of cards, each with what was promised and what its customer said last; and where the next page begins."""
    page = read_cards(connection, within=None, after=after, limit=CARDS)
    return [(card, *queries.read_due_and_said(connection, card.session_id, DUE)) for card in page.cards], page.next


async def open_board(turns: Turns) -> Board:
    """The console's picture of who waits, as the records have it, and from then on as turns tell."""
    board, after = Board(turns.answers), ""
    while True:
        cards, after = await turns.store.read(partial(_read_waiting, after=after))
        for card, due, said in cards:
            board.restore(card, due, said)
        if not after:
            break
    for key in await turns.store.read(queries.read_handed_off):
        if (session := await turns.find(key)) is not None:
            board.follow(session)
    turns.watchers.append(board.follow)
    turns.answers.on_overtaken = lambda said: board.notify(
        said.operator, f"{said.session_id}: your {said.verdict} came to nothing, the session had gone on."
    )
    return board


def end_streams(app: Starlette) -> None:
    """Let go who waits for something to happen, so that what is being answered can end."""
    end_passed_on()
    if app.state.turns is not None:
        app.state.turns.answers.end()
        app.state.board.end()


def stop_process() -> None:
    """End this process in order; whoever runs it starts it again, with nothing in memory."""
    log.critical("this gateway ends: another one holds the records, or its own could not be read")
    signal.raise_signal(signal.SIGTERM)


def _note_beginning(beginning: asyncio.Task[None]) -> None:
    if not beginning.cancelled() and (error := beginning.exception()) is not None:
        log.critical("cannot begin", exc_info=error)
        stop_process()


def build_app(
    database: str,
    controller: str,
    keys: Path,
    callers: Callers | None = None,
    token: Path | None = None,
    stops: StopFile | None = None,
    address: str = "",
    chain_head: Path | None = None,
    most_waiting: int = 0,
) -> Starlette:
    """The ASGI application. `callers` tell who may do what, `stops` who may stop; `token` is of this gateway itself,
    which others reach at `address`. Where `most_waiting` sessions of a process cluster wait for people (0: any number),
    nothing is proposed in those that begin.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        store = Store(database, stop_process)
        app.state.store, app.state.turns = store, None
        app.state.callers, app.state.stops = callers or Callers(), stops
        async with AsyncExitStack() as stack:

            async def begin() -> None:
                turns = open_turns(store, controller, keys, token, address, chain_head)
                ready = await stack.enter_async_context(turns)
                app.state.board = board = await open_board(ready)
                if most_waiting:
                    ready.is_full = lambda process_cluster: board.count(process_cluster) >= most_waiting
                app.state.turns = ready

            beginning = asyncio.create_task(begin())
            if store.is_shared:  # it may have to stand by, and says so meanwhile
                beginning.add_done_callback(_note_beginning)
            else:
                await beginning
            yield
            beginning.cancel()
            with suppress(asyncio.CancelledError):
                await beginning

    return Starlette(
        routes=[*ROUTES, *pages.ROUTES, *looking.ROUTES, *showing.ROUTES],
        lifespan=lifespan,
        middleware=[Middleware(PassOn)],
        exception_handlers={PilotageError: answer_error, HTTPException: answer_http_error, Exception: answer_fault},
    )
