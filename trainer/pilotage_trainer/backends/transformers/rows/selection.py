"""Which sessions are trained on, and which of their actions carry loss: splits, mixing, balancing. Pure.

Chosen are decisions, never pieces of a session: what carries no loss stays in the text as context. Draws follow from
seed and decision alone, so the same decision is drawn when a window grows. See docs/decisions/032.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_core.training import Balancing


class Split(StrEnum):
    """A side. Every session is on exactly one."""

    TRAIN = "train"
    DEVELOPMENT = "development"  # newer: what a revision is chosen on
    HELD_OUT = "held-out"  # the newest: touched by no training


class DecisionPoint(msgspec.Struct, frozen=True):
    """One action that could carry loss: where it stands, and what mixing and balancing look at."""

    session: int
    segment: int
    span: int
    tool: str
    screen: str
    rejected: bool
    name: str
    """The session's id and the decision's place in it: what draws depend on."""


class Mix(msgspec.Struct, frozen=True):
    """How many logged actions there are for each corrected proposal, or how many of those at most; 0: all of both."""

    logs_per_rejection: float = 0.0
    rejections: int = 0


def read_mix(text: str) -> Mix:
    """`3:1` or `3.0` (logs for each rejection), `500` (rejections at most), or nothing. Raises InvalidInputError."""
    logs, colon, rejections = text.partition(":")
    try:
        if not text:
            return Mix()
        if not colon and text.isdigit():
            return Mix(rejections=int(text))
        ratio = float(logs) / float(rejections or "1")
    except (ValueError, ZeroDivisionError):
        ratio = -1.0
    if not 0.0 < ratio < float("inf"):
        raise InvalidInputError(
            f"{text!r} is neither a ratio nor a count",
            where="--mix-rejections",
            remedy="write 3:1 for three logged actions to each rejection, or 500 for the newest 500 rejections",
        )
    return Mix(logs_per_rejection=ratio)


def split_sessions(closed: Sequence[datetime], development_share: float, held_out_share: float) -> list[Split]:
    """A side for each session by its closing time: the newest `held_out_share` held out, before them development.

    Sessions that closed in the same moment are on one side, the older one. Raises InvalidInputError for shares that
    leave nothing to train on.
    """
    for option, share in (("--development-share", development_share), ("--held-out-share", held_out_share)):
        if not 0.0 <= share < 1.0:
            raise InvalidInputError(f"{share} is not in [0, 1)", where=option)
    if development_share + held_out_share >= 1.0:
        raise InvalidInputError("nothing is left to train on", where="--development-share and --held-out-share")
    ordered = sorted(closed)
    held_out = len(ordered) - round(len(ordered) * held_out_share)
    development = held_out - round(len(ordered) * development_share)
    last_trained, last_developed = (ordered[place - 1] if place else None for place in (development, held_out))

    def side(time: datetime) -> Split:
        if last_trained is not None and time <= last_trained:
            return Split.TRAIN
        return Split.DEVELOPMENT if last_developed is not None and time <= last_developed else Split.HELD_OUT

    return [side(time) for time in closed]


def choose_decisions(
    decisions: Sequence[DecisionPoint], mix: Mix, balancing: Balancing, seed: int
) -> list[DecisionPoint]:
    """Those of `decisions` (by time) that carry loss: first mixed, then balanced; in their order."""
    chosen = balance_decisions(mix_decisions(decisions, mix, seed), balancing, seed)
    return chosen


def mix_decisions(decisions: Sequence[DecisionPoint], mix: Mix, seed: int) -> list[DecisionPoint]:
    """Logged actions and corrected proposals in the wanted proportion: what there is too much of is drawn from.

    By count, the newest corrected proposals stay. Where there is no corrected proposal at all, nothing is mixed.
    """
    logs = [d for d in decisions if not d.rejected]
    rejections = [d for d in decisions if d.rejected]
    if mix.rejections:
        rejections = rejections[-mix.rejections :]
    if mix.logs_per_rejection and rejections:
        wanted = round(len(rejections) * mix.logs_per_rejection)
        if len(logs) > wanted:
            logs = _draw(logs, wanted, seed)
        else:
            rejections = _draw(rejections, max(1, round(len(logs) / mix.logs_per_rejection)), seed)
    return _in_order(decisions, (*logs, *rejections))


def balance_decisions(decisions: Sequence[DecisionPoint], balancing: Balancing, seed: int) -> list[DecisionPoint]:
    """No tool (or screen) with more than an even share of all decisions; rarer ones stay whole.

    Nothing is repeated: a session is one sequence, and a rare action seen again brings the same session again.
    """
    if balancing is Balancing.NATURAL or not decisions:
        return list(decisions)

    def kind(decision: DecisionPoint) -> str:
        return decision.tool if balancing is Balancing.TOOL else decision.screen

    counts = Counter(kind(decision) for decision in decisions)
    even = -(-len(decisions) // len(counts))
    kept: list[DecisionPoint] = []
    for name in counts:
        kept += _draw([d for d in decisions if kind(d) == name], even, seed)
    return _in_order(decisions, kept)


def _draw(decisions: Sequence[DecisionPoint], most: int, seed: int) -> list[DecisionPoint]:
    if len(decisions) <= most:
        return list(decisions)
    return sorted(decisions, key=lambda d: blake2b(f"{seed}:{d.name}".encode(), digest_size=8).digest())[:most]


def _in_order(decisions: Sequence[DecisionPoint], kept: Iterable[DecisionPoint]) -> list[DecisionPoint]:
    names = {decision.name for decision in kept}
    return [decision for decision in decisions if decision.name in names]
