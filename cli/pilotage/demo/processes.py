"""Plain processes, started, watched, restarted and ended by process id; never by name.

Ids are written down with their start times, so that what an interrupted run left behind is ended by the next one, and
an id that meanwhile belongs to somebody else is let alone.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from pilotage_core.errors import UnavailableError

END_SECONDS = 8.0
RESTART_AFTER_SECONDS = 0.2


class Recorded(msgspec.Struct, frozen=True):
    """A process as written down: `started` is its start time in clock ticks since boot, which no other holder has."""

    name: str
    pid: int
    started: int


class Processes:
    """The processes of one run. `folder` holds their logs and the list of their ids."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._argv: dict[str, Sequence[str]] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._kept: set[str] = set()
        self._started: list[Recorded] = []
        self.restarts: dict[str, int] = {}
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def start(self, name: str, argv: Sequence[str], *, kept_running: bool = True) -> None:
        """Start `argv`, its output in logs/NAME.log. A kept one is started again whenever it ends (see `watch`)."""
        self._argv[name] = argv
        if kept_running:
            self._kept.add(name)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with (self._folder / "logs" / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                argv, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment,
                start_new_session=True,
            )  # fmt: skip
        pid = self._running[name].pid
        self._started.append(Recorded(name, pid, start_time(pid) or 0))
        write_recorded(self._folder / "pids.json", self._started)

    def watch(self) -> None:
        """Start again what has ended and should not have. Call it often."""
        for name in sorted(self._kept):
            if self._running[name].poll() is not None:
                self.restarts[name] = self.restarts.get(name, 0) + 1
                time.sleep(RESTART_AFTER_SECONDS)  # a process that cannot start must not take the whole processor
                self.start(name, self._argv[name])

    def kill(self, name: str) -> None:
        """SIGKILL, to this process alone: what it started lives on, as in real life."""
        self._running[name].kill()

    def exit_code(self, name: str) -> int | None:
        """How `name` ended; None while it runs."""
        return self._running[name].poll()

    def pid(self, name: str) -> int:
        """The process id of `name`."""
        return self._running[name].pid

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The end of its log."""
        path = self._folder / "logs" / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def end(self, name: str) -> None:
        """SIGTERM, and SIGKILL after a while; it is not started again."""
        self._kept.discard(name)
        process = self._running[name]
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
        self._kill_groups(name)
        process.wait()

    def end_all(self) -> None:
        """End everything, last started first, with what it started itself."""
        self._kept.clear()
        for process in self._running.values():
            process.terminate()
        limit = time.monotonic() + END_SECONDS
        for name in reversed(self._running):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running[name].wait(max(0.1, limit - time.monotonic()))
            self._kill_groups(name)
            self._running[name].wait()
        (self._folder / "pids.json").unlink(missing_ok=True)

    def wait_for(self, what: str, answers: Callable[[], bool], seconds: float, name: str) -> None:
        """Wait until `answers()`. Raises UnavailableError with the end of NAME's log where it never does."""
        limit = time.monotonic() + seconds
        while not answers():
            if time.monotonic() > limit:
                raise UnavailableError(f"{what} did not come up in {seconds:g} s:\n{self.log_tail(name)}", where=name)
            self.watch()
            time.sleep(0.05)

    def _kill_groups(self, name: str) -> None:
        for one in self._started:
            if one.name == name:
                _kill_group(one)


def write_recorded(path: Path, processes: Sequence[Recorded]) -> None:
    """Write the list whole or not at all."""
    half = path.with_suffix(".new")
    half.write_bytes(msgspec.json.encode(processes))
    half.replace(path)


def read_recorded(path: Path) -> list[Recorded]:
    """The processes written down at `path`; none where there is no such file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Recorded]) if path.exists() else []


def end_stale(path: Path) -> list[str]:
    """End what an interrupted run wrote down at `path` and left running; their names."""
    stale = [one for one in read_recorded(path) if is_same_process(one)]
    for one in stale:
        _signal(one.pid, signal.SIGTERM)
    limit = time.monotonic() + END_SECONDS
    while any(is_same_process(one) for one in stale) and time.monotonic() < limit:
        time.sleep(0.05)
    for one in read_recorded(path):
        _kill_group(one)
    path.unlink(missing_ok=True)
    return [one.name for one in stale]


def is_same_process(one: Recorded) -> bool:
    """Whether the process written down still runs, and is not another one with its id."""
    return start_time(one.pid) == one.started


def start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; None where there is none (or only its zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _kill_group(one: Recorded) -> None:
    """SIGKILL to the process group `start` made for `one`: its children, if it left any.

    While a group has members its number is nobody else's; once the leader's id has a new holder, the group is gone.
    """
    if start_time(one.pid) in (None, one.started):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(one.pid, signal.SIGKILL)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
