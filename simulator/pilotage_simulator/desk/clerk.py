"""The simulated operator: works a session by the schema and by what the customer means, one action at a time.

It is the human-only arm. With `PERFECT` manners what goes wrong is what the desk or the customer cannot say; `PEOPLE`
have habits, haste and slips, at rates that are stated. Not here: a model's view (screens.py); the clerk hears acts, a
model reads text.
"""

from dataclasses import dataclass, field
from random import Random

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_core.screen import ControlKind
from pilotage_simulator.desk.customer import Said
from pilotage_simulator.desk.desk import KIND_OF_TOOL, Desk, find_kind
from pilotage_simulator.desk.sgd import Act

TOOL_OF_KIND: dict[ControlKind, Tool] = {kind: tool for tool, kind in KIND_OF_TOOL.items()}


class Manners(msgspec.Struct, frozen=True):
    """How often an operator does otherwise: probabilities, each at its occasion. Assumed, not measured.

    `asks_all`: asks for all that is missing at once. `hastes`: books without having it confirmed. `slips`: takes a told
    value for another one (another option, or a word short of its last character) until the customer says it again.
    """

    asks_all: float = 0.0
    hastes: float = 0.0
    slips: float = 0.0


PERFECT = Manners()
PEOPLE = Manners(asks_all=0.3, hastes=0.05, slips=0.01)


@dataclass
class Clerk:
    """One operator at one session. `told` holds what the customer wants, by service and slot."""

    desk: Desk
    manners: Manners = PERFECT
    chance: Random = field(default_factory=lambda: Random(0))
    service: str = ""
    wish: tuple[str, str] | None = None
    must_open: bool = False
    told: dict[str, dict[str, Act]] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    confirmed: bool = False
    wants_offer: bool = False
    chose: bool = False
    done: bool = False
    next_row: int = 0
    last: str = ""
    spoke: bool = False
    offered: set[str] = field(default_factory=set)

    def hear(self, said: Said) -> None:
        """Take in what the customer says."""
        self.spoke = False
        self.service = said.service or self.service
        names = {act.act for act in said.acts}
        for act in said.acts:
            if act.act == "INFORM_INTENT":
                self._begin(self.service, act.values[0])
        if "AFFIRM_INTENT" in names and self.last.startswith("say:offer-intent:"):
            self._begin(self.service, self.last.rpartition(":")[2])
        for act in said.acts:
            if act.act == "INFORM":
                self.told.setdefault(self.service, {})[act.slot] = self._take(act)
        self.questions += [act.slot for act in said.acts if act.act == "REQUEST"]
        self.confirmed = "AFFIRM" in names and self.last in ("say:confirm", "say:alternative")
        if self.confirmed and self.last == "say:alternative":
            self.told.setdefault(self.service, {}).update(
                {slot: Act("INFORM", slot, (value,), (value,)) for slot, value in self.desk.alternative.items()}
            )
        self.wants_offer = self.wants_offer or "REQUEST_ALTS" in names
        self.chose = "SELECT" in names
        leaves = "NEGATE" in names and self.last in ("say:more", "say:failure", "say:success")
        self.done = "GOODBYE" in names or (leaves and not names & {"INFORM", "INFORM_INTENT"})

    def _take(self, act: Act) -> Act:
        """What is told, as the operator takes it."""
        if self.chance.random() >= self.manners.slips:
            return act
        service = self.desk.services.schema.get(self.service)
        slot = service.slot(act.slot) if service is not None else None
        others = [option for option in slot.options if option not in act.canonical_values] if slot is not None else []
        value = self.chance.choice(others) if others else act.values[0][:-1] or act.values[0]
        return Act(act.act, act.slot, (value,), (value,))

    def _begin(self, service: str, intent: str) -> None:
        if self.wish == (service, intent) and self.desk.is_booked:
            self.told.pop(service, None)
        self.wish, self.must_open, self.wants_offer = (service, intent), True, True

    def decide(self) -> Action | None:
        """The next action; None: the customer must be heard first."""
        if self.spoke and not (self.questions or self.last == "say:goodbye"):
            return None
        action = self._decide()
        if action.tool is Tool.SEND_TEXT_TO_CHAT:
            self.last = action.control_id if not self.spoke else self.last
            self.spoke = True
        return action

    def _decide(self) -> Action:
        """The next action."""
        desk = self.desk
        if self.last == "say:goodbye":
            return Action(Tool.TRANSFER_CHAT if desk.has_failed else Tool.CLOSE_CHAT)
        if self.must_open and self.wish is not None:
            self.must_open, self.next_row = False, 0
            self.confirmed = False
            return Action(Tool.OPEN_PROCEDURE, "open:{}/{}".format(*self.wish))
        if (fill := self._find_fill()) is not None:
            return fill
        if desk.intent is not None and (action := self._find_step(desk.intent.is_transactional)) is not None:
            return action
        if self.questions:
            return self._tell(self.questions.pop(0))
        if self.done:
            return _say("say:goodbye")
        intents = desk.service.intents if desk.service is not None and desk.row is not None else ()
        for intent in intents:
            if self.chose and intent.is_transactional and intent.name not in self.offered and intent is not desk.intent:
                self.offered.add(intent.name)
                return _say(f"say:offer-intent:{intent.name}")
        return _say("say:more")

    def _find_fill(self) -> Action | None:
        """A told value that the form does not hold yet."""
        for slot, act in self.told.get(self.service, {}).items():
            known = self.desk.service.slot(slot) if self.desk.service is not None else None
            if known is None or slot not in self.desk.fields or self.desk.service is None:
                continue
            if self.desk.service.service_name != self.service:
                continue
            kind = find_kind(known)
            value = (act.canonical_values or act.values)[0] if kind is not ControlKind.INPUT else act.values[0]
            if self.desk.fields[slot] != value:
                return Action(TOOL_OF_KIND[kind], f"slot:{slot}", value)
        return None

    def _find_step(self, transactional: bool) -> Action | None:
        """What the open form needs next."""
        desk = self.desk
        if desk.intent is None:
            return None
        missing = [slot for slot in desk.intent.required_slots if not desk.fields.get(slot)]
        if missing:
            asked = missing if self.chance.random() < self.manners.asks_all else missing[:1]
            return _say(f"say:request:{'+'.join(asked)}")
        if desk.can_submit:
            if transactional and not self.confirmed and self.chance.random() >= self.manners.hastes:
                return _say("say:confirm")
            self.next_row, self.wants_offer, self.confirmed = 0, True, False
            return Action(Tool.CLICK_CONTROL, "submit")
        if self.wants_offer and desk.has_failed:
            self.wants_offer = False
            return _say("say:alternative" if desk.alternative else "say:failure")
        if self.wants_offer and desk.is_booked:
            self.wants_offer = False
            return _say("say:success")
        if self.wants_offer and desk.answer is not None and not transactional:
            return self._offer()
        return None

    def _offer(self) -> Action:
        """The next row: chosen, then said."""
        rows = self.desk.answer.rows if self.desk.answer is not None else ()
        if self.next_row >= len(rows):
            self.wants_offer = False
            return _say("say:failure")
        if self.desk.row is not rows[self.next_row]:
            return Action(Tool.CLICK_CONTROL, f"row:{self.next_row}")
        self.next_row += 1
        self.wants_offer = False
        return _say("say:offer")

    def _tell(self, slot: str) -> Action:
        """The answer to a question; that there is none, where neither row nor form says."""
        return _say(f"say:inform:{slot}" if self.desk.row is not None and slot in self.desk.row else "say:more")


def _say(control_id: str) -> Action:
    return Action(Tool.SEND_TEXT_TO_CHAT, control_id)
