"""How transformers are trained: the one set of settings that the PolicyCritic resource and the trainer share.

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

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat, Snapshot

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

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Shape(Settings):
    """A Qwen2 from scratch, for where there is no base model: CI, small processes, machines without a GPU.

    `hidden` is the width, of `heads` query heads (the paper's models use 64 to 128 a head) over `key_value_heads`;
    the feed-forward part is `intermediate` wide. `vocabulary` bounds the tokenizer that is learned from the data.
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
    layers: Annotated[int, Field(ge=1, le=256)] = 4
    heads: Annotated[int, Field(ge=1, le=256)] = 4
    key_value_heads: Annotated[int, Field(ge=1, le=256)] = 2
    intermediate: Annotated[int, Field(ge=16, le=65536)] = 688
    vocabulary: Annotated[int, Field(ge=300, le=1_000_000)] = 4096

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError(f"hidden {self.hidden} over {self.heads} heads gives no even head size")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is no multiple of keyValueHeads {self.key_value_heads}")
        return self


class Balancing(StrEnum):
    """What of a window's actions is learned from."""

    NATURAL = "natural"  # all, as they came
    SCREEN = "screen"  # as many from each screen
    TOOL = "tool"  # as many of each tool


class DatasetSettings(Settings):
    """What a policy's training sequences are made of.

    `logs_per_rejection`: how many logged actions there are for each corrected proposal (0: all of both).
    `rejections`: at most that many corrected proposals, the newest (0: all). One of the two at most. `max_tokens`
    bounds a sequence and a packed row (Table 5: 32,768). `snapshot` and `max_chars` (what a dialog is trimmed beyond)
    are how dialogs are written, by gateways too.
    """

    model_config = ConfigDict(
        json_schema_extra=_rules(
            ("double(self.logsPerRejection) == 0.0 || self.rejections == 0", "mix by ratio or by count, not both")
        )
    )

    snapshot: Snapshot = DEFAULT_FORMAT.snapshot
    max_chars: Annotated[int, Field(ge=LEAST_CHARS, le=MOST_CHARS)] = DEFAULT_FORMAT.max_chars
    logs_per_rejection: Number = 0.0
    rejections: CountOrNone = 0
    balancing: Balancing = Balancing.NATURAL
    max_tokens: Annotated[int, Field(ge=64, le=1_048_576)] = 32_768
    seed: CountOrNone = 0

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
    """What several processes keep of the model."""

    FULL = "full"  # FSDP2: weights, gradients and optimiser state are shared out
    NONE = "none"  # each keeps all of it (DDP)


class Optimizer(StrEnum):
    """What turns gradients into steps."""

    DECOUPLED_ADAMW = "decoupledAdamW"  # the paper's
    MUON = "muon"  # for the hidden layers' matrices (Jordan et al. 2024), AdamW for the rest: models from scratch


class Lora(Settings):
    """Low-rank adapters instead of all weights (Hu et al. 2021). `rank` 0: all weights are trained.

    `alpha` / `rank` scales what they add; `targets` are the names of the modules that get one.
    """

    rank: Annotated[int, Field(ge=0, le=1024)] = 0
    alpha: Positive = 32.0
    dropout: Momentum = 0.0
    targets: Annotated[tuple[Annotated[str, Field(max_length=63)], ...], Field(max_length=32)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


class Optimisation(Settings):
    """One run of an optimiser: batches, AdamW, schedule, evaluation, checkpoints, processes.

    A *batch* is `global_batch` packed rows over all processes; each takes `micro_batch` of them at a time. `clip` is
    the largest norm of a batch's gradient. AdamW is decoupled (Loshchilov & Hutter 2019): the weights shrink by
    `weight_decay` × schedule, whatever the learning rate. `optimizer` muon learns a small model from scratch in a third
    of the tokens; it steps whole matrices, so it does not go with sharding `full` over several processes. The rate
    rises over `warm_up_batches` and falls as a cosine to `final_share` of itself. Every `evaluate_every` batches the
    loss of `evaluation_batches` development batches is taken, and a checkpoint becomes a candidate for serving;
    `checkpoint_every` (0: no more often) are only for resuming. `time_budget_seconds` (0: none) shortens the schedule
    to what fits. `sharded_state_dict` and the prefetches are for sharding `full` over several processes.
    """

    model_config = ConfigDict(
        json_schema_extra=_rules(
            ("self.globalBatch % self.microBatch == 0", "globalBatch must be a multiple of microBatch")
        )
    )

    epochs: Annotated[int, Field(ge=1, le=1000)] = 2
    global_batch: Annotated[int, Field(ge=1, le=65536)] = 32
    micro_batch: Annotated[int, Field(ge=1, le=4096)] = 1
    clip: Positive = 2.0
    optimizer: Optimizer = Optimizer.DECOUPLED_ADAMW
    learning_rate: Positive = 2e-6
    beta_1: Momentum = 0.9
    beta_2: Momentum = 0.95
    epsilon: Positive = 1e-8
    weight_decay: Number = 1e-7
    warm_up_batches: CountOrNone = 500
    final_share: Share = 0.1
    evaluate_every: Count = 500
    evaluation_batches: Count = 20
    candidates: Annotated[int, Field(ge=1, le=100)] = 4
    checkpoint_every: CountOrNone = 100
    keep_checkpoints: Annotated[int, Field(ge=1, le=100)] = 2
    time_budget_seconds: CountOrNone = 0
    precision: Precision = Precision.BF16
    sharding: Sharding = Sharding.FULL
    sharded_state_dict: bool = True
    activation_checkpointing: bool = True
    backward_prefetch: bool = True
    forward_prefetch: bool = True
    lora: Lora = Lora()
    seed: CountOrNone = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.global_batch % self.micro_batch:
            raise ValueError(f"globalBatch {self.global_batch} is no multiple of microBatch {self.micro_batch}")
        return self


class PolicyTraining(Optimisation):
    """Supervised fine-tuning of the policy: Table 5 as it stands, with loss on actions only.

    `text_weight`: how much the rest of the dialog counts beside the actions at the start, falling to nothing at the end
    of the schedule. A model from scratch has to learn the language from it (0.5); a base model knows it (0).
    """

    text_weight: Share = 0.0


class PretrainTraining(Optimisation):
    """Domain-adaptive pretraining on plain text, before the policy; loss on every token."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    learning_rate: Positive = 1e-5


class GradeWeights(Settings):
    """How much a rejection of each grade weighs in the critic's loss; an unedited accept weighs 1.

    An `acceptable` proposal was not wrong: it teaches no rejection.
    """

    acceptable: Share = 0.0
    minor_edits: Share = 0.5
    incorrect: Share = 1.0
    missing_verification: Share = 1.0
    wrong_route: Share = 1.0
    ungraded: Share = 1.0


class CriticTraining(Optimisation):
    """Fine-tuning of the critic from the policy's checkpoint, on one token: accept or reject.

    `grades` weigh rejections. `side_evidence` writes cross-fitted acceptance rates by tool, screen and operator group
    into the prompt (`folds` parts). `replayed` replays the policy's proposals on recorded states for labels; live
    feedback joins where there is some.
    """

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    warm_up_batches: CountOrNone = 50
    evaluate_every: Count = 100
    grades: GradeWeights = GradeWeights()
    side_evidence: bool = False
    folds: Annotated[int, Field(ge=2, le=20)] = 4
    replayed: bool = True


class PreferenceLoss(StrEnum):
    """Rafailov et al. 2023; D'Oosterlinck et al. 2024."""

    DPO = "dpo"
    APO_ZERO = "apo_zero"
    APO_DOWN = "apo_down"


class PreferenceTraining(Optimisation):
    """Preference optimisation on single-step pairs from overrides: an ablation. `beta` holds to the reference."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    learning_rate: Positive = 5e-7
    warm_up_batches: CountOrNone = 50
    loss: PreferenceLoss = PreferenceLoss.DPO
    beta: Positive = 0.1


class TransformersSettings(Settings):
    """All that a resource tells the backend `transformers`, in the order data meets it."""

    shape: Shape = Shape()
    dataset: DatasetSettings = DatasetSettings()
    policy: PolicyTraining = PolicyTraining()
    critic: CriticTraining = CriticTraining()
