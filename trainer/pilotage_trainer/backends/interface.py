"""What every backend does: learns a policy and a critic, opens them, and what they then answer.

Not here: which backends there are (open.py), the wire (vllm.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from pilotage_core.actions import Action
from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import encode_judged
from pilotage_core.score import CRITIC_ALONE, ScoreRule
from pilotage_core.wire import JobResult
from pilotage_trainer.artefact import Maker, Manifest
from pilotage_trainer.config import JobConfig
from pilotage_trainer.window import Window

Ask = tuple[str, dict[str, Any] | None]
"""A prompt and the schema of what may be answered (None: anything)."""


class ScoreCard(msgspec.Struct, frozen=True):
    """What every backend's critic.json says: what a score is, and what makes it of critic and confidence."""

    source: ScoreSource = ScoreSource.CRITIC
    rule: ScoreRule = CRITIC_ALONE


@dataclass(frozen=True)
class Answer:
    """A reply with its tokens, each with its log probability, as vLLM tells them."""

    text: str
    tokens: tuple[tuple[str, float], ...]
    prompt_tokens: int
    finished: bool = True


class Reply(msgspec.Struct, frozen=True):
    """What a policy says at a point, and how sure it is of it.

    `confidence` is what a gateway is told (exp of the mean log probability of its tokens), `mean`, `least` and `whole`
    are the mean and least probability of a token and that of the whole reply. A count model's reply is one token.
    """

    text: str
    confidence: float = 0.0
    mean: float = 0.0
    least: float = 0.0
    whole: float = 0.0


class Served(Protocol):
    """A model of any backend."""

    @property
    def manifest(self) -> Manifest:
        """What it came with."""
        ...

    @property
    def busy(self) -> bool:
        """Whether its answers take so long that they are made off the event loop."""
        ...

    @property
    def longest(self) -> int:
        """The longest text it reads, in its tokens."""
        ...

    def tokenize(self, text: str) -> list[int]:
        """The ids of the tokens of `text`. Raises ValueError where it has none."""
        ...


class AnyPolicy(Served, Protocol):
    """A policy of any backend."""

    def propose_many(self, asks: Sequence[Ask]) -> list[tuple[str, float]]:
        """The reply to each prompt and its confidence. Raises ValueError or InvalidInputError."""
        ...

    def answer(self, prompt: str, schema: dict[str, Any] | None, max_tokens: int) -> Answer:
        """The reply to `prompt`, token by token. Raises ValueError or InvalidInputError."""
        ...

    def reply_many(self, asks: Sequence[Ask]) -> list[Reply]:
        """The reply to each prompt with every kind of confidence; an empty one where the prompt is too long."""
        ...


class AnyCritic(Served, Protocol):
    """A critic of any backend."""

    @property
    def card(self) -> ScoreCard:
        """What its score is."""
        ...

    @property
    def vocabulary(self) -> int:
        """Label ids are below it."""
        ...

    def score_many(self, queries: Sequence[str]) -> list[float]:
        """P(accept) of the action at the end of each query. Raises ValueError or InvalidInputError."""
        ...

    def weigh(self, parts: Sequence[tuple[str, str]], labels: Sequence[int], apply_softmax: bool) -> list[float]:
        """P of the first of `labels` after each pair of texts: among them (softmax), or of the whole vocabulary.

        Raises ValueError or InvalidInputError.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """How long `text` is (of a count model: in lines)."""
        ...


# --- choosing among labels --------------------------------------------------------------------------------------------
NO_LABEL = ""


@dataclass(frozen=True)
class Choice:
    """One point: the dialog so far, the label of what the wizard did, and the action of each label on the screen."""

    prompt: str
    label: str
    offered: dict[str, Action]


@dataclass(frozen=True)
class Chosen:
    """A policy's best label at a point, and its probability: of the whole action, among all that the policy may say."""

    label: str
    confidence: float


class Chooser(Protocol):
    """A policy, asked for the best of what is offered."""

    def choose(self, choices: Sequence[Choice]) -> list[Chosen]:
        """The best label at each of one session's `choices`, in their order."""
        ...


# --- learning ---------------------------------------------------------------------------------------------------------
class LearningOptions(msgspec.Struct, frozen=True):
    """What only some backends take: a ready data set, an earlier revision's weights, processes, a time of its own."""

    dataset: Path | None = None
    start_from: str = ""
    processes: int = 1
    time_budget_seconds: int = 0


class Backend(Protocol):
    """A way to learn and to answer. Each imports what it needs only when it is asked."""

    @property
    def name(self) -> str:
        """What manifests and `--backend` call it."""
        ...

    def find_maker(self) -> Maker:
        """This backend, and the identity of its code."""
        ...

    def prepare(self, options: LearningOptions) -> None:
        """Start what learning needs (processes). Raises InvalidInputError for an option that it does not take."""
        ...

    def learn_policy(self, window: Window, config: JobConfig, options: LearningOptions) -> JobResult:
        """The policy Job."""
        ...

    def learn_critic(self, window: Window, config: JobConfig) -> JobResult:
        """The critic Job, for the revision's policy."""
        ...

    def open_policy(self, folder: Path) -> AnyPolicy:
        """The policy at `folder`, digests checked. Raises DamagedArtefactError."""
        ...

    def open_critic(self, folder: Path) -> AnyCritic:
        """The critic at `folder`, digests checked. Raises DamagedArtefactError."""
        ...

    def open_chooser(self, folder: Path) -> Chooser:
        """The policy at `folder`, asked for the best of what is offered. Raises DamagedArtefactError."""
        ...


# --- critics ----------------------------------------------------------------------------------------------------------
CRITIC_FILE = "critic.json"


def build_query(prompt: str, action: Action) -> str:
    """What a critic is asked about: the prompt, continued with the action whole, as it would run."""
    return prompt + encode_judged(action)
