"""Fitting a copier's critic on labels, and finding out whether it is better than the policy's own confidence.

Labels are of sessions that the policy has not learned from. Not here: where labels come from (sessions/labels.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from pilotage_core.actions import Action, ActionRules, classify_action
from pilotage_core.certificate import ScoreSource
from pilotage_core.proposal import visible_controls
from pilotage_core.record import SessionRecord
from pilotage_core.screen import Screen
from pilotage_trainer.backends.copier.critic import Critic, StoredCritic, find_judged
from pilotage_trainer.backends.copier.fitting import fit_verdicts
from pilotage_trainer.backends.copier.lessons import FORM
from pilotage_trainer.backends.copier.policy import Policy
from pilotage_trainer.backends.copier.ranking import BUCKETS, Places
from pilotage_trainer.backends.situation import Situation, read_points
from pilotage_trainer.backends.verdicts import compare_with_confidence, require_verdicts
from pilotage_trainer.config import CopierCritic, Selection
from pilotage_trainer.measures.comparison import Comparison
from pilotage_trainer.sessions.labels import Moment, list_moments


@dataclass(frozen=True)
class Judged:
    """One label with what the critic may look at. `session` groups labels; it is never looked at."""

    session: int
    stratum: str
    accepted: bool
    weight: float
    live: bool
    confidence: float
    places: Places


def judge_sessions(
    records: Sequence[SessionRecord], policy: Policy, policy_digest: str, rules: ActionRules
) -> list[Judged]:
    """Labels of critical proposals in `records`: live ones, else replayed."""
    judged = []
    for number, record in enumerate(records):
        for moment, situation in read_points(list_moments(record, policy_digest, FORM)):
            label = _judge_moment(number, moment, situation, policy, rules)
            if label is not None:
                judged.append(label)
    return judged


def _judge_moment(
    number: int, moment: Moment, situation: Situation, policy: Policy, rules: ActionRules
) -> Judged | None:
    """The label of what was, or would be, proposed in `moment`; None where that is nothing or not critical."""
    prediction = policy.predict(situation)
    if moment.proposed is not None:
        action, place = moment.proposed, prediction.find(moment.proposed)
    else:
        place = prediction.best
        best = prediction.moment.candidates[place].action
        if best is None or not _is_offered(best, rules, moment.screen):
            return None
        action = best
    kind = classify_action(rules, action, moment.screen)
    if place is None or not kind.critical:
        return None
    return Judged(
        session=number,
        stratum=kind.stratum,
        accepted=moment.judge(action),
        weight=moment.weight,
        live=moment.is_live,
        confidence=float(prediction.shares[place]),
        places=find_judged(situation, prediction, place, policy),
    )


def _is_offered(action: Action, rules: ActionRules, screen: Screen) -> bool:
    offered = visible_controls(rules, screen)
    return action.tool in offered and (not action.control_id or action.control_id in offered[action.tool])


def fit_critic(
    policy: Policy,
    labels: Sequence[Judged],
    settings: CopierCritic = CopierCritic(),
    selection: Selection = Selection(),
) -> Critic:
    """Fit to `labels`. Raises EvidenceError for too few, OneClassError where all were accepted or none."""
    require_verdicts(labels, selection)
    weights, intercept = fit_verdicts(
        [each.places for each in labels],
        np.array([each.accepted for each in labels]),
        np.array([each.weight for each in labels]),
        BUCKETS,
        strength=settings.strength,
        iterations=settings.iterations,
    )
    return Critic(policy, StoredCritic(ScoreSource.CRITIC, intercept), weights.astype("<f4").tobytes())


def fit_better(
    policy: Policy,
    labels: Sequence[Judged],
    settings: CopierCritic = CopierCritic(),
    selection: Selection = Selection(),
) -> tuple[Critic, Comparison]:
    """A critic on all `labels` where it beats confidence on the newest of them; else one that answers confidence."""
    comparison = compare_with_confidence(
        labels,
        lambda older: fit_critic(policy, older, settings, selection),
        lambda critic, each: critic.weigh(each.places),
        selection,
    )
    critic = fit_critic(policy, labels, settings, selection)
    if comparison.share_better >= selection.certainty:
        return critic, comparison
    stored = msgspec.structs.replace(critic.stored, source=ScoreSource.CONFIDENCE)
    return Critic(policy, stored, critic.weights.tobytes()), comparison
