"""The database: migration, one writer with group commit, readers beside it. What is written is in writes.py.

A write resolves only once it is on disk (SQLite: WAL, synchronous=FULL); all writes that arrive while one commit is
under way share the next one, and so its fsync. A write that fails takes no other one with it.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from pilotage_core.errors import ConflictError, PilotageError, UnavailableError
from pilotage_gateway.tables import SCHEMA_VERSION

log = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[Connection], Any]
MAX_BATCH = 256


def _database_failed(error: SQLAlchemyError) -> PilotageError:
    if isinstance(error, IntegrityError):
        return ConflictError(
            f"the records refuse it: {error.orig}",
            where="database",
            remedy="ask what is stored, or send it with other ids",
        )
    log.error("database: %s", error)
    return UnavailableError("the database does not answer", where="database", remedy="send it again later")


def _prepare_sqlite(engine: Engine, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where we say so, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=2000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


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
    """Durable records. Made with `url` (an SQLAlchemy URL); `open` before use, `close` after."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._write_engine = create_engine(url)
        self._read_engine = create_engine(url)
        if self._write_engine.dialect.name == "sqlite":
            _prepare_sqlite(self._write_engine, "BEGIN IMMEDIATE")
            _prepare_sqlite(self._read_engine, "BEGIN")
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._reader = ThreadPoolExecutor(2, "store-reader")
        self._pending: list[tuple[Job, asyncio.Future[Any]]] = []
        self._draining: asyncio.Task[None] | None = None
        self._connection: Connection | None = None

    async def open(self) -> None:
        """Migrate. Raises UnavailableError where the database cannot be reached."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, migrate, self._write_engine)
        except SQLAlchemyError as error:
            raise _database_failed(error) from error

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
        if self._connection is None:
            self._connection = self._write_engine.connect()
        try:
            with self._connection.begin():
                return [job(self._connection) for job in jobs]
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError):
                self._disconnect()  # a new connection for the next attempt: this one may be broken
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
