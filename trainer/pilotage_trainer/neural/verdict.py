"""What a served critic answers, told by its card (critic.json): the verdict token, or the policy's own confidence.

Where a critic did not beat confidence, its artefact holds the policy's weights, and the score is the probability of the
action's own tokens. Acceptance rates (side evidence) are a line before the mark that asks, made of the artefact alone.
vLLM can do neither: such an artefact names an architecture that it refuses to load, so that it cannot answer anything
else by mistake. Not here: how a critic is trained (critic_job.py), the plain verdict token (inference.py).
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import VERDICT_MARK, decode_action
from pilotage_core.errors import InvalidInputError
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.critic import Rates
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.models import CRITIC_FILE
from pilotage_trainer.neural.export import load_transformer
from pilotage_trainer.neural.inference import AT_ONCE, PROMPT_END, CriticModel, Proposal, Reader, find_chains

SERVED_BY_US = "PilotageServeOnly"
"""The architecture of what only pilotage-serve answers rightly."""
LEAST = 1e-12
"""Probabilities are kept this far from 0 and 1, so that both have a logarithm."""


class Measure(StrEnum):
    """How sure a policy is of an action, out of the probabilities of its tokens."""

    WHOLE = "whole"  # of the whole sequence: their product
    MEAN = "mean"
    LEAST = "least"

    def of(self, proposal: Proposal) -> float:
        """That of `proposal`."""
        match self:
            case Measure.WHOLE:
                return proposal.whole_probability
            case Measure.MEAN:
                return proposal.mean_probability
            case Measure.LEAST:
                return proposal.least_probability


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """critic.json: what the score is. `rates` where acceptance rates stand in the prompt."""

    source: ScoreSource = ScoreSource.CRITIC
    measure: Measure = Measure.WHOLE
    rates: Rates | None = None

    @property
    def is_plain(self) -> bool:
        """Whether any server of the weights gives the score."""
        return self.source is ScoreSource.CRITIC and self.rates is None


class Verdict(CriticModel):
    """A critic that answers what its card says."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, manifest: Manifest | None, card: Card
    ) -> None:
        super().__init__(model, tokenizer, manifest)
        self.card = card

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Verdict":
        """The critic at `folder`, its digests checked. Raises DamagedArtefactError, SplitLabelError."""
        return cls(*load_transformer(folder, "critic", device), read_card(folder))

    def read_labels(self, parts: Sequence[tuple[str, str]], labels: Sequence[int]) -> list[list[float]]:
        """As CriticModel; where the score is confidence, accept has it, reject the rest, all else nothing."""
        if self.card.source is ScoreSource.CRITIC:
            return super().read_labels([(query, self._ask(query, item)) for query, item in parts], labels)
        found = []
        for proposal in score_replies(self, [query for query, _ in parts]):
            p = min(max(self.card.measure.of(proposal), LEAST), 1.0 - LEAST)
            logprobs = dict(zip(self.labels, (math.log(p), math.log1p(-p)), strict=True))
            found.append([logprobs.get(label, -math.inf) for label in labels])
        return found

    def _ask(self, query: str, item: str) -> str:
        """`item`, after what is known of actions like this one."""
        if self.card.rates is None or item != VERDICT_MARK:
            return item
        return tell_rates(self.card.rates, query) + item


def read_card(folder: Path) -> Card:
    """The card of the critic at `folder`; a plain one where it has none. Raises DamagedArtefactError."""
    path = folder / CRITIC_FILE
    if not path.exists():
        return Card()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Card)
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no critic's card: {error}", where=str(path)) from error


def score_replies(reader: Reader, queries: Sequence[str]) -> list[Proposal]:
    """Each query (a prompt and an action) as if `reader`, a policy, had replied with that action. In their order.

    Sessions are read once. Raises InvalidInputError where a query holds no action.
    """
    cuts = [query.rfind(PROMPT_END) + len(PROMPT_END) for query in queries]
    for query, cut in zip(queries, cuts, strict=True):
        if cut < len(PROMPT_END) or cut == len(query):
            raise InvalidInputError("does not end with a proposed action", where="query")
    found: dict[int, Proposal] = {}
    for chain in find_chains([query[:cut] for query, cut in zip(queries, cuts, strict=True)]):
        encoded = reader.encode_chain([queries[index][: cuts[index]] for index in chain])
        replies = [queries[index][cuts[index] :] for index in chain]
        tails = [[*ids, reader.tokenizer.eos_token_id] for ids in reader.encode(replies)]
        trunk = reader.find_trunk(encoded[-1])
        first = torch.log_softmax(trunk.read(encoded[-1], [len(ids) for ids in encoded]), dim=-1)
        for start in range(0, len(chain), AT_ONCE):
            part = range(start, min(start + AT_ONCE, len(chain)))
            branches = [trunk.branch(len(encoded[i])) for i in part]
            grown = torch.log_softmax(trunk.grow_each(branches, [tails[i][:-1] for i in part]), dim=-1)
            trunk.cut()
            for i, rows in zip(part, grown.split([len(tails[i]) - 1 for i in part]), strict=True):
                later = rows.gather(1, torch.tensor(tails[i][1:], device=rows.device)[:, None])[:, 0].tolist()
                logprobs = (float(first[i, tails[i][0]]), *later)
                found[chain[i]] = Proposal(replies[i], tuple(tails[i]), logprobs, len(encoded[i]), finished=True)
    return [found[index] for index in range(len(queries))]


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
