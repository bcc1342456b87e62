"""What stands beside every figure: the command, the commit, the machine and how busy it was, the versions."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def describe_run(*packages: str) -> dict[str, object]:
    """Fields of a result file; call it before anything is measured. "+" marks a commit with changes on top."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"]
    found = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": found.stdout.strip() or "none yet",
        "machine": describe_machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def describe_machine() -> dict[str, object]:
    """CPU, cores and memory, and how busy the machine is now."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "load_average": round(os.getloadavg()[0], 2),
    }
