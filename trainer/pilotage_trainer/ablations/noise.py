"""Is an arm better than the reference, or is it noise? Paired by session: both arms answer the same points.

Whole sessions are drawn together for both arms, and seeds for each arm alone, where there are several.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec
import numpy as np
import numpy.typing as npt

from pilotage_trainer.ablations.answers import Answer
from pilotage_trainer.measures.ranking import stratified_auroc

DRAWS = 1000
CONFIDENCE = 0.95

Indices = npt.NDArray[np.intp]
Measure = Callable[[Indices], float]
"""The figure of one run on the answers at these places."""


class Word(StrEnum):
    """What a difference is."""

    REFERENCE = "reference"
    BETTER = "better"
    WORSE = "worse"
    NOISE = "within noise"
    FAILED = "failed"


class Difference(msgspec.Struct, frozen=True):
    """An arm's figure minus the reference's. [low, high] holds for all arms of the ablation at once."""

    value: float
    low: float
    high: float

    @property
    def word(self) -> Word:
        """Noise where the interval holds 0."""
        return Word.BETTER if self.low > 0.0 else Word.WORSE if self.high < 0.0 else Word.NOISE


def measure_share(answers: Sequence[Answer]) -> Measure:
    """The share that is right."""
    right = np.array([each.right for each in answers], dtype=np.float64)
    return lambda drawn: float(right[drawn].mean())


def measure_ranks(answers: Sequence[Answer]) -> Measure:
    """AUROC of the scores, pairs counted within a stratum."""
    scores = np.array([each.score for each in answers], dtype=np.float64)
    right = np.array([each.right for each in answers], dtype=np.bool_)
    strata = np.unique([each.stratum for each in answers], return_inverse=True)[1]
    return lambda drawn: stratified_auroc(scores[drawn], right[drawn], strata[drawn])


def compare_arms(
    arm: Sequence[Measure],
    reference: Sequence[Measure],
    sessions: Sequence[int],
    arms: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Difference:
    """`arm` against `reference`, a measure for each seed, on answers of which `sessions` says the sessions.

    Percentile bootstrap; with `arms` compared to one reference each interval is as wide as Bonferroni has it.
    """
    places: dict[int, list[int]] = {}
    for place, session in enumerate(sessions):
        places.setdefault(session, []).append(place)
    groups = [np.array(each, dtype=np.intp) for each in places.values()]
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    for draw in range(draws):
        drawn = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
        found[draw] = _mean(arm, drawn, rng) - _mean(reference, drawn, rng)
    everything = np.arange(len(sessions), dtype=np.intp)
    tail = (1.0 - CONFIDENCE) / 2.0 / max(arms, 1)
    low, high = np.quantile(found, [tail, 1.0 - tail])
    value = float(np.mean([m(everything) for m in arm]) - np.mean([m(everything) for m in reference]))
    return Difference(value, float(low), float(high))


def _mean(runs: Sequence[Measure], drawn: Indices, rng: np.random.Generator) -> float:
    chosen = [runs[i] for i in rng.integers(len(runs), size=len(runs))] if len(runs) > 1 else runs
    return float(np.mean([run(drawn) for run in chosen]))
