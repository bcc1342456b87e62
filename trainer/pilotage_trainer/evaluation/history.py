"""A history replayed: count models learn from its older part, and propose on the newer one.

Labels are conservative: anything but what the operator did counts as rejected. Not here: what a forecast makes of it
(`pilotage forecast`).
"""

from collections.abc import Sequence

import msgspec

from pilotage_core.actions import Action, ActionRules, classify_action
from pilotage_core.errors import EvidenceError
from pilotage_core.events import SessionOpened
from pilotage_core.record import SessionRecord
from pilotage_core.screen import Screen
from pilotage_core.state import is_identifier
from pilotage_trainer.backends.counts.examples import COUNTS_FORM, build_examples
from pilotage_trainer.backends.counts.policy import Policy
from pilotage_trainer.backends.counts.policy_training import fit_policy
from pilotage_trainer.backends.counts.schema import allowed_on
from pilotage_trainer.backends.situation import read_points
from pilotage_trainer.config import CountsPolicy
from pilotage_trainer.sessions.export import human_points, read_export, split_by_time
from pilotage_trainer.sessions.labels import is_same_step
from pilotage_trainer.sessions.steps import step_action

NEWER_SHARE = 0.3
MOST_LEARNED_FROM = 3000
ITERATIONS = 12
LEAST_SESSIONS = 50


class Replayed(msgspec.Struct, frozen=True):
    """One proposal that the model would have made, and whether it is what the operator did."""

    session_id: str
    operator: str
    stratum: str
    tool: str
    screen: str
    issue: str
    month: str
    score: float
    accepted: bool


class History(msgspec.Struct, frozen=True):
    """What was replayed: `replayed` are the proposals, at `points` at which a person acted in `replayed_sessions`."""

    process_clusters: tuple[str, ...]
    sessions: int
    learned_from: int
    replayed_sessions: int
    points: int
    replayed: tuple[Replayed, ...]


def replay_history(source: str, process_cluster: str, rules: ActionRules) -> History:
    """Learn from the older sessions of `source`, an export (sessions/sources.py), and propose on the newer ones.

    Raises EvidenceError for too few sessions, and what reading raises.
    """
    records = read_export(source, process_cluster)
    if len(records) < LEAST_SESSIONS:
        raise EvidenceError(
            f"{len(records)} closed sessions are too few for a forecast",
            where=source,
            remedy=f"at least {LEAST_SESSIONS} are needed",
        )
    older, newer = split_by_time(records, NEWER_SHARE)
    older = older[-MOST_LEARNED_FROM:]
    policy = fit_policy(build_examples(older), CountsPolicy(iterations=ITERATIONS))
    points, replayed = replay_sessions(newer, policy, rules)
    if not replayed:
        raise EvidenceError("the model would not have proposed anything", where=source, remedy="give more sessions")
    return History(
        process_clusters=tuple(sorted({record.process_cluster for record in records})),
        sessions=len(records),
        learned_from=len(older),
        replayed_sessions=len(newer),
        points=points,
        replayed=tuple(replayed),
    )


def replay_sessions(records: Sequence[SessionRecord], policy: Policy, rules: ActionRules) -> tuple[int, list[Replayed]]:
    """How often a person acted in `records`, and each proposal that `policy` would have made there."""
    points = 0
    found = []
    for record, issue in zip(records, name_issues(records), strict=True):
        for point, situation in read_points(human_points(record, COUNTS_FORM)):
            points += 1
            screen = point.state.screen
            prediction = policy.predict(situation)
            step = prediction.proposed(allowed_on(rules, screen))
            if not step:
                continue
            action = step_action(step)
            found.append(
                Replayed(
                    session_id=record.session_id,
                    operator=point.operator,
                    stratum=_find_stratum(rules, action, screen),
                    tool=action.tool,
                    screen=screen.name,
                    issue=issue,
                    month=point.at[:7],
                    score=prediction.mixed[step],
                    accepted=is_same_step(action, point.taken),
                )
            )
    return points, found


def name_issues(records: Sequence[SessionRecord]) -> list[str]:
    """Each session's metadata in one line: ids are left out, and what is the same in all of them."""
    opened = [next((e.data for e in record.events if isinstance(e.data, SessionOpened)), None) for record in records]
    metadata = [{k: v for k, v in one.metadata.items() if not is_identifier(k)} if one else {} for one in opened]
    values: dict[str, set[str]] = {}
    for one in metadata:
        for key, value in one.items():
            values.setdefault(key, set()).add(value)
    keys = sorted(key for key, found in values.items() if len(found) > 1)
    return [" ".join(f"{key}={one[key]}" for key in keys if key in one) or "all" for one in metadata]


def _find_stratum(rules: ActionRules, action: Action, screen: Screen) -> str:
    """The stratum of `action` as if its screen were one that a schema knows: a history comes without schemas.

    What no rule names stands together as "procedure", since people have not said yet which of it is critical.
    """
    known = msgspec.structs.replace(screen, recognised=True, fault="")
    return classify_action(rules, action, known).stratum or "procedure"
