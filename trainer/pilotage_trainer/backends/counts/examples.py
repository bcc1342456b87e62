"""From sessions to what count models learn from and are judged by: examples, and predictions at every human point.

Not here: fitting (policy_training.py), features.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.record import SessionRecord
from pilotage_trainer.backends.counts.counts import Example, build_contexts
from pilotage_trainer.backends.counts.features import Situation, build_traits
from pilotage_trainer.backends.counts.policy import Policy, Prediction
from pilotage_trainer.measures.accuracy import Accuracy
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.sessions.steps import name_step

COUNTS_FORM = DEFAULT_FORMAT
"""Count models have no other: their features are read off compact dialogs (features.py)."""


def build_examples(records: Iterable[SessionRecord]) -> list[Example]:
    """One example of a count model for each human point of `records`, session by session."""
    return [
        Example(number, build_contexts(situation), build_traits(situation), name_step(point.taken))
        for number, record in enumerate(records)
        for point, situation in read_points(human_points(record, COUNTS_FORM))
    ]


class Prompted(Protocol):
    """Anything with a prompt: a point, a moment."""

    @property
    def prompt(self) -> str:
        """The dialog, with the mark that asks for an action."""
        ...


Asked = TypeVar("Asked", bound=Prompted)


def read_points(points: Iterable[Asked]) -> Iterator[tuple[Asked, Situation]]:
    """Each point with the situation its prompt tells of.

    One situation is read on from point to point while the dialog only grows: use it before asking for the next.
    """
    situation, read = Situation(), ""
    for point in points:
        body = point.prompt[:-1]
        if not read or not body.startswith(read):
            situation, read = Situation(), ""
        for line in body[len(read) :].split("\n"):
            situation.read_line(line)
        read = body
        yield point, situation


def predict_sessions(records: Sequence[SessionRecord], policy: Policy) -> list[tuple[Prediction, str]]:
    """What a count model expects at each human point of `records`, and the step taken."""
    return [
        (policy.predict(situation), name_step(point.taken))
        for record in records
        for point, situation in read_points(human_points(record, COUNTS_FORM))
    ]


def measure_accuracy(predictions: Sequence[tuple[Prediction, str]]) -> Accuracy:
    """Accuracy over `predictions`."""
    accuracy = Accuracy()
    for prediction, step in predictions:
        accuracy.count(prediction.ranked[0], step)
    return accuracy
