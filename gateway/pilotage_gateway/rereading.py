"""A JSON file that is read again when it changes; the last good one stays."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from pilotage_core.errors import InvalidInputError

log = logging.getLogger(__name__)
T = TypeVar("T")


class Reread(Generic[T]):
    """The file at `path` as a `kind`. `check` raises ValueError for one that cannot be used."""

    def __init__(self, path: Path, kind: type[T], check: Callable[[T], None] = lambda _: None) -> None:
        self.path = path
        self._decode = msgspec.json.Decoder(kind).decode
        self._check = check
        self._stamp = (0, 0, 0)
        self._value: T | None = None

    def find(self) -> T | None:
        """What is in it now; None until there has been a good one."""
        try:
            return self.read() if self._value is not None or self.path.exists() else None
        except InvalidInputError as error:
            log.warning("%s: as if it were not there: %s", self.path, error.what)
            return None

    def read(self) -> T:
        """What is in it now. Raises InvalidInputError where there never was a good one."""
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if self._value is not None and stamp == self._stamp:
                return self._value
            value = self._decode(self.path.read_bytes())
            self._check(value)
            self._value, self._stamp = value, stamp
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            if self._value is None:
                raise InvalidInputError(f"cannot be read: {error}", where=str(self.path)) from error
            log.warning("%s cannot be read, the last good one stays: %s", self.path, error)
        return self._value
