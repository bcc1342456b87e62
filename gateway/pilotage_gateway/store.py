"""The database: migration, one writer with group commit, readers beside it. What is written is in writes.py.

A write resolves only once it is on disk (SQLite: WAL, synchronous=FULL); all writes that arrive while one commit is
under way share the next one, and so its fsync. A write that fails takes no other one with it.

On PostgreSQL one gateway holds the records and others stand by: an advisory lock is held by the very connection that
writes, so who has lost it writes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, func, insert, inspect, make_url, select, update
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError

from pilotage_core.errors import ConflictError, InvalidInputError, PilotageError, UnavailableError
from pilotage_gateway.tables import SCHEMA_VERSION, holders

log = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[Connection], Any]
MAX_BATCH = 256
SQLITE, POSTGRESQL = "sqlite", "postgresql"
HOLDER = int.from_bytes(b"pilotage")
"""The advisory lock of whoever holds the records."""
TRY_SECONDS, WATCH_SECONDS = 0.5, 1.0
TIMEOUTS = {"statement_timeout": "10s", "lock_timeout": "5s", "idle_in_transaction_session_timeout": "10s"}
DURABLE = {"synchronous_commit": "on"}
KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
USER_TIMEOUT = {"tcp_user_timeout": 10_000}
SERVER_KEEPALIVES = {f"tcp_{name}": value for name, value in KEEPALIVES.items()} | USER_TIMEOUT
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
            options = " ".join(f"-c {name}={value}" for name, value in (TIMEOUTS | DURABLE | SERVER_KEEPALIVES).items())
            made = make_url(url).set(drivername="postgresql+psycopg")
            return create_engine(
                made,
                pool_pre_ping=True,
                isolation_level="READ COMMITTED",
                connect_args={"options": options, "connect_timeout": 5, **KEEPALIVES, **USER_TIMEOUT},
            )
    except (ArgumentError, ModuleNotFoundError) as error:
        raise InvalidInputError(f"cannot be used: {error}", where="--database") from error
    raise InvalidInputError(f"{dialect} holds no records", where="--database", remedy="use sqlite or postgresql")


@contextmanager
def open_for_reading(url: str) -> Iterator[Connection]:
    """A database for whoever looks into it without a Store, and changes nothing. Raises UnavailableError."""
    made = make_url(url) if "://" in url else None
    if made is not None and made.get_backend_name() == SQLITE:  # without `ro` it is made where it is not, and tidied
        url = f"sqlite:///file:{quote(str(made.database))}?mode=ro&uri=true"
    engine = build_engine(url)
    try:
        with engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        raise UnavailableError(f"cannot be read: {getattr(error, 'orig', None) or error}", where=url) from error
    finally:
        engine.dispose()


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest version, however long that takes."""
    with connection.begin():
        if connection.dialect.name == POSTGRESQL:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'")
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


def _end(connection: Connection) -> None:
    """Close it really: a pool would keep it, and with it the lock."""
    connection.invalidate()
    connection.close()


def _claim(connection: Connection, address: str) -> int:
    """Note who holds the records. Gives the number of this holding, by which a later one is told from it."""
    with connection.begin():
        former = connection.execute(select(holders.c.generation)).scalar()
        if former is None:
            connection.execute(insert(holders).values(slot=1, address=address, generation=1))
            return 1
        connection.execute(update(holders).values(address=address, generation=former + 1))
        return int(former) + 1


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
        self._generation = 0

    async def open(self, address: str = "") -> None:
        """Wait until nobody else holds the records, bring them up to date, and note that this gateway has them.

        Those that stand by reach it at `address`. Raises UnavailableError where SQLite's file cannot be used; for
        PostgreSQL it waits.
        """
        loop = asyncio.get_running_loop()
        said = ""
        while True:
            try:
                if await loop.run_in_executor(self._writer, self._take, address):
                    return
                why = "another gateway holds the records: standing by"
            except SQLAlchemyError as error:
                if not self.is_shared:
                    raise _database_failed(error) from error
                why = f"the records cannot be had: {type(getattr(error, 'orig', None) or error).__name__}"
            if why != said:
                log.warning("%s", why)
                said = why
            await asyncio.sleep(TRY_SECONDS)

    def _take(self, address: str) -> bool:
        """Hold the records for the first time. False where another gateway holds them."""
        connection = self._lock()
        if connection is None:
            return False
        try:
            migrate(connection)
            if self.is_shared:
                self._generation = _claim(connection, address)
        except BaseException:
            _end(connection)  # with its lock: whoever tries next is not to wait for us
            raise
        self._connection = connection
        return True

    def _hold(self) -> bool:
        """Hold them again after a connection was lost. False where another gateway holds them, or has in between."""
        connection = self._lock()
        if connection is None:
            return False
        if self.is_shared:
            with connection.begin():
                generation = connection.execute(select(holders.c.generation)).scalar()
            if generation != self._generation:
                _end(connection)
                return False
        self._connection = connection
        return True

    def _lock(self) -> Connection | None:
        """A connection that writes; None where another gateway has the lock."""
        connection = self._write_engine.connect()
        if not self.is_shared:
            return connection
        try:
            with connection.begin():
                if connection.execute(select(func.pg_try_advisory_lock(HOLDER))).scalar():
                    return connection
        except BaseException:
            _end(connection)
            raise
        connection.close()
        return None

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
            # SQLite's file may be another by now; a connection to PostgreSQL is kept while it is one, and its lock.
            lost = isinstance(error, DBAPIError) and error.connection_invalidated
            if lost or not (self.is_shared or isinstance(error, IntegrityError)):
                self._disconnect()
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            _end(connection)
