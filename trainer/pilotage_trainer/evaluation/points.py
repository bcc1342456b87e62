"""From sessions to what is measured: each point with what was done and what a policy of any backend proposes there.

Also the labels a critic is judged on. Not here: measures (measures/), the report (report.py).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from pilotage_core.actions import Action, ActionRules, classify_action
from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import InvalidActionError
from pilotage_core.events import SessionOpened
from pilotage_core.proposal import build_action_schema, read_reply
from pilotage_core.record import SessionRecord
from pilotage_core.score import find_score
from pilotage_core.screen import Screen
from pilotage_core.state import is_identifier
from pilotage_core.walk import Point, walk_session
from pilotage_trainer.backends.interface import AnyCritic, AnyPolicy, Ask, Reply, build_query
from pilotage_trainer.sessions.labels import list_moments

LOGS, COPILOT, AUTOMATED = "logs", "copilot", "automated"


class Asker(Protocol):
    """Anything that answers prompts with actions."""

    def ask(self, asks: Sequence[Ask]) -> list[Reply]:
        """The reply to each prompt under its schema."""
        ...


class PolicyAsker:
    """A policy of any backend."""

    def __init__(self, policy: AnyPolicy) -> None:
        self.policy = policy

    def ask(self, asks: Sequence[Ask]) -> list[Reply]:
        """The reply to each prompt under its schema."""
        return self.policy.reply_many(asks)


class JudgedPoint(msgspec.Struct, frozen=True):
    """One point: what was done (`taken`), what was proposed (None: nothing), and where it stands.

    `source` is logs, copilot or automated; `rejected` says that the operator did `taken` instead of a live proposal.
    """

    session_id: str
    operator: str
    issue: str
    at: str
    source: str
    rejected: bool
    taken: Action
    proposed: Action | None
    reply: Reply
    invalid: bool = False


def judge_points(
    records: Iterable[SessionRecord], asker: Asker, rules: ActionRules, form: DialogFormat
) -> list[JudgedPoint]:
    """Every point of `records` at which something was done, with the reply of `asker`, asked in dialogs of `form`."""
    points = [(record, point) for record in records for point in walk_session(record, form)]
    replies = asker.ask([(point.prompt, build_action_schema(rules, point.state.screen)) for _, point in points])
    issues: dict[str, str] = {}
    found = []
    for (record, point), reply in zip(points, replies, strict=True):
        if record.session_id not in issues:
            issues[record.session_id] = name_issue(record)
        proposed, invalid = read_proposal(reply.text, point.state.screen)
        found.append(
            JudgedPoint(
                session_id=point.session_id,
                operator=point.operator or "nobody",
                issue=issues[record.session_id],
                at=point.at,
                source=name_source(point),
                rejected=was_rejected(point),
                taken=point.taken,
                proposed=proposed,
                reply=reply,
                invalid=invalid,
            )
        )
    return found


def read_proposal(text: str, screen: Screen) -> tuple[Action | None, bool]:
    """The action of a reply (None: nothing is proposed), and whether the reply is none at all."""
    try:
        return read_reply(text, screen), False
    except (InvalidActionError, AttributeError):
        return None, True


def name_source(point: Point) -> str:
    """Which traffic a point is of: unassisted logs, an assisted operator, or an action that ran unattended."""
    if not point.operator:
        return AUTOMATED
    return LOGS if point.proposal is None else COPILOT


def was_rejected(point: Point) -> bool:
    """Whether an operator saw a proposal here and did something else."""
    return bool(point.operator) and point.proposal is not None and point.proposal.action != point.taken


def name_issue(record: SessionRecord) -> str:
    """The session's metadata in one line, ids left out."""
    opened = next((e.data for e in record.events if isinstance(e.data, SessionOpened)), None)
    metadata: dict[str, Any] = dict(opened.metadata) if opened else {}
    return " ".join(f"{k}={v}" for k, v in sorted(metadata.items()) if not is_identifier(k)) or "none"


# --- labels of a critic -----------------------------------------------------------------------------------------------
class CriticLabel(msgspec.Struct, frozen=True):
    """One label of a critical action: the critic's answer, the policy's confidences, and whether it was accepted.

    `score` is what the critic's rule makes of them.
    """

    session_id: str
    stratum: str
    tool: str
    critic: float
    score: float
    reply: Reply
    accepted: bool
    live: bool


def score_labels(
    records: Iterable[SessionRecord], policy: AnyPolicy, critic: AnyCritic, rules: ActionRules
) -> list[CriticLabel]:
    """Labels of critical actions: live feedback to this policy, else its replay; as calibration takes them."""
    made = policy.manifest
    moments = [m for record in records for m in list_moments(record, made.digest, made.dialog)]
    replies = PolicyAsker(policy).ask([(m.prompt, build_action_schema(rules, m.screen)) for m in moments])
    critical = []
    for moment, reply in zip(moments, replies, strict=True):
        action = moment.proposed or read_proposal(reply.text, moment.screen)[0]
        if action is not None and (kind := classify_action(rules, action, moment.screen)).critical:
            critical.append((moment, action, kind.stratum, reply))
    answers = critic.score_many([build_query(moment.prompt, action) for moment, action, _, _ in critical])
    found = []
    for (m, action, stratum, reply), answer in zip(critical, answers, strict=True):
        score = find_score(critic.card.rule, answer, m.confidence if m.is_live else reply.confidence) or 0.0
        found.append(CriticLabel(m.session_id, stratum, action.tool, answer, score, reply, m.judge(action), m.is_live))
    return found
