"""`pilotage-train evaluate --policy DIR --export …`: reads sessions, asks the models, and has it all measured."""

from collections.abc import Iterator, Sequence

import numpy as np

from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.record import SessionRecord
from pilotage_core.walk import walk_session
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.interface import Ask, Reply
from pilotage_trainer.backends.open import find_artefact, open_critic, open_policy
from pilotage_trainer.config import read_config
from pilotage_trainer.evaluation.points import Asker, JudgedPoint, PolicyAsker, judge_points, score_labels
from pilotage_trainer.evaluation.report import EvaluationReport, build_report
from pilotage_trainer.evaluation.request import SessionsRequest
from pilotage_trainer.evaluation.zero_shot import ZeroShot
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import closed_after, closed_by, read_export, read_time, require_times
from pilotage_trainer.sessions.sources import is_gateway


def run_evaluation(request: SessionsRequest) -> EvaluationReport:
    """Measure what `request` names. Raises InvalidInputError, EvidenceError, UnavailableError."""
    if bool(request.zero_shot) != bool(request.model):
        raise InvalidInputError("go together", where="--zero-shot and --model")
    if request.zero_shot and not is_gateway(request.zero_shot):
        raise InvalidInputError(f"{request.zero_shot!r} is no http address", where="--zero-shot")
    require_times(since=request.since, until=request.until, held_out_after=request.held_out_after)
    rules = read_config(request.config).rules
    policy = open_policy(find_artefact(request.policy, "policy"))
    critic = open_critic(find_artefact(request.critic, "critic")) if request.critic else None
    records = read_export(request.export, request.process_cluster, request.since, request.until)
    if request.held_out_after:
        records = closed_after(records, request.held_out_after)
    form = policy.manifest.dialog
    points = sum(1 for record in records for _ in walk_session(record, form))
    if not points:
        raise EvidenceError("nothing was done in its closed sessions", where=request.export)
    _tell_seen(records, [policy.manifest, critic.manifest] if critic else [policy.manifest])
    chosen = choose_evenly(points, request.sample)
    general: Sequence[JudgedPoint] = ()
    if request.zero_shot:  # first: whether an endpoint answers is known at once
        asker = Sampled(ZeroShot(request.zero_shot, request.model), frozenset(chosen))
        general = judge_points(records, asker, rules, form)
    judged = judge_points(records, PolicyAsker(policy), rules, form)
    compared: dict[str, Sequence[JudgedPoint]] = {}
    if general:
        compared = {request.model: [general[i] for i in chosen], "this policy": [judged[i] for i in chosen]}
    return build_report(
        records,
        judged,
        score_labels(records, policy, critic, rules) if critic else (),
        policy=policy.manifest.digest,
        backend=policy.manifest.backend,
        critic=critic.manifest.digest if critic else "",
        zero_shot=compared,
        alike=request.likeness,
    )


def _tell_seen(records: Sequence[SessionRecord], made: Sequence[Manifest]) -> None:
    last = max((each.trained_until for each in made if each.trained_until), key=read_time, default="")
    own = [record for record in records if record.process_cluster == made[0].process_cluster]
    if last and (seen := len(closed_by(own, last))):
        tell(
            f"{seen} of {len(records)} sessions closed by {last}, until when it learned: "
            "figures flatter it (--held-out-after leaves them out)"
        )


def choose_evenly(n: int, most: int) -> list[int]:
    """At most `most` of n places, evenly spread."""
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(n, max(most, 1))).astype(np.intp))]


class Sampled:
    """An asker that is asked at some places only; elsewhere it proposes nothing."""

    def __init__(self, asker: Asker, places: frozenset[int]) -> None:
        self._asker = asker
        self._places = places

    def ask(self, asks: Sequence[Ask]) -> list[Reply]:
        """The reply at each chosen place."""
        replies = iter(self._asker.ask([ask for i, ask in enumerate(asks) if i in self._places]))
        return [next(replies) if i in self._places else Reply('{"tool":""}') for i in range(len(asks))]


def describe(report: EvaluationReport) -> Iterator[str]:
    """The main figures in lines."""
    rows = {"all": report.overall, "rejection set": report.rejection_set, **report.by_source, **report.by_tool}
    rows |= {f"zero-shot: {name}": one for name, one in report.zero_shot.items()}
    width = max(map(len, rows)) + 2
    yield f"{'':<{width}}{'points':>8}{'tool':>8}{'args':>8}{'strict':>8}{'alike':>8}"
    for name, one in rows.items():
        yield (
            f"{name:<{width}}{one.n:>8,}{one.tool:>8.3f}{one.argument:>8.3f}{one.action:>8.3f}{one.action_alike:>8.3f}"
        )
    for name, score in report.scores.items():
        ranks = "–" if score.auroc is None else f"{score.auroc:.3f}"
        yield (
            f"{name}: AUROC {ranks}, ECE {score.ece:.3f}, F1 macro {score.verdicts.macro[2]:.3f}, "
            f"weighted {score.verdicts.weighted[2]:.3f}, {score.n:,} labels"
        )
