"""The policy Job: choose sessions, fit on the older ones, look at the newer ones, fit on all.

Not here: the command line (commands/), fitting itself (policy_training.py).
"""

from collections.abc import Sequence

from pilotage_core.record import SessionRecord
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import write_artefact
from pilotage_trainer.backends.counts import find_maker
from pilotage_trainer.backends.counts.critic_training import JudgedProposal, judge_by_each
from pilotage_trainer.backends.counts.examples import COUNTS_FORM, build_examples, measure_accuracy, predict_sessions
from pilotage_trainer.backends.counts.policy_training import Lessons, choose_share
from pilotage_trainer.backends.counts.served import POLICY_FILE
from pilotage_trainer.config import JobConfig
from pilotage_trainer.measures.ranking import count_at_precision
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import closed_after, closed_by, split_by_time
from pilotage_trainer.window import LEAST_SESSIONS, Window, build_digests, require_sessions


def run_policy(window: Window, config: JobConfig) -> JobResult:
    """Fit a policy on the window, held-out sessions left out. Raises EvidenceError where there is too little."""
    records, held_out = window.hold_out(window.read(config.rolling_window_sessions))
    require_sessions(records, "to learn from")
    lessons = Lessons(build_examples(records))
    chosen = _choose_sessions(records, lessons, window.fresh_after, config)
    first = len(records) - len(chosen)  # those chosen are the newest, and lessons number all
    older, newer = split_by_time(chosen, config.selection.policy_development_share)
    require_sessions(older, "to learn from beside the development sessions")
    is_chosen = lessons.sessions >= first
    before = lessons.fit(is_chosen & (lessons.sessions < first + len(older)), config.counts.policy)
    trial = predict_sessions(newer, before)
    share = choose_share(trial)
    metrics = measure_accuracy([(prediction.remix(share), step) for prediction, step in trial]).metrics()
    policy = lessons.fit(is_chosen, config.counts.policy, share)
    described = window.describe("policy", config, chosen, COUNTS_FORM, find_maker())
    manifest = write_artefact(window.folder("policy"), described, {POLICY_FILE: policy.encode()})
    reached = metrics["action_accuracy"]
    passed = reached >= config.min_action_accuracy
    stale = len(closed_by(chosen, window.fresh_after)) if window.fresh_after else 0
    return JobResult(
        phase="policy",
        revision=window.revision,
        passed=passed,
        reason=f"action accuracy {reached:.3f} {'reaches' if passed else 'is below'} {config.min_action_accuracy:g} "
        f"on {len(newer)} development sessions",
        digests={"policy": manifest.digest, **build_digests(manifest)},
        metrics={
            "sessions": float(len(chosen)),
            "development_sessions": float(len(newer)),
            "held_out_sessions": float(len(held_out)),
            "sessions_before_rollback": float(stale),
            "traits_share": share,
            **metrics,
        },
        held_out_after=manifest.trained_until,
        dialog=manifest.dialog,
    )


def _choose_sessions(
    records: Sequence[SessionRecord], lessons: Lessons, fresh_after: str, config: JobConfig
) -> list[SessionRecord]:
    """All of `records`; or, after a rollback, only the fresh ones, unless older ones help with the fresh ones.

    Decided by risk and coverage on the fresh sessions that may be learned from, each judged by policies fitted without
    it. Held-out sessions are not among `records`. `lessons` are those of all `records`.
    """
    if not fresh_after:
        return list(records)
    fresh = closed_after(records, fresh_after)
    stale = len(records) - len(fresh)
    if len(fresh) < LEAST_SESSIONS * config.counts.critic.folds or not stale:
        tell(f"{len(fresh)} fresh sessions are too few to learn from alone: older ones are used too")
        return list(records)
    alone, both = (_count_within_target(labels, config) for labels in _judge_fresh(records, stale, lessons, config))
    tell(f"right at the target precision on {len(fresh)} fresh sessions: {alone} learned from them, {both} from all")
    return list(records) if both > alone else fresh


def _judge_fresh(
    records: Sequence[SessionRecord], stale: int, lessons: Lessons, config: JobConfig
) -> tuple[list[JudgedProposal], list[JudgedProposal]]:
    """Labels of the sessions after the first `stale`: by policies that learned from their other folds, and from all.

    "All" are the other folds and the stale ones. `lessons` are those of `records`.
    """
    folds = config.counts.critic.folds
    place = lessons.sessions - stale
    alone: list[JudgedProposal] = []
    both: list[JudgedProposal] = []
    for fold in range(folds):
        others = (place >= 0) & (place % folds != fold)
        policies = [lessons.fit(which, config.counts.policy) for which in (others, others | (place < 0))]
        for labels, judged in zip(
            (alone, both), judge_by_each(records[stale + fold :: folds], policies, "", config.rules), strict=True
        ):
            labels += judged
    return alone, both


def _count_within_target(labels: Sequence[JudgedProposal], config: JobConfig) -> int:
    """How many right actions a τ on confidence would let through at the target precision, strata taken together."""
    return sum(
        count_at_precision(
            [(label.confidence, label.accepted) for label in labels if label.stratum == wanted.name],
            wanted.target or config.precision_target,
        )
        for wanted in config.strata
    )
