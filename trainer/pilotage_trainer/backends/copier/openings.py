"""Which procedure a turn calls for: shares among those that may be opened, by the parts of their names and the words.

A name that was never opened shares its parts with others that were. Not here: whether one is opened now (calls.py,
ranking.py), how the weights are fitted (fitting.py).
"""

import re
from functools import lru_cache
from itertools import pairwise

import msgspec
import numpy as np

from pilotage_core.actions import Action, Tool
from pilotage_core.screen import ControlKind
from pilotage_trainer.backends.copier.hearing import BEGINNING, find_argument, find_stem, find_tokens
from pilotage_trainer.backends.copier.linear import Floats, find_shares
from pilotage_trainer.backends.copier.ranking import Candidate, Moment, find_pairs, weigh_pairs
from pilotage_trainer.backends.situation import Situation

REMEMBERED = 20_000
PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
NUMBER = re.compile(r"_?\d+$")


class Question(msgspec.Struct, frozen=True):
    """What the choice of a procedure is made of: the turn, what it answers, what is open, and what may be opened."""

    text: str
    reply: str
    open_now: str
    options: tuple[str, ...]


def ask(situation: Situation) -> Question:
    """Which procedure the last turn calls for: of those that the case names a service of, where it does. What has no
    service (no slash in its name) is nobody's own: a case that names a procedure does not take the others away.
    """
    shown = [name for name, kind in situation.controls.items() if kind == ControlKind.PROCEDURE]
    case = {part for value in situation.case.values() for part in value.split(",")}
    named = [name for name in shown if "/" in find_argument(name) and find_service(find_argument(name)) in case]
    text = situation.turns[-1].text if situation.turns else ""
    return Question(
        text, situation.turns[-1].reply if situation.turns else "", situation.procedure, tuple(named or shown)
    )


def find_service(procedure: str) -> str:
    """What a procedure belongs to: the part of its id before the slash."""
    return procedure.partition("/")[0]


class Openings:
    """The fitted weights, float32 by bucket."""

    def __init__(self, weights: bytes) -> None:
        self._weights: Floats = np.frombuffer(weights, dtype="<f4")
        self.find = lru_cache(maxsize=REMEMBERED)(self._find)

    def _find(self, question: Question) -> dict[str, float]:
        """The share of each option; they sum to 1."""
        if not question.options:
            return {}
        shares = find_shares(weigh_pairs(self._weights, *find_pairs(build_choice(question))))
        return dict(zip(question.options, map(float, shares), strict=True))


def build_choice(question: Question) -> Moment:
    """The options by the parts of their names, and the words."""
    offered = find_argument(question.reply)
    candidates = tuple(
        Candidate(Action(Tool.OPEN_PROCEDURE, name), (*list_parts(name), *_list_relations(name, question, offered)))
        for name in question.options
    )
    words = [token.word for token in find_tokens(question.text)]
    tokens = [f"reply {find_stem(question.reply)}", *(f"word {word}" for word in words)]
    tokens += [f"words {a} {b}" for a, b in pairwise(["^", *words, "$"])]
    tokens += [f"begin {word[:BEGINNING]}" for word in words if len(word) > BEGINNING]
    return Moment(candidates, tuple(dict.fromkeys(tokens)))


@lru_cache(maxsize=REMEMBERED)
def list_parts(name: str) -> tuple[str, ...]:
    """A procedure's name, its halves without the numbers of services, and their words."""
    service, _, intent = find_argument(name).partition("/")
    kind = NUMBER.sub("", service)
    words = dict.fromkeys(word.lower() for word in PART.findall(f"{kind} {intent}"))  # in order: sums depend on it
    return (f"name {name}", f"kind {kind}", f"intent {intent}", f"both {kind} {intent}", *(f"part {w}" for w in words))


def _list_relations(name: str, question: Question, offered: str) -> tuple[str, ...]:
    same = find_service(name) == find_service(question.open_now)
    is_offered = bool(offered) and name.endswith(f"/{offered}")
    return (f"now {name == question.open_now} {same} {is_offered}", f"{name} after {question.open_now}")
