"""Labels for tests of τ: drawn with operators who differ, and calibrated."""

import numpy as np
from scipy.special import expit

from pilotage_core.calibration import TauResult, calibrate


def run(scores, accepted, operators=None, sessions=None, **options) -> TauResult:
    """Calibrate at 0.9 and δ 0.05; by default one operator, and every label its own session."""
    n = len(scores)
    operators = np.zeros(n, dtype=int) if operators is None else operators
    sessions = np.arange(n) if sessions is None else sessions
    return calibrate(scores, accepted, operators, sessions, **{"target": 0.9, "delta": 0.05, **options})


def drawn(seed: int, n: int, operators: int = 20, spread: float = 0.0, steps: int = 0):
    """Labels of a critic with AUROC 0.80 at accept rate 0.73; `steps` rounds scores so that they tie."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    who = rng.integers(0, operators, n)
    accepted = rng.random(n) < expit(1.34 + 1.37 * x + spread * rng.standard_normal(operators)[who])
    scores = expit(x)
    return (np.round(scores * steps) / steps if steps else scores), accepted, who, np.arange(n) // 8
