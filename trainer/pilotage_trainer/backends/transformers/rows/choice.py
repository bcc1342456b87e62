"""What a data set is asked to be, and which sessions and decisions it is then made of.

Not here: the rules of the choice (selection.py), the work on dialogs (dialog_spool.py), the folder (folder.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.training import DatasetSettings
from pilotage_trainer.backends.transformers.rows.dialog_spool import Told
from pilotage_trainer.backends.transformers.rows.selection import (
    DecisionPoint,
    Mix,
    Split,
    choose_decisions,
    split_sessions,
)
from pilotage_trainer.backends.transformers.rows.sequences import Target
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import read_time
from pilotage_trainer.window import LEAST_SESSIONS


@dataclass(frozen=True)
class DatasetRequest:
    """What is wanted. `base`: whose tokenizer (empty: one of `vocabulary` tokens is learned from the training side).

    An empty process cluster stands for all of them.
    """

    export: str
    out: Path
    process_cluster: str = ""
    since: str = ""
    until: str = ""
    base: str = ""
    vocabulary: int = 4096
    settings: DatasetSettings = field(default_factory=DatasetSettings)
    development_share: float = 0.05
    held_out_share: float = 0.0
    workers: int = 2


@dataclass(frozen=True)
class ChosenSessions:
    """The sessions by closing time, each on its side, and the decisions that carry loss on each side."""

    sessions: list[Told]
    sides: list[Split]
    decisions: dict[Split, list[DecisionPoint]]
    left_out: dict[Split, int]
    repeated: int


def choose(told: Sequence[Told], request: DatasetRequest) -> ChosenSessions:
    """Sides and decisions. Raises EvidenceError where there is too little, InvalidInputError for impossible shares."""
    latest: dict[tuple[str, str], Told] = {}
    for session in sorted(told, key=lambda t: (read_time(t.closed_at), t.session_id, t.digest)):
        earlier = latest.get((session.process_cluster, session.session_id))
        if earlier is not None and earlier.closed_at == session.closed_at and earlier.digest != session.digest:
            what = f"{session.session_id} of {session.process_cluster} is the id of two sessions that differ"
            raise InvalidInputError(what, where="session_id", remedy="give each session an id of its own")
        latest[session.process_cluster, session.session_id] = session  # exported twice: as it was last
    sessions = sorted(latest.values(), key=lambda t: (read_time(t.closed_at), t.session_id))
    if len(sessions) < LEAST_SESSIONS:
        raise EvidenceError(
            f"{len(sessions)} closed sessions are too few for a data set",
            where="window",
            remedy=f"at least {LEAST_SESSIONS} are needed: widen the window or wait",
        )
    closed = [read_time(session.closed_at) for session in sessions]
    sides = split_sessions(closed, request.development_share, request.held_out_share)
    decisions: dict[Split, list[DecisionPoint]] = {}
    left_out = {}
    settings = request.settings
    for side in Split:
        found = [d for n, session in enumerate(sessions) if sides[n] is side for d in _read_decisions(n, session)]
        decisions[side] = found
        if side is Split.TRAIN:  # the others measure: they stay as they came
            mix = Mix(settings.logs_per_rejection, settings.rejections)
            if not any(d.rejected for d in found) and (mix.rejections or mix.logs_per_rejection):
                tell("no proposal was rejected or edited in these sessions: there is nothing to mix")
            decisions[side] = choose_decisions(found, mix, settings.balancing, settings.seed)
        left_out[side] = len(found) - len(decisions[side])
    if not decisions[Split.TRAIN]:
        raise EvidenceError("no action of an operator is left to learn from", where="window", remedy="widen it")
    return ChosenSessions(sessions, sides, decisions, left_out, len(told) - len(sessions))


def _read_decisions(number: int, session: Told) -> Iterator[DecisionPoint]:
    place = 0
    for segment, spans in enumerate(session.segments):
        for index, span in enumerate(spans):
            if span.target is not Target.SILENT:
                name = f"{session.session_id}:{place}"
                yield DecisionPoint(number, segment, index, span.tool, span.screen, span.rejected, name)
                place += 1
