"""The critic: P(an operator accepts this action), from the prompt and the action alone.

Logistic regression over the action's keys paired with tokens of the moment and of what is in doubt: how sure the policy
is of the action and of its rival, what was heard and stands on no form, what stands there and was hardly heard. Not
here: fitting (critic_training.py).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Self

import msgspec
import numpy as np

from pilotage_core.actions import Action, Tool
from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import ACTION_MARK, decode_action
from pilotage_trainer.backends.copier.candidates import find_opened
from pilotage_trainer.backends.copier.hearing import find_kind, find_tokens
from pilotage_trainer.backends.copier.linear import FARTHEST, Floats
from pilotage_trainer.backends.copier.openings import Question, ask
from pilotage_trainer.backends.copier.policy import Policy, Prediction
from pilotage_trainer.backends.copier.ranking import Candidate, Moment, Places, find_pairs
from pilotage_trainer.backends.copier.values import find_level, list_form_chances
from pilotage_trainer.backends.situation import Reader, Situation

Chances = tuple[str, float, float]
"""A field with what list_form_chances tells of it."""


class StoredCritic(msgspec.Struct, frozen=True):
    """A critic as stored (critic.json); its weights, float32 by bucket, stand in a file beside it."""

    source: ScoreSource
    intercept: float


class Critic:
    """A fitted critic beside the policy whose actions it judges."""

    def __init__(self, policy: Policy, stored: StoredCritic, weights: bytes) -> None:
        self.policy = policy
        self.stored = stored
        self.weights: Floats = np.frombuffer(weights, dtype="<f4")

    @classmethod
    def decode(cls, policy: Policy, data: bytes, weights: bytes) -> Self:
        """The critic stored as `data` and `weights`; raises msgspec.DecodeError or ValueError where it is damaged."""
        return cls(policy, msgspec.json.decode(data, type=StoredCritic), weights)

    def score(self, query: str, reader: Reader) -> float:
        """P(accept) of the action at the end of `query` (a prompt and an action's JSON).

        Raises ValueError where there is no action, msgspec.ValidationError where it is damaged.
        """
        prompt, mark, action = query.rpartition("\n" + ACTION_MARK)
        if not mark or not action.strip():
            raise ValueError("the query does not end with a proposed action")
        return self.judge(reader.read(f"{prompt}\n{ACTION_MARK}"), decode_action(action))

    def judge(self, situation: Situation, action: Action) -> float:
        """P(accept) of `action` in `situation`; 0 of one that the policy does not think of."""
        prediction = self.policy.predict(situation)
        place = prediction.find(action)
        if place is None:
            return 0.0
        if self.stored.source is ScoreSource.CONFIDENCE:
            return float(prediction.shares[place])
        return self.weigh(find_judged(situation, prediction, place, self.policy))

    def weigh(self, places: Places) -> float:
        """The logistic regression alone: P(accept) from the buckets of an action's pairs."""
        odds = self.stored.intercept + float(self.weights[places].sum())
        return float(1.0 / (1.0 + np.exp(-np.clip(odds, -FARTHEST, FARTHEST))))


def find_judged(situation: Situation, prediction: Prediction, place: int, policy: Policy) -> Places:
    """The buckets of what there is to say of the candidate at `place`: all its keys with the moment and what is in
    doubt, its kind alone with the words of the last turn and the fields of the form.
    """
    moment, candidate = prediction.moment, prediction.moment.candidates[place]
    chances = list(list_form_chances(situation, policy.calls, policy.spans))
    doubts = (*_list_doubts(prediction, place), *_list_history(situation, policy, chances))
    details = (*_list_words(situation), *_list_fields(situation, chances))
    kinds = Candidate(candidate.action, candidate.keys[:2])
    found = [find_pairs(Moment((candidate,), (*moment.tokens, *doubts)))[0], find_pairs(Moment((kinds,), details))[0]]
    return np.concatenate(found)


def _list_doubts(prediction: Prediction, place: int) -> Iterator[str]:
    """How sure the policy is of the action, of its rival, and of a value that is not typed."""
    shares, candidates = prediction.shares, prediction.moment.candidates
    own = float(shares[place])
    others = np.delete(shares, place)
    second = int(np.argmax(others))
    rival = candidates[second + (second >= place)].action
    share, next_share = find_level(own), find_level(float(others[second]))
    odds = min(int(-2.0 * np.log2(max(1.0 - own, 1e-4))), 26)
    unsaid = max((float(s) for s, c in zip(shares, candidates, strict=True) if c.keys[0] == "value"), default=0.0)
    yield f"share {share}"
    yield f"odds {odds}"
    yield f"share {share} {next_share}"
    yield f"share {share} rival {find_kind(rival) if rival else 'nothing'}"
    yield f"value left {find_level(unsaid)}"
    yield f"nothing {find_level(float(shares[-1]))}"


def _list_history(situation: Situation, policy: Policy, chances: Sequence[Chances]) -> Iterator[str]:
    """How surely the form was opened and filled, and what was done on it again and again."""
    opened = find_opened(situation)
    turn, action = situation.acts[opened] if opened >= 0 else (0, None)
    chance = 0.0
    if action is not None and turn:
        heard = situation.turns[turn - 1]
        before = next((a.control_id for _, a in reversed(situation.acts[:opened]) if a.tool is action.tool), "")
        asked = Question(heard.text, heard.reply, before, ask(situation).options)
        chance = policy.openings.find(asked).get(action.control_id, 0.0)
    since = Counter(f"{each.tool} {each.control_id}" for _, each in situation.acts[opened + 1 :])
    most = min(max(since.values(), default=0), 4)
    turns = min(len(situation.turns) - turn, 6)
    held = min((own for _, own, _ in chances), default=1.0)
    beaten = max((other for _, _, other in chances), default=0.0)
    said = Counter(each.control_id for _, each in situation.acts if each.tool is Tool.SEND_TEXT_TO_CHAT)
    yield f"opened {find_level(chance)}"
    yield f"opened {find_level(chance)} {turns} {most}"
    yield f"most {most} {turns}"
    yield f"said {min(said[situation.reply], 4)} {situation.reply}"
    yield f"held {find_level(held)}"
    yield f"beaten {find_level(beaten)}"
    yield f"held {find_level(held)} {find_level(beaten)}"
    yield f"session {min(len(situation.acts) // 8, 6)}"


def _list_words(situation: Situation) -> Iterator[str]:
    heard = situation.turns[-1].text if situation.turns else ""
    words = [token.word for token in find_tokens(heard)]
    yield from (f"word {word}" for word in dict.fromkeys(words))
    yield from (f"words {first} {second}" for first, second in dict.fromkeys(pairwise(words)))


def _list_fields(situation: Situation, chances: Sequence[Chances]) -> Iterator[str]:
    for name, own, other in chances:
        yield f"field {name} {find_level(own) // 2} {find_level(other) // 2}"
    for name, value in situation.fields.items():
        yield f"form {situation.procedure} {name} {bool(value)}"
