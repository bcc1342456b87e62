"""Spans of personal data by a conditional random field over tokens (python-crfsuite).

A token counts where its probability of being none is below `OUTSIDE_BELOW`: to miss a name costs more than to mask a
word too many.
"""

from functools import cache
from pathlib import Path
from typing import Protocol

from pilotage_core.errors import InvalidInputError
from pilotage_core.pii import PiiType, Span
from pilotage_trainer.privacy.features import list_features, tokenize

MODEL = Path(__file__).parent / "model" / "english.crf"
OUTSIDE = "O"
OUTSIDE_BELOW = 0.7


class Tagger(Protocol):
    """Finds personal data by what stands around it. Another one (spaCy, transformers) is put in its place by this."""

    def find(self, text: str) -> list[Span]:
        """Spans of `text`, in order, without overlaps."""
        ...


class CrfTagger:
    """The tagger of a model file. Raises InvalidInputError where it is none."""

    def __init__(self, path: Path = MODEL, outside_below: float = OUTSIDE_BELOW) -> None:
        import pycrfsuite

        self._outside_below = outside_below
        self._tagger = pycrfsuite.Tagger()
        try:
            self._tagger.open(str(path))
        except (OSError, ValueError) as error:
            raise InvalidInputError(
                f"is no model of a tagger: {error}", where=str(path), remedy="train one: pilotage anonymise train"
            ) from error
        self._types = [label for label in self._tagger.labels() if label != OUTSIDE]

    def find(self, text: str) -> list[Span]:
        """Spans of `text`, in order, without overlaps."""
        tokens = tokenize(text)
        if not tokens:
            return []
        labels = self._tagger.tag(list_features(tokens))
        found: list[Span] = []
        for i, ((_, start, end), label) in enumerate(zip(tokens, labels, strict=True)):
            if label == OUTSIDE:
                if self._tagger.marginal(OUTSIDE, i) >= self._outside_below:
                    continue
                label = max(self._types, key=lambda each, at=i: self._tagger.marginal(each, at))  # type: ignore[misc]
            begins, type_ = label[0] == "B", PiiType(label[2:])
            last = found[-1] if found else None
            joined = last is not None and last.type is type_ and not begins and text[last.end : start].strip() == ""
            if joined and last is not None:
                found[-1] = Span(last.start, end, type_)
            else:
                found.append(Span(start, end, type_))
        return found


@cache
def load_tagger(path: Path = MODEL) -> CrfTagger:
    """The tagger of `path`, loaded once."""
    return CrfTagger(path)
