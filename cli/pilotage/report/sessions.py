"""Whole sessions: how many ran with nobody asked, how they came out, what held the others back, what people spent.

Pure. From the BPM's ledger, which says who touched a session and how it came out, and from the gateway's records, which
say in which stage it was. Not here: single actions (figures.py), drawing (charts.py).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from scipy.special import betaincinv

from pilotage.report.times import to_seconds
from pilotage_core.events import ActionTaken, Author, Closing, FeedbackGiven, MessagePosted, SessionReviewed
from pilotage_core.gate import Decision
from pilotage_core.record import SessionRecord
from pilotage_core.stage import UNATTENDED, Stage
from pilotage_simulator.public import SessionEnded

CONFIDENCE = 0.95
SPANS = 48
"""Spans of time that the picture of sessions is drawn in, at most."""
TOUCHES = ("nobody asked", "the ending reviewed", "an operator asked", "operators alone")
"""Who touched a session, the least first."""


class Share(msgspec.Struct, frozen=True):
    """`part` of `n`, with its interval (Clopper and Pearson, 95 %)."""

    part: int
    n: int
    share: float
    low: float
    high: float


class Seconds(msgspec.Struct, frozen=True):
    """An operator's active seconds a session, as assumed: alone, confirming every proposal, with the model's leave.

    `alone` is the mean over all sessions, as an operator would have worked them without a model; `automatic_alone` over
    those of `automatic`. None where there was no such session.
    """

    alone: float | None
    confirming: float | None
    automatic: float | None
    automatic_alone: float | None


class WholeSessions(msgspec.Struct, frozen=True):
    """Sessions of one process cluster, whole.

    `automation_rate`: of the sessions that Automation ended, those with nobody asked, endings included; a transfer is
    another's to finish and never automation. `automation_rate_by_turn`: of the customers' turns in them, those that
    were answered with nobody asked; never set against a rate of sessions. `resolution_correctness`: those that came out
    right by the BPM's books, of the sessions with nobody asked (and of these apart: `before_change` of the process, and
    `until_taken_back`, after it under a pair that knew it otherwise), of all in Automation, and of those that operators
    worked alone. `held_back_by`: of Automation's other sessions, what first put an operator to it. `touched`: counts of
    TOUCHES in spans of time, each with its beginning (seconds since the epoch). None where there was none of a kind.
    """

    automation_rate: Share | None
    automation_rate_by_turn: Share | None
    resolution_correctness: dict[str, Share | None]
    held_back_by: dict[str, int]
    operator_seconds: Seconds
    touched: tuple[tuple[float, tuple[int, ...]], ...]


def count_whole_sessions(
    sessions: Sequence[SessionRecord], ended: Iterable[SessionEnded], stage_of: Callable[[SessionRecord], Stage]
) -> WholeSessions | None:
    """Whole sessions, where the BPM knows how they came out; None where it does not (STAR is replayed)."""
    known = {each.session_id: each for each in ended if each.right is not None}
    told = [(session, known[session.session_id]) for session in sessions if session.session_id in known]
    if not told:
        return None
    in_automation = [(s, e) for s, e in told if stage_of(s) is Stage.AUTOMATION]
    alone = [(s, e) for s, e in in_automation if e.is_unattended]
    known_before = {find_pair(s) for s, e in in_automation if not e.changed}
    holds = Counter(find_hold(s, e.closing) for s, e in in_automation if not e.is_unattended)
    human = [e for s, e in told if stage_of(s) is Stage.LOGGING]
    return WholeSessions(
        automation_rate=find_share(len(alone), len(in_automation)),
        automation_rate_by_turn=_find_turns(session for session, _ in in_automation),
        resolution_correctness={
            "unattended": _right([e for _, e in alone]),
            "before_change": _right([e for _, e in alone if not e.changed]),
            "until_taken_back": _right([e for s, e in alone if e.changed and find_pair(s) in known_before]),
            "all": _right([e for _, e in in_automation]),
            "human_only": _right(human),
        },
        held_back_by=dict(holds.most_common()),
        operator_seconds=_seconds(
            [e for s, e in told if stage_of(s) is Stage.COPILOT], [e for _, e in in_automation], human
        ),
        touched=tuple(_count_touches(told, stage_of)),
    )


def find_pair(session: SessionRecord) -> str:
    """The pair that worked on a session last; empty: none did."""
    return session.proposals[-1].pair if session.proposals else ""


def find_hold(session: SessionRecord, closing: str = Closing.CLOSED) -> str:
    """What first put an operator to a session: the gate's line and the action, or that nothing was proposed."""
    for proposal in sorted(session.proposals, key=lambda proposal: proposal.at_version):
        if proposal.decision != Decision.EXECUTE:
            control = proposal.action.control_id.split(":")
            about = ":".join(control[:2]) if control[0] == "say" else control[0]
            return f"{proposal.reason}: {about or proposal.action.tool.value}"
        if proposal.outcome not in ("", "done"):
            return f"order {proposal.outcome}"
    return "transferred" if closing == Closing.TRANSFERRED else "nothing was proposed"


def find_share(part: int, n: int) -> Share | None:
    """`part` of `n`; None of nothing."""
    if not n:
        return None
    tail = (1.0 - CONFIDENCE) / 2.0
    low = float(betaincinv(part, n - part + 1, tail)) if part else 0.0
    high = float(betaincinv(part + 1, n - part, 1.0 - tail)) if part < n else 1.0
    return Share(part, n, part / n, low, high)


def _find_turns(sessions: Iterable[SessionRecord]) -> Share | None:
    """The customers' turns of `sessions`: those after which no operator acted or was asked until the next one."""
    turns = alone = 0
    for session in sessions:
        asked = [True]  # what is before the customer's first words is no turn
        for event in session.events:
            if isinstance(event.data, MessagePosted) and event.data.author is Author.CUSTOMER:
                asked.append(False)
            elif isinstance(event.data, ActionTaken | FeedbackGiven | SessionReviewed):
                asked[-1] = True
        turns += len(asked) - 1
        alone += asked.count(False)
    return find_share(alone, turns)


def _right(ended: Sequence[SessionEnded]) -> Share | None:
    return find_share(sum(bool(each.right) for each in ended), len(ended))


def _seconds(
    confirmed: Sequence[SessionEnded], automatic: Sequence[SessionEnded], human: Sequence[SessionEnded]
) -> Seconds:
    def mean(values: Iterable[float]) -> float | None:
        found = list(values)
        return round(sum(found) / len(found), 1) if found else None

    return Seconds(
        alone=mean(each.seconds_without for each in (*human, *confirmed, *automatic)),
        confirming=mean(each.seconds_spent for each in confirmed),
        automatic=mean(each.seconds_spent for each in automatic),
        automatic_alone=mean(each.seconds_without for each in automatic),
    )


def find_touch(ended: SessionEnded, stage: Stage) -> str:
    """Who touched a session, of TOUCHES."""
    if ended.is_unattended:
        return TOUCHES[0]
    if stage in UNATTENDED and not ended.acts and ended.looks <= 1 and ended.executed_critical:
        return TOUCHES[1]
    return TOUCHES[3] if stage is Stage.LOGGING else TOUCHES[2]


def _count_touches(
    told: Sequence[tuple[SessionRecord, SessionEnded]], stage_of: Callable[[SessionRecord], Stage]
) -> Iterable[tuple[float, tuple[int, ...]]]:
    """Sessions by who touched them in spans of time: the beginning of each (seconds since the epoch), and counts."""
    times = [to_seconds(ended.at) for _, ended in told]
    first, last = min(times), max(times)
    width = max((last - first) / SPANS, 1.0)
    spans: dict[int, Counter[str]] = {}
    for (session, ended), at in zip(told, times, strict=True):
        spans.setdefault(int((at - first) / width), Counter())[find_touch(ended, stage_of(session))] += 1
    for number in range(max(spans) + 1):
        counts: Mapping[str, int] = spans.get(number, Counter())
        yield first + number * width, tuple(counts.get(touch, 0) for touch in TOUCHES)
