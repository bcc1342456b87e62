"""Held-out labels as calibration takes them: arrays of one length, validated. Not here: the test (calibration.py)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pilotage_core.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Labels:
    """Held-out labels of one stratum, as arrays of one length n, in any order.

    `scores` in [0, 1]; `accepted` is y (an unedited accept); `operators` and `sessions` are ids of any kind that
    sorts. An audited item that nobody answered is by no operator: give each an id of its own. `propensities` in (0, 1]
    are the chances with which each was looked at (None: every proposal was), `least_propensity` the smallest that any
    action had, where `propensities` may not show it: what was looked at so seldom may have left no label. `known` says
    whose operator is known (None: everyone's): the others count as one more operator, the worst case, and tell nothing
    of how operators differ. `days` are ids of the days they were given on (None: not told).
    """

    scores: FloatArray
    accepted: BoolArray
    operators: IntArray
    sessions: IntArray
    propensities: FloatArray | None = None
    known: BoolArray | None = None
    least_propensity: float = 1.0
    days: IntArray | None = None


def name_operators(labels: Labels) -> tuple[IntArray, int]:
    """Operators renamed to 0 … k−1, whoever is not known being one more; and k, how many are known."""
    if labels.known is None or labels.known.all():
        codes = number_ids(labels.operators)
        return codes, int(codes.max()) + 1
    codes = np.zeros(len(labels.operators), dtype=np.int64)
    if labels.known.any():
        codes[labels.known] = number_ids(labels.operators[labels.known])
        codes[~labels.known] = codes.max() + 1
    return codes, len(np.unique(codes[labels.known]))


def number_ids(ids: IntArray) -> IntArray:
    """`ids` renamed to 0 … k−1."""
    return np.unique(ids, return_inverse=True)[1].astype(np.int64)


def validate(
    scores: npt.ArrayLike,
    accepted: npt.ArrayLike,
    operators: npt.ArrayLike,
    sessions: npt.ArrayLike,
    propensities: npt.ArrayLike | None,
    known: npt.ArrayLike | None,
    least_propensity: float,
    days: npt.ArrayLike | None,
    target: float,
    delta: float,
) -> Labels:
    """The arguments as arrays, or InvalidInputError naming what is wrong and where."""
    for name, value in (("target", target), ("delta", delta)):
        if not 0.0 < value < 1.0:
            raise InvalidInputError(f"{value} is not between 0 and 1", where=name)
    if not 0.0 < least_propensity <= 1.0:
        raise InvalidInputError(f"{least_propensity} is not in (0, 1]", where="least_propensity")
    labels = Labels(
        np.asarray(scores, dtype=np.float64),
        np.asarray(accepted, dtype=np.bool_),
        np.asarray(operators),
        np.asarray(sessions),
        None if propensities is None else np.asarray(propensities, dtype=np.float64),
        None if known is None else np.asarray(known, dtype=np.bool_),
        least_propensity,
        None if days is None else np.asarray(days),
    )
    for name in ("accepted", "operators", "sessions", "propensities", "known", "days"):
        array = getattr(labels, name)
        if array is not None and array.shape != labels.scores.shape:
            raise InvalidInputError(f"has shape {array.shape}, scores have {labels.scores.shape}", where=name)
    _require(labels.scores, (labels.scores >= 0.0) & (labels.scores <= 1.0), "scores", "[0, 1]")
    if labels.propensities is not None:
        _require(
            labels.propensities, (labels.propensities > 0.0) & (labels.propensities <= 1.0), "propensities", "(0, 1]"
        )
    return labels


def _require(values: FloatArray, allowed: BoolArray, name: str, interval: str) -> None:
    wrong = np.flatnonzero(~allowed)
    if len(wrong):
        raise InvalidInputError(f"{values[wrong[0]]} is not in {interval}", where=f"{name}[{wrong[0]}]")
