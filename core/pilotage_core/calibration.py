"""From held-out labels to τ: fixed-sequence exact test over prefixes, corrected for how far operators disagree.

Here: the test, its correction, strata, and the certificate made from a result. Not here: which labels are held out
(trainer), what happens to τ afterwards (monitoring.py). Why this correction: docs/decisions/design-effect.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv, ndtri, stdtrit

from pilotage_core.certificate import Certificate, EvidenceDigests, LabelsFrom, session_precision_bound
from pilotage_core.errors import EvidenceError, InvalidInputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

GRID_STEPS = 200  # prefixes tested; registered here, before any data (DESIGN, section 8)
LEAST_SELECTED = 60
LEAST_SELECTED_SHARE = 0.1


class CalibrationReason(StrEnum):
    """Why a calibration ended as it did."""

    CERTIFIED = "Certified"
    NO_LABELS = "NoLabels"
    TOO_FEW_LABELS = "TooFewLabels"  # fewer than the first prefix needs
    NONE_ACCEPTED = "NoneAccepted"
    FIRST_PREFIX_FAILED = "FirstPrefixFailed"  # even the highest scores do not reach the target with confidence


@dataclass(frozen=True, slots=True)
class Labels:
    """Held-out labels of one stratum, as arrays of one length n, in any order.

    `scores` in [0, 1]; `accepted` is y (an unedited accept); `operators` and `sessions` are any integer ids. `weights`
    are 1 / propensity of the look that gave the label (None: every proposal was looked at).
    """

    scores: FloatArray
    accepted: BoolArray
    operators: IntArray
    sessions: IntArray
    weights: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class TauResult:
    """What calibration found. Counts, bound, design effect at τ; without τ, at the first prefix tested (zeros if none).

    `n` labels in all, by `operators` people; `needed` is the size of the first prefix. `bound` is the lower confidence
    bound of precision. `icc` is ρ. `design_effect` is what n and errors were divided by: at least 1, and it holds the
    correction for few operators too. `grid_tested` prefixes were tested. `tau_tighter` and `tau_looser`: the
    neighbouring grid steps.
    """

    tau: float | None
    reason: CalibrationReason
    target: float
    delta: float
    n: int = 0
    needed: int = 0
    selected: int = 0
    errors: int = 0
    bound: float = 0.0
    coverage: float = 0.0
    design_effect: float = 1.0
    icc: float = 0.0
    operators: int = 0
    grid_tested: int = 0
    tau_tighter: float | None = None
    tau_looser: float | None = None
