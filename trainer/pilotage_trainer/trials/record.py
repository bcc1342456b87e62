"""A trial as the record that a gateway would have left of it: proposals, what an operator said to each, what was done.

A critic Job learns from it as from any other. In Copilot a verdict comes before the action; where nobody was asked, in
a review after the session, so that a critic also learns from states that nobody repaired.
"""

from datetime import datetime, timedelta

from pilotage_core.actions import Action
from pilotage_core.events import (
    ActionTaken,
    Event,
    FeedbackGiven,
    Happening,
    Outcome,
    OutcomeReported,
    ReviewItem,
    SessionClosed,
    SessionReviewed,
    Verdict,
)
from pilotage_core.record import ProposalRecord, SessionRecord
from pilotage_core.stage import Stage
from pilotage_core.trial import Trial
from pilotage_trainer.trials.worker import By, Decided, PairWorker

SECONDS_BETWEEN_EVENTS = 3
PAIR = "trial"


def build_record(worker: PairWorker, trial: Trial, process_cluster: str) -> SessionRecord:
    """What `worker` did in `trial`, closed."""
    writer = _Writer(trial)
    by_version = {each.version: each for each in worker.decided}
    stage = Stage.COPILOT if worker.reign.asks_all else Stage.AUTOMATION
    for number, event in enumerate(worker.events):
        decided = by_version.get(number)
        if decided is not None and isinstance(event.data, ActionTaken):
            _write_decided(writer, decided, worker, stage)
        else:
            if decided is not None:  # the operator rejected it, and waited
                _write_verdict(writer, decided, worker, stage)
            writer.add(event.data)
    if writer.reviews:
        writer.add(SessionReviewed(trial.operator, approved=True, items=tuple(writer.reviews)))
    return SessionRecord(
        session_id=trial.trial_id,
        process_cluster=process_cluster,
        opened_at=trial.begins,
        events=tuple(writer.events),
        proposals=tuple(writer.proposals),
        closed_at=next(event.at for event in reversed(writer.events) if isinstance(event.data, SessionClosed)),
    )


class _Writer:
    """Events and proposals, in order."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.events: list[Event] = []
        self.proposals: list[ProposalRecord] = []
        self.reviews: list[ReviewItem] = []
        self._begins = datetime.fromisoformat(trial.begins)

    @property
    def now(self) -> str:
        return (self._begins + timedelta(seconds=SECONDS_BETWEEN_EVENTS * len(self.events))).isoformat()

    def add(self, happening: Happening) -> None:
        number = len(self.events)
        self.events.append(Event(f"{self.trial.trial_id}:{number}", number, self.now, happening))

    def propose(self, decided: Decided, action: Action, worker: PairWorker, stage: Stage) -> str:
        proposal_id = f"{self.trial.trial_id}:p{len(self.proposals)}"
        executed = decided.by is By.MODEL
        self.proposals.append(
            ProposalRecord(
                proposal_id=proposal_id,
                at_version=len(self.events),
                action=action,
                pair=PAIR,
                policy_digest=worker.pair.policy.manifest.digest,
                critic_digest=worker.pair.critic.manifest.digest if worker.pair.critic is not None else "",
                stage=stage,
                decision="execute" if executed else "propose",
                reason="trial",
                critical=decided.critical,
                stratum=decided.stratum,
                state_digest="",
                at=self.now,
                score=decided.score,
                confidence=decided.confidence,
                executed=executed,
                outcome=Outcome.DONE if decided.by is not By.OPERATOR else "",
            )
        )
        return proposal_id


def _write_verdict(writer: _Writer, decided: Decided, worker: PairWorker, stage: Stage) -> str:
    """The proposal and what the operator said to it; its id, empty where nothing was proposed."""
    if decided.proposed is None or decided.confidence is None:
        return ""
    proposal_id = writer.propose(decided, decided.proposed, worker, stage)
    verdict = Verdict.ACCEPT if decided.acceptable else Verdict.REJECT
    if decided.by is By.MODEL:
        writer.reviews.append(ReviewItem(proposal_id, verdict))
    else:
        writer.add(FeedbackGiven(proposal_id, verdict, writer.trial.operator, active_seconds=decided.seconds))
    return proposal_id


def _write_decided(writer: _Writer, decided: Decided, worker: PairWorker, stage: Stage) -> None:
    proposal_id = _write_verdict(writer, decided, worker, stage)
    assert decided.done is not None
    if proposal_id and decided.by is not By.OPERATOR:
        outcome = Outcome.REFUSED if decided.version in worker.refused else Outcome.DONE
        writer.add(OutcomeReported(proposal_id, proposal_id, outcome))
    else:
        writer.add(ActionTaken((decided.done,), writer.trial.operator, decided.seconds))
