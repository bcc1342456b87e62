"""A table of sessions or customers (CSV, Parquet) as arms with one number for each customer; what is wrong with it.

Left out, counted and named: rows without a customer or an arm, rows whose number is none, rows with a negative time,
and customers that are in more than one arm. A customer's rows are added up.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage_core.errors import InvalidInputError
from pilotage_core.experiment import Arm, Values

NOBODY = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
"""What stands for no name: spreadsheets and data frames write these."""
DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Table:
    """Arms by name, and what was left out of them."""

    arms: dict[str, Arm]
    problems: tuple[str, ...]


def read_table(
    path: Path, customer: str, arm: str, metric: str, *, of: str = "", before: str = "", negative: bool = False
) -> Table:
    """The table at `path`. `of` divides the metric (a rate), `before` is the same from before the experiment.

    `negative`: numbers below 0 are fine. Raises InvalidInputError where it cannot be read, or lacks a column.
    """
    columns = list(dict.fromkeys(filter(None, (customer, arm, metric, of, before))))
    rows = _read(path, columns)
    names, arms = _strings(rows[customer]), _strings(rows[arm])
    numbers = {name: _numbers(rows[name]) for name in (metric, of, before) if name}
    problems: list[str] = []
    keep = np.ones(len(names), dtype=bool)

    def leave_out(bad: NDArray[np.bool_], what: str) -> None:
        count = int((bad & keep).sum())
        if count:
            problems.append(f"{count} row{'s' * (count != 1)} {what}: left out")
        keep[bad] = False

    leave_out(_is_nobody(names), f"without a {customer}")
    leave_out(_is_nobody(arms), f"without a {arm}")
    for name, values in numbers.items():
        leave_out(~np.isfinite(values), f"whose {name} is no number")
        if not negative:
            leave_out(np.nan_to_num(values) < 0, f"whose {name} is negative (--negative lets them be)")
    people, who = np.unique(names[keep], return_inverse=True)
    places, where = np.unique(arms[keep], return_inverse=True)
    if not len(places):
        raise InvalidInputError("no row is left", where=str(path), remedy="; ".join(problems) or "it has none")
    inside = np.zeros((len(people), len(places)), dtype=bool)
    inside[who, where] = True
    several = inside.sum(axis=1) > 1
    if several.any():
        example = ", ".join(map(str, people[several][:3]))
        problems.append(f"{int(several.sum())} customers in more than one arm ({example}): left out")
    sums = {name: np.bincount(who, values[keep], len(people)) for name, values in numbers.items()}
    found = {}
    for place, name in enumerate(places):
        mine = inside[:, place] & ~several
        found[str(name)] = Arm(*(_pick(sums, key, mine) for key in (metric, of, before)))  # type: ignore[arg-type]
    return Table(found, tuple(problems))


def _pick(sums: dict[str, Values], key: str, mine: NDArray[np.bool_]) -> Values | None:
    return sums[key][mine] if key else None


def _read(path: Path, columns: list[str]) -> dict[str, Any]:
    """Columns by name, as Arrow has them."""
    import pyarrow as pa

    try:
        table = _read_parquet(path) if _is_parquet(path) else _read_csv(path)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        what = str(error).splitlines()[0][:200]
        raise InvalidInputError(
            f"cannot be read: {what}", where=str(path), remedy="give CSV in UTF-8, or whole Parquet"
        ) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"has no column {', '.join(missing)}", where=str(path), remedy=f"it has {', '.join(table.column_names)}"
        )
    return {name: table.column(name) for name in columns}


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" or path.suffix.lower() in (".parquet", ".pq")


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


def _read_csv(path: Path) -> Any:
    """All of it as text, whatever the delimiter: what is a number is found out by name."""
    import pyarrow as pa
    from pyarrow import csv

    with path.open("r", encoding="utf-8-sig") as file:
        head = file.readline()
    delimiter = max(DELIMITERS, key=head.count)
    names = list(_split_head(head, delimiter))
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )


def _split_head(head: str, delimiter: str) -> Iterator[str]:
    import csv

    yield from next(csv.reader([head.rstrip("\r\n")], delimiter=delimiter), [])


def _strings(column: Any) -> NDArray[np.str_]:
    import pyarrow as pa

    text = column.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False)
    return np.char.strip(np.asarray(text, dtype=np.str_))


def _is_nobody(names: NDArray[np.str_]) -> NDArray[np.bool_]:
    known, which = np.unique(names, return_inverse=True)
    bad = np.array([name.strip().lower() in NOBODY for name in known.tolist()], dtype=bool)
    return bad[which] if known.size else np.zeros(0, dtype=bool)


def _numbers(column: Any) -> Values:
    """NaN for what is none. A comma is no decimal point: that would be guessed."""
    import pyarrow as pa

    try:
        return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(), dtype=np.float64)
    except pa.ArrowInvalid:
        return np.array([_number(text) for text in column.cast(pa.string()).to_pylist()], dtype=np.float64)


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else float("nan")
    except ValueError:
        return float("nan")
