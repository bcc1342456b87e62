"""One dialogue played in closed loop: a customer, an operator, the desk between them, and how it came out."""

from collections import Counter
from random import Random
from typing import Protocol

import msgspec

from pilotage_core.actions import Action, Tool
from pilotage_core.errors import InvalidActionError
from pilotage_simulator.desk.clerk import PERFECT, Clerk, Manners
from pilotage_simulator.desk.customer import Customer, Said, read_goal
from pilotage_simulator.desk.desk import Desk
from pilotage_simulator.desk.effort import find_seconds
from pilotage_simulator.desk.outcome import Outcome, judge
from pilotage_simulator.desk.services import build_services
from pilotage_simulator.desk.sgd import Act, Dialogue, Schema

MOST_ACTIONS = 200
"""A session with more of them, or of the customer's turns, has timed out."""


class Operator(Protocol):
    """Who works the session."""

    def hear(self, said: Said) -> None:
        """Take in what the customer says."""
        ...

    def decide(self) -> Action | None:
        """The next action; None: the customer must be heard first."""
        ...

    def refuse(self, action: Action, reason: str) -> None:
        """The desk did not do `action`."""
        ...


class Witness:
    """Who sees the session happen; this one lets it pass."""

    def see_customer(self, text: str) -> None:
        """The customer has said `text`."""

    def see_desk(self, desk: Desk) -> None:
        """The desk is as it is now."""

    def see_action(self, action: Action) -> None:
        """The operator acts."""


def play(
    dialogue: Dialogue,
    schema: Schema,
    witness: Witness | None = None,
    manners: Manners = PERFECT,
    seed: int = 7,
    has_terms: bool = False,
) -> Outcome:
    """Play `dialogue` with the simulated operator alone. The same `seed` gives the same session."""
    desk = Desk(build_services(dialogue, schema), has_terms=has_terms)
    clerk = Clerk(desk, manners, Random(f"{seed}:{dialogue.dialogue_id}"))
    return play_at(desk, dialogue, clerk, witness or Witness())


def play_at(desk: Desk, dialogue: Dialogue, operator: Operator, witness: Witness) -> Outcome:
    """Play `dialogue` at `desk`: `operator` works it, `witness` sees it. What is not enabled is refused."""
    customer = Customer(*read_goal(dialogue))
    done: Counter[Tool] = Counter()
    seconds = 0.0
    witness.see_desk(desk)
    said = customer.begin()
    for _ in range(MOST_ACTIONS):
        witness.see_customer(said.text)
        operator.hear(said)
        heard: list[Act] = []
        while not desk.closed and done.total() < MOST_ACTIONS and (action := operator.decide()) is not None:
            text = desk.find_text(action.control_id) if action.tool is Tool.SEND_TEXT_TO_CHAT else ""
            witness.see_action(msgspec.structs.replace(action, text=text))
            done[action.tool] += 1
            try:
                message = desk.act(action)
            except InvalidActionError as refusal:
                operator.refuse(action, str(refusal))
                continue
            seconds += find_seconds(action)
            heard += message.acts if message is not None else ()
            if not desk.closed:
                witness.see_desk(desk)
        if desk.closed or done.total() >= MOST_ACTIONS:
            customer.listen(heard)
            break
        said = customer.hear(heard)
    return judge(dialogue, desk.services.schema, desk, customer, done, seconds)
