"""A real PostgreSQL of a test's own, and the database of a test: SQLite's file, or one there.

`PILOTAGE_TEST_POSTGRESQL` names a server; then every gateway of the unit tests keeps its records in it.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

SERVER_VARIABLE = "PILOTAGE_TEST_POSTGRESQL"


class Postgres:
    """A server on loopback; `url` of its database postgres."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.url = f"postgresql://pilotage@127.0.0.1:{port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.geteuid() == 0 else None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [
            find_program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-h", "127.0.0.1",
            "-k", str(self.folder), "-c", "max_connections=60", "-c", "shared_buffers=32MB",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, user=self._user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end, "PostgreSQL does not answer"
                assert self._process.poll() is None, "PostgreSQL has ended"
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT in order, SIGQUIT as a crash."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(30)

    def make(self) -> None:
        """Make its files."""
        shutil.chown(self.folder, self._user) if self._user else None
        command = [
            find_program("initdb"), "-D", str(self.folder / "data"), "-U", "pilotage", "--auth=trust", "-E", "UTF8",
            "--locale=C.UTF-8", "--no-sync",
        ]  # fmt: skip
        subprocess.run(command, user=self._user, check=True, stdout=subprocess.DEVNULL, cwd="/")


def find_program(name: str) -> str:
    """A program of PostgreSQL. Fails where it is not installed: what it would have shown is not shown."""
    found = shutil.which(name) or next(map(str, sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    assert found, f"{name} is not here: apt install postgresql"
    return found


@contextlib.contextmanager
def run_postgres() -> Iterator[Postgres]:
    """A server that runs."""
    folder = Path(tempfile.mkdtemp(prefix="pilotage-pg-"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    server = Postgres(folder, port)
    try:
        server.make()
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def database_of(folder: Path, name: str = "gateway") -> str:
    """The database of a test that works in `folder`."""
    server = os.environ.get(SERVER_VARIABLE, "")
    if not server:
        return f"sqlite:///{folder}/{name}.db"
    made = "t" + hashlib.sha256(f"{folder}/{name}".encode()).hexdigest()[:20]
    with psycopg.connect(server, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (made,)).fetchone():
            connection.execute(f"CREATE DATABASE {made}")  # type: ignore[call-overload]
    return server.rpartition("/")[0] + "/" + made
