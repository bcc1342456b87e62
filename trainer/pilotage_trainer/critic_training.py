"""Fitting a critic on labels, and finding out whether it is better than the policy's own confidence.

Labels of sessions that the policy learned from come from cross-fitting: each session is judged with a policy that was
fitted without it. Acceptance rates are cross-fitted too. Not here: where labels come from (labels.py).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from pilotage_core.actions import Action, ActionRules, classify_action
from pilotage_core.errors import EvidenceError
from pilotage_trainer.counts import Example
from pilotage_trainer.critic import (
    Critic,
    Rates,
    Source,
    StoredCritic,
    build_judgement,
    build_rate_contexts,
    build_rate_traits,
)
from pilotage_trainer.features import Situation, name_step, read_prompt, step_action
from pilotage_trainer.labels import Moment, allowed_steps, build_schema
from pilotage_trainer.policy import Policy
from pilotage_trainer.policy_training import OneClassError, PolicySettings, build_sparse, fit_policy

FloatArray = npt.NDArray[np.float64]
