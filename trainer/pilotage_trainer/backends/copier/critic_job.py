"""The critic Job: labels for the revision's policy, a critic on them, and whether it beats the policy's confidence.

Not here: the command line (commands/), fitting itself (critic_training.py).
"""

import msgspec

from pilotage_core.certificate import ScoreSource
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import write_artefact
from pilotage_trainer.backends.copier import find_maker
from pilotage_trainer.backends.copier.critic_training import fit_better, judge_sessions
from pilotage_trainer.backends.copier.served import POLICY_FILE, WEIGHTS_FILE, load_policy
from pilotage_trainer.backends.interface import CRITIC_FILE
from pilotage_trainer.backends.verdicts import explain_comparison
from pilotage_trainer.config import JobConfig
from pilotage_trainer.sessions.export import closed_after
from pilotage_trainer.window import Window, build_digests


def run_critic(window: Window, config: JobConfig) -> JobResult:
    """Fit a critic for the revision's policy on sessions that it has not learned from and that are not held out.

    Raises EvidenceError where there is too little, DamagedArtefactError where the policy cannot be loaded.
    """
    served = load_policy(window.folder("policy"))
    window.require_own(served.manifest)
    until = served.manifest.trained_until
    newer, held_out = window.hold_out(closed_after(window.read(since=until), until))
    labels = judge_sessions(newer, served.policy, served.manifest.digest, config.rules)
    critic, compared = fit_better(served.policy, labels, config.copier.critic, config.selection)
    described = window.describe("critic", config, newer, served.manifest.dialog, find_maker(), policy=served.manifest)
    files = {
        CRITIC_FILE: msgspec.json.encode(critic.stored),
        WEIGHTS_FILE: critic.weights.astype("<f4").tobytes(),
        POLICY_FILE: served.policy.encode(),
    }
    manifest = write_artefact(window.folder("critic"), described, files)
    source = critic.stored.source
    return JobResult(
        phase="critic",
        revision=window.revision,
        passed=True,
        reason=explain_comparison(source, compared),
        digests={"critic": manifest.digest, "policy": manifest.policy, **build_digests(manifest)},
        metrics={
            "sessions": float(len(newer)),
            "held_out_sessions": float(len(held_out)),
            "labels": float(len(labels)),
            "live_labels": float(sum(label.live for label in labels)),
            "accept_rate": sum(label.accepted for label in labels) / len(labels),
            "auroc": compared.auroc,
            "confidence_auroc": compared.confidence_auroc,
            "share_better": compared.share_better,
            "beats_confidence": float(source is ScoreSource.CRITIC),
        },
        held_out_after=manifest.trained_until,
    )
