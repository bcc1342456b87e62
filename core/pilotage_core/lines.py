"""Lines of JSON as exports really have them: packed or not, marked at their start, with characters that are none.

Damage that has one meaning is mended and counted; anything else is refused, naming its line. Not here: what a line
means (trainer/pilotage_trainer/sessions/sources.py, simulator/star.py).
"""

import gzip
import logging
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

import msgspec

from pilotage_core.errors import InvalidInputError, UnavailableError

GZIP, MARK = b"\x1f\x8b", b"\xef\xbb\xbf"
_OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair: one character
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"  # half of one
    rb"|\\.",
    re.DOTALL,
)
_FILE = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,([A-Za-z0-9+/=_-]*)")
REPLACEMENT = b"\\ufffd"
SECONDS_UNITS = (1.0, 1e3, 1e6, 1e9)
LONGEST_SECONDS = 1e11
"""Seconds, ms, µs and ns of this century stand apart: none in a finer unit is this small in a coarser one."""

T = TypeVar("T")
log = logging.getLogger("pilotage.lines")


def read_lines(file: BinaryIO, where: str) -> Iterator[tuple[int, bytes]]:
    """The lines of `file` that are not empty, with their numbers from 1 on.

    Raises InvalidInputError for what are no lines of JSON, UnavailableError where it cannot be read to its end.
    """
    packed = file.read(len(GZIP)) == GZIP
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if packed else file
    number = 0
    with _reading(where):
        for raw in stream:
            line = raw.removeprefix(MARK) if number == 0 else raw
            for part in line.rstrip(b"\r\n").split(b"\r") if b"\r" in line else (line,):  # no JSON holds one as it is
                number += 1
                said = part.strip()
                if said and number == 1:
                    _refuse_other(said, where)
                if said:
                    yield number, said


def decode_lines(file: BinaryIO, decoder: msgspec.json.Decoder[T], where: str, what: str) -> Iterator[tuple[int, T]]:
    """Each line of `file` decoded, with its number. Half characters become U+FFFD; how many lines had any is logged.

    Raises what `read_lines` raises, and InvalidInputError for a line that is no `what`, naming it.
    """
    mended, first = 0, 0
    for number, line in read_lines(file, where):
        try:
            yield number, decoder.decode(line)
            continue
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            whole = mend_characters(line)
            if whole == line:
                raise _refuse_line(error, where, number, what) from error
        try:
            decoded = decoder.decode(whole)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refuse_line(error, where, number, what) from error
        mended, first = mended + 1, first or number
        yield number, decoded
    if mended:
        log.warning("%s: %d lines had characters that are none, now U+FFFD (the first: line %d)", where, mended, first)


def mend_characters(line: bytes) -> bytes:
    """`line` with U+FFFD for bytes that are no UTF-8, and for escaped halves of a character."""
    try:
        line.decode()
    except UnicodeDecodeError:
        line = line.decode(errors="replace").encode()
    return _ESCAPE.sub(lambda found: REPLACEMENT if found[1] else found[0], line)


def name_files(text: str) -> tuple[str, int]:
    """`text` with each file that is encoded in it (a data URL) as its kind and size, and how many there were."""
    if ";base64," not in text:
        return text, 0
    return _FILE.subn(lambda found: f"[{found[1] or 'file'}, {len(found[2]) * 3 // 4} bytes]", text)


def read_seconds(number: float) -> float:
    """Unix time in seconds, from one in seconds, ms, µs or ns. Raises ValueError for what is none."""
    for unit in SECONDS_UNITS:
        if 0 <= number / unit < LONGEST_SECONDS:
            return number / unit
    raise ValueError(f"{number!r} is no Unix time")


def _refuse_other(first: bytes, where: str) -> None:
    if first.startswith(GZIP):
        raise InvalidInputError("is compressed twice", where=where, remedy="compress it once")
    if first.startswith(b"PK\x03\x04"):
        raise InvalidInputError("is an archive (ZIP)", where=where, remedy="unpack it")
    if first.startswith(_OTHER_UNICODE) or b"\x00" in first[:100]:
        raise InvalidInputError("is UTF-16 or no text", where=where, remedy="write UTF-8")
    if first.startswith(b"["):
        raise InvalidInputError("is one JSON array", where=where, remedy="write one object a line")
    if first == b"{":
        raise InvalidInputError("is JSON over several lines", where=f"{where}:1", remedy="write one object a line")


def _refuse_line(error: Exception, where: str, number: int, what: str) -> InvalidInputError:
    said = "is nested too deep" if isinstance(error, RecursionError) else str(error)
    return InvalidInputError(said, where=f"{where}:{number}", remedy=f"each line is one {what} as JSON")


@contextmanager
def _reading(where: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise UnavailableError(f"cannot be read: {error}", where=where) from error
