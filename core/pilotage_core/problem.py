"""Error answers over HTTP (RFC 9457): what a service says went wrong, and how it is read."""

import re

import msgspec


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error answer (RFC 9457): what kind, what exactly (`detail`), where, what to do."""

    type: str
    title: str
    status: int
    detail: str
    where: str = ""
    remedy: str = ""
    retry_after_seconds: float | None = None


def describe_problem(
    kind: str, status: int, detail: str, where: str = "", remedy: str = "", retry_after_seconds: float | None = None
) -> Problem:
    """The problem of an error of class `kind`: its type is a name, for there is nothing to fetch behind it."""
    words = re.findall("[A-Z][a-z]*", kind.removesuffix("Error")) or [kind]
    name = "-".join(words).lower()
    return Problem(
        f"urn:pilotage:problem:{name}", " ".join(words).capitalize(), status, detail, where, remedy, retry_after_seconds
    )


def read_problem(status: int, body: bytes, where: str) -> Problem:
    """The problem in an answer; where it has none, one that says what it has."""
    try:
        return msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        return describe_problem("NoProblemError", status, body[:200].decode(errors="replace"), where)


AGAIN = frozenset({408, 425, 429})
"""Statuses under 500 after which the same may be sent again."""
