"""Trials that some package brings: entry points of group `pilotage.trials`, `NAME:PATH`, a bare path being the desk's.

Not here: what a trial is (pilotage_core.trial), who works it (worker.py).
"""

from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

from pilotage_core.errors import InvalidInputError
from pilotage_core.trial import GROUP, Trial, TrialReader

DEFAULT = "desk"


def read_trials(source: str, process_cluster: str = "", part: tuple[int, int] = (0, 1)) -> Iterator[Trial]:
    """The trials of `source`, in its order; of `part` (i, n) every n-th from the i-th on.

    Raises InvalidInputError for a name that nobody brings, and what the reader raises.
    """
    name, colon, path = source.partition(":")
    if not colon or Path(source).exists():
        name, path = DEFAULT, source
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise InvalidInputError(
            f"{name!r} brings no trials",
            where=source,
            remedy=f"installed: {', '.join(sorted(found)) or 'none'}; a bare path is the desk's",
        )
    reader: TrialReader = found[name].load()
    named = {"process_cluster": process_cluster} if process_cluster else {}
    yield from reader(path, part=part, **named)
