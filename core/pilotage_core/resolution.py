"""Sessions that nobody was asked about, and how they came out: what leave to end sessions unasked rests on.

Pure. Not here: who knows how a case came out (the BPM's books, a second look), what share of them is good enough
(monitoring.py).
"""

from collections.abc import Iterable, Mapping

import msgspec

from pilotage_core.actions import ALWAYS_FINALIZING
from pilotage_core.events import ActionTaken, Closing, FeedbackGiven, ResolutionJudged, SessionClosed, Verdict
from pilotage_core.gate import Decision, Reason
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.stage import UNATTENDED


class Resolution(msgspec.Struct, frozen=True):
    """How one closed case came out. `unasked`: until its ending nobody had been asked, and `pair` alone had acted.

    `right` is the case's; of an unasked one whose ending an operator would not have it is False, whatever they made of
    it afterwards.
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
    A session counts as unasked where each proposal ran by permit, but for its ending: that may have been put to an
    operator because endings are, or by an audit, if it reached its τ. So it says how the same session would have ended
    with nobody asked. A transfer is another's to finish, and says nothing.
    """
    made = sorted(proposals, key=lambda proposal: proposal.at_version)
    ending = next((proposal for proposal in made if _is_put_ending(proposal)), None)
    before = [proposal for proposal in made if ending is None or proposal.at_version < ending.at_version]
    alone = [proposal for proposal in before if proposal.decision == Decision.EXECUTE]
    pairs = {proposal.pair for proposal in (*alone, *([ending] if ending else []))}
    undisturbed = first_act is None or (ending is not None and first_act > ending.at_version)
    unasked = (
        len(alone) == len(before)
        and any(proposal.critical for proposal in alone)
        and len(pairs) == 1
        and undisturbed
        and closing is not Closing.TRANSFERRED
        and (ending is None or _has_reached(ending))
    )
    refused = ending is not None and verdicts.get(ending.proposal_id) is not Verdict.ACCEPT
    pair = next(iter(pairs), "") if len(pairs) == 1 else ""
    return Resolution(pair, unasked, right and not (unasked and refused))


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


def _is_put_ending(proposal: ProposalRecord) -> bool:
    """Whether it is an ending that an operator was asked about for no other reason than that it is one."""
    by_rule = proposal.reason == Reason.FINALIZING_BY_HUMAN
    audited = proposal.reason == Reason.AUDIT and proposal.action.tool in ALWAYS_FINALIZING
    return proposal.decision == Decision.PROPOSE and (by_rule or audited)


def _has_reached(ending: ProposalRecord) -> bool:
    """Whether it would have run, were endings not put to operators: scored as it is, and at τ."""
    score, tau = ending.score, ending.tau
    if score is None or tau is None or ending.scored != ending.action.digest:
        return False
    return ending.stage in UNATTENDED and tau <= score <= 1.0  # NaN fails the comparison too
