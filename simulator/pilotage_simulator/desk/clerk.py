"""The simulated operator: works a session by the schema and by what the customer means, one action at a time.

It is the human-only arm. With `PERFECT` manners what goes wrong is what the desk or the customer cannot say; `PEOPLE`
have habits, haste and slips, at rates that are stated. What an operator would accept of another is here too: any action
that schema and goal allow next, not the preferred one alone. Not here: a model's view (screens.py); the clerk hears
acts, a model reads text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_core.errors import InvalidActionError
from pilotage_core.proposal import TOOL_OF_KIND
from pilotage_core.screen import ControlKind
from pilotage_simulator.desk.customer import Said
from pilotage_simulator.desk.desk import BOOK, CONFIRM, SEARCH, Desk, find_kind
from pilotage_simulator.desk.sgd import Act

GOODBYE = "say:goodbye"
ASKS = ("say:request:", CONFIRM)
"""Messages that somebody has to answer: none goes to a customer who has said goodbye."""


class Manners(msgspec.Struct, frozen=True):
    """How often an operator does otherwise: probabilities, each at its occasion. Assumed, not measured.

    `asks_all`: asks for all that is missing at once. `hastes`: books without having it confirmed, where there are no
    terms to tell. `slips`: takes a told value for another one (another option, or a word short of its last character)
    until the customer says it again. `pauses`: tells one thing and waits, though the customer asked for more.
    """

    asks_all: float = 0.0
    hastes: float = 0.0
    slips: float = 0.0
    pauses: float = 0.0


PERFECT = Manners()
PEOPLE = Manners(asks_all=0.3, hastes=0.05, slips=0.01, pauses=0.3)


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
    owes_result: bool = False
    chose: bool = False
    done: bool = False
    left: bool = False
    last: str = ""
    spoke: bool = False
    has_chosen: bool = False
    rows_offered: set[int] = field(default_factory=set)
    intents_offered: set[str] = field(default_factory=set)

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
        asked = [act.slot for act in said.acts if act.act == "REQUEST"]
        self.questions += [slot for slot in dict.fromkeys(asked) if slot not in self.questions]
        self.confirmed = "AFFIRM" in names and self.last in (self.desk.confirm, "say:alternative")
        if self.confirmed and self.last == "say:alternative":
            self.told.setdefault(self.service, {}).update(
                {slot: Act("INFORM", slot, (value,), (value,)) for slot, value in self.desk.alternative.items()}
            )
        self.owes_result = self.owes_result or "REQUEST_ALTS" in names
        self.chose = "SELECT" in names
        leaves = "NEGATE" in names and self.last in ("say:more", "say:failure", "say:success")
        self.left = "GOODBYE" in names
        self.done = self.left or (leaves and not names & {"INFORM", "INFORM_INTENT"})

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
        self.wish, self.must_open, self.owes_result = (service, intent), True, True

    def decide(self) -> Action | None:
        """The next action; None: the customer must be heard first."""
        action = self.choose()
        if action is not None:
            self.see(action)
        return action

    def refuse(self, action: Action, reason: str) -> None:
        """A clerk does only what is enabled. Raises InvalidActionError."""
        raise InvalidActionError(f"{action.tool} {action.control_id}: {reason}", where="clerk")

    def choose(self) -> Action | None:
        """What they would do now; None: the customer must be heard first."""
        if self.spoke and not (self.questions or self.last == GOODBYE):
            return None
        if self.spoke and self.questions and self.chance.random() < self.manners.pauses:
            return None
        options = list(self.list_acceptable())
        action = options[0]
        if self.spoke and self.last != GOODBYE and action not in self._list_answers():
            return None  # only answers follow a message
        if action.control_id.startswith("say:request:") and self.chance.random() < self.manners.asks_all:
            action = options[-1]
        if action.control_id == CONFIRM and self.chance.random() < self.manners.hastes:
            action = Action(Tool.CLICK_CONTROL, self.desk.submit)
        return action

    def accepts(self, action: Action) -> bool:
        """Whether schema and goal allow `action` now. A message is judged by its template, not by its text."""
        return msgspec.structs.replace(action, text="") in self.list_acceptable()

    def see(self, action: Action) -> None:
        """Take note of `action`, whoever does it: it is about to be done."""
        kind, _, rest = action.control_id.partition(":")
        match action.tool:
            case Tool.OPEN_PROCEDURE:
                self.must_open, self.confirmed, self.has_chosen = False, False, False
                self.rows_offered.clear()
            case Tool.CLICK_CONTROL if action.control_id in (SEARCH, BOOK):
                self.owes_result, self.confirmed, self.has_chosen = True, False, False
                self.rows_offered.clear()
            case Tool.CLICK_CONTROL if kind == "row":
                self.rows_offered.add(int(rest))
                self.has_chosen = True
            case Tool.SEND_TEXT_TO_CHAT:
                template, _, slot = rest.partition(":")
                if template == "inform" and slot in self.questions:
                    self.questions.remove(slot)
                elif template == "more" and self.questions:
                    self.questions.pop(0)  # which nothing on the screen answers
                if template in ("offer", "success", "failure", "alternative"):
                    self.owes_result = self.has_chosen = False
                if template == "offer-intent":
                    self.intents_offered.add(slot)
                self.last = action.control_id if not self.spoke else self.last
                self.spoke = True

    # --- what is acceptable ------------------------------------------------------------------------------------------
    def list_acceptable(self) -> Iterator[Action]:
        """The actions that schema and goal allow next, the preferred one first; one at least."""
        desk = self.desk
        if self.last == GOODBYE:
            yield Action(Tool.TRANSFER_CHAT if desk.has_failed else Tool.CLOSE_CHAT)
            return
        if self.must_open and self.wish is not None:
            yield Action(Tool.OPEN_PROCEDURE, "open:{}/{}".format(*self.wish))
            return
        steps = [step for step in self._list_steps() if not (self.left and step.control_id.startswith(ASKS))]
        options = list(self._list_fills()) or steps or list(self._list_answers())
        if options or self.done:
            yield from options or [_say(GOODBYE)]
            return
        intents = desk.service.intents if desk.service is not None and desk.row is not None and self.chose else ()
        for intent in intents:
            if intent.is_transactional and intent.name not in self.intents_offered and intent is not desk.intent:
                yield _say(f"say:offer-intent:{intent.name}")
        yield _say("say:more")

    def _list_fills(self) -> Iterator[Action]:
        """The told values that the form does not hold yet."""
        service = self.desk.service
        if service is None or service.service_name != self.service:
            return
        for slot, act in self.told.get(self.service, {}).items():
            known = service.slot(slot)
            if known is None or slot not in self.desk.fields:
                continue
            kind = find_kind(known)
            value = (act.canonical_values or act.values)[0] if kind is not ControlKind.INPUT else act.values[0]
            if self.desk.fields[slot] != value:
                yield Action(TOOL_OF_KIND[kind], f"slot:{slot}", value)

    def _list_steps(self) -> Iterator[Action]:
        """What the open form needs next: a value, a yes, a submit, or that its result be told."""
        desk = self.desk
        if desk.intent is None:
            return
        if missing := [slot for slot in desk.intent.required_slots if not desk.fields.get(slot)]:
            for slots in [[slot] for slot in missing] + ([missing] if len(missing) > 1 else []):
                yield _say(f"say:request:{'+'.join(slots)}")
        elif desk.can_submit:
            is_settled = self.confirmed or not desk.intent.is_transactional
            yield Action(Tool.CLICK_CONTROL, desk.submit) if is_settled else _say(desk.confirm)
        elif self.owes_result and desk.has_failed:
            yield _say("say:alternative" if desk.alternative else "say:failure")
        elif self.owes_result and desk.is_booked:
            yield _say("say:success")
        elif self.owes_result and desk.answer is not None and not desk.intent.is_transactional:
            yield from self._list_offers(desk.answer.rows)

    def _list_offers(self, rows: Sequence[dict[str, str]]) -> Iterator[Action]:
        """The chosen row said, else any row not offered yet; that there is no other, where there is none."""
        if self.has_chosen:
            yield _say("say:offer")
            return
        left = [number for number in range(len(rows)) if number not in self.rows_offered]
        yield from [Action(Tool.CLICK_CONTROL, f"row:{number}") for number in left] or [_say("say:failure")]

    def _list_answers(self) -> Iterator[Action]:
        """The answers to what was asked; that there is none, where the row says nothing of the first."""
        row = self.desk.row or {}
        answers = [_say(f"say:inform:{slot}") for slot in self.questions if slot in row]
        if self.questions:
            yield from answers or [_say("say:more")]


def _say(control_id: str) -> Action:
    return Action(Tool.SEND_TEXT_TO_CHAT, control_id)
