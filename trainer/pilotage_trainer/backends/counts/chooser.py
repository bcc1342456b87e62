"""A count model's choices among labels: the likeliest step among those that are offered."""

from collections.abc import Sequence

from pilotage_trainer.backends.counts.policy import Policy
from pilotage_trainer.backends.interface import NO_LABEL, Choice, Chosen
from pilotage_trainer.backends.situation import read_points
from pilotage_trainer.sessions.steps import name_step


class CountsChooser:
    """The likeliest step among those that are labels."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def choose(self, choices: Sequence[Choice]) -> list[Chosen]:
        """The best label at each of one session's `choices`, in their order."""
        found = []
        for choice, situation in read_points(choices):
            mixed = self.policy.predict(situation).mixed
            shares = {label: mixed.get(name_step(action), 0.0) for label, action in choice.offered.items()}
            best = max(shares, key=shares.__getitem__, default=NO_LABEL)
            found.append(Chosen(best, shares.get(best, 0.0)))
        return found
