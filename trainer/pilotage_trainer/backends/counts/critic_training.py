"""Fitting a critic on labels, and finding out whether it is better than the policy's own confidence.

Labels of sessions that the policy learned from come from cross-fitting: each session is judged with a policy that was
fitted without it. Acceptance rates are cross-fitted too. Not here: where labels come from (labels.py).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from pilotage_core.actions import ActionRules, classify_action
from pilotage_core.certificate import ScoreSource
from pilotage_core.record import SessionRecord
from pilotage_trainer.backends.counts.critic import (
    Critic,
    StoredCritic,
    build_judgement,
    build_rate_contexts,
    build_rate_traits,
)
from pilotage_trainer.backends.counts.examples import COUNTS_FORM, build_examples
from pilotage_trainer.backends.counts.policy import Policy
from pilotage_trainer.backends.counts.policy_training import Lessons, build_sparse
from pilotage_trainer.backends.counts.schema import allowed_on
from pilotage_trainer.backends.logistic import fit_logistic
from pilotage_trainer.backends.rates import Rates
from pilotage_trainer.backends.situation import Situation, read_points
from pilotage_trainer.backends.verdicts import compare_with_confidence, require_verdicts
from pilotage_trainer.config import CountsCritic, CountsPolicy, Selection
from pilotage_trainer.measures.comparison import Comparison
from pilotage_trainer.sessions.labels import Moment, list_moments
from pilotage_trainer.sessions.steps import name_step, step_action

MOST_ITERATIONS = 1000
TOLERANCE = 1e-4


@dataclass(frozen=True)
class JudgedProposal:
    """One label with what the critic may look at. `session` groups labels; it is never a trait."""

    session: int
    stratum: str
    accepted: bool
    weight: float
    live: bool
    confidence: float
    traits: dict[str, float]
    rate_contexts: tuple[str, ...]


def judge_sessions(
    records: Sequence[SessionRecord], policy: Policy, policy_digest: str, rules: ActionRules, first: int = 0
) -> list[JudgedProposal]:
    """Labels of critical proposals in `records`, sessions numbered from `first`: live ones, else replayed."""
    (judged,) = judge_by_each(records, (policy,), policy_digest, rules, first)
    return judged


def judge_by_each(
    records: Sequence[SessionRecord], policies: Sequence[Policy], policy_digest: str, rules: ActionRules, first: int = 0
) -> list[list[JudgedProposal]]:
    """What `judge_sessions` gives for each of `policies`, the sessions read once."""
    judged: list[list[JudgedProposal]] = [[] for _ in policies]
    for number, record in enumerate(records, first):
        for moment, situation in read_points(list_moments(record, policy_digest, COUNTS_FORM)):
            for policy, labels in zip(policies, judged, strict=True):
                label = _judge_moment(number, moment, situation, policy, rules)
                if label is not None:
                    labels.append(label)
    return judged


def judge_crossfitted(
    records: Sequence[SessionRecord], rules: ActionRules, settings: CountsCritic, policy_settings: CountsPolicy
) -> list[JudgedProposal]:
    """Labels of sessions that the policy learned from: each judged with a policy fitted on the other folds."""
    lessons = Lessons(build_examples(records))
    judged: list[JudgedProposal] = []
    for fold in range(settings.folds):
        without = lessons.fit(lessons.sessions % settings.folds != fold, policy_settings)
        for number in range(fold, len(records), settings.folds):
            judged += judge_sessions([records[number]], without, "", rules, first=number)
    return sorted(judged, key=lambda each: each.session)


def fit_critic(
    policy: Policy,
    labels: Sequence[JudgedProposal],
    settings: CountsCritic = CountsCritic(),
    selection: Selection = Selection(),
) -> Critic:
    """Fit to `labels`. Raises EvidenceError for too few, OneClassError where all were accepted or none."""
    require_verdicts(labels, selection)
    accepted = [each.accepted for each in labels]
    rows = _with_crossfitted_rates(labels, settings.folds)
    seen = Counter(name for row in rows for name in row)
    names = sorted(name for name, n in seen.items() if n >= settings.rarest)
    fitted = fit_logistic(
        build_sparse(rows, names).astype(np.float64),
        np.array(accepted, dtype=np.intp),
        strength=settings.strength
        / 2.0,  # two classes share what is one weight here: each has half, its square a quarter
        iterations=MOST_ITERATIONS,
        tolerance=TOLERANCE,
        importance=np.array([each.weight for each in labels]),
    )
    told = (fitted.weights[:, 1] - fitted.weights[:, 0]).tolist()
    intercept = float(fitted.intercepts[1] - fitted.intercepts[0])
    weights = dict(zip(names, told, strict=True))
    return Critic(policy, StoredCritic(ScoreSource.CRITIC, intercept, weights, count_rates(labels)))


def fit_better(
    policy: Policy,
    labels: Sequence[JudgedProposal],
    settings: CountsCritic = CountsCritic(),
    selection: Selection = Selection(),
) -> tuple[Critic, Comparison]:
    """A critic on all `labels` where it beats confidence on the newest of them; else one that answers confidence."""
    comparison = compare_with_confidence(
        labels, lambda older: fit_critic(policy, older, settings, selection), score_judged, selection
    )
    critic = fit_critic(policy, labels, settings, selection)
    if comparison.share_better >= selection.certainty:
        return critic, comparison
    stored = msgspec.structs.replace(critic.stored, source=ScoreSource.CONFIDENCE)
    return Critic(policy, stored), comparison


def score_judged(critic: Critic, judged: JudgedProposal) -> float:
    """The critic's P(accept) for a label whose traits are known already."""
    rates = critic.stored.rates.of(judged.rate_contexts)
    return critic.weigh(judged.traits | build_rate_traits(rates))


def count_rates(labels: Iterable[JudgedProposal]) -> Rates:
    """Accepted and all labels (weighted) by context."""
    tables: list[dict[str, tuple[float, float]]] = []
    for each in labels:
        while len(tables) < len(each.rate_contexts):
            tables.append({})
        for table, context in zip(tables, each.rate_contexts, strict=True):
            accepted, n = table.get(context, (0.0, 0.0))
            table[context] = (accepted + each.weight * each.accepted, n + each.weight)
    return Rates(tuple(tables))


def _judge_moment(
    number: int, moment: Moment, situation: Situation, policy: Policy, rules: ActionRules
) -> JudgedProposal | None:
    """The label of what was, or would be, proposed in `moment`; None where that is nothing or not critical."""
    if moment.proposed is not None:
        action = moment.proposed
        prediction = policy.predict(situation, frozenset({name_step(action)}))
    else:
        allowed = allowed_on(rules, moment.screen)
        prediction = policy.predict(situation, allowed)
        proposed = prediction.proposed(allowed)
        if not proposed:
            return None
        action = step_action(proposed)
    kind = classify_action(rules, action, moment.screen)
    if not kind.critical:
        return None
    step = name_step(action)
    accepted = moment.judge(action)
    return JudgedProposal(
        session=number,
        stratum=kind.stratum,
        accepted=accepted,
        weight=moment.weight,
        live=moment.is_live,
        confidence=prediction.mixed[step],
        traits=build_judgement(situation, step, prediction),
        rate_contexts=build_rate_contexts(situation, step),
    )


def _with_crossfitted_rates(labels: Sequence[JudgedProposal], folds: int) -> list[dict[str, float]]:
    rates = [count_rates(each for each in labels if each.session % folds != fold) for fold in range(folds)]
    return [each.traits | build_rate_traits(rates[each.session % folds].of(each.rate_contexts)) for each in labels]
