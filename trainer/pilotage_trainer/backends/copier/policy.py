"""The policy: what was heard, what may come next, and which of it is likeliest.

Not here: fitting (fitting.py), what a server answers (served.py).
"""

from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np

from pilotage_core.actions import Action
from pilotage_trainer.backends.copier.calls import Calls
from pilotage_trainer.backends.copier.candidates import build_moment
from pilotage_trainer.backends.copier.linear import Floats, StoredLinear, find_shares
from pilotage_trainer.backends.copier.openings import Openings
from pilotage_trainer.backends.copier.ranking import Moment, find_pairs, weigh_pairs
from pilotage_trainer.backends.copier.spans import Spans, StoredSpans
from pilotage_trainer.backends.situation import Situation

SURELY_NOTHING = 0.75
"""A share of nothing under which the likeliest action is proposed: a critic judges it, an operator is asked."""


class StoredPolicy(msgspec.Struct, frozen=True):
    """A policy as stored (policy.msgpack). `openings` and `weights` (the ranker's) are float32, little-endian.

    The first three are of sessions up to `heard_until`. `is_new`: the ranker learned of sessions before and after a
    rollback, and answers for after it.
    """

    calls: StoredLinear
    spans: StoredSpans
    openings: bytes
    weights: bytes
    heard_until: str = ""
    is_new: bool = False


@dataclass(frozen=True)
class Prediction:
    """What may come next and the share of each: they sum to 1."""

    moment: Moment
    shares: Floats

    @property
    def best(self) -> int:
        """The likeliest; equals stay in the screen's order. Nothing only where it is SURELY_NOTHING."""
        nothing = len(self.shares) - 1
        if nothing and float(self.shares[nothing]) < SURELY_NOTHING:
            return int(np.argmax(self.shares[:nothing]))
        return int(np.argmax(self.shares))

    def find(self, action: Action) -> int | None:
        """The place of `action` among the candidates: text left out, as it follows from the template."""
        bare = msgspec.structs.replace(action, text="") if action.control_id else action
        places = (i for i, candidate in enumerate(self.moment.candidates) if candidate.action == bare)
        return next(places, None)


class Policy:
    """A fitted policy. Deterministic: one situation always gets one answer."""

    def __init__(self, stored: StoredPolicy) -> None:
        self.stored = stored
        self.calls = Calls(stored.calls)
        self.spans = Spans(stored.spans)
        self.openings = Openings(stored.openings)
        self.weights: Floats = np.frombuffer(stored.weights, dtype="<f4")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The policy stored as `data`; raises msgspec.DecodeError or ValueError where it is damaged."""
        return cls(msgspec.msgpack.decode(data, type=StoredPolicy))

    def encode(self) -> bytes:
        """What `decode` reads."""
        return msgspec.msgpack.encode(self.stored)

    def predict(self, situation: Situation) -> Prediction:
        """What may come next in `situation`, and how likely each is."""
        moment = build_moment(situation, self.calls, self.spans, self.openings, is_new=self.stored.is_new)
        return Prediction(moment, find_shares(weigh_pairs(self.weights, *find_pairs(moment))))
