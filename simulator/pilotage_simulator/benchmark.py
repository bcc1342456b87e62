"""STAR as its authors score it: each dialogue's choices as a session record, and whether it is in the published set.

Read by a trainer through the entry point group `pilotage.benchmarks`, since it may not import a simulator. Nothing
here reaches a model: which set a dialogue is in stands beside its record, never in it. Not here: labels and measures.
"""

import gzip
import shutil
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


def split_benchmark(source: Path, folder: Path, development_share: float, whole: bool = False) -> tuple[int, int]:
    """Write `folder`/train.jsonl.gz and development.jsonl.gz, and the procedures beside them; how many each has.

    Development is the newest `development_share` of the published set's dialogues, everything else is to be learned
    from; with `whole` all of it is. Lines stay as they are. Raises InvalidInputError.
    """
    path = load_star(source).dialogues
    standard = [index for index, dialogue in enumerate(read_dialogues(path)) if is_standard(dialogue)]
    development = set(standard[round(len(standard) * (1.0 - development_share)) :])
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        lines = [line for line in file if line.strip()]
    known = [line for index, line in enumerate(lines) if whole or index not in development]
    for name, kept in (("train", known), ("development", [lines[index] for index in sorted(development)])):
        with gzip.open(folder / f"{name}.jsonl.gz", "wb", compresslevel=1) as file:
            file.writelines(kept)
    for beside in (path.parent / "apis.json", path.parent / "tasks.json"):
        if beside.exists():
            shutil.copyfile(beside, folder / beside.name)
    return len(known), len(development)
