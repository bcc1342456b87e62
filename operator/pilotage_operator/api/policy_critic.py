"""PolicyCritic: how a pair is made of recorded sessions, what a revision must reach, and where it is served."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from pilotage_operator.api.fields import ApiModel, InnerShare, Quantity, Share, cel

KIND = "PolicyCritic"
PLURAL = "policycritics"


class Backend(StrEnum):
    """What learns: back-off counts on a CPU (transformers come with the trainer that knows them)."""

    COUNTS = "counts"


class Dataset(ApiModel):
    """Which sessions are learned from. `crossFitFolds`: folds in which a policy is judged by parts it has not seen."""

    cross_fit_folds: Annotated[int, Field(ge=2, le=20)] = 4


class Policy(ApiModel):
    """The count model's own settings. `orders`: how many recent actions its longest context holds."""

    orders: Annotated[int, Field(ge=1, le=8)] = 4


class Critic(ApiModel):
    """The logistic critic's own settings. `regularisation` is the inverse strength C."""

    regularisation: Annotated[str, Field(max_length=20, pattern=r"^[0-9]+(\.[0-9]+)?$")] = "1.0"


class Evaluation(ApiModel):
    """What a policy revision must reach on sessions it has not seen to be served at all."""

    held_out_share: InnerShare = "0.1"
    min_action_accuracy: Share = "0.0"


class Serving(ApiModel):
    """The model servers' size. One server for the policy, one for the critic."""

    replicas: Annotated[int, Field(ge=1, le=32)] = 1
    cpu: Quantity = "100m"
    memory: Quantity = "256Mi"


class Training(ApiModel):
    """A training Job's size, and how long it may take in all."""

    cpu: Quantity = "1"
    memory: Quantity = "2Gi"
    deadline_seconds: Annotated[int, Field(ge=30, le=2_592_000)] = 3600


class PolicyCriticSpec(ApiModel):
    """How a pair is made and served."""

    model_config = cel(
        ("self.backend != 'counts' || self.baseModel == ''", "backend counts has no base model: leave it empty")
    )

    backend: Backend
    base_model: Annotated[str, Field(max_length=253)] = ""
    dataset: Dataset = Dataset()
    policy: Policy = Policy()
    critic: Critic = Critic()
    evaluation: Evaluation = Evaluation()
    serving: Serving = Serving()
    training: Training = Training()
    revision_history_limit: Annotated[int, Field(ge=1, le=20)] = 3
