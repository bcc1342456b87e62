"""One `pilotage demo --local` on real dialogues, as a user starts it, and what it left."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pilotage.demo.processes import start_time

CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Demo:
    """A finished run: exit code, what it printed, its figures by process cluster, its folder."""

    code: int
    printed: str
    figures: dict[str, Any]
    folder: Path

    def cluster(self, name: str) -> dict[str, Any]:
        return next(one for one in self.figures["process_clusters"] if one["name"] == name)

    def stages(self, name: str) -> list[str]:
        return [flip["stage"] for flip in self.cluster(name)["stages"]]

    def calibrations(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(path.read_bytes()) for path in self.folder.glob("calibration/*/*/*/result.json")]


def run_demo(folder: Path, *options: str, seconds: float) -> Demo:
    """Run it with a limit of `seconds` of play; raises where it does not end well after that."""
    command = [
        str(Path(sys.executable).with_name("pilotage")), "demo", "--local", "--run", str(folder),
        "--limit-seconds", str(seconds), *options,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=seconds + 60, env=os.environ, check=False
    )
    printed = done.stdout + done.stderr
    report = folder / "report.json"
    assert report.exists(), f"no report; exit {done.returncode}:\n{printed}"
    return Demo(done.returncode, printed, msgspec.json.decode(report.read_bytes()), folder)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that still run and name `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and start_time(int(entry.name)) is not None:
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if str(folder) in line:
                found.append(line)
    return found
