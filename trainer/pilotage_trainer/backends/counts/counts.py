"""The count model: how often each step followed each context, backing off from long contexts to short ones.

Here: tables of counts and the probabilities read off them. Not here: what a context is made of (features.py), and the
log-linear part it is mixed with (policy.py).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from pilotage_trainer.backends.situation import Situation

BOS = ""
"""Stands for a step before the session began."""


class Example(msgspec.Struct, frozen=True):
    """One moment to learn from: contexts (shortest first), traits, and the step that was taken.

    `session` tells examples of one session apart from others; it is never a trait.
    """

    session: int
    contexts: tuple[str, ...]
    traits: tuple[str, ...]
    step: str


class Support(NamedTuple):
    """How well a context is known: the longest one seen (0: the empty one), and how often."""

    level: int
    seen: int


class BackOff(msgspec.Struct, frozen=True):
    """Counts of steps by context, one table for each length of context, shortest first."""

    tables: tuple[dict[str, dict[str, int]], ...]

    def probabilities(self, contexts: Sequence[str], candidates: Sequence[str]) -> dict[str, float]:
        """P(step) of each of `candidates`; they sum to 1.

        Interpolated with Witten–Bell weights: a context that was seen n times with d different steps counts
        n / (n + d), the next shorter one has the rest. Source: Chen and Goodman 1999, section 2.
        """
        shares = dict.fromkeys(candidates, 0.0)
        left = 1.0  # what longer contexts leave to shorter ones
        for table, context in zip(reversed(self.tables), reversed(contexts), strict=True):
            possible = [(step, n) for step, n in table.get(context, {}).items() if step in shares]
            if possible:
                weight = left / (sum(n for _, n in possible) + len(possible))
                for step, n in possible:
                    shares[step] += weight * n
                left = weight * len(possible)
        even = left / len(candidates)
        return {step: share + even for step, share in shares.items()}

    def support(self, contexts: Sequence[str]) -> Support:
        """How far down `contexts` was seen in training, and how often the longest one seen."""
        level = seen = 0
        for depth, (table, context) in enumerate(zip(self.tables, contexts, strict=True)):
            counts = table.get(context)
            if counts:
                level, seen = depth, sum(counts.values())
        return Support(level, seen)


def count_steps(examples: Iterable[Example]) -> BackOff:
    """Count each example's step under each of its contexts."""
    tables: list[dict[str, dict[str, int]]] = []
    for example in examples:
        while len(tables) < len(example.contexts):
            tables.append({})
        for table, context in zip(tables, example.contexts, strict=True):
            counts = table.setdefault(context, {})
            counts[example.step] = counts.get(example.step, 0) + 1
    return BackOff(tuple(tables))


def build_contexts(situation: Situation) -> tuple[str, ...]:
    """The contexts of a situation, shortest first: screen, last steps, form, outcome."""
    history = [BOS, BOS, BOS, *situation.history]
    last, second, third = history[-1], history[-2], history[-3]
    form = situation.form
    changed = ",".join(situation.changed)
    parts: tuple[tuple[str, ...], ...] = (
        (),
        (situation.place,),
        (situation.place, last),
        (situation.place, last, form),
        (situation.place, last, form, second),
        (situation.place, last, form, second, situation.outcome, changed),
        (situation.place, last, form, second, situation.outcome, changed, third),
    )
    return tuple("\t".join(part) for part in parts)
