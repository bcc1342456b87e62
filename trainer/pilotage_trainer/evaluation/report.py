"""The evaluation of a policy, its critic and a zero-shot baseline on sessions: everything a page or a reader needs.

Not here: asking (points.py), measures (measures/), the page (page.py).
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from pilotage_core.actions import Action, Tool
from pilotage_core.record import SessionRecord, read_labels
from pilotage_trainer.backends.interface import Reply
from pilotage_trainer.evaluation.points import CriticLabel, JudgedPoint
from pilotage_trainer.measures.accuracy import Verdicts, judge_verdicts, likeness, macro_f1, weighted_f1
from pilotage_trainer.measures.ranking import (
    ECE_BINS,
    area_under_risk,
    auroc,
    coverage_at_precision,
    expected_calibration_error,
    risk_coverage,
)
from pilotage_trainer.measures.slices import SliceShare, estimate_shares, keep_largest
from pilotage_trainer.sessions.labels import is_same_step

LIKENESS = 0.8
"""Texts at least this alike count as the same, where likeness and not equality is asked for."""
THRESHOLD = 0.5
"""Scores from here on are a critic's accept."""
PRECISIONS = (0.8, 0.9, 0.95)
CURVE_POINTS = 200
SLICES_SHOWN = 15
CONFIDENCES: Mapping[str, Callable[[Reply], float]] = {
    "served": lambda reply: reply.confidence,
    "mean token probability": lambda reply: reply.mean,
    "least token probability": lambda reply: reply.least,
    "whole sequence": lambda reply: reply.whole,
}


class Accuracies(msgspec.Struct, frozen=True):
    """Shares of `n` points. A proposal of nothing is a miss.

    `tool`: the tool is right. `argument`: tool right, of those also control and value (and free text). `action`: all
    of it is right, strictly; a template counts by the template. `action_alike`: the same, but typed values and free
    texts count from a Levenshtein likeness on. `proposed`: something was proposed. `invalid`: the reply was no action.
    """

    n: int
    tool: float
    argument: float
    action: float
    action_alike: float
    proposed: float
    invalid: float


class Curve(msgspec.Struct, frozen=True):
    """Precision against coverage, at most CURVE_POINTS, with its summary."""

    coverage: tuple[float, ...]
    precision: tuple[float, ...]
    area_under_risk: float
    coverage_at: dict[str, float]


class ScoreReport(msgspec.Struct, frozen=True):
    """How well one score tells accepted labels from others. AUROC is None where there is one class only."""

    n: int
    accept_rate: float
    auroc: float | None
    ece: float
    verdicts: Verdicts
    curve: Curve


class Acceptance(msgspec.Struct, frozen=True):
    """What operators said to live proposals of one tool by one revision."""

    tool: str
    revision: str
    n: int
    accepted: float


class EvaluationReport(msgspec.Struct, frozen=True):
    """All of it. `scores` are the critic and, beside it, the policy's confidences, on the same labels."""

    policy: str
    backend: str
    critic: str
    sessions: int
    overall: Accuracies
    tool_f1_weighted: float
    tool_f1_macro: float
    by_tool: dict[str, Accuracies]
    by_source: dict[str, Accuracies]
    rejection_set: Accuracies
    confidence_curves: dict[str, Curve]
    scores: dict[str, ScoreReport]
    live_labels: int
    acceptance: tuple[Acceptance, ...]
    slices: dict[str, tuple[SliceShare, ...]]
    zero_shot: dict[str, Accuracies]
    likeness_threshold: float
    verdict_threshold: float = THRESHOLD
    ece_bins: int = ECE_BINS


def build_report(
    records: Sequence[SessionRecord],
    judged: Sequence[JudgedPoint],
    labels: Sequence[CriticLabel],
    *,
    policy: str,
    backend: str,
    critic: str = "",
    zero_shot: Mapping[str, Sequence[JudgedPoint]] | None = None,
    alike: float = LIKENESS,
) -> EvaluationReport:
    """Measure what a policy proposed at each point (`judged`) and what its critic said to the `labels`.

    `zero_shot` are points judged by other askers, by name: give the policy's own at the same points beside them.
    """
    said = [one.proposed.tool if one.proposed else "nothing" for one in judged]
    done = [one.taken.tool for one in judged]
    return EvaluationReport(
        policy=policy,
        backend=backend,
        critic=critic,
        sessions=len(records),
        overall=measure(judged, alike),
        tool_f1_weighted=weighted_f1(done, said),
        tool_f1_macro=macro_f1(done, said),
        by_tool=_split(judged, lambda one: one.taken.tool.value, alike),
        by_source=_split(judged, lambda one: one.source, alike),
        rejection_set=measure([one for one in judged if one.rejected], alike),
        confidence_curves=_confidence_curves(judged),
        scores=_score_reports(labels) if critic else {},
        live_labels=sum(label.live for label in labels),
        acceptance=count_acceptance(records),
        slices=_slice(judged),
        zero_shot={name: measure(points, alike) for name, points in (zero_shot or {}).items()},
        likeness_threshold=alike,
    )


def is_right(proposed: Action | None, taken: Action) -> bool:
    """Whether a proposal is what was done, strictly; of a template only which one it is."""
    return proposed is not None and proposed.control_id == taken.control_id and is_same_step(proposed, taken)


def is_alike(proposed: Action | None, taken: Action, threshold: float) -> bool:
    """Whether a proposal is what was done, typed values and free texts being alike enough."""
    if proposed is None or (proposed.tool, proposed.control_id) != (taken.tool, taken.control_id):
        return False
    if proposed.tool is Tool.SEND_TEXT_TO_CHAT:
        return bool(taken.control_id) or likeness(proposed.text, taken.text) >= threshold
    return likeness(proposed.value, taken.value) >= threshold


def measure(judged: Sequence[JudgedPoint], alike: float) -> Accuracies:
    """Accuracies over `judged`; zeros for none."""
    n = len(judged)
    tool = sum(one.proposed is not None and one.proposed.tool is one.taken.tool for one in judged)
    right = sum(is_right(one.proposed, one.taken) for one in judged)
    close = sum(is_right(one.proposed, one.taken) or is_alike(one.proposed, one.taken, alike) for one in judged)
    proposed = sum(one.proposed is not None for one in judged)
    invalid = sum(one.invalid for one in judged)
    shares = [count / max(n, 1) for count in (tool, right, close, proposed, invalid)]
    return Accuracies(n, shares[0], right / max(tool, 1), *shares[1:])


def _split(judged: Sequence[JudgedPoint], key: Callable[[JudgedPoint], str], alike: float) -> dict[str, Accuracies]:
    parts: dict[str, list[JudgedPoint]] = {}
    for one in judged:
        parts.setdefault(key(one), []).append(one)
    return {name: measure(part, alike) for name, part in sorted(parts.items(), key=lambda item: -len(item[1]))}


def _confidence_curves(judged: Sequence[JudgedPoint]) -> dict[str, Curve]:
    """Of proposals made; a count model's confidences are one and the same, and told once."""
    made = [one for one in judged if one.proposed is not None]
    right = [is_right(one.proposed, one.taken) for one in made]
    curves: dict[str, Curve] = {}
    for name, read in CONFIDENCES.items():
        curve = build_curve([read(one.reply) for one in made], right)
        if curve not in curves.values():
            curves[name] = curve
    return curves


def build_curve(scores: Sequence[float], right: Sequence[bool]) -> Curve:
    """Risk and coverage of `scores`, thinned."""
    curve = risk_coverage(scores, right)
    total = len(curve.coverage)
    shown = np.unique(np.linspace(0, max(total - 1, 0), min(total, CURVE_POINTS)).astype(np.intp))
    return Curve(
        tuple(curve.coverage[shown].tolist()),
        tuple(curve.precision[shown].tolist()),
        area_under_risk(scores, right),
        {f"{target:g}": coverage_at_precision(scores, right, target) for target in PRECISIONS},
    )


def _score_reports(labels: Sequence[CriticLabel]) -> dict[str, ScoreReport]:
    accepted = [label.accepted for label in labels]
    baselines: dict[str, ScoreReport] = {}
    for name, read in CONFIDENCES.items():
        one = score_report([read(label.reply) for label in labels], accepted)
        if one not in baselines.values():
            baselines[f"confidence: {name}"] = one
    critic = score_report([label.critic for label in labels], accepted)
    score = score_report([label.score for label in labels], accepted)
    return {"critic": critic, **({} if score == critic else {"score": score}), **baselines}


def score_report(scores: Sequence[float], accepted: Sequence[bool]) -> ScoreReport:
    """How well `scores` tell `accepted`."""
    return ScoreReport(
        n=len(scores),
        accept_rate=sum(accepted) / max(len(accepted), 1),
        auroc=auroc(scores, accepted),
        ece=expected_calibration_error(scores, accepted),
        verdicts=judge_verdicts(scores, accepted, THRESHOLD),
        curve=build_curve(scores, accepted),
    )


def count_acceptance(records: Sequence[SessionRecord]) -> tuple[Acceptance, ...]:
    """Acceptance of live proposals by tool and revision."""
    counts: dict[tuple[str, str], list[bool]] = {}
    for record in records:
        for label in read_labels(record):
            counts.setdefault((label.tool, label.pair), []).append(label.accepted)
    return tuple(
        Acceptance(tool, revision, len(verdicts), sum(verdicts) / len(verdicts))
        for (tool, revision), verdicts in sorted(counts.items())
    )


def _slice(judged: Sequence[JudgedPoint]) -> dict[str, tuple[SliceShare, ...]]:
    """Strict action accuracy by operator, issue type and time."""
    right, sessions = [is_right(one.proposed, one.taken) for one in judged], [one.session_id for one in judged]
    days = {one.at[:10] for one in judged}
    time = [one.at[:10] if len(days) <= SLICES_SHOWN else one.at[:7] for one in judged]
    kinds = {
        "operator": [one.operator for one in judged],
        "issue type": [one.issue for one in judged],
        "time": time,
    }
    return {
        kind: tuple(estimate_shares(right, keep_largest(names, SLICES_SHOWN), sessions))
        for kind, names in kinds.items()
    }
