"""A text as tokens, and what is known of each: itself, its shape, which lists it is in, and that of its neighbours."""

import re
from functools import lru_cache

from pilotage_trainer.privacy.words import read_words

TOKEN = re.compile(r"[^\W\d_]+|\d+|_|[^\w\s]")
NEAR = (-3, -2, -1, 1, 2, 3)
Token = tuple[str, int, int]
"""Its characters, where it starts and ends."""


def tokenize(text: str) -> list[Token]:
    """Words, numbers and single signs, in order."""
    return [(match.group(), *match.span()) for match in TOKEN.finditer(text)]


def find_shape(word: str) -> str:
    """Digits by their number, words by their capitals, signs as they are."""
    if word.isdigit():
        return f"d{min(len(word), 6)}"
    if not word.isalpha():
        return word
    if word.isupper():
        return "X" if len(word) > 1 else "x1"
    return ("Xx" if word[1:].islower() else "XxX") if word[0].isupper() else "x"


@lru_cache(maxsize=100_000)
def _describe(word: str) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """Lower case, shape, lists, and what is known of a word by itself."""
    lower, shape = word.lower(), find_shape(word)
    lists = read_words().get(lower, ())
    own = (
        f"w={lower}", f"s={shape}", f"p3={lower[:3]}", f"f3={lower[-3:]}", f"f2={lower[-2:]}",
        f"gs={shape}|{','.join(lists)}", *(f"g={name}" for name in lists),
    )  # fmt: skip
    return lower, shape, lists, own


def list_features(tokens: list[Token]) -> list[list[str]]:
    """What is known of each token."""
    known = [_describe(word) for word, _, _ in tokens]
    found, n = [], len(tokens)
    for i, (_, shape, _, own) in enumerate(known):
        features = list(own)
        for step in NEAR:
            j = i + step
            if not 0 <= j < n:
                features.append(f"{step}:edge")
                continue
            lower, other, lists, _ = known[j]
            features += (f"{step}:w={lower}", f"{step}:s={other}")
            if abs(step) <= 2:
                features += [f"{step}:g={name}" for name in lists]
        if i:
            features += (f"-1w={known[i - 1][0]}|{shape}", f"ss={known[i - 1][1]}|{shape}")
            if tokens[i][1] > tokens[i - 1][2]:
                features.append("gap")
        if i + 1 < n:
            features += (f"+1w={known[i + 1][0]}|{shape}", f"ss1={shape}|{known[i + 1][1]}")
        if 0 < i < n - 1:
            features.append(f"sss={known[i - 1][1]}|{shape}|{known[i + 1][1]}")
        found.append(features)
    return found
