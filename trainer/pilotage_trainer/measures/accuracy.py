"""How often what was predicted is what was done: labels, actions by tool, verdicts, likeness of texts.

Not here: how well a score ranks (ranking.py), intervals (slices.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from pilotage_trainer.sessions.steps import OPERATOR_ONLY, tool_of


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


# --- labels -----------------------------------------------------------------------------------------------------------
def accuracy(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """The share of `predicted` that is `truth`; 0 where there is nothing."""
    return sum(a == b for a, b in zip(truth, predicted, strict=True)) / max(len(truth), 1)


def weighted_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 of each label, weighted by how often it is the truth (scikit-learn's `weighted`); 0 for nothing."""
    return _f1(truth, predicted, "weighted")


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """F1 of each label that is the truth or predicted somewhere, averaged evenly (scikit-learn's `macro`)."""
    return _f1(truth, predicted, "macro")


def _f1(truth: Sequence[str], predicted: Sequence[str], average: str) -> float:
    from sklearn.metrics import f1_score  # its import is not waited for by Jobs that fit

    return float(f1_score(truth, predicted, average=average, zero_division=0)) if truth else 0.0


class Verdicts(msgspec.Struct, frozen=True):
    """Precision, recall and F1 of accept/reject verdicts.

    `accept` and `reject` are of that class; `macro` averages both evenly, `weighted` by how often each is the truth.
    The paper's Table 7 does not say which it has.
    """

    accept: tuple[float, float, float]
    reject: tuple[float, float, float]
    macro: tuple[float, float, float]
    weighted: tuple[float, float, float]


def judge_verdicts(scores: npt.ArrayLike, accepted: npt.ArrayLike, threshold: float = 0.5) -> Verdicts:
    """Verdicts of a critic that accepts from `threshold` on, against the labels. Zeros where a class never occurs."""
    from sklearn.metrics import precision_recall_fscore_support

    said = np.asarray(scores, dtype=np.float64) >= threshold
    truth = np.asarray(accepted, dtype=np.bool_)
    if not len(truth):
        nothing = (0.0, 0.0, 0.0)
        return Verdicts(nothing, nothing, nothing, nothing)
    options = {"labels": [True, False], "zero_division": 0}
    by_class = precision_recall_fscore_support(truth, said, **options)
    averages = {kind: precision_recall_fscore_support(truth, said, average=kind, **options) for kind in KINDS}
    return Verdicts(
        _three(*(column[0] for column in by_class[:3])),
        _three(*(column[1] for column in by_class[:3])),
        _three(*averages["macro"][:3]),
        _three(*averages["weighted"][:3]),
    )


KINDS = ("macro", "weighted")


def _three(precision: float, recall: float, f1: float) -> tuple[float, float, float]:
    return float(precision), float(recall), float(f1)


# --- texts ------------------------------------------------------------------------------------------------------------
def likeness(a: str, b: str) -> float:
    """1 − Levenshtein distance / length of the longer text: 1 for equal texts, 0 where nothing is shared."""
    return float(Levenshtein.normalized_similarity(a, b))
