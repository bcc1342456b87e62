"""Data sets from where they are published, for machines that have no copy: one archive of a fixed commit, checked.

Kept outside the checkout, in the user's cache folder. What is checked is the content that is used, not the archive: the
same content may be compressed anew. Not here: what a set's files are turned into (download.py, desk/download.py).
"""

import os
import re
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from pilotage_core.errors import EvidenceError, UnavailableError

TIMEOUT_SECONDS = 60.0
MOST_BYTES = 512 * 1024 * 1024


def download(url: str, name: str, marker: str, unpack: Callable[[Path, Path], None], remedy: str) -> Path:
    """The folder `name` in the cache, of what `unpack` makes of the archive at `url`; once `marker` is in it, as it is.

    Raises UnavailableError where it cannot be had, EvidenceError where it is another one.
    """
    folder = _cache() / name
    if (folder / marker).exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        archive, unpacked = Path(work) / "archive.tar.gz", Path(work) / "unpacked"
        _fetch(url, archive, remedy)
        unpack(archive, unpacked)
        if not (folder / marker).exists():
            unpacked.rename(folder)
    return folder


def read_archive(archive: Path, used: re.Pattern[str], remedy: str) -> Iterator[tuple[str, bytes]]:
    """Path (the first group of `used`) and content of each file whose name `used` matches, as they stand in it."""
    try:
        with tarfile.open(archive, "r|gz") as members:
            for member in members:
                named = used.match(member.name)
                if named is None or not member.isfile() or member.size > MOST_BYTES:
                    continue
                content = members.extractfile(member)
                if content is not None:
                    yield named[1], content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise EvidenceError(f"no readable archive: {error}", where=str(archive), remedy=remedy) from error


def _cache() -> Path:
    named = os.environ.get("PILOTAGE_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pilotage"


def _fetch(url: str, target: Path, remedy: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer, target.open("wb") as file:
            size = 0
            while chunk := answer.read(1 << 20):
                size += len(chunk)
                if size > MOST_BYTES:
                    raise EvidenceError(f"larger than {MOST_BYTES} bytes", where=url, remedy=remedy)
                file.write(chunk)
    except (urllib.error.URLError, OSError) as error:
        raise UnavailableError(f"cannot be downloaded: {error}", where=url, remedy=remedy) from error
