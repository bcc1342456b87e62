"""Times as records carry them (RFC 3339 text, or seconds since the epoch) and as people read them."""

from datetime import datetime


def to_seconds(at: str | float) -> float:
    """Seconds since the epoch; 0 for an empty text. Raises ValueError for text that is no time."""
    if isinstance(at, int | float):
        return float(at)
    return datetime.fromisoformat(at).timestamp() if at else 0.0


def in_words(seconds: float) -> str:
    """`8.4 s`, `2 min 05 s`, `3 h 20 min`."""
    if seconds < 0:
        return f"-{in_words(-seconds)}"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def clock(seconds: float) -> str:
    """`m:ss` of a duration."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"
