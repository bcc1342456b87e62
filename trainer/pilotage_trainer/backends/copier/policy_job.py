"""The policy Job: fit on the older sessions, look at the newer ones. After a rollback it hears as before; what is done
next is learned of sessions before and after, and what has changed of those after alone.

What was looked at is what is served: the newer sessions stay unseen, for a critic to learn from.
Not here: the command line (commands/), fitting itself (policy_training.py).
"""

from collections import Counter
from collections.abc import Sequence

import msgspec

from pilotage_core.actions import VALUE_TOOLS
from pilotage_core.record import SessionRecord
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import artefact_folder, write_artefact
from pilotage_trainer.backends.copier import find_maker
from pilotage_trainer.backends.copier.lessons import FORM, build_lessons
from pilotage_trainer.backends.copier.policy import Policy
from pilotage_trainer.backends.copier.policy_training import find_taken, fit_policy, refit_policy
from pilotage_trainer.backends.copier.served import POLICY_FILE, ServedPolicy, load_policy
from pilotage_trainer.backends.situation import read_points
from pilotage_trainer.config import JobConfig
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import closed_after, closed_by, human_points, split_by_time
from pilotage_trainer.window import Window, build_digests, require_sessions

CRITIC_SHARE = 0.25
"""After a rollback no feedback on the new policy is awaited: its critic learns from this share of fresh sessions."""


def run_policy(window: Window, config: JobConfig, start_from: str = "") -> JobResult:
    """Fit a policy on the window, held-out sessions left out. Raises EvidenceError where there is too little.

    After a rollback it goes on from revision `start_from`, where that is a copier: with its ears, by what it has not
    heard. Without one all of the window is learned from anew.
    """
    earlier = _find_earlier(window, start_from)
    since = earlier.policy.stored.heard_until if earlier is not None else ""
    read = window.read(config.rolling_window_sessions, since)
    records, held_out = window.hold_out(closed_after(read, since) if since else read)
    require_sessions(records, "to learn from")
    stale, fresh = _part_at(records, window.fresh_after)
    share = config.selection.policy_development_share
    kept, newer = split_by_time(fresh, max(share, CRITIC_SHARE) if window.fresh_after else share)
    older = [*stale, *kept]
    require_sessions(older, "to learn from beside the development sessions")
    lessons = [*build_lessons(stale), *build_lessons(kept, are_new=bool(window.fresh_after))]
    settings = config.copier.policy
    policy = refit_policy(earlier.policy, lessons, settings) if earlier is not None else fit_policy(lessons, settings)
    metrics = measure_policy(newer, policy)
    described = window.describe("policy", config, older, FORM, find_maker())
    if earlier is not None:
        begun = {"begun_with": earlier.manifest.digest, "trained_since": earlier.manifest.trained_since}
        described = msgspec.structs.replace(described, **begun)
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
            "stale_sessions": float(len(stale)),
            "development_sessions": float(len(newer)),
            "held_out_sessions": float(len(held_out)),
            **metrics,
        },
        held_out_after=newer[-1].closed_at if newer else manifest.trained_until,
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


def _part_at(
    records: Sequence[SessionRecord], rollback: str
) -> tuple[Sequence[SessionRecord], Sequence[SessionRecord]]:
    """Those up to the time of a `rollback`, and those after it; without one none, and all."""
    return (closed_by(records, rollback), closed_after(records, rollback)) if rollback else ((), records)


def _find_earlier(window: Window, start_from: str) -> ServedPolicy | None:
    """The policy of revision `start_from`; None where there is none that can be gone on from, which is told."""
    if not start_from:
        return None
    try:
        earlier = load_policy(artefact_folder(window.out, window.process_cluster, start_from, "policy"))
        if earlier.policy.stored.heard_until:
            return earlier
        reason = "it does not say what it has heard"
    except DamagedArtefactError as error:
        reason = str(error)
    tell(f"all is learned anew, and not from the policy of {start_from} on: {reason}")
    return None
