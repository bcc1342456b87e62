"""PolicyCritic: how a pair is made of recorded sessions, what a revision must reach, and where it is served."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

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
    """What learns: back-off counts on a CPU, or transformers."""

    COUNTS = "counts"
    TRANSFORMERS = "transformers"


class Policy(ApiModel):
    """A policy of counts: `strength` is the inverse of the L2 penalty, `rarest` the fewest examples of a trait.

    The newest `developmentShare` of its sessions judges it, whatever the backend.
    """

    strength: Strength = "0.3"
    rarest: Annotated[int, Field(ge=1, le=1000)] = 3
    iterations: Annotated[int, Field(ge=1, le=1000)] = 25
    development_share: InnerShare = "0.2"


class Critic(ApiModel):
    """A critic of counts. `folds`: parts in which a policy is judged by what it has not seen.

    `certainty`: share of bootstrap draws in which it has to beat the policy's own confidence to be the score.
    """

    folds: Annotated[int, Field(ge=2, le=20)] = 4
    strength: Strength = "0.3"
    rarest: Annotated[int, Field(ge=1, le=1000)] = 5
    development_share: InnerShare = "0.35"
    certainty: InnerShare = "0.95"


class Evaluation(ApiModel):
    """What a policy revision must reach on sessions it has not seen to be served at all."""

    min_action_accuracy: Share = "0.0"


class Runtime(StrEnum):
    """What serves a pair."""

    PILOTAGE = "pilotage"  # pilotage-serve: count models, and transformers of a few million weights on a CPU
    VLLM = "vllm"


class Serving(ApiModel):
    """The model servers. One for the policy, one for the critic.

    `image`: what they run; left empty, what the controller runs, which has no vLLM. `gpus` of each.
    """

    model_config = cel(
        ("self.runtime != 'vllm' || self.image != ''", "runtime vllm needs an image that has vLLM"),
        ("self.gpus == 0 || self.runtime == 'vllm'", "only runtime vllm uses GPUs"),
    )

    runtime: Runtime = Runtime.PILOTAGE
    image: Annotated[str, Field(max_length=512)] = ""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    replicas: Annotated[int, Field(ge=1, le=32)] = 1
    cpu: Cores = "100m"
    memory: Quantity = "256Mi"


class Training(ApiModel):
    """A training Job's size, and how long it may take in all.

    `image`: what it runs; left empty, what the controller runs. `gpus`: one process trains on each, on one node.
    `queue`: the LocalQueue of Kueue that it waits in; left empty, it starts at once.
    """

    image: Annotated[str, Field(max_length=512)] = ""
    queue: Annotated[str, Field(max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")] = ""
    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    cpu: Cores = "1"
    memory: Quantity = "2Gi"
    deadline_seconds: Annotated[int, Field(ge=30, le=2_592_000)] = 3600


class PolicyCriticSpec(ApiModel):
    """How a pair is made and served.

    `baseModel` is what backend `transformers` starts from: a name or a folder, left out the paper's, empty none (a
    model from scratch of `transformers.shape`).
    """

    model_config = cel(
        (
            "self.backend != 'counts' || !has(self.baseModel) || self.baseModel == ''",
            "backend counts has no base model: leave it empty",
        ),
        ("self.backend == 'transformers' || self.training.gpus == 0", "only backend transformers trains on GPUs"),
        ("self.backend != 'counts' || self.serving.runtime == 'pilotage'", "vLLM serves no count models"),
    )

    backend: Backend
    base_model: Annotated[str, Field(max_length=253)] | None = None
    transformers: TransformersSettings = TransformersSettings()
    policy: Policy = Policy()
    critic: Critic = Critic()
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    training: Training = Training()
    revision_history_limit: Annotated[int, Field(ge=1, le=20)] = 3
