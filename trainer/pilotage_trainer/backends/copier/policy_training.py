"""Fitting a policy to sessions: what turns call for and spans twice over, each half heard by what the other taught.

Not here: the Job (policy_job.py), what is learned from (lessons.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from pilotage_core.actions import Action
from pilotage_core.errors import EvidenceError
from pilotage_trainer.backends.copier.calls import Calls
from pilotage_trainer.backends.copier.candidates import build_moment
from pilotage_trainer.backends.copier.fitting import fit_calls, fit_classes, fit_ranker
from pilotage_trainer.backends.copier.hearing import find_argument, find_tokens, list_ngrams
from pilotage_trainer.backends.copier.known import Known, gather_known, join_words
from pilotage_trainer.backends.copier.lessons import FORM, Lesson
from pilotage_trainer.backends.copier.linear import StoredLinear
from pilotage_trainer.backends.copier.openings import Openings, build_choice
from pilotage_trainer.backends.copier.policy import Policy, StoredPolicy
from pilotage_trainer.backends.copier.ranking import BUCKETS, Moment, Places, find_pairs
from pilotage_trainer.backends.copier.spans import (
    NO,
    YES,
    Spans,
    StoredSpans,
    list_begin_traits,
    list_continue_traits,
    list_span_traits,
)
from pilotage_trainer.backends.situation import read_points
from pilotage_trainer.config import CopierPolicy
from pilotage_trainer.sessions.export import human_points


@dataclass(frozen=True)
class Ears:
    """What turns call for, spans, and which procedure is opened, fitted to the same sessions."""

    calls: StoredLinear
    spans: StoredSpans
    openings: bytes


def fit_policy(lessons: Sequence[Lesson], settings: CopierPolicy) -> Policy:
    """Fit to `lessons`. Raises EvidenceError where they are too few, or nobody typed what was said."""
    _require_enough(lessons, settings)
    halves = [lessons[::2], lessons[1::2]]
    ears = [fit_ears(half, settings) for half in halves]
    taken = [half[:: max(1, -(-2 * len(half) // settings.ranker_sessions))] for half in halves]
    weights = _fit_weights([(taken[0], ears[1]), (taken[1], ears[0])], settings)
    whole = fit_ears(lessons, settings)
    until, is_new = lessons[-1].record.closed_at, any(lesson.is_new for lesson in lessons)
    return Policy(StoredPolicy(whole.calls, whole.spans, whole.openings, weights, until, is_new))


def refit_policy(earlier: Policy, lessons: Sequence[Lesson], settings: CopierPolicy) -> Policy:
    """With the ears of `earlier`, what is done next fitted anew to `lessons`, sessions that those ears never heard.

    Customers speak as before: what changes overnight is a process. Raises EvidenceError where they are too few.
    """
    _require_enough(lessons, settings)
    stored = earlier.stored
    taken = _choose_lessons(lessons, settings.ranker_sessions)
    weights = _fit_weights([(taken, Ears(stored.calls, stored.spans, stored.openings))], settings)
    is_new = any(lesson.is_new for lesson in lessons)
    return Policy(msgspec.structs.replace(stored, weights=weights, is_new=is_new))


def _require_enough(lessons: Sequence[Lesson], settings: CopierPolicy) -> None:
    if len(lessons) < settings.least_sessions:
        raise EvidenceError(
            f"{len(lessons)} sessions are too few to learn from",
            where="window",
            remedy=f"at least {settings.least_sessions} are needed: widen the window or wait",
        )


def _choose_lessons(lessons: Sequence[Lesson], most: int) -> list[Lesson]:
    """At most `most`: those since a rollback first, of the others evenly."""
    new, old = ([lesson for lesson in lessons if lesson.is_new is is_new] for is_new in (True, False))
    left = most - len(new)
    return [*(old[:: max(1, -(-len(old) // left))] if left > 0 else ()), *new[-most:]]


def fit_ears(lessons: Sequence[Lesson], settings: CopierPolicy) -> Ears:
    """Fit to the turns of `lessons`."""
    spans = _fit_spans(lessons, settings)
    heard = [each for lesson in lessons for each in lesson.heard]
    sessions = [number for number, lesson in enumerate(lessons) for _ in lesson.heard]
    calls = fit_calls(
        [list_ngrams(each.turn.text, each.turn.reply) for each in heard],
        [frozenset(each.calls) for each in heard],
        sessions,
        rarest=settings.rarest,
        strength=settings.calls_strength,
        iterations=settings.iterations,
    )
    return Ears(calls, spans, _fit_openings(lessons, settings))


def _fit_spans(lessons: Sequence[Lesson], settings: CopierPolicy) -> StoredSpans:
    stored, less = gather_known((_list_typed(lesson) for lesson in lessons), settings.rarest)
    known = Known(stored)
    begins, continues, fields = _Examples(), _Examples(), _Examples()
    for number, (lesson, unknown) in enumerate(zip(lessons, less, strict=True)):
        for each in lesson.heard:
            tokens, reply = find_tokens(each.turn.text), each.turn.reply
            inside = {place for first, last, _ in each.spans for place in range(first + 1, last + 1)}
            for at in range(len(tokens)):
                if at not in inside:
                    begun = any(first == at for first, _, _ in each.spans)
                    begins.add(list_begin_traits(tokens, at, reply, known, unknown), YES if begun else NO, number)
            for first, last, name in each.spans:
                for at in range(first + 1, min(last + 2, len(tokens))):
                    goes_on = YES if at <= last else NO
                    continues.add(list_continue_traits(tokens, first, at, reply, known, unknown), goes_on, number)
                fields.add(list_span_traits(tokens, first, last, reply, known, unknown), name, number)
    if not fields.rows:
        raise EvidenceError("nobody typed what was said", where="window", remedy="use backend counts")
    for examples in (begins, continues):
        for kind in (NO, YES):
            examples.add([], kind, -1)  # both are possible, whatever was seen
    return StoredSpans(begins.fit(settings), continues.fit(settings), fields.fit(settings), stored)


def _list_typed(lesson: Lesson) -> Iterator[tuple[str, str]]:
    """What was typed as it was said, and what for."""
    for each in lesson.heard:
        tokens = find_tokens(each.turn.text)
        yield from ((join_words(tokens, first, last), find_argument(name)) for first, last, name in each.spans)


@dataclass
class _Examples:
    """Rows of traits, each of one kind."""

    rows: list[list[str]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)

    def add(self, traits: list[str], kind: str, session: int) -> None:
        self.rows.append(traits)
        self.kinds.append(kind)
        self.sessions.append(session)

    def fit(self, settings: CopierPolicy) -> StoredLinear:
        return fit_classes(
            self.rows,
            self.kinds,
            self.sessions,
            rarest=settings.rarest,
            strength=settings.strength,
            iterations=settings.iterations,
        )


def _fit_weights(halves: Sequence[tuple[Sequence[Lesson], Ears]], settings: CopierPolicy) -> bytes:
    """The ranker's weights, from moments as the other half's ears hear them."""
    choices = Choices()
    for lessons, ears in halves:
        calls, spans, openings = Calls(ears.calls), Spans(ears.spans), Openings(ears.openings)
        for lesson in lessons:
            for point, situation in read_points(human_points(lesson.record, FORM)):
                moment = build_moment(situation, calls, spans, openings, is_new=lesson.is_new)
                choices.add(moment, find_taken(moment, point.taken))
    return choices.fit(settings.ranker_strength, settings.ranker_iterations)


def _fit_openings(lessons: Sequence[Lesson], settings: CopierPolicy) -> bytes:
    """The weights of what decides which procedure is opened."""
    choices = Choices()
    for lesson in lessons:
        for question, name in lesson.opened:
            if name in question.options:
                choices.add(build_choice(question), question.options.index(name))
    return choices.fit(settings.openings_strength, settings.ranker_iterations)


@dataclass
class Choices:
    """Moments by the buckets of their pairs, and which candidate was taken in each (its place among all)."""

    places: list[Places] = field(default_factory=list)
    counts: list[Places] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    gold: list[int] = field(default_factory=list)
    before: int = 0

    def add(self, moment: Moment, taken: int) -> None:
        """One more, in which the candidate at `taken` was."""
        places, counts = find_pairs(moment)
        self.gold.append(self.before + taken)
        self.places.append(places)
        self.counts.append(counts)
        self.groups.append(len(counts))
        self.before += len(counts)

    def fit(self, strength: float, iterations: int) -> bytes:
        """Weights by bucket, float32, little-endian, under which what was taken is likeliest."""
        if not self.groups:
            return np.zeros(BUCKETS, dtype="<f4").tobytes()
        weights = fit_ranker(
            np.concatenate(self.places),
            np.concatenate(self.counts),
            np.array(self.groups),
            np.array(self.gold),
            BUCKETS,
            strength=strength,
            iterations=iterations,
        )
        return bytes(weights.astype("<f4").tobytes())


def find_taken(moment: Moment, taken: Action) -> int:
    """The place of what was done among the candidates; the last one's (nothing) where it is none."""
    bare = Action(taken.tool, taken.control_id, taken.value)
    actions = [candidate.action for candidate in moment.candidates]
    return actions.index(bare) if bare in actions else len(actions) - 1
