"""What a customer said that may be typed: spans of a turn's words, and the field that each is for.

Two linear models: which words begin and continue a span, and which field a span is for, by its words and those beside
it. Not here: whether it is typed now (ranking.py), how the models are fitted (fitting.py).
"""

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from pilotage_trainer.backends.copier.hearing import Token, find_stem, find_tokens, list_arguments
from pilotage_trainer.backends.copier.linear import Linear, StoredLinear

OUTSIDE, BEGINS, CONTINUES = "O", "B", "I"
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

    own, asked = tokens[at].word, list_arguments(reply)
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


def list_span_traits(tokens: Sequence[Token], first: int, last: int, reply: str) -> list[str]:
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
    ]


class StoredSpans(msgspec.Struct, frozen=True):
    """Both models as stored."""

    words: StoredLinear
    fields: StoredLinear


class Spans:
    """The fitted models."""

    def __init__(self, stored: StoredSpans) -> None:
        self.words = Linear(stored.words)
        self.fields = Linear(stored.fields)
        self._kind = {kind: i for i, kind in enumerate(self.words.kinds)}
        self.find = lru_cache(maxsize=REMEMBERED)(self._find)

    def _find(self, text: str, reply: str) -> tuple[Span, ...]:
        """The likeliest spans of a turn, the likeliest first."""
        tokens = find_tokens(text)
        if not tokens:
            return ()
        shares = [self.words.shares(list_word_traits(tokens, at, reply)).tolist() for at in range(len(tokens))]
        begins = [share[self._kind[BEGINS]] for share in shares]
        continues = [share[self._kind[CONTINUES]] for share in shares]
        found: list[tuple[float, int, int]] = []
        for first, chance in enumerate(begins):
            for last in range(first, min(len(tokens), first + MOST_WORDS)):
                chance *= continues[last] if last > first else 1.0
                if chance < LEAST_CHANCE:
                    break
                ends = 1.0 - continues[last + 1] if last + 1 < len(tokens) else 1.0
                if chance * ends >= LEAST_CHANCE:
                    found.append((chance * ends, first, last))
        found.sort(reverse=True)
        spans = []
        for chance, first, last in found[:MOST_SPANS]:
            fields = self.fields.shares(list_span_traits(tokens, first, last, reply))
            known = {self.fields.kinds[i]: float(fields[i]) for i in (fields > LEAST_SHARE).nonzero()[0]}
            spans.append(Span(text[tokens[first].start : tokens[last].end], chance, known))
        return tuple(spans)
