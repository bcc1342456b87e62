"""Labels: what operators said to a policy's own proposals, and replay where they said nothing to it.

A session in which this very policy proposed gives live labels only; any other is replayed: at each point where a person
acted, the policy is asked, and anything but what the person did counts as rejected. Not here: scores
(certify/scorers.py).
"""

from collections.abc import Iterator, Mapping

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_core.dialog import DialogFormat
from pilotage_core.events import Grade, OutcomeReported
from pilotage_core.record import Label, SessionRecord, read_labels
from pilotage_core.screen import Screen
from pilotage_core.walk import SessionWalk
from pilotage_trainer.sessions.export import human_points
from pilotage_trainer.sessions.steps import name_step

GRADE_WEIGHTS: dict[Grade | None, float] = {Grade.ACCEPTABLE: 0.25, Grade.MINOR_EDITS: 0.5}
"""What a rejection counts in training, by grade; 1 where it is not named here."""
HEAVIEST = 10.0
"""Cap of 1 / propensity, so that one rare look does not outweigh everything."""


class Moment(msgspec.Struct, frozen=True):
    """A state in which a proposal can be judged.

    `proposed` is the live proposal, made with `confidence`, or None: then the policy has to be asked, and `taken` is
    what the person did.
    `accepted` is the live verdict. `weight` is what a rejection counts in training, `propensity` the look's, `day` that
    on which the session ended. `spoils`: the live verdict is a rejection for something that a session does not recover
    from.
    """

    session_id: str
    prompt: str
    screen: Screen
    operator: str
    proposed: Action | None = None
    confidence: float | None = None
    taken: Action | None = None
    accepted: bool = False
    weight: float = 1.0
    propensity: float = 1.0
    day: str = ""
    spoils: bool = False

    @property
    def is_live(self) -> bool:
        """Whether the verdict was given to the policy's own proposal."""
        return self.proposed is not None

    def judge(self, action: Action) -> bool:
        """The label of `action`: the live verdict, or whether it is what the person did."""
        return self.accepted if self.is_live or self.taken is None else is_same_step(action, self.taken)


def is_same_step(proposed: Action, taken: Action) -> bool:
    """Whether a replayed proposal is what the person did: tool, control and value; a template's text may differ."""
    if proposed.tool is Tool.SEND_TEXT_TO_CHAT and not proposed.control_id:
        return proposed == taken
    return name_step(proposed) == name_step(taken) and proposed.value == taken.value


def list_moments(
    record: SessionRecord,
    policy_digest: str,
    form: DialogFormat,
    grades: Mapping[Grade | None, float] = GRADE_WEIGHTS,
) -> list[Moment]:
    """The moments of `record` in which the policy of `policy_digest` can be judged; rejections weigh by `grades`.

    `form` is that policy's: its prompts are written so.
    """
    if any(p.policy_digest == policy_digest for p in record.proposals):
        return list(_live_moments(record, policy_digest, form, grades))
    return [
        Moment(
            point.session_id, point.prompt, point.state.screen, point.operator, taken=point.taken, day=find_day(record)
        )
        for point in human_points(record, form)
    ]


def _live_moments(
    record: SessionRecord, policy_digest: str, form: DialogFormat, grades: Mapping[Grade | None, float]
) -> Iterator[Moment]:
    verdicts: dict[str, Label] = {label.proposal_id: label for label in read_labels(record)}  # a later review wins
    wanted = {p.at_version: p for p in record.proposals if p.policy_digest == policy_digest}
    actions = {p.proposal_id: p.action for p in record.proposals}
    walk = SessionWalk(form)
    for event in record.events:
        proposal = wanted.get(walk.state.version)
        label = verdicts.get(proposal.proposal_id) if proposal else None
        if proposal is not None and label is not None:
            yield Moment(
                session_id=record.session_id,
                prompt=walk.dialog.prompt(),
                screen=walk.state.screen,
                operator=label.operator,
                proposed=proposal.action,
                confidence=proposal.confidence,
                accepted=label.accepted,
                weight=_weigh(label, grades),
                propensity=label.propensity,
                day=find_day(record),
                spoils=is_spoiling(label),
            )
        ordered = actions.get(event.data.proposal_id) if isinstance(event.data, OutcomeReported) else None
        walk.step_recorded(record, event, ordered)


def is_spoiling(label: Label) -> bool:
    """Whether a session in which nobody had looked would have gone wrong for it, as far as its grade tells."""
    return not label.accepted and label.grade not in GRADE_WEIGHTS


def find_day(record: SessionRecord) -> str:
    """The day on which a session ended, as its own clock has it: labels of one day have much in common."""
    return record.closed_at[: len("2026-01-31")]


def _weigh(label: Label, grades: Mapping[Grade | None, float]) -> float:
    graded = 1.0 if label.accepted else grades.get(label.grade, 1.0)
    return graded * min(1.0 / label.propensity, HEAVIEST)
