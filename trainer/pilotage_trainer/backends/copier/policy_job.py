"""The policy Job: fit on the older sessions, look at the newer ones.

What was looked at is what is served: the newer sessions stay unseen, for a critic to learn from.
Not here: the command line (commands/), fitting itself (policy_training.py).
"""

from collections import Counter
from collections.abc import Sequence

from pilotage_core.actions import VALUE_TOOLS
from pilotage_core.record import SessionRecord
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import write_artefact
from pilotage_trainer.backends.copier import find_maker
from pilotage_trainer.backends.copier.lessons import FORM, build_lessons
from pilotage_trainer.backends.copier.policy import Policy
from pilotage_trainer.backends.copier.policy_training import find_taken, fit_policy
from pilotage_trainer.backends.copier.served import POLICY_FILE
from pilotage_trainer.backends.situation import read_points
from pilotage_trainer.config import JobConfig
from pilotage_trainer.sessions.export import closed_after, human_points, split_by_time
from pilotage_trainer.window import LEAST_SESSIONS, Window, build_digests, require_sessions


def run_policy(window: Window, config: JobConfig) -> JobResult:
    """Fit a policy on the window, held-out sessions left out. Raises EvidenceError where there is too little."""
    records, held_out = window.hold_out(window.read(config.rolling_window_sessions))
    require_sessions(records, "to learn from")
    chosen = _choose_sessions(records, window.fresh_after)
    older, newer = split_by_time(chosen, config.selection.policy_development_share)
    require_sessions(older, "to learn from beside the development sessions")
    policy = fit_policy(build_lessons(older), config.copier.policy)
    metrics = measure_policy(newer, policy)
    described = window.describe("policy", config, older, FORM, find_maker())
    manifest = write_artefact(window.folder("policy"), described, {POLICY_FILE: policy.encode()})
    reached = metrics["action_accuracy"]
    passed = reached >= config.min_action_accuracy
    return JobResult(
        phase="policy",
        revision=window.revision,
        passed=passed,
        reason=f"action accuracy {reached:.3f} {'reaches' if passed else 'is below'} {config.min_action_accuracy:g} "
        f"on {len(newer)} development sessions",
        digests={"policy": manifest.digest, **build_digests(manifest)},
        metrics={
            "sessions": float(len(older)),
            "development_sessions": float(len(newer)),
            "held_out_sessions": float(len(held_out)),
            **metrics,
        },
        held_out_after=manifest.trained_until,
        dialog=manifest.dialog,
    )


def measure_policy(records: Sequence[SessionRecord], policy: Policy) -> dict[str, float]:
    """How often the likeliest action is the one taken, value and all; of values alone; how often it can be at all."""
    hits: Counter[bool] = Counter()
    points: Counter[bool] = Counter()
    tools = known = 0
    for record in records:
        for point, situation in read_points(human_points(record, FORM)):
            prediction = policy.predict(situation)
            candidates = prediction.moment.candidates
            taken, best = find_taken(prediction.moment, point.taken), candidates[prediction.best].action
            is_value = point.taken.tool in VALUE_TOOLS
            points[is_value] += 1
            hits[is_value] += prediction.best == taken and best is not None
            tools += best is not None and best.tool is point.taken.tool
            known += candidates[taken].action is not None
    total = max(points.total(), 1)
    return {
        "points": float(points.total()),
        "tool_accuracy": tools / total,
        "action_accuracy": hits.total() / total,
        "value_accuracy": hits[True] / max(points[True], 1),
        "proposable_share": known / total,
    }


def _choose_sessions(records: Sequence[SessionRecord], fresh_after: str) -> list[SessionRecord]:
    """All of `records`; after a rollback only the fresh ones, where they are enough to learn from."""
    fresh = closed_after(records, fresh_after) if fresh_after else []
    return fresh if len(fresh) >= 10 * LEAST_SESSIONS else list(records)
