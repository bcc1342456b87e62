"""What an evaluation in closed loop is asked for."""

from pathlib import Path
from typing import NamedTuple


class TrialsRequest(NamedTuple):
    """`source` as source.py reads it; trials that begin in [`since`, `until`), `sessions` of them at most.

    An empty `config` leaves the trials' own rules. `target` and `delta` are the session certificate's.
    """

    source: str
    policy: Path
    critic: Path | None = None
    process_cluster: str = ""
    since: str = ""
    until: str = ""
    config: str = ""
    sessions: int | None = None
    target: float = 0.95
    delta: float = 0.05
