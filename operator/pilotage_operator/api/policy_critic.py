"""PolicyCritic: how a pair is made of recorded sessions, what a revision must reach, and where it is served.

Three parts say how: `counts` and `transformers` are each for the backend of that name, `selection` is for all.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from pilotage_core.training import TransformersSettings
from pilotage_operator.api.fields import ApiModel, Cores, InnerShare, Quantity, Share, cel, cel_extra

KIND = "PolicyCritic"
PLURAL = "policycritics"

Strength = Annotated[
    str,
    Field(
        max_length=20,
        pattern=r"^[0-9]+(\.[0-9]+)?$",
        json_schema_extra=cel_extra(("double(self) > 0.0", "must be above 0")),
    ),
]


class Backend(StrEnum):
    """What learns: back-off counts or a copier on a CPU, or transformers."""

    COUNTS = "counts"  # steps without values
    COPIER = "copier"  # all nine actions, values copied from what was said or shown; no settings of its own
    TRANSFORMERS = "transformers"


class CountsPolicy(ApiModel):
    """How a policy of counts is fitted."""

    strength: Strength = "0.3"
    """Inverse of the L2 penalty."""
    rarest: Annotated[int, Field(ge=1, le=1000)] = 3
    """The fewest examples of a trait."""
    iterations: Annotated[int, Field(ge=1, le=1000)] = 25
    """Iterations of the optimiser, at most."""


class CountsCritic(ApiModel):
    """How a critic of counts is fitted."""

    folds: Annotated[int, Field(ge=2, le=20)] = 4
    """Parts in which a policy is judged by what it has not seen; also where it is found out, after a rollback, whether
    older sessions help.
    """
    strength: Strength = "0.3"
    """Inverse of the L2 penalty."""
    rarest: Annotated[int, Field(ge=1, le=1000)] = 5
    """The fewest labels of a trait."""


class Counts(ApiModel):
    """All that backend `counts` is told."""

    policy: CountsPolicy = CountsPolicy()
    """How a policy is fitted."""
    critic: CountsCritic = CountsCritic()
    """How a critic is fitted."""


class Selection(ApiModel):
    """How a policy is looked at, and when a critic is the score, whatever the backend."""

    policy_development_share: InnerShare = "0.2"
    """The newest share of a policy's sessions judges it. Count models are fitted again on all of them; a transformer
    never learns from these, and its critic does.
    """
    critic_development_share: InnerShare = "0.35"
    """The newest share of a critic's sessions compares it with the policy's own confidence. Of a transformer's, every
    other one chooses the checkpoint.
    """
    certainty: InnerShare = "0.95"
    """Share of bootstrap draws in which a critic has to beat confidence to be the score."""


class Evaluation(ApiModel):
    """What a policy revision must reach on sessions it has not seen to be served at all."""

    min_action_accuracy: Share = "0.0"
    """Share of points at which its likeliest action is what the operator did."""


class Runtime(StrEnum):
    """What serves a pair."""

    PILOTAGE = "pilotage"  # pilotage-serve: count models, and transformers of a few million weights on a CPU
    VLLM = "vllm"


class Serving(ApiModel):
    """The model servers. One for the policy, one for the critic."""

    model_config = cel(
        ("self.runtime != 'vllm' || self.image != ''", "runtime vllm needs an image that has vLLM"),
        ("self.gpus == 0 || self.runtime == 'vllm'", "only runtime vllm uses GPUs"),
    )

    runtime: Runtime = Runtime.PILOTAGE
    """What serves. pilotage: pilotage-serve, for count models and small transformers on a CPU. vllm: vLLM."""
    image: Annotated[str, Field(max_length=512)] = ""
    """What they run. Empty: what the controller runs, which has no vLLM."""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    """GPUs of each server."""
    replicas: Annotated[int, Field(ge=1, le=32)] = 1
    """Pods of each server."""
    cpu: Cores = "100m"
    """What each asks for."""
    memory: Quantity = "256Mi"
    """What each asks for."""


class Training(ApiModel):
    """A training Job's size, and how long it may take in all."""

    image: Annotated[str, Field(max_length=512)] = ""
    """What it runs. Empty: what the controller runs."""
    queue: Annotated[str, Field(max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")] = ""
    """The LocalQueue of Kueue that it waits in. Empty: it starts at once."""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    """One process trains on each, on one node."""
    cpu: Cores = "1"
    """Processor that it asks for. A transformer's threads are its whole cores, shared out over the GPUs; count models
    use
    one.
    """
    memory: Quantity = "2Gi"
    """What it asks for."""
    deadline_seconds: Annotated[int, Field(ge=30, le=2_592_000)] = 3600
    """Time for all tries together, in seconds."""


class PolicyCriticSpec(ApiModel):
    """How a pair is made and served."""

    model_config = cel(
        (
            "self.backend == 'transformers' || !has(self.baseModel) || self.baseModel == ''",
            "only backend transformers has a base model: leave it empty",
        ),
        ("self.backend == 'counts' || !has(self.counts)", "spec.counts is for backend counts: leave it out"),
        (
            "self.backend == 'transformers' || !has(self.transformers)",
            "spec.transformers is for backend transformers: leave it out",
        ),
        ("self.backend == 'transformers' || self.training.gpus == 0", "only backend transformers trains on GPUs"),
        (
            "self.backend == 'transformers' || self.serving.runtime == 'pilotage'",
            "vLLM serves only what backend transformers makes",
        ),
    )

    backend: Backend
    """What learns."""
    base_model: Annotated[str, Field(max_length=253)] | None = None
    """What backend `transformers` starts from: a name or a folder. Left out: the paper's. Empty: none, a model from
    scratch of `transformers.shape`.
    """
    counts: Counts | None = None
    """Settings of backend `counts`; left out, its defaults."""
    transformers: TransformersSettings | None = None
    """Settings of backend `transformers`; left out, the paper's."""
    selection: Selection = Selection()
    """How a policy is looked at, and when a critic is the score, whatever the backend."""
    evaluation: Evaluation = Evaluation()
    """What a policy revision must reach to be served."""
    serving: Serving = Serving()
    """The model servers."""
    training: Training = Training()
    """A training Job's size."""
    revision_history_limit: Annotated[int, Field(ge=1, le=20)] = 3
    """Revisions whose artefacts are kept."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """As the CEL rules, where no API server has looked at it: raises ValueError."""
        for backend, settings in ((Backend.COUNTS, self.counts), (Backend.TRANSFORMERS, self.transformers)):
            if settings is not None and self.backend is not backend:
                raise ValueError(f"spec.{backend} is for backend {backend}: leave it out")
        return self
