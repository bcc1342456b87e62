"""From a recorded session to tokens: one sequence a session, loss on the operator's actions and on nothing else.

The text is the dialog a served policy reads (pilotage_core.dialog), so a session is one growing text, and a new
segment begins only where the dialog was trimmed. Not here: which sessions (sessions/export.py), how they share a row
(packing.py).
"""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
import tokenizers

from pilotage_core.actions import Action
from pilotage_core.dialog import ACTION_MARK, DialogFormat, Trim, encode_action
from pilotage_core.events import ActionTaken, Event, FeedbackGiven, Outcome, OutcomeReported, Verdict
from pilotage_core.proposal import fill_text
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.state import State
from pilotage_core.walk import SessionWalk, is_decision_point

if TYPE_CHECKING:  # worker processes do without transformers: its import takes longer than their work
    from transformers import PreTrainedTokenizerFast

NOTHING = '{"tool":""}'
"""What a policy writes when it has nothing to propose (pilotage_core.proposal)."""
IGNORED = -100
"""The label of a token that carries no loss."""


class Target(StrEnum):
    """What a policy is to say where an operator acted."""

    ACTION = "action"  # that action
    NOTHING = "nothing"  # that it has nothing to propose: the operator did what a policy may not
    SILENT = ""  # no loss: nobody's judgement, or not the first action of an event


class PointSource(StrEnum):
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
    source: PointSource = PointSource.LOGS
    rejected: bool = False
    """Whether the operator did this instead of a proposal that was rejected or edited."""


class Segment(msgspec.Struct, frozen=True):
    """A session's dialog from one trim to the next.

    `trimmed_chars` are those dropped before it began; `trim` is what ended it, None for a session's last segment.
    """

    session_id: str
    text: str
    spans: tuple[Span, ...]
    trimmed_chars: int = 0
    trim: Trim | None = None

    @property
    def teaches(self) -> bool:
        """Whether any of it carries loss."""
        return any(span.target is not Target.SILENT for span in self.spans)


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
    """The segment being written: its lines, the characters they take with a line break each, and its actions."""

    lines: list[str] = field(default_factory=list)
    chars: int = 0
    spans: list[Span] = field(default_factory=list)
    trimmed: int = 0

    def write(self, lines: Several[str]) -> None:
        self.lines += lines
        self.chars += sum(len(line) + 1 for line in lines)

    def close(self, session_id: str, trim: Trim | None = None) -> Segment:
        return Segment(session_id, "\n".join(self.lines), tuple(self.spans), self.trimmed, trim)


def build_segments(
    record: SessionRecord,
    form: DialogFormat,
    may_propose: Callable[[Action], bool] = is_proposable,
) -> Iterator[Segment]:
    """The dialog of `record` in `form`, with every action in it; more than one segment where it was trimmed.

    What the event added that led to a trim stands in the new segment too, as context; its actions carry loss in the
    old one, whose prompt they followed. Linear in the length of the text.
    """
    reader = _Reader(record, may_propose)
    walk, opened = SessionWalk(form), _Open()
    for event in record.events:
        before, trims = walk.state, len(walk.dialog.trims)
        ordered = reader.ordered(event)
        walk.step_recorded(record, event, ordered)
        ran = len(walk.state.done) > len(before.done)
        taken = event.data.actions if isinstance(event.data, ActionTaken) else (ordered,) if ran else ()
        trimmed = len(walk.dialog.trims) > trims
        for number, action in enumerate(action for action in taken if action is not None):
            line = ACTION_MARK + encode_action(fill_text(action, before.screen), form)
            start = opened.chars + len(ACTION_MARK)
            opened.spans.append(reader.span(event, before, number, action, (start, opened.chars + len(line))))
            opened.write((line,))
        if trimmed:
            yield opened.close(record.session_id, walk.dialog.trims[-1])
            opened = _Open(trimmed=sum(trim.chars for trim in walk.dialog.trims))
            opened.write(walk.dialog.lines)
        else:
            opened.write(walk.dialog.lines[len(opened.lines) :])
    if opened.spans:
        yield opened.close(record.session_id)


class _Reader:
    """What a record says of each of its actions: whose it was, and whether it took the place of a proposal."""

    def __init__(self, record: SessionRecord, may_propose: Callable[[Action], bool]) -> None:
        self._may_propose = may_propose
        self._proposals = {p.proposal_id: p for p in record.proposals}
        self._by_version = {p.at_version: p for p in record.proposals}
        feedback = [event.data for event in record.events if isinstance(event.data, FeedbackGiven)]
        self._accepted = {f.proposal_id: f.operator for f in feedback if f.verdict is Verdict.ACCEPT}

    def ordered(self, event: Event) -> Action | None:
        """The action that an outcome speaks of."""
        if not isinstance(event.data, OutcomeReported) or event.data.proposal_id not in self._proposals:
            return None
        return self._proposals[event.data.proposal_id].action

    def span(self, event: Event, before: State, number: int, action: Action, place: tuple[int, int]) -> Span:
        """The `number`-th action of `event`, which was done in `before` and stands at `place`."""
        proposal = self._by_version.get(before.version) or self._by_version.get(before.version - 1)
        acted = isinstance(event.data, ActionTaken)
        operator = event.data.operator if isinstance(event.data, ActionTaken) else self._accepter(event)
        target = Target.SILENT
        if number == 0 and operator and is_decision_point(before):
            target = Target.ACTION if self._may_propose(action) else Target.NOTHING
        source = PointSource.LOGS if proposal is None else PointSource.COPILOT if operator else PointSource.AUTOMATED
        return Span(
            *place, target, action.tool, before.screen.name, operator, event.at, source,
            acted and proposal is not None and self._is_overridden(proposal, action),
        )  # fmt: skip

    def _accepter(self, event: Event) -> str:
        return self._accepted.get(event.data.proposal_id, "") if isinstance(event.data, OutcomeReported) else ""

    def _is_overridden(self, proposal: ProposalRecord, action: Action) -> bool:
        unknown = proposal.outcome == Outcome.AMBIGUOUS  # it may have run: then nothing was done in its place
        not_taken = not proposal.executed and not unknown and proposal.proposal_id not in self._accepted
        return not_taken and action != proposal.action


class Encoder:
    """A tokenizer and the two tokens that labels need; it travels to worker processes as text."""

    def __init__(self, backend: tokenizers.Tokenizer, end: int, nothing: int) -> None:
        self._backend, self.end, self.nothing = backend, end, nothing
        backend.encode_special_tokens = True  # a customer who writes <|end|> ends nothing

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerFast") -> "Encoder":
        """The same tokenizer, without transformers around it."""
        return cls(tokenizer.backend_tokenizer, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(NOTHING))

    def __reduce__(self) -> tuple[Callable[..., "Encoder"], tuple[str, int, int]]:
        return _read_encoder, (self._backend.to_str(), self.end, self.nothing)

    def encode(self, segments: Several[Segment]) -> list[Sequence]:
        """`segments` as tokens and labels, in one batch.

        After an action the model is to end, while the text goes on with the next line: the label there is the end
        token, the input is not. So the tokens of a session stay those that its prompts have in serving. What follows
        the last token that carries loss is left out.
        """
        texts = [s.text[: max((x.end for x in s.spans if x.target is not Target.SILENT), default=0)] for s in segments]
        self._backend.no_padding()  # transformers sets both as its callers go
        self._backend.no_truncation()
        encodings = self._backend.encode_batch(texts, add_special_tokens=False)
        return [self._label(*pair) for pair in zip(segments, encodings, strict=True)]

    def _label(self, segment: Segment, encoding: tokenizers.Encoding) -> Sequence:
        ids = [*encoding.ids, self.end]
        labels = [IGNORED] * len(ids)
        for span in segment.spans:
            if span.target is Target.SILENT:
                continue
            first, last = encoding.char_to_token(span.start), encoding.char_to_token(span.end - 1)
            assert first is not None  # an action begins a piece and ends one
            assert last is not None
            if span.target is Target.NOTHING:
                labels[first] = self.nothing
                continue
            labels[first : last + 1] = ids[first : last + 1]
            labels[last + 1] = self.end
        return Sequence(segment.session_id, ids, labels)


def _read_encoder(backend: str, end: int, nothing: int) -> Encoder:
    return Encoder(tokenizers.Tokenizer.from_str(backend), end, nothing)
