"""The configuration of a training Job: what the controller knows and hands over as JSON (`--config`).

Decimals may be strings, as in the custom resources. Not here: the window, which comes as options (window.py).
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, get_args

import msgspec
from pydantic import ValidationError

from pilotage_core.actions import ActionRules
from pilotage_core.errors import InvalidInputError
from pilotage_core.training import BASE_MODEL, PreferenceTraining, PretrainTraining, Settings, TransformersSettings

Count = Annotated[int, msgspec.Meta(ge=1)]
CountOrNone = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
InnerShare = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Strength = Annotated[float, msgspec.Meta(gt=0, le=1e9)]


class CountsPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a count policy is fitted.

    `strength` is the inverse of the L2 penalty, `rarest` the fewest examples of a trait, `least_examples` the fewest of
    all.
    """

    strength: Strength = 0.3
    rarest: Count = 3
    iterations: Count = 25
    least_examples: Count = 50


class CountsCritic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a count critic is fitted.

    `folds` of cross-fitting, `strength` the inverse of the L2 penalty, `rarest` the fewest labels of a trait.
    """

    folds: Annotated[int, msgspec.Meta(ge=2)] = 4
    strength: Strength = 0.3
    rarest: Count = 5


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is told to backend `counts`."""

    policy: CountsPolicy = CountsPolicy()
    critic: CountsCritic = CountsCritic()


class CopierPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a copying policy is fitted.

    `strength` is the inverse of the L2 penalty of what finds spans, `calls_strength` of what a turn calls for,
    `openings_strength` of which procedure; `rarest` the fewest examples of a trait or of what is called for; `ranker_…`
    are for what ranks the actions that may come next, which learns from at most `ranker_sessions`, evenly taken: each
    has some thousand pairs a moment. All as measured on sessions that were not fitted on.
    """

    strength: Strength = 10.0
    calls_strength: Strength = 1.0
    openings_strength: Strength = 1.0
    rarest: Count = 3
    iterations: Count = 40
    ranker_strength: Strength = 0.05
    ranker_iterations: Count = 60
    ranker_sessions: Count = 3500
    least_sessions: Count = 20


class CopierCritic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a copier's critic is fitted: `strength` is the inverse of the L2 penalty."""

    strength: Strength = 0.01
    iterations: Count = 100


class Copier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is told to backend `copier`."""

    policy: CopierPolicy = CopierPolicy()
    critic: CopierCritic = CopierCritic()


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a policy is looked at, and when a critic counts as better than confidence, whatever the backend.

    The newest `policy_development_share` of a policy's sessions judges it, the newest `critic_development_share` of a
    critic's compares it with confidence; `least_labels` it needs to learn from. `certainty` is the share of bootstrap
    `draws` (whole sessions) in which it has to be the better one.
    """

    policy_development_share: InnerShare = 0.2
    critic_development_share: InnerShare = 0.35
    least_labels: Count = 40
    draws: Count = 400
    certainty: Share = 0.95
    seed: CountOrNone = 0


class StratumTarget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stratum to certify; `target` 0 stands for the configuration's `precision_target`."""

    name: str
    target: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Digests that only the controller knows; they go into certificates as they are (pilotage_core.certificate)."""

    actions: str = ""
    screens: str = ""
    serving_image: str = ""


class JobConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a Job is told besides its window.

    `rules` class actions. Where sessions are to end by themselves, τ are chosen so that `session_target` of those that
    run unasked end right (0: they are not), `spoilt_end_wrong` of those with a grave error not. `strata` share `delta`
    evenly, whether or not they have labels. A policy passes if its action accuracy on development sessions reaches
    `min_action_accuracy`. It learns from the newest `rolling_window_sessions` of its window at most (0: all). `counts`
    and `copier` are for those backends, `base_model` ("": from scratch) and `transformers` for the third, `selection`
    for all; `pretraining` and `preference` are for commands of people.
    """

    rules: ActionRules = ActionRules()
    strata: Annotated[tuple[StratumTarget, ...], msgspec.Meta(min_length=1)] = (
        StratumTarget("procedure"),
        StratumTarget("finalizing"),
    )
    precision_target: InnerShare = 0.9
    session_target: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    spoilt_end_wrong: Share = 1.0
    delta: InnerShare = 0.05
    min_action_accuracy: Share = 0.0
    rolling_window_sessions: CountOrNone = 0
    evidence: Evidence = Evidence()
    selection: Selection = Selection()
    counts: Counts = Counts()
    copier: Copier = Copier()
    base_model: str = BASE_MODEL
    transformers: TransformersSettings = TransformersSettings()
    pretraining: PretrainTraining = PretrainTraining()
    preference: PreferenceTraining = PreferenceTraining()

    def __post_init__(self) -> None:
        """Raises ValueError where two strata have one name: their shares of `delta` would be lost."""
        times = Counter(stratum.name for stratum in self.strata)
        if repeated := [name for name in times if times[name] > 1]:
            raise ValueError(f"stratum {repeated[0]!r} is named {times[repeated[0]]} times")


def encode_config(config: JobConfig) -> bytes:
    """`config` as canonical JSON: what its digest is over."""
    return msgspec.json.encode(config, order="deterministic", enc_hook=_encode_settings)


def read_config(text_or_path: str) -> JobConfig:
    """The configuration given as JSON text or as a file's path; empty means all defaults. Raises InvalidInputError."""
    text = text_or_path.strip()
    try:
        data = (text if text.startswith("{") or not text else Path(text).read_text()) or "{}"
        config = msgspec.json.decode(data, type=JobConfig, strict=False, dec_hook=_decode_settings)
        _require_known(msgspec.json.decode(data).get("rules"), ActionRules, "$.rules")
        return config
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error.strerror}", where=f"--config {text}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"is no configuration: {error}", where="--config") from error


def _require_known(given: object, kind: type, path: str) -> None:
    """Refuse fields that `kind` lacks. Gateways pass them over: their snapshot may be of a newer controller."""
    if isinstance(given, list):
        for place, each in enumerate(given):
            _require_known(each, get_args(kind)[0], f"{path}[{place}]")
    elif isinstance(given, dict):
        known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        for name, value in given.items():
            if name == "critical" and kind is ActionRules:
                raise msgspec.ValidationError(
                    f"`critical` is no more: everything is critical unless `uncritical` lists it - at `{path}`"
                )
            if name not in known:
                raise msgspec.ValidationError(f"Object contains unknown field `{name}` - at `{path}`")
            _require_known(value, known[name], f"{path}.{name}")


def _encode_settings(value: object) -> object:
    if isinstance(value, Settings):
        return value.model_dump(mode="json")
    raise NotImplementedError(type(value).__name__)


def _decode_settings(kind: type, given: object) -> object:
    """Settings of core/training.py out of JSON; what pydantic says is told as msgspec tells it, with the field."""
    try:
        return kind.model_validate(given) if issubclass(kind, Settings) else given
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(str(part) for part in first["loc"])
        raise msgspec.ValidationError(f"{first['msg']} - at `{path or kind.__name__}`") from error
