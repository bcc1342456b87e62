"""Times in microseconds since 1970, from RFC 3339 or Unix time. Not here: whose times they are (labels.py)."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from pilotage_core.lines import SECONDS_UNITS

Floats = npt.NDArray[np.float64]

EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1e6 for year in (1990, 2100))
UNIX_UNITS = tuple(1e6 / unit for unit in SECONDS_UNITS)
"""Microseconds in a second, ms, µs and ns: between EARLIEST and LATEST a number can be meant in one of them only."""
NO_UNIX_TIME = "is no Unix time from 1990 to 2100"


def read_unix_times(numbers: Floats) -> Floats:
    """Microseconds since 1970 of Unix times in seconds, ms, µs or ns; NaN for what is none from 1990 to 2100."""
    times = np.full(len(numbers), np.nan)
    for unit in UNIX_UNITS:
        meant = numbers * unit
        times = np.where((meant >= EARLIEST) & (meant < LATEST), np.rint(meant), times)
    return times


def parse_microseconds(text: str) -> int:
    """An RFC 3339 time (without offset: UTC), or a Unix time, as microseconds since 1970.

    A number is never taken for a date: 1741082932132 could be one of the year 1741. Raises ValueError, saying what it
    is not.
    """
    try:
        number = float(text)
    except ValueError:
        return _parse_rfc3339(text.strip())
    [time] = read_unix_times(np.array([number]))
    if np.isnan(time):
        raise ValueError(NO_UNIX_TIME)
    return int(time)


def _parse_rfc3339(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("is no RFC 3339 time") from error
    return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1e6)
