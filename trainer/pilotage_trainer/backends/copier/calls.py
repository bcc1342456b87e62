"""What a customer's turn calls for: the chance of each action that was ever the answer to one, by its words.

A call is an action without what is copied: a control, and the value where it is chosen or is not in anyone's words.
Not here: what is typed as it was said (spans.py), what of it comes next (ranking.py).
"""

from functools import lru_cache

from pilotage_core.actions import VALUE_TOOLS, Action, Tool
from pilotage_trainer.backends.copier.hearing import list_ngrams
from pilotage_trainer.backends.copier.linear import Linear, StoredLinear

LEAST_CHANCE = 0.01
ANY = "any"
"""Stands for tool and control where a call is named by its value alone: what is said alike for many fields."""
OPENING = Tool.OPEN_PROCEDURE.value
REMEMBERED = 20_000


def name_call(action: Action) -> str:
    """The call that `action` answers. Which procedure is opened is openings.py's to say."""
    if action.tool is Tool.OPEN_PROCEDURE:
        return OPENING
    value = f"={action.value}" if action.tool in VALUE_TOOLS else ""
    return f"{action.tool} {action.control_id}{value}"


def name_value(action: Action) -> str:
    """The call for this value, whatever the field."""
    return f"{ANY} *={action.value}"


def _split_value(call: str) -> tuple[str, str]:
    """The control and value of a call."""
    name, _, value = call.partition(" ")[2].partition("=")
    return name, value


class Calls:
    """A fitted model of what is called for."""

    def __init__(self, stored: StoredLinear) -> None:
        self.linear = Linear(stored)
        self.options = {(name, value.casefold()): value for name, value in map(_split_value, stored.kinds) if value}
        self.find = lru_cache(maxsize=REMEMBERED)(self._find)
        self.find_values = lru_cache(maxsize=REMEMBERED)(self._find_values)

    def _find(self, text: str, reply: str) -> dict[str, float]:
        chances = self.linear.chances(list_ngrams(text, reply))
        return {self.linear.kinds[i]: float(chances[i]) for i in (chances > LEAST_CHANCE).nonzero()[0]}

    def _find_values(self, text: str, reply: str) -> tuple[tuple[tuple[str, str, str], float], ...]:
        """Those calls that are for a value: tool, control and value of each, and its chance."""
        found = []
        for call, chance in self.find(text, reply).items():
            name, value = _split_value(call)
            if value:
                found.append(((call.partition(" ")[0], name, value), chance))
        return tuple(found)
