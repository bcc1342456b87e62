"""What plain critics learn from, and whether they are better than the policy's own confidence.

Not here: what a critic looks at, how it is fitted (counts/, copier/).
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from pilotage_core.certificate import ScoreSource
from pilotage_core.errors import EvidenceError
from pilotage_trainer.config import Selection
from pilotage_trainer.failures import OneClassError
from pilotage_trainer.measures.comparison import Comparison, compare_scores


class Judged(Protocol):
    """One label. `session` groups labels; it is never looked at."""

    @property
    def session(self) -> int:
        """Numbered by time."""
        ...

    @property
    def stratum(self) -> str:
        """The proposal's."""
        ...

    @property
    def accepted(self) -> bool:
        """Whether an operator accepted it."""
        ...

    @property
    def confidence(self) -> float:
        """The policy's."""
        ...


Label = TypeVar("Label", bound=Judged)
Critic = TypeVar("Critic")


def require_verdicts(labels: Sequence[Judged], selection: Selection) -> None:
    """Raises EvidenceError where `labels` are too few, OneClassError where all were accepted or none."""
    if len(labels) < selection.least_labels:
        raise EvidenceError(
            f"{len(labels)} labels of critical actions are too few",
            where="window",
            remedy=f"at least {selection.least_labels} are needed: widen the window or wait",
        )
    if len({each.accepted for each in labels}) < 2:
        what = "accepted" if labels[0].accepted else "rejected"
        raise OneClassError(f"all {len(labels)} labels are {what}", where="window", remedy="check the feedback")


def compare_with_confidence(
    labels: Sequence[Label],
    fit: Callable[[Sequence[Label]], Critic],
    score: Callable[[Critic, Label], float],
    selection: Selection,
) -> Comparison:
    """Fit on the older sessions, compare on the newer ones: paired bootstrap by session."""
    sessions = sorted({each.session for each in labels})
    cut = sessions[len(sessions) - max(1, round(len(sessions) * selection.critic_development_share))] if sessions else 0
    older = [each for each in labels if each.session < cut]
    newer = [each for each in labels if each.session >= cut]
    if len({each.accepted for each in older}) < 2 or len(older) < selection.least_labels or not newer:
        return Comparison(len(newer), 0.5, 0.5, 0.0)
    critic = fit(older)
    return compare_scores(
        [score(critic, each) for each in newer],
        [each.confidence for each in newer],
        [each.accepted for each in newer],
        [each.stratum for each in newer],
        [each.session for each in newer],
        selection.draws,
        selection.seed,
    )


def explain_comparison(source: ScoreSource, compared: Comparison) -> str:
    """What the score is, and why."""
    return (
        f"the score is the {source.words}: "
        f"AUROC {compared.auroc:.3f}, confidence {compared.confidence_auroc:.3f}, better in "
        f"{compared.share_better:.1%} of draws over {compared.labels} labels"
    )
