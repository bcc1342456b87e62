"""The evaluation Job: a revision's accuracy, and its critic's ranking, on sessions it has not seen.

Not here: certificates (calibration_job.py).
"""

import numpy as np

from pilotage_core.wire import JobResult
from pilotage_trainer.config import JobConfig
from pilotage_trainer.dataset import closed_after
from pilotage_trainer.evaluation import measure_accuracy, predict_sessions, stratified_auroc
from pilotage_trainer.held_out import number_names, require_unseen, score_sessions
from pilotage_trainer.models import load_critic, load_policy
from pilotage_trainer.scorers import InProcess
from pilotage_trainer.window import Window, build_digests, require_sessions


def run_evaluate(window: Window, config: JobConfig) -> JobResult:
    """Measure the revision's pair on the window's sessions that it has not learned from. Writes no artefact."""
    policy, critic = load_policy(window.folder("policy")), load_critic(window.folder("critic"))
    held_out_after = window.held_out_after or critic.manifest.trained_until
    require_unseen(held_out_after, policy.manifest, critic.manifest)
    records = closed_after(window.read(), held_out_after)
    require_sessions(records, "to evaluate on")
    accuracy = measure_accuracy(predict_sessions(records, policy.policy))
    labels = score_sessions(records, policy.manifest, InProcess(policy, critic), config, critic.card.rule)
    accepted = np.array([label.accepted for label in labels], dtype=np.bool_)
    scores = np.array([label.score for label in labels])
    strata = np.array(number_names([label.stratum for label in labels]), dtype=np.intp)
    by_tool = {f"accuracy:{tool}": hits / n for tool, (hits, n) in sorted(accuracy.by_tool.items())}
    return JobResult(
        phase="evaluate",
        revision=window.revision,
        passed=True,
        digests={"policy": policy.manifest.digest, "critic": critic.manifest.digest, **build_digests(policy.manifest)},
        metrics={
            "sessions": float(len(records)),
            **accuracy.metrics(),
            **by_tool,
            "labels": float(len(labels)),
            "accept_rate": float(accepted.mean()) if len(labels) else 0.0,
            "auroc": stratified_auroc(scores, accepted, strata),
        },
        held_out_after=held_out_after,
    )
