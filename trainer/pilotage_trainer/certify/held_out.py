"""Held-out labels with the served model's scores, and what can be certified on them.

In: held-out sessions, a scorer, the process cluster's rules. Out: scored labels by stratum, results, certificates.
Not here: reading and splitting sessions, artefacts (job.py), the test itself (pilotage_core.calibration).
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from pilotage_core.actions import Action, classify_action
from pilotage_core.calibration import CalibrationReason, TauResult, build_certificate, calibrate
from pilotage_core.certificate import Certificate, EvidenceDigests, LabelsFrom, ScoreSource
from pilotage_core.errors import InvalidActionError, InvalidInputError
from pilotage_core.proposal import build_action_schema, read_reply
from pilotage_core.record import SessionRecord
from pilotage_core.score import ScoreRule, find_score, format_score
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.interface import build_query
from pilotage_trainer.certify.scorers import Scorer
from pilotage_trainer.config import JobConfig
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import read_time
from pilotage_trainer.sessions.labels import Moment, list_moments

CURVE_POINTS = 300
ANY = "*"
NEVER = 1e-9
"""The propensity of what is never looked at: nothing is certified of it."""


class ScoredLabel(msgspec.Struct, frozen=True):
    """One held-out label of a critical action. `spoils`: a session in which nobody had looked would have gone wrong."""

    session_id: str
    operator: str
    stratum: str
    control: str
    score: float
    accepted: bool
    live: bool
    propensity: float
    day: str = ""
    spoils: bool = False


def score_sessions(
    records: Sequence[SessionRecord], policy: Manifest, scorer: Scorer, config: JobConfig, rule: ScoreRule
) -> list[ScoredLabel]:
    """Every label of a critical action in `records`: live feedback to `policy`, else its replay. Scored by `rule`."""
    moments = [moment for record in records for moment in list_moments(record, policy.digest, policy.dialog)]
    critical = []
    for moment, (action, confidence) in zip(moments, _find_actions(moments, scorer, config), strict=True):
        if action is not None:
            kind = classify_action(config.rules, action, moment.screen)
            if kind.critical:
                critical.append((moment, action, kind.stratum, confidence))
    queries = [build_query(moment.prompt, action) for moment, action, *_ in critical]
    answers: Sequence[float | None] = scorer.score_all(queries) if rule.critic else [None] * len(queries)
    return [
        ScoredLabel(
            session_id=moment.session_id,
            operator=moment.operator,
            stratum=stratum,
            control=action.control_id or action.tool.value,
            score=find_score(rule, answer, confidence) or 0.0,  # none is below every τ, as the gate has it
            accepted=moment.judge(action),
            live=moment.is_live,
            propensity=moment.propensity,
            day=moment.day,
            spoils=moment.spoils if moment.is_live else not moment.judge(action),
        )
        for (moment, action, stratum, confidence), answer in zip(critical, answers, strict=True)
    ]


def _find_actions(
    moments: Sequence[Moment], scorer: Scorer, config: JobConfig
) -> list[tuple[Action | None, float | None]]:
    """What was proposed in each moment, and how surely; where nothing is recorded, what the policy proposes now."""
    asked = [moment for moment in moments if not moment.is_live]
    replies = scorer.propose_all([(m.prompt, build_action_schema(config.rules, m.screen)) for m in asked])
    replayed: list[tuple[Action | None, float | None]] = []
    unreadable = 0
    for moment, (reply, confidence) in zip(asked, replies, strict=True):
        try:
            replayed.append((read_reply(reply, moment.screen), confidence))
        except InvalidActionError:  # cut off in a free text: a gateway proposes nothing then
            replayed.append((None, None))
            unreadable += 1
    if unreadable:
        tell(f"{unreadable} of {len(replies)} replies are no action: skipped")
    known = iter(replayed)
    return [(moment.proposed, moment.confidence) if moment.is_live else next(known) for moment in moments]


def require_unseen(held_out_after: str, policy: Manifest, critic: Manifest) -> None:
    """Refuse to judge a pair on sessions it has learned from, or one that is none.

    Raises InvalidInputError for the first, DamagedArtefactError for the second.
    """
    if critic.policy != policy.digest:
        raise DamagedArtefactError(
            f"judges policy {critic.policy}, not {policy.digest}",
            where=f"critic {critic.digest}",
            remedy="run the critic Job again",
        )
    if read_time(held_out_after) < read_time(critic.trained_until):
        raise InvalidInputError(
            f"sessions until {critic.trained_until} were learned from",
            where=f"--held-out-after {held_out_after}",
            remedy="hold out later ones",
        )


def find_least_propensities(records: Sequence[SessionRecord], policy_digest: str) -> dict[str, float]:
    """The smallest chance of a look that any proposal of `policy_digest` had in each stratum, labelled or not.

    What was looked at so seldom may have left no label, and still counts among what runs. Strata are as they were
    recorded; the least of all is under ANY, for strata that have another name by today's rules.
    """
    least: dict[str, float] = {}
    for record in records:
        for proposal in record.proposals:
            if proposal.policy_digest == policy_digest:
                for stratum in (proposal.stratum, ANY):
                    least[stratum] = min(max(proposal.propensity, NEVER), least.get(stratum, 1.0))
    return least


def calibrate_strata(
    labels: Sequence[ScoredLabel],
    config: JobConfig,
    least_propensities: Mapping[str, float],
    least_tau: float = 0.0,
) -> dict[str, TauResult]:
    """What each configured stratum comes to, delta shared evenly among them, with labels or without.

    τ is the laxest that is certified from `least_tau` on (joint.py).

    A label that is nobody's (an audit that nobody answered) counts as one more operator's.
    """
    results = {}
    for wanted in config.strata:
        here = [label for label in labels if label.stratum == wanted.name]
        known = [bool(label.operator) for label in here]
        results[wanted.name] = calibrate(
            [label.score for label in here],
            [label.accepted for label in here],
            number_names([label.operator for label in here]),
            number_names([label.session_id for label in here]),
            target=wanted.target or config.precision_target,
            delta=config.delta / len(config.strata),
            propensities=[label.propensity for label in here],
            known=None if all(known) else known,
            least_propensity=least_propensities.get(wanted.name, least_propensities.get(ANY, 1.0)),
            days=number_names([label.day for label in here]),
            least_tau=least_tau,
        )
    return results


def build_certificates(
    results: Mapping[str, TauResult],
    labels: Sequence[ScoredLabel],
    *,
    process_cluster: str,
    score_from: ScoreSource,
    digests: EvidenceDigests,
    issued_at: str,
) -> tuple[Certificate, ...]:
    """A certificate for each stratum that has a τ."""
    per_session = Counter(label.session_id for label in labels)
    return tuple(
        build_certificate(
            result,
            process_cluster=process_cluster,
            stratum=stratum,
            labels_from=find_origin([label for label in labels if label.stratum == stratum]),
            score_from=score_from,
            digests=digests,
            median_session_actions=statistics.median(per_session.values()),
            issued_at=issued_at,
        )
        for stratum, result in results.items()
        if result.tau is not None
    )


def find_origin(labels: Sequence[ScoredLabel]) -> LabelsFrom:
    """Where `labels` come from."""
    if all(label.live for label in labels):
        return "live"
    return "both" if any(label.live for label in labels) else "replay"


def explain_results(results: Mapping[str, TauResult], score_from: ScoreSource) -> str:
    """In plain words, what was certified and why the rest was not, and what the score is."""
    told = []
    for stratum, r in results.items():
        if r.tau is not None:
            told.append(
                f"{stratum}: certified {r.target:g} at {format_score(r.tau)}, coverage {r.coverage:.2f} of {r.n} labels"
            )
        else:
            at = f", {r.errors} wrong of the best {r.selected}" if r.selected else f", {r.needed} needed"
            if r.reason is CalibrationReason.OPERATORS_UNKNOWN:
                at = f", {r.operators} operators named: say whose the labels are"
            told.append(f"{stratum}: {r.reason} with {r.n} labels{at}")
    told.append(f"the score is the {score_from.words}")
    return "; ".join(told)


class CurvePoint(msgspec.Struct, frozen=True):
    """Precision among labels that score at least `tau`, and the share of labels that do (`n` of them)."""

    tau: float
    coverage: float
    precision: float
    n: float


class Curve(msgspec.Struct, frozen=True):
    """Risk and coverage of one stratum. `tau` is None where nothing was certified.

    `scores`, `accepted` and `live` are the labels themselves, highest score first.
    """

    points: tuple[CurvePoint, ...]
    tau: float | None
    target: float
    scores: tuple[float, ...]
    accepted: tuple[bool, ...]
    live: tuple[bool, ...]


def build_curve(labels: Sequence[ScoredLabel], result: TauResult | None, target: float) -> Curve:
    """The risk–coverage curve of one stratum's `labels`: a point for each distinct score, at most CURVE_POINTS."""
    ranked = sorted(labels, key=lambda label: -label.score)
    points: list[CurvePoint] = []
    right = 0
    for n, label in enumerate(ranked, 1):
        right += label.accepted
        if n == len(ranked) or ranked[n].score != label.score:
            points.append(CurvePoint(label.score, n / len(ranked), right / n, n))
    thinned = points[:: math.ceil(len(points) / CURVE_POINTS)] if points else []
    if points and thinned[-1] != points[-1]:
        thinned.append(points[-1])
    return Curve(
        points=tuple(thinned),
        tau=result.tau if result else None,
        target=target,
        scores=tuple(label.score for label in ranked),
        accepted=tuple(label.accepted for label in ranked),
        live=tuple(label.live for label in ranked),
    )


def number_names(names: Sequence[str]) -> list[int]:
    """Names as numbers, equal for equal ones."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]
