"""Child processes that outlive the controller: started once under a name, found again by a file, ended by their id.

Each has a folder: `process.json` (pid and its start time, so that a reused pid is nobody), `log`, and `exit` once it
has ended. Not here: what they run.
"""

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilotage_operator.manifests.job import PASSIVE_WAITING, THREAD_VARIABLES

# The wrapper writes the exit code down even when nobody waits for the process any more.
WRAPPER = '"$@"; code=$?; echo $code > exit.new && mv exit.new exit'


class ProcessRecord(msgspec.Struct, frozen=True):
    """A process that was started. `started` is its start time in clock ticks since boot."""

    pid: int
    started: int
    command: tuple[str, ...]
    port: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """One named process: its record, whether it runs, and its exit code once it has ended by itself."""

    folder: Path
    record: ProcessRecord
    running: bool
    exit_code: int | None

    @property
    def log_tail(self) -> str:
        """The last line it wrote."""
        path = self.folder / "log"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1][:500] if lines else ""


def start_process(folder: Path, command: list[str], port: int = 0, threads: int = 1) -> Process:
    """Start `command` in a session of its own, in `folder`. What an earlier process of that name left is cleared.

    `threads` are what numerical libraries may use in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("exit", "exit.new", "process.json"):
        (folder / name).unlink(missing_ok=True)
    program = Path(sys.executable).parent / command[0]
    found = str(program) if program.exists() else command[0]
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | PASSIVE_WAITING
    with (folder / "log").open("ab") as log:
        child = subprocess.Popen(
            ["/bin/sh", "-c", WRAPPER, "sh", found, *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record = ProcessRecord(child.pid, read_start(child.pid), tuple(command), port)
    (folder / "process.json").write_bytes(msgspec.json.encode(record))
    return Process(folder, record, True, None)


def find_process(folder: Path) -> Process | None:
    """The process of that name, or None where none was started."""
    path = folder / "process.json"
    if not path.exists():
        return None
    record = msgspec.json.decode(path.read_bytes(), type=ProcessRecord)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)  # our own child that has ended is not to stay a zombie
    exit_path = folder / "exit"
    exit_code = int(exit_path.read_text() or 1) if exit_path.exists() else None
    running = exit_code is None and record.started > 0 and read_start(record.pid) == record.started
    return Process(folder, record, running, exit_code)


def stop_process(process: Process) -> None:
    """End a process and its children, at once: none of them holds anything that SIGKILL could damage."""
    if process.running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.record.pid, signal.SIGKILL)


def read_start(pid: int) -> int:
    """Start time of `pid` in clock ticks since boot; 0 where there is no such process (or it is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])
