"""Sessions that nobody was asked about, and how they came out: what leave to end sessions unasked rests on.

Pure. Not here: who knows how a case came out (the BPM's books, a second look), what share of them is good enough
(monitoring.py).
"""

from collections.abc import Iterable, Mapping

import msgspec

from pilotage_core.actions import Tool
from pilotage_core.events import ActionTaken, Closing, FeedbackGiven, ResolutionJudged, SessionClosed, Verdict
from pilotage_core.gate import Decision, Reason
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.stage import UNATTENDED


class Resolution(msgspec.Struct, frozen=True):
    """How one closed case came out. `unasked`: until its ending nobody had been asked, and `pair` alone had acted.

    `right` is the case's; of an unasked one whose ending an operator would not have, or that ran into a loop, it is
    False, whatever they made of it afterwards.
    """

    pair: str
    unasked: bool
    right: bool


def judge_resolution(
    proposals: Iterable[ProposalRecord],
    verdicts: Mapping[str, Verdict],
    *,
    first_act: int | None,
    closing: Closing | None,
    right: bool,
) -> Resolution:
    """What one session says of sessions that run by themselves.

    `verdicts` are those on proposals, `first_act` is the state version in which an operator first acted (None: never).
    A session counts as unasked where each proposal ran by permit and was done, but for its ending: that may have been
    put to an operator because endings are, or by an audit, if it reached its τ. So it says how the same session would
    have ended with nobody asked. One that ran into a loop has ended there, wrongly. One whose last action is a transfer
    is another's to finish, and says nothing.
    """
    made = sorted(proposals, key=lambda proposal: proposal.at_version)
    ending = next((proposal for proposal in made if _is_ending(proposal)), None)
    alone = [proposal for proposal in made if ending is None or proposal.at_version < ending.at_version]
    pairs = {proposal.pair for proposal in (*alone, *([ending] if ending else []))}
    ran = all(proposal.decision == Decision.EXECUTE and proposal.executed for proposal in alone)
    pair = next(iter(pairs), "") if len(pairs) == 1 else ""
    ran = ran and bool(pair) and any(proposal.critical for proposal in alone)
    undone = first_act is None and closing is not Closing.TRANSFERRED
    if ending is None:
        return Resolution(pair, ran and undone, right)
    if ending.decision == Decision.EXECUTE or verdicts.get(ending.proposal_id) is Verdict.ACCEPT:
        last = max(proposal.at_version for proposal in made if proposal.executed or proposal is ending)
        whole = undone and ending.executed and last == ending.at_version
        return Resolution(pair, ran and whole and _has_reached(ending), right)
    undisturbed = first_act is None or first_act > ending.at_version
    unasked = ran and undisturbed and (_is_loop(ending) or _has_reached(ending))
    return Resolution(pair, unasked, right and not unasked)


def read_resolution(record: SessionRecord) -> Resolution | None:
    """The resolution that `record` tells of; None where nobody has told how it came out."""
    judged = next((event.data for event in record.events if isinstance(event.data, ResolutionJudged)), None)
    if judged is None:
        return None
    given = (event.data for event in record.events if isinstance(event.data, FeedbackGiven))
    return judge_resolution(
        record.proposals,
        {feedback.proposal_id: feedback.verdict for feedback in given},
        first_act=next((event.sequence for event in record.events if isinstance(event.data, ActionTaken)), None),
        closing=next((e.data.closing for e in record.events if isinstance(e.data, SessionClosed)), None),
        right=judged.right,
    )


def _is_ending(proposal: ProposalRecord) -> bool:
    """Whether a session that runs by itself ends with it: the chat was closed, or an operator was asked whether to for
    no other reason than that it is an ending; or it is a loop.
    """
    closes = proposal.action.tool is Tool.CLOSE_CHAT
    put = proposal.decision == Decision.PROPOSE and proposal.reason in (Reason.FINALIZING_BY_HUMAN, Reason.AUDIT)
    return (closes and (put or proposal.decision == Decision.EXECUTE)) or _is_loop(proposal)


def _is_loop(proposal: ProposalRecord) -> bool:
    return proposal.decision == Decision.HAND_OFF and proposal.reason == Reason.LOOP


def _has_reached(ending: ProposalRecord) -> bool:
    """Whether it would have run, were endings not put to operators: scored as it is, and at τ."""
    score, tau = ending.score, ending.tau
    if score is None or tau is None or ending.scored != ending.action.digest:
        return False
    return ending.stage in UNATTENDED and tau <= score <= 1.0  # NaN fails the comparison too
