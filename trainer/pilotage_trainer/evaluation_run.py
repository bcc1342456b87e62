"""`pilotage-train evaluate --policy DIR --export …`: reads sessions, asks the models, and has it all measured."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_trainer.artefact import MANIFEST
from pilotage_trainer.backend import Ask
from pilotage_trainer.config import read_config
from pilotage_trainer.dataset import closed_after, read_export
from pilotage_trainer.evaluation_command import SessionsRequest
from pilotage_trainer.evaluation_report import EvaluationReport, build_report
from pilotage_trainer.evaluation_sessions import Asker, Judged, PolicyAsker, Reply, judge_points, score_labels
from pilotage_trainer.models import open_critic, open_policy
from pilotage_trainer.zero_shot import ZeroShot


def run_evaluation(request: SessionsRequest) -> EvaluationReport:
    """Measure what `request` names. Raises InvalidInputError, EvidenceError, UnavailableError."""
    if bool(request.zero_shot) != bool(request.model):
        raise InvalidInputError("go together", where="--zero-shot and --model")
    rules = read_config(request.config).rules
    policy = open_policy(find_artefact(request.policy, "policy"))
    critic = open_critic(find_artefact(request.critic, "critic")) if request.critic else None
    records = read_export(request.export, request.process_cluster, request.since, request.until)
    if request.held_out_after:
        records = closed_after(records, request.held_out_after)
    judged = judge_points(records, PolicyAsker(policy), rules, policy.manifest.dialog)
    if not judged:
        raise EvidenceError("nothing was done in its closed sessions", where=request.export)
    compared: dict[str, Sequence[Judged]] = {}
    if request.zero_shot:
        chosen = choose_evenly(len(judged), request.sample)
        asker = Sampled(ZeroShot(request.zero_shot, request.model), frozenset(chosen))
        general = judge_points(records, asker, rules, policy.manifest.dialog)
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


def find_artefact(folder: Path, kind: str) -> Path:
    """`folder`, or the `kind` in it where it is a revision's."""
    return folder / kind if not (folder / MANIFEST).exists() and (folder / kind / MANIFEST).exists() else folder


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
