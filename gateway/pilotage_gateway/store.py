"""The database: migration, one writer with group commit, readers beside it. What is written is in writes.py.

A write resolves only once it is on disk (SQLite: WAL, synchronous=FULL); all writes that arrive while one commit is
under way share the next one, and so its fsync. A write that fails takes no other one with it.

On PostgreSQL one gateway holds the records and others stand by: an advisory lock is held by the very connection that
writes, so who has lost it writes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, make_url, select
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from pilotage_core.errors import ConflictError, InvalidInputError, PilotageError, UnavailableError
from pilotage_gateway.tables import SCHEMA_VERSION

log = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[Connection], Any]
MAX_BATCH = 256
SQLITE, POSTGRESQL = "sqlite", "postgresql"
HOLDER = int.from_bytes(b"pilotage")
"""The advisory lock of whoever holds the records."""
TRY_SECONDS, WATCH_SECONDS = 0.5, 1.0
TIMEOUTS = {"statement_timeout": "10s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "10s"}
KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
SERVER_KEEPALIVES = {f"tcp_{name}": value for name, value in KEEPALIVES.items()}
"""Both ends look whether the other one is there: a holder that is cut off is one no more within some ten seconds."""


def _database_failed(error: SQLAlchemyError) -> PilotageError:
    if isinstance(error, IntegrityError):
        return ConflictError(
            f"the records refuse it: {error.orig}",
            where="database",
            remedy="ask what is stored, or send it with other ids",
        )
    if isinstance(error, DataError):
        return InvalidInputError(f"the records cannot hold it: {error.orig}", where="database")
    _note_fault(error)
    return UnavailableError("the database does not answer", where="database", remedy="send it again later")


_noted_at = float("-inf")


def _note_fault(error: SQLAlchemyError) -> None:
    """Log a fault of the database, once a second at most, and without what was to be written."""
    global _noted_at
    if time.monotonic() - _noted_at < 1.0:
        return
    _noted_at = time.monotonic()
    state = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    log.error("database: %s %s", type(getattr(error, "orig", None) or error).__name__, state)


def _prepare_sqlite(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=2000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def build_engine(url: str) -> Engine:
    """An engine for one of the two databases. Raises InvalidInputError for another, or where a driver is missing."""
    try:
        dialect = make_url(url).get_backend_name()
        if dialect == SQLITE:
            return create_engine(url)
        if dialect == POSTGRESQL:
            options = " ".join(f"-c {name}={value}" for name, value in (TIMEOUTS | SERVER_KEEPALIVES).items())
            made = make_url(url).set(drivername="postgresql+psycopg")
            return create_engine(
                made, pool_pre_ping=True, connect_args={"options": options, "connect_timeout": 5, **KEEPALIVES}
            )
    except (ArgumentError, ModuleNotFoundError) as error:
        raise InvalidInputError(f"cannot be used: {error}", where="--database") from error
    raise InvalidInputError(f"{dialect} holds no records", where="--database", remedy="use sqlite or postgresql")


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version."""
    with engine.begin() as connection:
        if _schema_version(connection) == SCHEMA_VERSION:
            return
        from alembic import command  # half a second that only a change of the schema is worth
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _schema_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return version


class Store:
    """Durable records. Made with `url` (an SQLAlchemy URL); `open` before use, `close` after.

    `on_lost` is called where another gateway holds them now: what this one has in memory is old.
    """

    def __init__(self, url: str, on_lost: Callable[[], None] = lambda: None) -> None:
        self._write_engine = build_engine(url)
        self._read_engine = build_engine(url)
        self._on_lost = on_lost
        self.is_shared = self._write_engine.dialect.name == POSTGRESQL
        if not self.is_shared:
            _prepare_sqlite(self._write_engine, "BEGIN IMMEDIATE")
            _prepare_sqlite(self._read_engine, "BEGIN")
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._reader = ThreadPoolExecutor(2, "store-reader")
        self._pending: list[tuple[Job, asyncio.Future[Any]]] = []
        self._draining: asyncio.Task[None] | None = None
        self._connection: Connection | None = None

    async def open(self) -> None:
        """Wait until nobody else holds the records, then migrate.

        Raises UnavailableError where SQLite's file cannot be used; for PostgreSQL it waits.
        """
        loop = asyncio.get_running_loop()
        said = ""
        while True:
            try:
                if await loop.run_in_executor(self._writer, self._hold):
                    return await loop.run_in_executor(self._writer, migrate, self._write_engine)
                why = "another gateway holds the records: standing by"
            except SQLAlchemyError as error:
                if not self.is_shared:
                    raise _database_failed(error) from error
                why = f"the database does not answer: {type(error.__cause__ or error).__name__}"
            if why != said:
                log.warning("%s", why)
                said = why
            await asyncio.sleep(TRY_SECONDS)

    def _hold(self) -> bool:
        """Connect the writer. False where another gateway holds the records."""
        connection = self._write_engine.connect()
        if self.is_shared:
            with connection.begin():
                mine = connection.execute(select(func.pg_try_advisory_lock(HOLDER))).scalar()
            if not mine:
                connection.close()
                return False
        self._connection = connection
        return True

    async def close(self) -> None:
        """Finish what was given to `write`, then let go of the database."""
        while self._draining is not None and not self._draining.done():
            await asyncio.wait([self._draining])
        await asyncio.get_running_loop().run_in_executor(self._writer, self._disconnect)
        self._writer.shutdown()
        self._reader.shutdown()
        self._read_engine.dispose()
        self._write_engine.dispose()

    async def write(self, job: Callable[[Connection], T]) -> T:
        """Run `job` in a transaction; returns once that is on disk. `job` may be run twice, the first time in vain.

        Raises what `job` raises of PilotageError, ConflictError where a constraint is broken, UnavailableError where
        the database fails: then nothing was written.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._pending.append((job, future))
        if self._draining is None:
            self._draining = loop.create_task(self._drain())
        return await future

    async def watch(self) -> None:
        """Find out soon that the connection that holds the records is gone: try it each second, for ever."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            with suppress(UnavailableError):  # said already; the next try connects anew, or finds another holder
                await self.write(lambda connection: connection.execute(select(1)))

    async def write_beside(self, job: Callable[[Connection], T]) -> T:
        """The same for what every gateway may write, whoever holds the records."""
        return await (self.read(job) if self.is_shared else self.write(job))

    async def read(self, job: Callable[[Connection], T]) -> T:
        """Run `job` on a reader's connection. Raises UnavailableError where the database fails."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, job)

    def _read(self, job: Callable[[Connection], T]) -> T:
        try:
            with self._read_engine.begin() as connection:
                return job(connection)
        except SQLAlchemyError as error:
            raise _database_failed(error) from error

    async def _drain(self) -> None:
        """Commit what waits; then, in a new task, what has come since."""
        batch, self._pending = self._pending[:MAX_BATCH], self._pending[MAX_BATCH:]
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._writer, self._commit, [job for job, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if future.cancelled():
                    continue
                if isinstance(result, PilotageError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        finally:
            for _, future in batch:
                if not future.done():  # only where a job has a fault of its own: that error goes up, nobody hangs
                    future.set_exception(UnavailableError("the write did not finish", where="database"))
            self._draining = loop.create_task(self._drain()) if self._pending else None

    def _commit(self, jobs: list[Job]) -> list[Any]:
        """One transaction for all; where one of them fails, one for each."""
        try:
            return self._transact(jobs)
        except (SQLAlchemyError, PilotageError) as error:
            if len(jobs) == 1:
                return [_database_failed(error) if isinstance(error, SQLAlchemyError) else error]
        return [self._commit([job])[0] for job in jobs]

    def _transact(self, jobs: list[Job]) -> list[Any]:
        if self._connection is None and not self._hold():
            self._on_lost()
            raise UnavailableError("another gateway holds the records", where="database")
        connection = self._connection
        assert connection is not None
        try:
            with connection.begin():
                return [job(connection) for job in jobs]
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError | DataError):
                self._disconnect()  # a new connection for the next attempt: this one may be broken
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # really closed: a pool would keep it, and with it the lock
            connection.close()
