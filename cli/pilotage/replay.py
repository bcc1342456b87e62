"""What another τ would have done, from the records: of the proposals scored, those that would have run, and how right.

Judged by what operators said to them (label rule of core/record.py); proposals that nobody judged are counted apart.
"""

from collections.abc import Iterable

import msgspec

from pilotage_core.record import SessionRecord, read_labels
from pilotage_core.score import format_score


class ReplayLine(msgspec.Struct, frozen=True):
    """One stratum under one τ. `judged` of `above` have a label; `accepted` of those are accepts."""

    stratum: str
    tau: float
    scored: int
    above: int
    judged: int
    accepted: int

    @property
    def coverage(self) -> float | None:
        """Share of scored proposals that would have run."""
        return self.above / self.scored if self.scored else None

    @property
    def precision(self) -> float | None:
        """Share of accepts among the judged ones that would have run."""
        return self.accepted / self.judged if self.judged else None


def replay(sessions: Iterable[SessionRecord], tau: float, since: str = "") -> list[ReplayLine]:
    """Count every stratum under `tau`. A proposal judged twice (verdict, then review) counts by the last word.

    Of proposals made before `since` (RFC 3339, in UTC, or the beginning of one) none counts.
    """
    scored: dict[str, list[bool]] = {}
    verdicts: dict[str, dict[str, bool]] = {}
    for session in sessions:
        words = {label.proposal_id: label.accepted for label in read_labels(session)}
        for proposal in session.proposals:
            if proposal.score is None or not proposal.critical or proposal.at < since:
                continue
            above = proposal.score >= tau
            scored.setdefault(proposal.stratum, []).append(above)
            if above and proposal.proposal_id in words:
                verdicts.setdefault(proposal.stratum, {})[proposal.proposal_id] = words[proposal.proposal_id]
    return [
        ReplayLine(
            stratum=stratum,
            tau=tau,
            scored=len(ups),
            above=sum(ups),
            judged=len(verdicts.get(stratum, {})),
            accepted=sum(verdicts.get(stratum, {}).values()),
        )
        for stratum, ups in sorted(scored.items())
    ]


def describe(sessions: Iterable[SessionRecord], tau: float, since: str = "") -> str:
    """The lines in words."""
    lines = replay(sessions, tau, since)
    if not lines:
        return "  nothing was scored"
    return "\n".join(
        f"  {line.stratum:<12} τ = {format_score(line.tau)}: {line.above} of {line.scored} scored proposals would have "
        f"run ({_percent(line.coverage)}); of the {line.judged} with a verdict {_percent(line.precision)} were accepted"
        for line in lines
    )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
