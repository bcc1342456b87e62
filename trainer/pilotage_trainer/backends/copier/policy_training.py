"""Fitting a policy to sessions: what turns call for and spans twice over, each half heard by what the other taught.

Not here: the Job (policy_job.py), what is learned from (lessons.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pilotage_core.actions import Action
from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends.copier.calls import Calls
from pilotage_trainer.backends.copier.candidates import Moment, build_moment
from pilotage_trainer.backends.copier.fitting import fit_calls, fit_classes, fit_ranker
from pilotage_trainer.backends.copier.hearing import find_tokens, list_ngrams
from pilotage_trainer.backends.copier.lessons import FORM, Heard, Lesson
from pilotage_trainer.backends.copier.linear import StoredLinear
from pilotage_trainer.backends.copier.policy import Policy, StoredPolicy
from pilotage_trainer.backends.copier.ranking import BUCKETS, find_pairs
from pilotage_trainer.backends.copier.spans import (
    BEGINS,
    CONTINUES,
    OUTSIDE,
    Spans,
    StoredSpans,
    list_span_traits,
    list_word_traits,
)
from pilotage_trainer.backends.situation import read_points
from pilotage_trainer.config import CopierPolicy
from pilotage_trainer.sessions.export import human_points


@dataclass(frozen=True)
class Ears:
    """What turns call for, and spans, fitted to the same sessions."""

    calls: StoredLinear
    spans: StoredSpans


def fit_policy(lessons: Sequence[Lesson], settings: CopierPolicy) -> Policy:
    """Fit to `lessons`. Raises EvidenceError where they are too few, or nobody typed what was said."""
    if len(lessons) < settings.least_sessions:
        raise EvidenceError(
            f"{len(lessons)} sessions are too few to learn from",
            where="window",
            remedy=f"at least {settings.least_sessions} are needed: widen the window or wait",
        )
    halves = [lessons[::2], lessons[1::2]]
    ears = [fit_ears([heard for lesson in half for heard in lesson.heard], settings) for half in halves]
    taken = [half[:: max(1, -(-2 * len(half) // settings.ranker_sessions))] for half in halves]
    weights = _fit_weights([(taken[0], ears[1]), (taken[1], ears[0])], settings)
    whole = fit_ears([heard for lesson in lessons for heard in lesson.heard], settings)
    return Policy(StoredPolicy(whole.calls, whole.spans, weights))


def fit_ears(heard: Sequence[Heard], settings: CopierPolicy) -> Ears:
    """Fit to turns."""
    words, kinds, spans, fields = [], [], [], []
    for each in heard:
        tokens = find_tokens(each.turn.text)
        marks = [OUTSIDE] * len(tokens)
        for first, last, name in each.spans:
            marks[first : last + 1] = [BEGINS] + [CONTINUES] * (last - first)
            spans.append(list_span_traits(tokens, first, last, each.turn.reply))
            fields.append(name)
        words += [list_word_traits(tokens, at, each.turn.reply) for at in range(len(tokens))]
        kinds += marks
    if len({*kinds}) < 3 or len({*fields}) < 2:
        raise EvidenceError("nobody typed what was said", where="window", remedy="use backend counts")
    calls = fit_calls(
        [list_ngrams(each.turn.text, each.turn.reply) for each in heard],
        [frozenset(each.calls) for each in heard],
        rarest=settings.rarest,
        strength=settings.calls_strength,
        iterations=settings.iterations,
    )
    options = {"rarest": settings.rarest, "strength": settings.strength, "iterations": settings.iterations}
    return Ears(calls, StoredSpans(fit_classes(words, kinds, **options), fit_classes(spans, fields, **options)))  # type: ignore[arg-type]


def _fit_weights(halves: Sequence[tuple[Sequence[Lesson], Ears]], settings: CopierPolicy) -> bytes:
    """The ranker's weights, from moments as the other half's ears hear them."""
    places, counts, groups, gold = [], [], [], []
    before = 0
    for lessons, ears in halves:
        calls, spans = Calls(ears.calls), Spans(ears.spans)
        for lesson in lessons:
            for point, situation in read_points(human_points(lesson.record, FORM)):
                moment = build_moment(situation, calls, spans)
                found, each = find_pairs(moment)
                places.append(found)
                counts.append(each)
                groups.append(len(each))
                gold.append(before + find_taken(moment, point.taken))
                before += len(each)
    weights = fit_ranker(
        np.concatenate(places),
        np.concatenate(counts),
        np.array(groups),
        np.array(gold),
        BUCKETS,
        strength=settings.ranker_strength,
        iterations=settings.ranker_iterations,
    )
    return bytes(weights.astype("<f4").tobytes())


def find_taken(moment: Moment, taken: Action) -> int:
    """The place of what was done among the candidates; the last one's (nothing) where it is none."""
    bare = Action(taken.tool, taken.control_id, taken.value)
    actions = [candidate.action for candidate in moment.candidates]
    return actions.index(bare) if bare in actions else len(actions) - 1
