"""Values that many sessions typed: a name that was a city in others is one here.

Only what at least `rarest` sessions typed is kept, as with every other trait: nobody's own number is. Not here: what
knowing a value is worth (spans.py weighs it).
"""

from collections import Counter
from collections.abc import Iterable, Sequence, Set

import msgspec

from pilotage_trainer.backends.copier.hearing import Token

Less = Set[str | tuple[str, str]]
"""Beginnings, and pairs of value and what for, that are to be taken as unknown."""
NOBODYS: Less = frozenset()
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

    def find(self, words: str, less: Less = NOBODYS) -> tuple[str, ...]:
        """What `words` were typed for; nothing where they are not known."""
        arguments = self.stored.values.get(words, ())
        return tuple(each for each in arguments if (words, each) not in less) if less else arguments

    def begins(self, words: str, less: Less = NOBODYS) -> bool:
        """Whether a known value of more words begins with `words`."""
        marked = words + GOES_ON
        return marked in self._beginnings and marked not in less


def join_words(tokens: Sequence[Token], first: int, last: int) -> str:
    """The words from `first` to `last` (both of them)."""
    return " ".join(token.word for token in tokens[first : last + 1])


def list_beginnings(words: str) -> list[str]:
    """Of a value of several words, marked."""
    parts = words.split(" ")
    return [" ".join(parts[:n]) + GOES_ON for n in range(1, len(parts))]


def gather_known(
    sessions: Iterable[Iterable[tuple[str, str]]], rarest: int
) -> tuple[StoredKnown, list[frozenset[str | tuple[str, str]]]]:
    """What `rarest` sessions typed at least for one thing, from each session's pairs of value and what for.

    And for each session what would not be known without it: a model that is fitted on it has to take that as unknown,
    or it learns that everything typed is known.
    """
    typed = [set(pairs) for pairs in sessions]
    begun = [{name for words, _ in pairs for name in list_beginnings(words)} for pairs in typed]
    fields = Counter(pair for pairs in typed for pair in pairs)
    seen = Counter(name for names in begun for name in names)
    values: dict[str, tuple[str, ...]] = {}
    for (words, argument), n in sorted(fields.items()):
        if n >= rarest:
            values[words] = (*values.get(words, ()), argument)
    beginnings = tuple(sorted(name for name, n in seen.items() if n >= rarest))
    less = [
        frozenset([pair for pair in pairs if fields[pair] == rarest] + [name for name in names if seen[name] == rarest])
        for pairs, names in zip(typed, begun, strict=True)
    ]
    return StoredKnown(values, beginnings), less
