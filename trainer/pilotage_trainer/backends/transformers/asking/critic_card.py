"""A critic and its card (critic.json): what makes a score of its answer, and acceptance rates to tell it.

Acceptance rates (side evidence) are a line before the mark that asks, made of the artefact alone. vLLM cannot write it:
such an artefact names an architecture that it refuses to load, so that it cannot answer anything else by mistake. Not
here: how a critic is trained (critic/job.py), the verdict token (inference.py), the score itself (core/score.py).
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import VERDICT_MARK, decode_action
from pilotage_core.errors import InvalidInputError
from pilotage_core.score import CRITIC_ALONE, ScoreRule
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.interface import CRITIC_FILE
from pilotage_trainer.backends.rates import Rates
from pilotage_trainer.backends.transformers.asking.export import load_transformer
from pilotage_trainer.backends.transformers.asking.inference import PROMPT_END, CriticModel, Proposal
from pilotage_trainer.failures import DamagedArtefactError

SERVED_BY_US = "PilotageServeOnly"
"""The architecture of what only pilotage-serve answers rightly."""


class Measure(StrEnum):
    """How sure a policy is of an action, out of the probabilities of its tokens."""

    WHOLE = "whole"  # of the whole sequence: their product
    MEAN = "mean"
    LEAST = "least"
    TOLD = "told"  # geometric mean among what the schema allows: what a gateway knows

    def of(self, proposal: Proposal) -> float:
        """That of `proposal`."""
        match self:
            case Measure.WHOLE:
                return proposal.whole_probability
            case Measure.MEAN:
                return proposal.mean_probability
            case Measure.LEAST:
                return proposal.least_probability
            case Measure.TOLD:
                return proposal.confidence


class CriticCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """critic.json. `source` is that of `rule`, in a word; `rates` where acceptance rates stand in the prompt."""

    source: ScoreSource = ScoreSource.CRITIC
    rule: ScoreRule = CRITIC_ALONE
    rates: Rates | None = None


class CardedCritic(CriticModel):
    """A critic that is told what its card holds."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manifest: Manifest | None, card: CriticCard
    ) -> None:
        super().__init__(model, tokenizer, manifest)
        self.card = card

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "CardedCritic":
        """The critic at `folder`, its digests checked. Raises DamagedArtefactError, SplitLabelError."""
        return cls(*load_transformer(folder, "critic", device), read_card(folder))

    def read_labels(self, parts: Sequence[tuple[str, str]], labels: Sequence[int]) -> list[list[float]]:
        """As CriticModel, the acceptance rates of each query told."""
        return super().read_labels([(query, self._ask(query, item)) for query, item in parts], labels)

    def _ask(self, query: str, item: str) -> str:
        """`item`, after what is known of actions like this one."""
        if self.card.rates is None or item != VERDICT_MARK:
            return item
        return tell_rates(self.card.rates, query) + item


def read_card(folder: Path) -> CriticCard:
    """The card of the critic at `folder`; a plain one where it has none. Raises DamagedArtefactError."""
    path = folder / CRITIC_FILE
    if not path.exists():
        return CriticCard()
    try:
        return msgspec.json.decode(path.read_bytes(), type=CriticCard)
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no critic's card: {error}", where=str(path)) from error


# --- side evidence ----------------------------------------------------------------------------------------------------
def tell_rates(rates: Rates, query: str) -> str:
    """The line that says how often operators accepted actions like the one at the end of `query`."""
    _, tool, screen, group = rates.of(build_rate_contexts(query))
    return f"\n& accepted {tool:.2f} {screen:.2f} {group:.2f}"


def build_rate_contexts(query: str) -> tuple[str, ...]:
    """The contexts of the action at the end of `query` whose rates are known: all; its tool; on its screen; its group.

    Operators are not in a dialog. Their group is what routes cases: the line of the case. Raises InvalidInputError.
    """
    prompt, _, action = query.rpartition(PROMPT_END)
    try:
        tool = decode_action(action).tool
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"does not end with a proposed action: {error}", where="query") from error
    screens = (line for line in reversed(prompt.split("\n")) if line.startswith(("% ", "%! ")))
    screen = next(screens, "").partition(" ")[2]
    return "", tool, f"{tool}\t{screen}", f"{tool}\t{screen}\t{prompt.partition(chr(10))[0]}"


def count_rates(labels: Iterable[tuple[str, bool, float]]) -> Rates:
    """The rates of queries with their labels and weights."""
    tables: tuple[dict[str, tuple[float, float]], ...] = ({}, {}, {}, {})
    for query, is_accepted, weight in labels:
        for table, context in zip(tables, build_rate_contexts(query), strict=True):
            accepted, n = table.get(context, (0.0, 0.0))
            table[context] = (accepted + weight * is_accepted, n + weight)
    return Rates(tables)
