"""STAR from where it is published, for machines that have no copy: one archive of a fixed commit, checked by digest.

Kept outside the checkout, in the user's cache folder, in the layout that star.py reads. The digest is over the files
that are used, not over the archive: the same content may be compressed anew. The published test part of the standard
set and the newest dialogues are left out, as in the copy that the project's figures were reached with.
"""

import gzip
import hashlib
import json
import os
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotage_core.errors import EvidenceError, UnavailableError

COMMIT = "3058975092cdd09798e4a3a9e4ae135755824545"
ARCHIVE = f"https://codeload.github.com/RasaHQ/STAR/tar.gz/{COMMIT}"
DIGEST = "c2d5bc0a8b05b5d6372a3871ad9b05e63633c9be0715018cff167072dd749ff7"
LAST_DIALOGUE = 5885
STANDARD_TRAINING = 1229
"""How many of the standard set (happy, unguided), by DialogueID, are its published training part."""
TIMEOUT_SECONDS = 60.0
MOST_BYTES = 256 * 1024 * 1024
REMEDY = "give STAR=<folder with dialogues.jsonl.gz, apis.json and tasks.json>"

_USED = re.compile(r"^[^/]+/((?:dialogues/\d+|apis/apis/\w+|tasks/\w+/\w+)\.json)$")


def download_star() -> Path:
    """Folder of the data set, downloaded once. Raises UnavailableError, or EvidenceError where the digest differs."""
    folder = _cache() / f"star-{COMMIT[:12]}"
    if (folder / "dialogues.jsonl.gz").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        archive = Path(work) / "star.tar.gz"
        _fetch(archive)
        unpacked = Path(work) / "star"
        unpack_archive(archive, unpacked)
        if not (folder / "dialogues.jsonl.gz").exists():
            unpacked.rename(folder)
    return folder


def unpack_archive(archive: Path, folder: Path, digest: str = DIGEST) -> None:
    """Write what star.py reads of `archive` to `folder`. Raises EvidenceError where the content has another digest."""
    files = _read_archive(archive)
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


def _cache() -> Path:
    named = os.environ.get("PILOTAGE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pilotage"


def _fetch(target: Path) -> None:
    try:
        with urllib.request.urlopen(ARCHIVE, timeout=TIMEOUT_SECONDS) as answer, target.open("wb") as file:
            size = 0
            while chunk := answer.read(1 << 20):
                size += len(chunk)
                if size > MOST_BYTES:
                    raise EvidenceError(f"larger than {MOST_BYTES} bytes", where=ARCHIVE, remedy=REMEDY)
                file.write(chunk)
    except (urllib.error.URLError, OSError) as error:
        raise UnavailableError(f"cannot be downloaded: {error}", where=ARCHIVE, remedy=REMEDY) from error


def _read_archive(archive: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                used = _USED.match(member.name)
                if used is None or not member.isfile() or member.size > MOST_BYTES:
                    continue
                content = members.extractfile(member)
                if content is not None:
                    files[used[1]] = content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise EvidenceError(f"no readable archive: {error}", where=str(archive), remedy=REMEDY) from error
    return files
