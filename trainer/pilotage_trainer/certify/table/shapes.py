"""What a file is that is no table of commas, said so that whoever exported it knows what to write instead.

Also where a quote that was never meant as one has swallowed rows. Not here: reading the table (file.py).
"""

import csv
import gzip
from collections.abc import Collection
from pathlib import Path

from pilotage_core.lines import GZIP

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "is a workbook or an archive (ZIP): write CSV"),
    (b"\xd0\xcf\x11\xe0", "is a workbook (XLS): write CSV"),
    (b"\xff\xfe", "is UTF-16: write UTF-8"),
    (b"\xfe\xff", "is UTF-16: write UTF-8"),
    (b"\x00\x00\xfe\xff", "is UTF-32: write UTF-8"),
    (GZIP, "is compressed twice: compress it once"),
    (b"%PDF", "is a PDF: write CSV"),
    (b"SQLite format 3", "is a SQLite database: write CSV"),
    (b"ARROW1", "is an Arrow file: write Parquet or CSV"),
)
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_STARTS: tuple[tuple[str, str], ...] = (
    ("{", "is JSON: write CSV"),
    ("[", "is JSON: write CSV"),
    ("<", "is HTML or XML: write CSV"),
    ("sep=", "begins with a line for a spreadsheet (sep=): leave it out"),
    ("#", "begins with a comment: the first line names the columns"),
)
_LOOK_BYTES = 1 << 16


def find_shape(path: Path, *, is_packed: bool, columns: tuple[str, ...]) -> str:
    """What the file is where it is no CSV with a header of `columns`; empty where it may be one. Raises OSError."""
    with gzip.open(path) if is_packed else path.open("rb") as file:
        start = file.read(_LOOK_BYTES)
    found = next((what for beginning, what in _BEGINNINGS if start.startswith(beginning)), "")
    if found:
        return found
    if b"\x00" in start:
        return "holds zero bytes: it is UTF-16 or no text; write UTF-8"
    lines = start.decode("utf-8-sig", "replace").lstrip().splitlines()
    header = lines[0].strip() if lines else ""
    found = next((what for mark, what in _STARTS if header.startswith(mark)), "")
    names = {name.strip(' "').casefold() for name in header.split(",")}
    if found or len(names & set(columns)) > 1:
        return found
    for separator, name in _SEPARATORS.items():
        if len({cell.strip(' "').casefold() for cell in header.split(separator)} & set(columns)) > 1:
            return f"is separated by {name}: write commas"
    if len(names) >= len(columns) and not names & set(columns):
        return "has no header: its first line names the columns"
    return ""


def find_swallowed(path: Path, *, is_packed: bool, names: list[str], columns: Collection[str]) -> str:
    """Where a quote has swallowed rows of a CSV with header `names`; empty where none has. Raises OSError.

    What stands in `columns` has one line. Text elsewhere may have more, unless one would make a row of its own.
    """
    single = [number for number, name in enumerate(names) if name in columns]
    open_text = gzip.open if is_packed else open
    with open_text(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as text:
        rows, before = csv.reader(text, strict=True), 0
        try:
            for row in rows:
                if rows.line_num - before > 1 and _has_swallowed(row, single, len(names)):
                    return f"line {before + 1}: a quote opens there and swallows the rows up to line {rows.line_num}"
                before = rows.line_num
        except csv.Error:  # the quote is never closed, or what closes it stands within a cell
            if rows.line_num - before > 1:
                return f"line {before + 1}: a quote opens there and swallows the rows up to line {rows.line_num}"
    return ""


def _has_swallowed(row: list[str], single: list[int], width: int) -> bool:
    if any("\n" in row[number].strip() for number in single if number < len(row)):
        return True
    return any(line.count(",") >= width - 1 for cell in row for line in cell.splitlines()[1:])
