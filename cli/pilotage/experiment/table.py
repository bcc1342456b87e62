"""A table of sessions or customers (CSV, Parquet) as arms with one number for each customer; what is wrong with it.

Left out, counted and named: rows without a customer or an arm, customers that are in more than one arm (whatever their
numbers), rows whose number is none, rows with a negative time. A customer's rows are added up; what was before the
experiment is one number of each customer, on any of the rows.
"""

import gzip
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage_core.errors import InvalidInputError
from pilotage_core.experiment import Arm, Values

NOBODY = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>"})
"""What stands for no customer: spreadsheets and data frames write these. An arm may be called so."""
DELIMITERS = (",", ";", "\t", "|")
Codes = NDArray[np.int64]


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
    people, who = _name(rows[customer], customer, path)
    places, where = _name(rows[arm], arm, path)
    numbers = {name: _numbers(rows[name], name, path) for name in (metric, of, before) if name}
    problems: list[str] = []
    keep = np.ones(len(who), dtype=bool)
    _leave_out(keep, np.array([n.lower() in NOBODY for n in people], bool)[who], f"without a {customer}", problems)
    _leave_out(keep, np.array([not n for n in places], bool)[where], f"without a {arm}", problems)
    inside = np.zeros((len(people), len(places)), dtype=bool)
    inside[who[keep], where[keep]] = True
    several = inside.sum(axis=1) > 1
    if several.any():
        example = ", ".join(np.array(people)[several][:3])
        problems.append(f"{int(several.sum())} customers in more than one arm ({example}): left out")
        keep &= ~several[who]
    for name, values in numbers.items():
        if name != before:
            _leave_out(keep, ~np.isfinite(values), f"whose {name} is no number", problems)
        if not negative:
            bad = np.nan_to_num(values) < 0
            _leave_out(keep, bad, f"whose {name} is negative (--negative lets them be)", problems)
    if not keep.any():
        raise InvalidInputError("no row is left", where=str(path), remedy="; ".join(problems) or "it has none")
    sums: dict[str, Values] = {
        name: np.bincount(who[keep], numbers[name][keep], len(people)).astype(np.float64)
        for name in (metric, of)
        if name
    }
    if before:
        sums[before] = _find_before(numbers[before][keep], who[keep], people, before, path, problems)
    there = np.bincount(who[keep], minlength=len(people)) > 0
    members = {name: inside[:, place] & there for place, name in enumerate(places)}
    arms = {
        name: Arm(*(_pick(sums, key, mine) for key in (metric, of, before)))  # type: ignore[arg-type]
        for name, mine in members.items()
        if mine.any()
    }
    return Table(arms, tuple(problems))


def _leave_out(keep: NDArray[np.bool_], bad: NDArray[np.bool_], what: str, problems: list[str]) -> None:
    """Take `bad` rows out of `keep`, and say of how many that is true."""
    count = int((bad & keep).sum())
    if count:
        problems.append(f"{count} row{'s' * (count != 1)} {what}: left out")
    keep[bad] = False


def _find_before(values: Values, who: Codes, people: list[str], name: str, path: Path, problems: list[str]) -> Values:
    """One number for each customer: the same on all rows that have one. Who has none gets the mean of the others."""
    has = np.isfinite(values)
    low, high = np.full(len(people), np.inf), np.full(len(people), -np.inf)
    np.minimum.at(low, who[has], values[has])
    np.maximum.at(high, who[has], values[has])
    differs = np.flatnonzero(high > low)
    if differs.size:
        raise InvalidInputError(
            f"{name} of {people[differs[0]]} is not the same on all rows", where=str(path),
            remedy="it is one number of each customer, from before the experiment",
        )  # fmt: skip
    known = np.isfinite(low)
    if not known.any():
        raise InvalidInputError(f"no row has a {name}", where=str(path))
    missing = int((~known[np.unique(who)]).sum())
    if missing:
        problems.append(f"{missing} customers without a {name}: taken for average")
    return np.where(known, low, low[known].mean())


def _pick(sums: dict[str, Values], key: str, mine: NDArray[np.bool_]) -> Values | None:
    return sums[key][mine] if key else None


def _read(path: Path, columns: list[str]) -> dict[str, Any]:
    """Columns by name, as Arrow has them."""
    import pyarrow as pa

    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        is_parquet = data[:4] == b"PAR1" or path.suffix.lower() in (".parquet", ".pq")
        table = _read_parquet(data, columns) if is_parquet else _read_csv(data, columns)
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError) as error:
        what = str(error).splitlines()[0][:200]
        raise InvalidInputError(
            f"cannot be read: {what}", where=str(path), remedy="give CSV in UTF-8, or whole Parquet"
        ) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InvalidInputError(
            f"has no column {', '.join(missing)}", where=str(path), remedy=f"it has {', '.join(table.column_names)}"
        )
    twice = [name for name in columns if table.column_names.count(name) > 1]
    if twice:
        raise InvalidInputError(f"has {', '.join(twice)} more than once", where=str(path), remedy="name columns apart")
    return {name: table.column(name) for name in columns}


def _read_parquet(data: bytes, columns: list[str]) -> Any:
    from pyarrow import parquet

    file = parquet.ParquetFile(io.BytesIO(data))
    there = file.schema_arrow.names
    return file.read(columns=columns) if set(columns) <= set(there) else file.read()


def _read_csv(data: bytes, columns: list[str]) -> Any:
    """All of it as text, whatever the delimiter: what is a number is found out by name."""
    import pyarrow as pa
    from pyarrow import csv

    text = data.decode("utf-8-sig").lstrip("\r\n")
    head = text.partition("\n")[0].rstrip("\r")
    heads = {delimiter: list(_split_head(head, delimiter)) for delimiter in DELIMITERS}
    delimiter = max(DELIMITERS, key=lambda each: (len(set(columns) & set(heads[each])), head.count(each)))
    names = heads[delimiter]
    return csv.read_csv(
        io.BytesIO(text.encode()),
        read_options=csv.ReadOptions(column_names=names, skip_rows=1),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
    )


def _split_head(head: str, delimiter: str) -> Iterator[str]:
    import csv

    yield from (name.strip() for name in next(csv.reader([head], delimiter=delimiter), []))


def _name(column: Any, name: str, path: Path) -> tuple[list[str], Codes]:
    """The names in a column, and which of them each row has. 7.0 is 7: data frames write so where one is missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        text = pc.utf8_trim_whitespace(column.cast(pa.string()).fill_null(""))
    except pa.ArrowException as error:
        raise InvalidInputError(f"{name} holds no names: {str(error).splitlines()[0]}", where=str(path)) from error
    coded = text.combine_chunks().dictionary_encode() if hasattr(text, "combine_chunks") else text.dictionary_encode()
    given = [_plain_name(each) for each in coded.dictionary.to_pylist()]
    known = {each: place for place, each in enumerate(dict.fromkeys(given))}
    places = np.array([known[each] for each in given], dtype=np.int64)
    return list(known), places[coded.indices.to_numpy()] if len(given) else np.zeros(0, dtype=np.int64)


def _plain_name(text: str) -> str:
    whole, point, rest = text.partition(".")
    return whole if point and whole.isdecimal() and rest.strip("0") == "" else text


def _numbers(column: Any, name: str, path: Path) -> Values:
    """NaN for what is none. A comma is no decimal point: that would be guessed."""
    import pyarrow as pa

    try:
        return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(), dtype=np.float64)
    except pa.ArrowInvalid:
        return np.array([_number(text) for text in column.cast(pa.string()).to_pylist()], dtype=np.float64)
    except pa.ArrowException as error:
        raise InvalidInputError(f"{name} holds no numbers: {str(error).splitlines()[0]}", where=str(path)) from error


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None and "_" not in text else float("nan")
    except ValueError:
        return float("nan")
