"""Who works a trial: the pair as far as it may, and beside it an operator who is asked or takes the wheel.

The gate's own words for what may be done (classes of actions, faults, loops) with nothing of permits and stages: what
would run in Automation. Not here: records (record.py), what follows of many sessions (thresholds.py).
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from pilotage_core.actions import Action, ActionRules, classify_action
from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import InvalidActionError
from pilotage_core.events import ActionTaken, Event, Happening
from pilotage_core.proposal import build_action_schema, find_fault, read_reply
from pilotage_core.score import ScoreRule, find_score
from pilotage_core.state import is_looping
from pilotage_core.trial import Supervisor
from pilotage_core.walk import SessionWalk, is_decision_point
from pilotage_trainer.backends.interface import AnyCritic, AnyPolicy, build_query

NAMESPACE = uuid.UUID("0e2f9f0e-2a35-4e0a-8a3e-6d1b6f0b3a51")


class By(StrEnum):
    """Who did an action."""

    MODEL = "model"  # nobody was asked
    ACCEPTED = "accepted"  # an operator was asked, and accepted
    OPERATOR = "operator"  # an operator did another one, or what no proposal was made for


class HeldBack(StrEnum):
    """Why an operator was asked."""

    NOTHING_PROPOSED = "nothing proposed"
    FAULT = "cannot be done"
    LOOP = "loop"
    REFUSED = "refused by the BPM"
    NO_TAU = "no certificate"
    BELOW_TAU = "score below τ"
    ASKED_BEFORE = "asked before"
    COPILOT = "copilot"


class Decided(msgspec.Struct, frozen=True):
    """One decision: what was proposed (None: nothing), what was done (None: the customer was heard first) and by whom,
    and why an operator was asked.

    `score` is the pair's, None where nothing critical was proposed. `acceptable` is what the operator thinks of the
    proposal. `seconds` are the operator's, as assumed.
    """

    proposed: Action | None
    done: Action | None
    by: By
    critical: bool
    stratum: str
    score: float | None
    confidence: float | None
    acceptable: bool
    held_back: HeldBack | None
    version: int
    seconds: float


@dataclass(frozen=True)
class Pair:
    """The models of one revision, and what its score is made of. Without a critic the score is confidence."""

    policy: AnyPolicy
    critic: AnyCritic | None
    rule: ScoreRule

    @property
    def form(self) -> DialogFormat:
        """How its dialogs are written."""
        return self.policy.manifest.dialog


class Reign(msgspec.Struct, frozen=True):
    """What the pair may do. `asks_all`: nothing (Copilot). `taus`: the score that each stratum needs; None: any.

    A stratum that `taus` lacks is asked about. Once an operator was asked, `taus` speak for the session no more: what
    is certified of them is of sessions that nobody was asked about, and all that is critical is asked about from there.
    """

    asks_all: bool = False
    taus: Mapping[str, float] | None = None


COPILOT, UNGATED = Reign(asks_all=True), Reign()
LOOK_SECONDS = 2.0
"""An operator's look at a proposal: assumed, as long as before a message of their own."""


@dataclass
class PairWorker:
    """Works one session. `decided` is what it came to, `events` what happened, `refused` versions
    whose action the BPM would not do.
    """

    pair: Pair
    rules: ActionRules
    reign: Reign
    trial_id: str
    decided: list[Decided] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.walk = SessionWalk(self.pair.form)

    # --- what happens ------------------------------------------------------------------------------------------------
    def see(self, happening: Happening) -> None:
        """It happens."""
        number = len(self.events)
        event = Event(str(uuid.uuid5(NAMESPACE, f"{self.trial_id}:{number}")), number, "", happening)
        self.walk.step(event)
        self.events.append(event)

    def refuse(self, action: Action, reason: str) -> None:
        """The BPM did not do it: an operator goes on."""
        self.refused.add(self.decided[-1].version)

    # --- what is done ------------------------------------------------------------------------------------------------
    def decide(self, supervisor: Supervisor) -> Action | None:
        """The pair's action where it may; else the operator's; None: the customer must be heard."""
        state = self.walk.state
        if not is_decision_point(state):  # only an operator who has the wheel goes on without hearing the customer
            has_wheel = bool(self.decided) and self.decided[-1].by is not By.MODEL
            action = supervisor.find_action() if has_wheel else None
            return self._do_by_operator(action, None, supervisor) if action is not None else None
        proposed, confidence, fault = self._propose()
        if self.decided and self.decided[-1].version in self.refused:
            fault = HeldBack.REFUSED
        if proposed is None or fault is not None:
            action = supervisor.find_action()
            if action is None and fault is None:
                return None  # nothing is proposed, and nothing is to be done: the customer is heard
            return self._do_by_operator(action, fault or HeldBack.NOTHING_PROPOSED, supervisor, proposed)
        return self._weigh(proposed, confidence, supervisor)

    def _propose(self) -> tuple[Action | None, float | None, HeldBack | None]:
        """What the policy proposes, how surely, and why it cannot be done."""
        state = self.walk.state
        schema = build_action_schema(self.rules, state.screen)
        ((reply, confidence),) = self.pair.policy.propose_many([(self.walk.dialog.prompt(), schema)])
        try:
            proposed = read_reply(reply, state.screen)
        except InvalidActionError:
            return None, None, HeldBack.FAULT
        if proposed is None:
            return None, confidence, None
        if find_fault(proposed, state.screen, self.rules):
            return proposed, confidence, HeldBack.FAULT
        if is_looping(state, proposed, self.rules.same_action_limit, self.rules.no_progress_limit):
            return proposed, confidence, HeldBack.LOOP
        return proposed, confidence, None

    def _weigh(self, proposed: Action, confidence: float | None, supervisor: Supervisor) -> Action | None:
        """Do what may be done unasked; else ask."""
        kind = classify_action(self.rules, proposed, self.walk.state.screen)
        score = self._score(proposed, confidence) if kind.critical else None
        held_back = self._hold_back(kind.critical, kind.stratum, score)
        acceptable = supervisor.accepts(proposed)
        done: Action | None = proposed
        by, seconds = By.MODEL, 0.0
        if held_back is not None:
            by, seconds = By.ACCEPTED, LOOK_SECONDS
            if not acceptable:
                done, by = supervisor.find_action(), By.OPERATOR
                seconds += supervisor.find_seconds(done) if done is not None else 0.0
        self._note(
            Decided(
                proposed, done, by, kind.critical, kind.stratum, score, confidence, acceptable, held_back,
                self.walk.state.version, seconds,
            )
        )  # fmt: skip
        return done

    def _score(self, action: Action, confidence: float | None) -> float | None:
        critic = None
        if self.pair.critic is not None:
            (critic,) = self.pair.critic.score_many([build_query(self.walk.dialog.prompt(), action)])
        return find_score(self.pair.rule, critic, confidence)

    def _hold_back(self, critical: bool, stratum: str, score: float | None) -> HeldBack | None:
        if self.reign.asks_all:
            return HeldBack.COPILOT
        if not critical or self.reign.taus is None:
            return None
        if any(each.held_back is not None for each in self.decided):
            return HeldBack.ASKED_BEFORE
        tau = self.reign.taus.get(stratum)
        if tau is None:
            return HeldBack.NO_TAU
        return None if score is not None and score >= tau else HeldBack.BELOW_TAU

    def _do_by_operator(
        self, action: Action | None, held_back: HeldBack | None, supervisor: Supervisor, proposed: Action | None = None
    ) -> Action | None:
        seconds = LOOK_SECONDS if proposed is not None else 0.0
        seconds += supervisor.find_seconds(action) if action is not None else 0.0
        version = self.walk.state.version
        self._note(Decided(proposed, action, By.OPERATOR, False, "", None, None, False, held_back, version, seconds))
        return action

    def _note(self, decided: Decided) -> None:
        self.decided.append(decided)
        if decided.done is not None:
            operator = "" if decided.by is By.MODEL else "operator"
            self.see(ActionTaken((decided.done,), operator, decided.seconds))
