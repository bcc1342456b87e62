"""From sessions to what count models learn from and are judged by: examples, and predictions at every human point.

Not here: fitting (policy_training.py), features.
"""

from collections.abc import Iterable, Sequence

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_core.record import SessionRecord
from pilotage_trainer.backends.counts.counts import Example, build_contexts
from pilotage_trainer.backends.counts.features import build_traits
from pilotage_trainer.backends.counts.policy import Policy, Prediction
from pilotage_trainer.backends.situation import read_points
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
