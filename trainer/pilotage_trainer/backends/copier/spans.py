"""What a customer said that may be typed: spans of a turn's words, and the field that each is for.

Three linear models: which words begin a span, which continue one that has begun, and which field a span is for, by its
words and those beside it. Values that many sessions typed are known (known.py). Not here: whether it is typed now
(ranking.py), how the models are fitted (fitting.py).
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from pilotage_trainer.backends.copier.hearing import Token, find_stem, find_tokens, list_arguments
from pilotage_trainer.backends.copier.known import NOBODYS, Known, Less, StoredKnown, join_words
from pilotage_trainer.backends.copier.linear import Linear, StoredLinear

NO, YES = "no", "yes"
LEAST_CHANCE, LEAST_SHARE = 0.02, 0.002
MOST_SPANS, MOST_WORDS = 10, 14
REMEMBERED = 20_000


class Span(msgspec.Struct, frozen=True):
    """Words that may be typed, the chance that somebody would, and of each field (by control id) given that."""

    text: str
    chance: float
    fields: dict[str, float]


def list_word_traits(tokens: Sequence[Token], at: int, reply: str) -> list[str]:
    """The word at `at` and those beside it."""

    def word(place: int) -> str:
        return tokens[place].word if 0 <= place < len(tokens) else "^$"

    def shape(place: int) -> str:
        return tokens[place].shape if 0 <= place < len(tokens) else "^$"

    own, asked = word(at), list_arguments(reply)
    return [
        f"w={own}",
        f"p={word(at - 1)}",
        f"n={word(at + 1)}",
        f"pp={word(at - 2)}",
        f"nn={word(at + 2)}",
        f"pw={word(at - 1)} {own}",
        f"wn={own} {word(at + 1)}",
        f"ppp={word(at - 2)} {word(at - 1)}",
        f"nnn={word(at + 1)} {word(at + 2)}",
        f"s={shape(at)}",
        f"ps={shape(at - 1)}&{shape(at)}",
        f"sn={shape(at)}&{shape(at + 1)}",
        f"ws={word(at - 1)}&{shape(at)}",
        f"sns={shape(at)}&{word(at + 1)}",
        f"end={own[-3:]}",
        f"at={min(at, 3)}&{find_stem(reply)}",
        f"r={reply}",
        f"rw={reply}&{own}",
        f"rs={reply}&{shape(at)}",
        *(f"asked={name}&{shape(at)}" for name in asked),
    ]


def list_span_traits(
    tokens: Sequence[Token], first: int, last: int, reply: str, known: Known, less: Less = NOBODYS
) -> list[str]:
    """The words from `first` to `last` (both of it), and what stands beside them."""

    def word(place: int) -> str:
        return tokens[place].word if 0 <= place < len(tokens) else "^$"

    inside = [tokens[i].word for i in range(first, last + 1)]
    asked = list_arguments(reply)
    shapes = " ".join(dict.fromkeys(tokens[i].shape for i in range(first, last + 1)))
    return [
        *(f"w={each}" for each in dict.fromkeys(inside)),
        f"all={' '.join(inside)}",
        f"first={inside[0]}",
        f"last={inside[-1]}",
        f"shapes={shapes}",
        f"n={min(len(inside), 6)}",
        f"p={word(first - 1)}",
        f"pp={word(first - 2)} {word(first - 1)}",
        f"ppp={word(first - 3)} {word(first - 2)} {word(first - 1)}",
        f"x={word(last + 1)}",
        f"xx={word(last + 1)} {word(last + 2)}",
        f"px={word(first - 1)}&{word(last + 1)}",
        f"r={reply}",
        f"rs={reply}&{shapes}",
        f"rp={reply}&{word(first - 1)}",
        *(f"in={token.word}" for token in tokens),
        *(f"asked={name}" for name in asked),
        *(f"asked={name}&{shapes}" for name in asked),
        *(f"asked={name}&{word(first - 1)}" for name in asked),
        *(f"near={word(place)}" for place in range(first - 5, first)),
        *(f"known for={name}" for name in known.find(join_words(tokens, first, last), less)),
    ]


def list_begin_traits(tokens: Sequence[Token], at: int, reply: str, known: Known, less: Less = NOBODYS) -> list[str]:
    """Whether a span begins at `at`: the words beside it, and the longest known value that does."""
    longest, arguments = 0, tuple[str, ...]()
    for last in range(at, min(at + MOST_WORDS, len(tokens))):
        words = join_words(tokens, at, last)
        if found := known.find(words, less):
            longest, arguments = last - at + 1, found
        if not known.begins(words, less):
            break
    asked = any(name in arguments for name in list_arguments(reply))
    return [
        *list_word_traits(tokens, at, reply),
        f"known={min(longest, 4)} {asked}",
        *(f"known for={name}" for name in arguments),
    ]


def list_continue_traits(
    tokens: Sequence[Token], first: int, at: int, reply: str, known: Known, less: Less = NOBODYS
) -> list[str]:
    """Whether the span that began at `first` has the word at `at` in it: what it is without and with that word.

    One past the last word stands for the end of the turn.
    """
    before = join_words(tokens, first, at - 1)
    is_known, goes_on = bool(known.find(before, less)), known.begins(before, less)
    longer = join_words(tokens, first, at)
    more = bool(known.find(longer, less)) or known.begins(longer, less)
    length = min(at - first, 5)
    own = tokens[at].word if at < len(tokens) else "^$"
    return [
        *list_word_traits(tokens, at, reply),
        f"known={is_known} {goes_on} {more}",
        f"length={length}",
        f"length={length} {reply}",
        f"first={tokens[first].word}",
        f"first={tokens[first].shape}&{tokens[at].shape if at < len(tokens) else '^$'}",
        f"first={tokens[first].word}&{own}",
        f"before={before}",
        f"whole={first == 0} {own}",
        f"begun={tokens[first - 1].word if first else '^'}&{own}",
    ]


class StoredSpans(msgspec.Struct, frozen=True):
    """All as stored."""

    begins: StoredLinear
    continues: StoredLinear
    fields: StoredLinear
    known: StoredKnown


class Spans:
    """The fitted models."""

    def __init__(self, stored: StoredSpans) -> None:
        self.begins = Linear(stored.begins)
        self.continues = Linear(stored.continues)
        self.fields = Linear(stored.fields)
        self.known = Known(stored.known)
        self.find = lru_cache(maxsize=REMEMBERED)(self._find)

    def _find(self, text: str, reply: str) -> tuple[Span, ...]:
        """The likeliest spans of a turn, the likeliest first."""
        tokens = find_tokens(text)
        found: list[tuple[float, int, int]] = []
        for first in range(len(tokens)):
            chance = _find_yes(self.begins, list_begin_traits(tokens, first, reply, self.known))
            for last in range(first, min(len(tokens), first + MOST_WORDS)):
                if chance < LEAST_CHANCE:
                    break
                traits = list_continue_traits(tokens, first, last + 1, reply, self.known)
                goes_on = _find_yes(self.continues, traits) if last + 1 < len(tokens) else 0.0
                if chance * (1.0 - goes_on) >= LEAST_CHANCE:
                    found.append((chance * (1.0 - goes_on), first, last))
                chance *= goes_on
        found.sort(reverse=True)
        spans = []
        for chance, first, last in found[:MOST_SPANS]:
            fields = self.fields.shares(list_span_traits(tokens, first, last, reply, self.known))
            known = {self.fields.kinds[i]: float(fields[i]) for i in (fields > LEAST_SHARE).nonzero()[0]}
            spans.append(Span(text[tokens[first].start : tokens[last].end], chance, known))
        return tuple(spans)


def _find_yes(model: Linear, traits: Sequence[str]) -> float:
    return float(model.shares(traits)[model.kinds.index(YES)])
