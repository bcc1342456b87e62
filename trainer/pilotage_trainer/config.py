"""The configuration of a training Job: what the controller knows and hands over as JSON (`--config`).

Decimals may be strings, as in the custom resources. Not here: the window, which comes as options (window.py).
"""

from pathlib import Path

import msgspec

from pilotage_core.actions import ActionRules
from pilotage_core.errors import InvalidInputError


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a policy is fitted. `strength` is the inverse of the L2 penalty; `rarest` the fewest examples of a trait."""

    strength: float = 0.3
    rarest: int = 3
    iterations: int = 25
    development_share: float = 0.2
    least_examples: int = 50


class CriticSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a critic is fitted and when it counts as better than confidence.

    `folds` of cross-fitting, `strength` the inverse of the L2 penalty, `rarest` the fewest labels of a trait.
    `certainty` is the share of bootstrap draws (whole sessions) in which it has to be the better one.
    """

    folds: int = 4
    strength: float = 0.3
    rarest: int = 5
    development_share: float = 0.35
    least_labels: int = 40
    draws: int = 400
    certainty: float = 0.95
    seed: int = 0


class StratumTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stratum to certify; `target` 0 stands for the configuration's `precision_target`."""

    name: str
    target: float = 0.0


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digests that only the controller knows; they go into certificates as they are (pilotage_core.certificate)."""

    actions: str = ""
    screens: str = ""
    serving_image: str = ""


class JobConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a Job is told besides its window.

    `rules` class actions. `strata` share `delta` evenly, whether or not they have labels. A policy passes if its action
    accuracy on development sessions reaches `min_action_accuracy`. It learns from the newest `rolling_window_sessions`
    of its window at most (0: all).
    """

    rules: ActionRules = ActionRules()
    strata: tuple[StratumTarget, ...] = (StratumTarget("procedure"), StratumTarget("finalizing"))
    precision_target: float = 0.9
    delta: float = 0.05
    min_action_accuracy: float = 0.0
    rolling_window_sessions: int = 0
    evidence: Evidence = Evidence()
    policy: PolicySettings = PolicySettings()
    critic: CriticSettings = CriticSettings()


def read_config(text_or_path: str) -> JobConfig:
    """The configuration given as JSON text or as a file's path; empty means all defaults. Raises InvalidInputError."""
    text = text_or_path.strip()
    try:
        data = text if text.startswith("{") or not text else Path(text).read_text()
        return msgspec.json.decode(data or "{}", type=JobConfig, strict=False)
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error.strerror}", where=f"--config {text}") from error
    except msgspec.DecodeError as error:
        raise InvalidInputError(f"is no configuration: {error}", where="--config") from error
