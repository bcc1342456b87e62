"""From a recorded session to tokens: one sequence a session, loss on the operator's actions and on nothing else.

The text is the dialog a served policy reads (pilotage_core.dialog), so a session is one growing text, and a new
segment begins only where the dialog was trimmed. Not here: which sessions (dataset.py), how they share a row
(packing.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from transformers import PreTrainedTokenizerFast

from pilotage_core.actions import Action
from pilotage_core.dialog import ACTION_MARK, DEFAULT_FORMAT, DialogFormat, encode_action
from pilotage_core.events import ActionTaken, Author, Event, FeedbackGiven, Outcome, OutcomeReported, Verdict
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.state import State
from pilotage_core.walk import SessionWalk, is_decision_point
from pilotage_trainer.neural.tokenizer import NOTHING

IGNORED = -100
"""The label of a token that carries no loss."""


class Target(StrEnum):
    """What a policy is to say where an operator acted."""

    ACTION = "action"  # that action
    NOTHING = "nothing"  # that it has nothing to propose: the operator did what a policy may not
    SILENT = ""  # no loss: nobody's judgement, or not the first action of an event


class Source(StrEnum):
    """Where an action comes from."""

    LOGS = "logs"  # an operator, unassisted
    COPILOT = "copilot"  # an operator, assisted: an accepted proposal, or what was done instead
    AUTOMATED = "automated"  # ran unattended: nobody's judgement


class Span(msgspec.Struct, frozen=True):
    """One action in a segment's text: characters [start, end) hold its JSON."""

    start: int
    end: int
    target: Target
    tool: str
    screen: str
    operator: str
    at: str
    source: Source = Source.LOGS
    rejected: bool = False
    """Whether the operator did this instead of a proposal."""


class Segment(msgspec.Struct, frozen=True):
    """A session's dialog from one trim to the next. `trimmed_chars` are those dropped before it began."""

    session_id: str
    text: str
    spans: tuple[Span, ...]
    trimmed_chars: int = 0


class Sequence(msgspec.Struct, frozen=True):
    """A segment as tokens. `labels[i]` is what is to be predicted in place of `input_ids[i]`, or IGNORED."""

    session_id: str
    input_ids: list[int]
    labels: list[int]


def is_proposable(action: Action) -> bool:
    """Whether a small model may propose `action`: nothing whose value or text it would have to invent."""
    return not action.value and bool(action.control_id or not action.text)


@dataclass
class _Open:
    """The segment being written."""

    begins: int = 0
    spans: list[Span] = field(default_factory=list)
    trimmed: int = 0


def build_segments(
    record: SessionRecord,
    form: DialogFormat = DEFAULT_FORMAT,
    may_propose: Callable[[Action], bool] = is_proposable,
) -> Iterator[Segment]:
    """The dialog of `record` with every action in it; more than one segment where it was trimmed."""
    proposals = {p.proposal_id: p for p in record.proposals}
    by_version = {p.at_version: p for p in record.proposals}
    accepted = {
        e.data.proposal_id: e.data.operator
        for e in record.events
        if isinstance(e.data, FeedbackGiven) and e.data.verdict is Verdict.ACCEPT
    }
    walk, opened = SessionWalk(form), _Open()
    for event in record.events:
        ordered = _ordered(event, proposals)
        actions = event.data.actions if isinstance(event.data, ActionTaken) else (ordered,) if ordered else ()
        before, written = walk.state, sum(len(line) + 1 for line in walk.dialog.lines)
        text, trims = "\n".join(walk.dialog.lines), len(walk.dialog.trims)
        proposal = by_version.get(before.version) or by_version.get(before.version - 1)
        walk.step(event, ordered)
        for number, action in enumerate(actions):
            start = written + len(ACTION_MARK)
            end = start + len(encode_action(action, form))
            written = end + 1
            operator = event.data.operator if isinstance(event.data, ActionTaken) else _accepter(event, accepted)
            target = _decide_target(number, action, operator, before, may_propose)
            source = Source.LOGS if proposal is None else Source.COPILOT if operator else Source.AUTOMATED
            rejected = isinstance(event.data, ActionTaken) and proposal is not None and not proposal.executed
            opened.spans.append(
                Span(start, end, target, action.tool, before.screen.name, operator, event.at, source, rejected)
            )
        if len(walk.dialog.trims) > trims:
            # What this event added stands in the new segment too, as context; its actions carry loss in the old one.
            added = "".join(f"\n{ACTION_MARK}{encode_action(a, form)}" for a in actions)
            yield Segment(record.session_id, text + added, tuple(opened.spans), opened.trimmed)
            opened = _Open(trimmed=sum(t.chars for t in walk.dialog.trims))
    if opened.spans:
        yield Segment(record.session_id, "\n".join(walk.dialog.lines), tuple(opened.spans), opened.trimmed)


def encode_segment(segment: Segment, tokenizer: PreTrainedTokenizerFast) -> Sequence:
    """`segment` as tokens and labels.

    After an action the model is to end, while the text goes on with the next line: the label there is the end token,
    the input is not. So the tokens of a session stay those that its prompts have in serving.
    """
    encoded = tokenizer(segment.text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    ids.append(tokenizer.eos_token_id)
    labels = [IGNORED] * len(ids)
    nothing = tokenizer.convert_tokens_to_ids(NOTHING)
    starts = {start: index for index, (start, end) in enumerate(offsets) if end > start}
    for span in segment.spans:
        if span.target is Target.SILENT:
            continue
        first = starts[span.start]
        if span.target is Target.NOTHING:
            labels[first] = nothing
            continue
        index = first
        while index < len(offsets) and offsets[index][0] < span.end:
            labels[index] = ids[index]
            index += 1
        labels[index] = tokenizer.eos_token_id
    return Sequence(segment.session_id, ids, labels)


def _decide_target(
    number: int, action: Action, operator: str, before: State, may_propose: Callable[[Action], bool]
) -> Target:
    if number or not operator or not is_decision_point(before):
        return Target.SILENT
    return Target.ACTION if may_propose(action) else Target.NOTHING


def _ordered(event: Event, proposals: dict[str, ProposalRecord]) -> Action | None:
    if not isinstance(event.data, OutcomeReported) or event.data.proposal_id not in proposals:
        return None
    return proposals[event.data.proposal_id].action


def _accepter(event: Event, accepted: dict[str, str]) -> str:
    return accepted.get(event.data.proposal_id, "") if isinstance(event.data, OutcomeReported) else ""
