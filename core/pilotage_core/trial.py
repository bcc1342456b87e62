"""A trial: one session in closed loop, with a customer who answers and an outcome that is known. The contract between
whoever simulates sessions and whoever tries a policy in them; neither knows the other.

Trials are entry points of GROUP: `NAME:PATH`. Nothing here reaches a model but what a worker is shown.
"""

from collections.abc import Iterator
from typing import Protocol

import msgspec

from pilotage_core.actions import Action, ActionRules
from pilotage_core.events import Happening

GROUP = "pilotage.trials"
TRANSFERRED = "transferred"
"""How a session ended that another takes over."""


class TrialResult(msgspec.Struct, frozen=True):
    """How a session came out, whatever the path.

    `is_right`: the transactions are the goal's, what was asked was answered, the customer had finished. `books`: its
    goal has transactions. `wrong` and `missing` count transactions. `ended` is how: closed, transferred, timed out.
    """

    is_right: bool
    books: bool
    wrong: int
    missing: int
    ended: str


class Supervisor(Protocol):
    """An operator who looks on. Knows what the customer means, hears and sees what happens, and makes no errors."""

    def accepts(self, action: Action) -> bool:
        """Whether schema and goal allow `action` now."""
        ...

    def find_action(self) -> Action | None:
        """What they would do now; None: hear the customer."""
        ...

    def find_seconds(self, action: Action) -> float:
        """Their active time on it, as assumed."""
        ...


class Worker(Protocol):
    """Who works the session. What they do they write down themselves; what else happens they are shown."""

    def see(self, happening: Happening) -> None:
        """It happens: the session opens or closes, the customer writes, the screen changes."""
        ...

    def decide(self, supervisor: Supervisor) -> Action | None:
        """The next action; None: the customer must be heard first."""
        ...

    def refuse(self, action: Action, reason: str) -> None:
        """The BPM would not do `action`; nothing happened."""
        ...


class Trial(Protocol):
    """One session that can be played again and again."""

    @property
    def trial_id(self) -> str:
        """Its name, the same each time."""
        ...

    @property
    def begins(self) -> str:
        """When it begins on the simulation's calendar (RFC 3339)."""
        ...

    @property
    def rules(self) -> ActionRules:
        """What its process cluster says of its actions, where nobody says otherwise."""
        ...

    @property
    def operator(self) -> str:
        """Whose shift it is in."""
        ...

    def play(self, worker: Worker) -> TrialResult:
        """Play it from the beginning."""
        ...

    def play_alone(self) -> tuple[TrialResult, float]:
        """How it comes out where an operator works it alone, with haste and slips, and their active seconds."""
        ...


class TrialReader(Protocol):
    """What an entry point of GROUP leads to."""

    def __call__(self, path: str, *, process_cluster: str = ..., part: tuple[int, int] = ...) -> Iterator[Trial]:
        """The trials of `path` for `process_cluster` (empty: all); of `part` (i, n) every n-th from the i-th on."""
        ...
