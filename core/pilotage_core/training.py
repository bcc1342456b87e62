"""How transformers are trained: the one set of settings that the PolicyCritic resource and the trainer share
(pretraining and preferences are the trainer's alone).

Defaults are Table 5 of the paper where it says something. Decimals are strings in a resource ("2e-6"), as the API
conventions ask, and floats for whoever reads them here; names are camelCase outside, snake_case inside. The CEL rules
are what the API server checks; the trainer checks the same. Not here: the base model's name (a field beside these), a
Job's size (operator/api/policy_critic.py), the settings of the count models (trainer/config.py).
"""

from decimal import Decimal
from enum import StrEnum
from math import inf
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, SnapshotKind

LEAST_CHARS, MOST_CHARS = 1_000, 10_000_000
"""Bounds of a dialog's limit: a screen or two, and more than any model reads."""
BASE_MODEL = "Qwen/Qwen2.5-7B-Instruct"
"""What the paper fine-tunes. An empty name stands for a model from scratch, of a `Shape`."""


def _read_decimal(given: object) -> object:
    return float(given) if isinstance(given, str) else given


def write_decimal(value: float) -> str:
    """A decimal as a resource holds it: without an exponent, which Go's YAML would read as a number, quotes or not."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _rules(*rules: tuple[str, str]) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


def _positive(value: float) -> float:
    if not 0.0 < value < inf:
        raise ValueError("must be above 0, and finite")
    return value


_TEXT = {"type": "string", "maxLength": 20, "pattern": r"^[0-9]+(\.[0-9]+)?(e-?[0-9]{1,2})?$"}
_AS_TEXT = PlainSerializer(write_decimal, return_type=str, when_used="json")
_ABOVE = _rules(("double(self) > 0.0", "must be above 0"))
_BELOW = _rules(("double(self) < 1.0", "must be below 1"))
_UP_TO = _rules(("double(self) <= 1.0", "must be at most 1"))

Number = Annotated[
    float, BeforeValidator(_read_decimal), Field(ge=0, allow_inf_nan=False), _AS_TEXT, WithJsonSchema(_TEXT)
]
"""At least 0."""
Positive = Annotated[
    float, BeforeValidator(_read_decimal), AfterValidator(_positive), _AS_TEXT, WithJsonSchema(_TEXT | _ABOVE)
]
Share = Annotated[float, BeforeValidator(_read_decimal), Field(ge=0, le=1), _AS_TEXT, WithJsonSchema(_TEXT | _UP_TO)]
"""In [0, 1]."""
Momentum = Annotated[float, BeforeValidator(_read_decimal), Field(ge=0, lt=1), _AS_TEXT, WithJsonSchema(_TEXT | _BELOW)]
"""In [0, 1)."""
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountOrNone = Annotated[int, Field(ge=0, le=1_000_000_000)]


class Settings(BaseModel):
    """Frozen, nothing unknown; camelCase and snake_case are both read."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, use_attribute_docstrings=True
    )


class Shape(Settings):
    """A Qwen2 from scratch, for where there is no base model: CI, small processes, machines without a GPU.

    Embeddings are tied.
    """

    model_config = ConfigDict(
        json_schema_extra=_rules(
            ("self.hidden % self.heads == 0", "hidden must be a multiple of heads"),
            ("(self.hidden / self.heads) % 2 == 0", "hidden / heads must be even: positions rotate pairs"),
            ("self.heads % self.keyValueHeads == 0", "heads must be a multiple of keyValueHeads"),
        )
    )

    hidden: Annotated[int, Field(ge=16, le=16384)] = 256
    """The width of the model."""
    layers: Annotated[int, Field(ge=1, le=256)] = 4
    """Blocks of attention and feed-forward."""
    heads: Annotated[int, Field(ge=1, le=256)] = 4
    """Query heads (the paper's models have 64 to 128 of the width each)."""
    key_value_heads: Annotated[int, Field(ge=1, le=256)] = 2
    """Shared by the query heads."""
    intermediate: Annotated[int, Field(ge=16, le=65536)] = 688
    """The width of the feed-forward part."""
    vocabulary: Annotated[int, Field(ge=300, le=1_000_000)] = 4096
    """Bounds the tokenizer that is learned from the data."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} over {self.heads} heads gives no even head size")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is no multiple of keyValueHeads {self.key_value_heads}")
        return self


class Balancing(StrEnum):
    """What of a window's actions is learned from. natural: all, as they came. screen, tool: no screen or tool has more
    loss than an even share.
    """

    NATURAL = "natural"  # all, as they came
    SCREEN = "screen"  # as many from each screen
    TOOL = "tool"  # as many of each tool


class DatasetSettings(Settings):
    """What a policy's training sequences are made of. Mix by ratio or by count, not both."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            ("double(self.logsPerRejection) == 0.0 || self.rejections == 0", "mix by ratio or by count, not both")
        )
    )

    snapshot: SnapshotKind = DEFAULT_FORMAT.snapshot
    """How a changed screen is written, by gateways too: compact, difference or whole."""
    max_chars: Annotated[int, Field(ge=LEAST_CHARS, le=MOST_CHARS)] = DEFAULT_FORMAT.max_chars
    """Beyond that a dialog is trimmed, by gateways too."""
    logs_per_rejection: Number = 0.0
    """Logged actions to each corrected proposal (0: all of both)."""
    rejections: CountOrNone = 0
    """At most that many corrected proposals, the newest (0: all)."""
    balancing: Balancing = Balancing.NATURAL
    """What of a window's actions is learned from. natural: all, as they came. screen, tool: no screen or tool has more
    loss than an even share.
    """
    max_tokens: Annotated[int, Field(ge=64, le=1_048_576)] = 32_768
    """Bounds a sequence and a packed row (Table 5: 32,768)."""
    seed: CountOrNone = 0
    """The seed of mixing and balancing."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.logs_per_rejection and self.rejections:
            raise ValueError("mix by ratio (logsPerRejection) or by count (rejections), not both")
        return self

    @property
    def form(self) -> DialogFormat:
        """How dialogs are written: trimmed in blocks of a third."""
        return DialogFormat(self.snapshot, self.max_chars, self.max_chars // 3)


class Precision(StrEnum):
    """What forward and backward passes compute in; weights and optimiser state stay 32 bits wide."""

    BF16 = "bf16"
    FP32 = "fp32"


class Sharding(StrEnum):
    """What several processes keep of the model. full: a share each (FSDP2). none: all of it (DDP)."""

    FULL = "full"  # FSDP2: weights, gradients and optimiser state are shared out
    NONE = "none"  # each keeps all of it (DDP)


class BatchUnit(StrEnum):
    """What a batch is counted in."""

    ROWS = "rows"  # packed, each of many sequences
    SEQUENCES = "sequences"  # sessions, by their mean in a row


class Optimizer(StrEnum):
    """What turns gradients into steps."""

    DECOUPLED_ADAMW = "decoupledAdamW"  # the paper's
    MUON = "muon"  # for the hidden layers' matrices (Jordan et al. 2024), AdamW for the rest: models from scratch


class Lora(Settings):
    """Low-rank adapters instead of all weights (Hu et al. 2021)."""

    rank: Annotated[int, Field(ge=0, le=1024)] = 0
    """The rank of the adapters. 0: there are none, all weights are trained."""
    alpha: Positive = 32.0
    """`alpha` / `rank` scales what the adapters add."""
    dropout: Momentum = 0.0
    """Dropout of what goes into the adapters."""
    targets: Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=32)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the modules that get one."""


class Optimisation(Settings):
    """One run of an optimiser: batches, AdamW, schedule, evaluation, checkpoints, processes."""

    model_config = ConfigDict(
        json_schema_extra=_rules(
            ("self.globalBatch % self.microBatch == 0", "globalBatch must be a multiple of microBatch")
        )
    )

    epochs: Annotated[int, Field(ge=1, le=1000)] = 2
    """Passes over the data."""
    global_batch: Annotated[int, Field(ge=1, le=65536)] = 32
    """Packed rows in a batch, over all processes."""
    batch_in: BatchUnit = BatchUnit.ROWS
    """rows: globalBatch counts packed rows. sequences: as many rows as hold globalBatch sequences on average, which is
    what the paper's 32 are; with rows of ten sequences that is a tenth of the batch, and ten times the steps.
    """
    micro_batch: Annotated[int, Field(ge=1, le=4096)] = 1
    """Rows that a process takes at a time."""
    clip: Positive = 2.0
    """The largest norm of a batch's gradient."""
    optimizer: Optimizer = Optimizer.DECOUPLED_ADAMW
    """What turns gradients into steps. Muon learns a small model from scratch in a third of the tokens; it steps whole
    matrices, so it does not go with sharding `full` over several processes.
    """
    learning_rate: Positive = 2e-6
    """The learning rate at its peak."""
    beta_1: Momentum = 0.9
    """AdamW's decay of the first moment."""
    beta_2: Momentum = 0.95
    """AdamW's decay of the second moment."""
    epsilon: Positive = 1e-8
    """AdamW's term that keeps its denominator from 0."""
    weight_decay: Number = 1e-7
    """Decoupled (Loshchilov & Hutter 2019): weights shrink by this times the schedule, whatever the learning rate."""
    warm_up_batches: CountOrNone = 500
    """The learning rate rises over so many batches, a quarter of the run at most."""
    final_share: Share = 0.1
    """Then it falls as a cosine to this share of its peak."""
    evaluate_every: Count = 500
    """Batches between looks at the development loss; a checkpoint becomes a candidate for serving then."""
    evaluation_batches: Count = 20
    """Development batches that are looked at."""
    candidates: Annotated[int, Field(ge=1, le=100)] = 4
    """The best so many are judged for serving."""
    checkpoint_every: CountOrNone = 100
    """Batches between checkpoints that are only for resuming (0: no more often than candidates)."""
    keep_checkpoints: Annotated[int, Field(ge=1, le=100)] = 2
    """How many of the newest checkpoints are kept."""
    time_budget_seconds: CountOrNone = 0
    """Shortens the schedule to what fits (0: none)."""
    precision: Precision = Precision.BF16
    """What forward and backward passes compute in."""
    sharding: Sharding = Sharding.FULL
    """What several processes keep of the model. full: a share each (FSDP2). none: all of it (DDP)."""
    sharded_state_dict: bool = True
    """Each process writes its own part of a checkpoint (sharding `full`)."""
    activation_checkpointing: bool = True
    """Activations are computed again instead of kept."""
    backward_prefetch: bool = True
    """The next block's weights are fetched early (sharding `full`)."""
    forward_prefetch: bool = True
    """The same in the forward pass."""
    lora: Lora = Lora()
    """Low-rank adapters instead of all weights."""
    seed: CountOrNone = 0
    """The seed of everything that is drawn in training."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.global_batch % self.micro_batch:
            raise ValueError(f"globalBatch {self.global_batch} is no multiple of microBatch {self.micro_batch}")
        return self


class PolicyTraining(Optimisation):
    """Supervised fine-tuning of the policy: Table 5 as it stands, with loss on actions only."""

    text_weight: Share = 0.0
    """How much the rest of the dialog counts beside the actions at the start, falling to nothing at the end. A model
    from scratch learns the language from it (0.5); a base model knows it (0).
    """


class PretrainTraining(Optimisation):
    """Domain-adaptive pretraining on plain text, before the policy; loss on every token."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """Passes over the data."""
    learning_rate: Positive = 1e-5
    """The learning rate at its peak."""


class GradeWeights(Settings):
    """How much a rejection of each grade weighs in the critic's loss; an unedited accept weighs 1."""

    acceptable: Share = 0.0
    """The weight where the proposal was not wrong. The counts backend has 0.25 here, and no setting."""
    minor_edits: Share = 0.5
    """The weight where little was wrong."""
    incorrect: Share = 1.0
    """The weight where the proposal was wrong."""
    missing_verification: Share = 1.0
    """The weight where a check was left out."""
    wrong_route: Share = 1.0
    """The weight where the case belonged elsewhere."""
    ungraded: Share = 1.0
    """The weight of a rejection without a grade."""


class CriticTraining(Optimisation):
    """Fine-tuning of the critic from the policy's checkpoint, on one token: accept or reject."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """Passes over the data."""
    warm_up_batches: CountOrNone = 50
    """The learning rate rises over so many batches, a quarter of the run at most."""
    evaluate_every: Count = 100
    """Batches between candidates."""
    grades: GradeWeights = GradeWeights()
    """How much a rejection weighs."""
    side_evidence: bool = False
    """Cross-fitted acceptance rates by tool, screen and operator group stand in the prompt."""
    folds: Annotated[int, Field(ge=2, le=20)] = 4
    """Parts they are cross-fitted in."""
    replayed: bool = True
    """The policy's proposals are replayed on recorded states for labels; live feedback joins where there is some."""


class PreferenceLoss(StrEnum):
    """Rafailov et al. 2023; D'Oosterlinck et al. 2024."""

    DPO = "dpo"
    APO_ZERO = "apo_zero"
    APO_DOWN = "apo_down"


class PreferenceTraining(Optimisation):
    """Preference optimisation on single-step pairs from overrides: an ablation."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    """Passes over the pairs."""
    learning_rate: Positive = 5e-7
    """The learning rate at its peak."""
    warm_up_batches: CountOrNone = 50
    """The learning rate rises over so many batches."""
    loss: PreferenceLoss = PreferenceLoss.DPO
    """The loss: DPO, APO-zero or APO-down."""
    beta: Positive = 0.1
    """How strongly the policy is held to the reference."""


class TransformersSettings(Settings):
    """All that a resource tells the backend `transformers`, in the order data meets it."""

    shape: Shape = Shape()
    """The model, where there is no base model."""
    dataset: DatasetSettings = DatasetSettings()
    """What training sequences are made of."""
    policy: PolicyTraining = PolicyTraining()
    """Fine-tuning of the policy."""
    critic: CriticTraining = CriticTraining()
    """Fine-tuning of the critic, from the policy's weights."""
