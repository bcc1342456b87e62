"""Values that many sessions typed: a name that was a city in others is one here.

Only what at least `rarest` sessions typed is kept, as with every other trait: nobody's own number is. Not here: what
knowing a value is worth (spans.py weighs it).
"""

from collections import Counter
from collections.abc import Iterable, Sequence, Set

import msgspec

from pilotage_trainer.backends.copier.hearing import Token

NOBODYS: frozenset[str] = frozenset()
GOES_ON = " ..."
"""Marks the beginning of a value."""


class StoredKnown(msgspec.Struct, frozen=True):
    """Values in lower case, word by word, each with what it was typed for; and beginnings of values."""

    values: dict[str, tuple[str, ...]]
    beginnings: tuple[str, ...]


class Known:
    """Values and beginnings that are known. `less` in its methods: those to be taken as unknown."""

    def __init__(self, stored: StoredKnown) -> None:
        self.stored = stored
        self._beginnings = frozenset(stored.beginnings)

    def find(self, words: str, less: Set[str] = NOBODYS) -> tuple[str, ...]:
        """What `words` were typed for; nothing where they are not known."""
        return self.stored.values.get(words, ()) if words not in less else ()

    def begins(self, words: str, less: Set[str] = NOBODYS) -> bool:
        """Whether a known value of more words begins with `words`."""
        marked = words + GOES_ON
        return marked in self._beginnings and marked not in less


def join_words(tokens: Sequence[Token], first: int, last: int) -> str:
    """The words from `first` to `last` (both of them)."""
    return " ".join(token.word for token in tokens[first : last + 1])


def list_names(words: str) -> list[str]:
    """A value and its beginnings, marked."""
    parts = words.split(" ")
    return [words, *(" ".join(parts[:n]) + GOES_ON for n in range(1, len(parts)))]


def gather_known(
    sessions: Iterable[Iterable[tuple[str, str]]], rarest: int
) -> tuple[StoredKnown, list[frozenset[str]]]:
    """What `rarest` sessions typed at least, from each session's pairs of value and what it was typed for.

    And for each session what would not be known without it: a model that is fitted on it has to take that as unknown,
    or it learns that everything typed is known.
    """
    typed = [set(pairs) for pairs in sessions]
    named = [{name for words, _ in pairs for name in list_names(words)} for pairs in typed]
    seen = Counter(name for names in named for name in names)
    fields: dict[str, Counter[str]] = {}
    for pairs in typed:
        for words, argument in pairs:
            fields.setdefault(words, Counter())[argument] += 1
    values = {
        words: tuple(sorted(argument for argument, n in counts.items() if n >= rarest))
        for words, counts in sorted(fields.items())
        if seen[words] >= rarest
    }
    beginnings = tuple(sorted(name for name, n in seen.items() if n >= rarest and name.endswith(GOES_ON)))
    less = [frozenset(name for name in names if seen[name] == rarest) for names in named]
    return StoredKnown(values, beginnings), less
