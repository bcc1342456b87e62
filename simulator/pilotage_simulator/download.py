"""STAR from where it is published, in the layout that star.py reads. The digest is over the files that are used.

The published test part of the standard set and the newest dialogues are left out, as in the copy that the project's
figures were reached with.
"""

import gzip
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotage_core.errors import EvidenceError
from pilotage_simulator.published import download, read_archive

COMMIT = "3058975092cdd09798e4a3a9e4ae135755824545"
ARCHIVE = f"https://codeload.github.com/RasaHQ/STAR/tar.gz/{COMMIT}"
DIGEST = "c2d5bc0a8b05b5d6372a3871ad9b05e63633c9be0715018cff167072dd749ff7"
LAST_DIALOGUE = 5885
STANDARD_TRAINING = 1229
"""How many of the standard set (happy, unguided), by DialogueID, are its published training part."""
REMEDY = "give STAR=<folder with dialogues.jsonl.gz, apis.json and tasks.json>"

_USED = re.compile(r"^[^/]+/((?:dialogues/\d+|apis/apis/\w+|tasks/\w+/\w+)\.json)$")


def download_star() -> Path:
    """Folder of the data set, downloaded once. Raises UnavailableError, or EvidenceError where the digest differs."""
    return download(ARCHIVE, f"star-{COMMIT[:12]}", "dialogues.jsonl.gz", unpack_archive, REMEDY)


def unpack_archive(archive: Path, folder: Path, digest: str = DIGEST) -> None:
    """Write what star.py reads of `archive` to `folder`. Raises EvidenceError where the content has another digest."""
    files = dict(read_archive(archive, _USED, REMEDY))
    found = digest_files(files)
    if found != digest:
        raise EvidenceError(f"its content has digest {found}, not {digest}", where=ARCHIVE, remedy=REMEDY)
    folder.mkdir()
    content = {path: json.loads(text) for path, text in files.items()}
    dialogues = [value for path, value in content.items() if path.startswith("dialogues/")]
    with gzip.open(folder / "dialogues.jsonl.gz", "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(dialogue) + "\n" for dialogue in select_dialogues(dialogues))
    apis = {Path(path).stem: value for path, value in content.items() if path.startswith("apis/")}
    tasks: dict[str, dict[str, Any]] = {}
    for path, value in content.items():
        if path.startswith("tasks/"):
            tasks.setdefault(Path(path).parent.name, {})[Path(path).stem] = value
    (folder / "apis.json").write_text(json.dumps(apis), encoding="utf-8")
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")


def select_dialogues(dialogues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The dialogues in use, by DialogueID: without the newest, and without the standard set's published test part."""
    ordered = sorted(dialogues, key=lambda dialogue: int(dialogue["DialogueID"]))
    kept, standard = [], 0
    for dialogue in ordered:
        guided = any(event["Agent"] == "UserGuide" for event in dialogue["Events"])
        is_standard = dialogue["Scenario"]["Happy"] and not guided
        standard += is_standard
        if dialogue["DialogueID"] <= LAST_DIALOGUE and not (is_standard and standard > STANDARD_TRAINING):
            kept.append(dialogue)
    return kept


def digest_files(files: Mapping[str, bytes]) -> str:
    """SHA-256 over the paths and contents, in the paths' order."""
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(f"{path}\0{hashlib.sha256(files[path]).hexdigest()}\n".encode())
    return found.hexdigest()
