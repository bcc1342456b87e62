"""Is one score better than another? Paired, by session, on the same labels; pairs count within a stratum only.

For critics of every backend against the policy's own confidence. Not here: where labels and scores come from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilotage_trainer.measures.ranking import stratified_auroc


@dataclass(frozen=True)
class Comparison:
    """Critic against confidence on development sessions. AUROCs count pairs within a stratum only.

    `share_better` is the share of bootstrap draws in which the critic's is the higher one.
    """

    labels: int
    auroc: float
    confidence_auroc: float
    share_better: float


def compare_scores(
    scores: npt.ArrayLike,
    confidences: npt.ArrayLike,
    accepted: npt.ArrayLike,
    strata: Sequence[str],
    sessions: Sequence[int],
    draws: int,
    seed: int,
) -> Comparison:
    """AUROC of `scores` and of `confidences` on the same labels: paired bootstrap of whole sessions, `draws` times.

    All arguments that are sequences have one length, which is not 0.
    """
    first, second = np.asarray(scores, dtype=np.float64), np.asarray(confidences, dtype=np.float64)
    is_right = np.asarray(accepted, dtype=np.bool_)
    kinds = np.unique(strata, return_inverse=True)[1]
    groups = _positions_by_session(sessions)
    random = np.random.default_rng(seed)
    better = 0
    for _ in range(draws):
        drawn = np.concatenate([groups[i] for i in random.integers(len(groups), size=len(groups))])
        of = is_right[drawn], kinds[drawn]
        better += stratified_auroc(first[drawn], *of) > stratified_auroc(second[drawn], *of)
    return Comparison(
        labels=len(first),
        auroc=stratified_auroc(first, is_right, kinds),
        confidence_auroc=stratified_auroc(second, is_right, kinds),
        share_better=better / draws,
    )


def _positions_by_session(sessions: Sequence[int]) -> list[npt.NDArray[np.intp]]:
    positions: dict[int, list[int]] = {}
    for position, session in enumerate(sessions):
        positions.setdefault(session, []).append(position)
    return [np.array(each, dtype=np.intp) for each in positions.values()]
