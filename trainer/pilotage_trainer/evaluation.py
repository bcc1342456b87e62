"""How good a policy is on sessions it has not seen: tool and action accuracy.

Also how well scores rank labels. Not here: whether that is good enough (policy_job.py), precision at a score
(held_out.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pilotage_core.record import SessionRecord
from pilotage_trainer.dataset import COUNTS_FORM, human_points, read_points
from pilotage_trainer.features import OPERATOR_ONLY, SAY, TYPE, name_step
from pilotage_trainer.policy import Policy, Prediction


@dataclass
class Accuracy:
    """Counts of points, by the tool of what the person did.

    `action_accuracy` is over all points: the likeliest step is the one taken, where filling a form is one step and a
    free message another. `proposable_accuracy` is over points whose step a policy can propose at all.
    """

    points: int = 0
    tool_hits: int = 0
    action_hits: int = 0
    proposable: int = 0
    proposable_hits: int = 0
    proposed: int = 0
    by_tool: dict[str, list[int]] = field(default_factory=dict)

    def add(self, prediction: Prediction, step: str) -> None:
        """Take in one point."""
        self.count(prediction.ranked[0], step)

    def count(self, best: str, step: str) -> None:
        """Take in one point: the likeliest step, and the one taken."""
        hit = best == step
        self.points += 1
        self.tool_hits += tool_of(best) == tool_of(step)
        self.action_hits += hit
        self.proposed += best not in OPERATOR_ONLY
        if step not in OPERATOR_ONLY:
            self.proposable += 1
            self.proposable_hits += hit
        counts = self.by_tool.setdefault(tool_of(step), [0, 0])
        counts[0] += hit
        counts[1] += 1

    def metrics(self) -> dict[str, float]:
        """The figures, by the names a JobResult has for them."""
        return {
            "points": float(self.points),
            "tool_accuracy": self.tool_hits / max(self.points, 1),
            "action_accuracy": self.action_hits / max(self.points, 1),
            "proposable_accuracy": self.proposable_hits / max(self.proposable, 1),
            "proposed_share": self.proposed / max(self.points, 1),
        }


def tool_of(step: str) -> str:
    """The tool of a step; all form-filling tools are one."""
    if step == SAY:
        return "send_text_to_chat"
    return step if step == TYPE else step.partition(" ")[0]


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
        accuracy.add(prediction, step)
    return accuracy


def stratified_auroc(
    scores: npt.NDArray[np.float64], accepted: npt.NDArray[np.bool_], strata: npt.NDArray[np.intp]
) -> float:
    """P(an accepted label scores above a rejected one of its stratum), ties half; 0.5 where there is no such pair.

    All arrays have one length. Pairs across strata do not count: each stratum has a τ of its own.
    """
    won = pairs = 0.0
    for stratum in np.unique(strata):
        here = strata == stratum
        good, bad = np.sort(scores[here & accepted]), np.sort(scores[here & ~accepted])
        below = np.searchsorted(bad, good, side="left") + np.searchsorted(bad, good, side="right")
        won += float(below.sum()) / 2.0
        pairs += len(good) * len(bad)
    return won / pairs if pairs else 0.5


def count_at_precision(scored: Sequence[tuple[float, bool]], target: float) -> int:
    """How many are right in the longest prefix, by falling score, of which a share of at least `target` is right.

    Scores come with whether they were right; equal scores are never parted.
    """
    ranked = sorted(scored, key=lambda each: -each[0])
    most = right = 0
    for n, (score, is_right) in enumerate(ranked, 1):
        right += is_right
        if (n == len(ranked) or ranked[n][0] != score) and right >= target * n:
            most = right
    return most
