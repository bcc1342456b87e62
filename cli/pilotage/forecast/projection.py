"""What other numbers of labels would certify, were they like those seen. Pure.

Not here: which numbers are asked, and what the answers mean (targets.py).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.special import betainc, betaincinv

from pilotage_core.calibration import (
    GRID_STEPS,
    LEAST_OPERATORS,
    LEAST_SELECTED_SHARE,
    STARTS,
    TauResult,
    least_selected,
)
from pilotage_core.design_effect import inflate
from pilotage_trainer.public import RiskCoverage

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Projection:
    """The labels of `result` as what others will be like.

    `coverage` and `precision` are those of prefixes, strictest first, from the smallest share that is ever tested.
    `labels_each` is Σm²/Σm of `result.selected` labels: how many are by the same operator as a label, in the mean.
    """

    result: TauResult
    coverage: FloatArray
    precision: FloatArray
    labels_each: float

    def certify(self, labels: int, precision: FloatArray | None = None, *, by_others: bool = False) -> float:
        """The coverage that `labels` labels certify at `precision` (None: as seen); 0 for nothing.

        The walks of pilotage_core.calibration at effective counts, from the first prefix on that has as many labels
        already as the test of `result` begins with: what fewer show is chance. All labels are by the operators seen, or
        `by_others` too, so many that nobody gives more of them.
        """
        result, kept = self.result, self.coverage * labels
        testable = kept >= least_selected(labels, target=result.target, delta=result.delta) - 1e-9
        testable &= self.coverage * result.n >= result.needed - 1e-9
        certified = 0.0
        for share, of_delta in STARTS:
            if share and result.operators > 1 and self._operators < LEAST_OPERATORS:
                continue
            delta = result.delta * of_delta
            like = self.coverage * result.n if by_others else kept
            effective = kept / self.count_design_effects(like, of_delta)
            errors = effective * (1.0 - (self.precision if precision is None else precision))
            p_values = betainc(np.maximum(effective - errors, 1e-9), errors + 1.0, result.target)
            able = effective >= np.log(delta) / np.log(result.target)  # a walk begins where a pass is possible
            walk = np.flatnonzero(testable & able & (self.coverage >= share - 1e-9))
            if len(walk) and p_values[walk[0]] <= delta:
                failed = np.flatnonzero(p_values[walk[0] :] > delta)
                certified = max(certified, float(self.coverage[walk[0] + failed[0] - 1 if len(failed) else -1]))
        return certified

    def lowest_precision(self, chance: float) -> FloatArray:
        """What the precision of each prefix is below with `chance` (Clopper–Pearson)."""
        right, wrong = self._count_effective()
        return np.asarray(betaincinv(np.maximum(right, 1e-9), wrong + 1.0, chance), dtype=np.float64)

    def highest_precision(self, chance: float) -> FloatArray:
        """What the precision of each prefix is above with `chance`."""
        right, wrong = self._count_effective()
        return np.asarray(betaincinv(right + 1.0, np.maximum(wrong, 1e-9), 1.0 - chance), dtype=np.float64)

    def _count_effective(self) -> tuple[FloatArray, FloatArray]:
        kept = self.coverage * self.result.n
        effective = kept / self.count_design_effects(kept)
        return effective * self.precision, effective * (1.0 - self.precision)

    @property
    def _operators(self) -> float:
        return (self.result.selected or self.result.n) / self.labels_each

    def count_design_effects(self, kept: FloatArray, of_delta: float | None = None) -> FloatArray:
        """The design effect of `kept` labels by the operators seen, at that share of δ (None: as `result` has it).

        That of `result`, grown as `inflate` does with labels each.
        """
        result, operators = self.result, np.array(self._operators)
        shown = result.delta * result.of_delta
        grown = inflate(result.icc, kept / operators, operators, shown if of_delta is None else result.delta * of_delta)
        seen = inflate(result.icc, np.array(self.labels_each), operators, shown)
        return np.asarray(result.design_effect * grown / seen, dtype=np.float64)


def build_projection(curve: RiskCoverage, operators: Sequence[str], result: TauResult) -> Projection:
    """From the labels of `result` and their `curve`, which are by `operators`, the highest score first."""
    tried = np.linspace(LEAST_SELECTED_SHARE, 1.0, GRID_STEPS)
    chosen = np.unique(np.searchsorted(curve.coverage, tried - 1e-9))
    sizes = np.array(list(Counter(operators[: result.selected or None]).values()), dtype=np.float64)
    # A larger prefix that is more precise is chance: else 0.97 may seem to need fewer labels than 0.95.
    precision = isotonic_regression(curve.precision[chosen], increasing=False).x
    return Projection(result, curve.coverage[chosen], precision, float((sizes**2).sum() / sizes.sum()))
