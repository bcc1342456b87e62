"""What an arm's policy or score says on sessions, and the figures of it. Not here: comparing arms (noise.py)."""

from collections.abc import Sequence

import msgspec

from pilotage_core.actions import classify_action
from pilotage_core.dialog import DialogFormat
from pilotage_core.proposal import build_action_schema
from pilotage_core.record import SessionRecord
from pilotage_core.walk import Point, walk_session
from pilotage_trainer.backends.transformers.asking.inference import PolicyModel, Proposal
from pilotage_trainer.backends.transformers.asking.readable import propose_readable
from pilotage_trainer.backends.transformers.critic.data import CriticExample
from pilotage_trainer.backends.transformers.critic.fit import find_coverage, measure_auroc
from pilotage_trainer.config import JobConfig
from pilotage_trainer.evaluation.points import read_proposal, was_rejected
from pilotage_trainer.measures.accuracy import judge_verdicts
from pilotage_trainer.measures.ranking import auroc, count_at_precision, expected_calibration_error
from pilotage_trainer.sessions.labels import is_same_step
from pilotage_trainer.sessions.steps import OPERATOR_ONLY, TYPE, name_step, tool_of


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """At one point, or on one label: is it `right`, with what `score`. `stratum` is that of a critical proposal, or "".

    `fits`: what is proposed is what was done (a policy that is right to propose nothing fits nothing).
    `unread`: the prompt was too long for the model.
    """

    session: int
    right: bool
    score: float
    stratum: str
    fits: bool = False
    tool: bool = False
    overridden: bool = False
    unread: bool = False


def ask_policy(
    policy: PolicyModel, records: Sequence[SessionRecord], form: DialogFormat, config: JobConfig
) -> list[Answer]:
    """The answer of `policy` at every point of `records` at which a person acted, asked in dialogs of `form`."""
    answers: list[Answer] = []
    for number, record in enumerate(records):
        points = [point for point in walk_session(record, form) if point.operator]
        asks = [(point.prompt, build_action_schema(config.rules, point.state.screen)) for point in points]
        for point, reply in zip(points, propose_readable(policy, asks), strict=True):
            answers.append(_judge(number, point, reply, config) if reply else _leave(number, point))
    return answers


def _leave(number: int, point: Point) -> Answer:
    """What is too long is not asked, and so not right."""
    return Answer(number, False, 0.0, "", overridden=was_rejected(point), unread=True)


def _judge(number: int, point: Point, reply: Proposal, config: JobConfig) -> Answer:
    action, _ = read_proposal(reply.reply, point.state.screen)
    step = name_step(point.taken)
    said = name_step(action) if action else step if step in OPERATOR_ONLY else TYPE
    kind = classify_action(config.rules, action, point.state.screen) if action else None
    return Answer(
        session=number,
        right=said == step,
        score=reply.confidence,
        stratum=kind.stratum if kind is not None and kind.critical else "",
        fits=action is not None and is_same_step(action, point.taken),
        tool=tool_of(said) == tool_of(step),
        overridden=was_rejected(point),
    )


def count_covered(answers: Sequence[Answer], config: JobConfig) -> tuple[int, int]:
    """Right critical proposals that a τ on confidence lets through at the target, and all critical proposals."""
    critical = [each for each in answers if each.stratum]
    covered = sum(
        count_at_precision(
            [(each.score, each.fits) for each in critical if each.stratum == wanted.name],
            wanted.target or config.precision_target,
        )
        for wanted in config.strata
    )
    return covered, len(critical)


def measure_policy(answers: Sequence[Answer], config: JobConfig) -> dict[str, float]:
    """A policy's figures on its answers."""
    covered, critical = count_covered(answers, config)
    overridden = [each.right for each in answers if each.overridden]
    figures = {
        "action_accuracy": _share([each.right for each in answers]),
        "tool_accuracy": _share([each.tool for each in answers]),
        "coverage_at_target": covered / max(critical, 1),
        "critical_proposals": float(critical),
        "points": float(len(answers)),
        "points_too_long": float(sum(each.unread for each in answers)),
    }
    if overridden:
        figures |= {"rejection_set_accuracy": _share(overridden), "rejection_set_points": float(len(overridden))}
    return figures


def answer_labels(labels: Sequence[CriticExample], scores: Sequence[float]) -> list[Answer]:
    """Each of `labels` with its score."""
    return [
        Answer(each.session, each.accepted, score, each.stratum) for each, score in zip(labels, scores, strict=True)
    ]


def measure_score(labels: Sequence[CriticExample], scores: Sequence[float], target: float) -> dict[str, float]:
    """The figures of `scores` on `labels`; verdicts accept from 0.5 on."""
    accepted = [each.accepted for each in labels]
    verdicts = judge_verdicts(scores, accepted)
    return {
        "auroc": measure_auroc(labels, scores),
        "auroc_of_all": auroc(scores, accepted) or 0.5,
        "f1_macro": verdicts.macro[2],
        "f1_weighted": verdicts.weighted[2],
        "precision_accept": verdicts.accept[0],
        "recall_accept": verdicts.accept[1],
        "precision_reject": verdicts.reject[0],
        "recall_reject": verdicts.reject[1],
        "calibration_error": expected_calibration_error(scores, accepted),
        "coverage_at_target": find_coverage(labels, scores, target),
        "labels": float(len(labels)),
        "accepted": _share(accepted),
    }


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / max(len(hits), 1)
