"""STAR as its authors score it: each dialogue's choices as a session record, and whether it is in the published set.

Read by a trainer through the entry point group `pilotage.benchmarks`, since it may not import a simulator. Nothing
here reaches a model: which set a dialogue is in stands beside its record, never in it. Not here: labels and measures.
"""

from collections.abc import Iterator
from pathlib import Path

from pilotage_core.record import SessionRecord
from pilotage_simulator.recording import ALL_DOMAINS, record_choices
from pilotage_simulator.star import Dialogue, find_star, load_star, read_dialogues

GUIDE = "UserGuide"


def read_star_benchmark(source: str | Path = "") -> Iterator[tuple[SessionRecord, bool]]:
    """The choices of each dialogue of `source` that has any, and whether it belongs to the published "standard" set.

    `source` is a file of dialogues or a folder (empty: as `find_star` finds it). Raises InvalidInputError.
    """
    star = load_star(find_star(str(source)))
    for dialogue in read_dialogues(star.dialogues):
        record = record_choices(dialogue, star.procedures, ALL_DOMAINS)
        if record is not None:
            yield record, is_standard(dialogue)


def is_standard(dialogue: Dialogue) -> bool:
    """Whether `dialogue` is in the published set: a happy path, and nobody instructed the customer on the way."""
    return dialogue.scenario.happy and all(event.agent != GUIDE for event in dialogue.events)
