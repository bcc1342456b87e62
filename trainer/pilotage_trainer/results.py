"""A Job's result, and where it is written. Exit codes: failures.py.

The controller reads the termination message; the copy beside the artefact is for people and the report.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.errors import EvidenceError
from pilotage_core.wire import MOST_METRICS, JobResult, pack_result

LONGEST_MESSAGE = 4096
"""Bytes that Kubernetes keeps of a termination message."""
TERMINATION_LOG = Path("/dev/termination-log")
RESULT = "result.json"


def write_result(result: JobResult, folder: Path, wanted: Path | None) -> None:
    """Write `result` into `folder`, and to `wanted` (default: the termination log if there is one). Raises OSError."""
    _write_by_rename(folder / RESULT, msgspec.json.format(msgspec.json.encode(result)))
    if wanted is None and os.access(TERMINATION_LOG, os.W_OK):
        wanted = TERMINATION_LOG
    if wanted is None:
        return
    if wanted == TERMINATION_LOG:  # mounted: it can be written, not renamed over
        wanted.write_bytes(shorten_result(result))
    else:
        _write_by_rename(wanted, msgspec.json.encode(result))


def require_writable(path: Path) -> None:
    """Raises OSError where no file can be put at `path`: better before the work than after it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    was_there = path.exists()
    path.open("ab").close()
    if not was_there:
        path.unlink(missing_ok=True)  # another process may look at the same time


def shorten_result(result: JobResult) -> bytes:
    """`result` in at most LONGEST_MESSAGE bytes: packed where longer, then without figures and words.

    Certificates always stay. Raises EvidenceError where they do not fit: cut, the Job would be tried again for ever.
    """
    message = msgspec.json.encode(result)
    if len(message) <= LONGEST_MESSAGE and len(result.metrics) <= MOST_METRICS:
        return message
    reason = "certified; see result.json" if result.passed else "see result.json"
    without: list[dict[str, Any]] = [{"metrics": {}}, {"metrics": {}, "reason": reason}]
    for shorter in [{}, *without] if len(result.metrics) <= MOST_METRICS else without:
        packed = pack_result(msgspec.structs.replace(result, **shorter))
        if len(packed) <= LONGEST_MESSAGE:
            return packed
    raise EvidenceError(
        f"{len(result.certificates)} certificates do not fit a termination message", where="strata", remedy="have fewer"
    )


def tell(text: str) -> None:
    """One line of progress on standard error."""
    sys.stderr.write(f"pilotage-train: {text}\n")
    sys.stderr.flush()


def _write_by_rename(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
