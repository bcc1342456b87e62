"""The critic Job: labels for the revision's policy, a critic on them, and whether it beats the policy's confidence.

Not here: the command line (commands/), fitting itself (critic_training.py).
"""

from collections.abc import Sequence

import msgspec

from pilotage_core.certificate import ScoreSource
from pilotage_core.record import SessionRecord
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import write_artefact
from pilotage_trainer.backends.counts import find_maker
from pilotage_trainer.backends.counts.critic_training import (
    JudgedProposal,
    fit_better,
    judge_crossfitted,
    judge_sessions,
)
from pilotage_trainer.backends.counts.served import POLICY_FILE, ServedPolicy, load_policy
from pilotage_trainer.backends.interface import CRITIC_FILE
from pilotage_trainer.backends.verdicts import explain_comparison
from pilotage_trainer.config import JobConfig
from pilotage_trainer.sessions.export import closed_after, closed_by
from pilotage_trainer.window import LEAST_SESSIONS, Window, build_digests


def run_critic(window: Window, config: JobConfig) -> JobResult:
    """Fit a critic for the revision's policy on sessions that are not held out.

    Raises EvidenceError where there is too little, DamagedArtefactError where the policy cannot be loaded.
    """
    served = load_policy(window.folder("policy"))
    window.require_own(served.manifest)
    records = window.read(since=served.manifest.trained_since)
    known = closed_by(records, served.manifest.trained_until)
    newer, held_out = window.hold_out(closed_after(records, served.manifest.trained_until))
    labels = _collect_labels(known, newer, served, config)
    critic, compared = fit_better(served.policy, labels, config.counts.critic, config.selection)
    described = window.describe(
        "critic", config, known + newer, served.manifest.dialog, find_maker(), policy=served.manifest
    )
    files = {CRITIC_FILE: msgspec.json.encode(critic.stored), POLICY_FILE: served.policy.encode()}
    manifest = write_artefact(window.folder("critic"), described, files)
    return JobResult(
        phase="critic",
        revision=window.revision,
        passed=True,
        reason=explain_comparison(critic.stored.source, compared),
        digests={"critic": manifest.digest, "policy": manifest.policy, **build_digests(manifest)},
        metrics={
            "sessions": float(len(known) + len(newer)),
            "held_out_sessions": float(len(held_out)),
            "labels": float(len(labels)),
            "live_labels": float(sum(label.live for label in labels)),
            "accept_rate": sum(label.accepted for label in labels) / len(labels),
            "auroc": compared.auroc,
            "confidence_auroc": compared.confidence_auroc,
            "share_better": compared.share_better,
            "beats_confidence": float(critic.stored.source is ScoreSource.CRITIC),
        },
        held_out_after=manifest.trained_until,
    )


def _collect_labels(
    known: Sequence[SessionRecord], newer: Sequence[SessionRecord], served: ServedPolicy, config: JobConfig
) -> list[JudgedProposal]:
    """Cross-fitted labels of sessions the policy learned from, and its own of those it did not."""
    labels: list[JudgedProposal] = []
    if len(known) >= LEAST_SESSIONS * config.counts.critic.folds:
        labels = judge_crossfitted(known, config.rules, config.counts.critic, config.counts.policy)
    return labels + judge_sessions(newer, served.policy, served.manifest.digest, config.rules, first=len(known))
