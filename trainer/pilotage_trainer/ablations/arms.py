"""The ablations and their arms: what each arm does in another way than its reference, the first one.

Values only. Not here: what arms share (study.py), how they are run (running.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pilotage_core.dialog import SnapshotKind
from pilotage_core.errors import InvalidInputError
from pilotage_core.training import MOST_CHARS, Balancing, PreferenceLoss
from pilotage_trainer.backends.transformers.asking.critic_card import Measure


class Kind(StrEnum):
    """What an ablation's arms are."""

    POLICIES = "policies"  # each trained on its own data set
    SCORES = "scores"  # of one policy's critical proposals
    TUNED = "tuned"  # from one policy


@dataclass(frozen=True)
class Arm:
    """One way to do it. `dataset` are settings that differ, `share` the newest part of the training sessions.

    With `plan` a dialog begins with the screens that the session will show. `measure` (None: a critic) is for scores,
    `loss` (None: none, the policy as it is) for tuned policies.
    """

    name: str
    dataset: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    plan: bool = False
    measure: Measure | None = None
    with_confidence: bool = False
    loss: PreferenceLoss | None = None


@dataclass(frozen=True)
class Ablation:
    """A question and its arms, the reference first. `source` is where the paper has it; empty where it has not."""

    name: str
    question: str
    source: str
    kind: Kind
    arms: tuple[Arm, ...]

    def choose(self, names: str) -> tuple[Arm, ...]:
        """The reference and the arms in `names` (with commas; empty: all). Raises InvalidInputError."""
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        known = [arm.name for arm in self.arms]
        if unknown := [name for name in wanted if name not in known]:
            raise InvalidInputError(
                f"{unknown[0]!r} is no arm of {self.name}", where="--arms", remedy=f"arms are {', '.join(known)}"
            )
        return tuple(arm for arm in self.arms if not wanted or arm is self.arms[0] or arm.name in wanted)


PLAIN = Arm("plain")
"""Everything as the configuration has it."""


def _sizes() -> tuple[Arm, ...]:
    return tuple(
        Arm(f"{share:.0%} {balancing}", {"balancing": balancing}, share=share)
        for share in (1.0, 0.5, 0.25, 0.1)
        for balancing in Balancing
    )


ABLATIONS = {
    one.name: one
    for one in (
        Ablation("size", "more sessions, and which of their actions?", "Table 6", Kind.POLICIES, _sizes()),
        Ablation(
            "mix",
            "how many logged actions to each corrected proposal?",
            "Table 2",
            Kind.POLICIES,
            tuple(
                Arm(f"{logs}:1" if logs else "natural", {"logs_per_rejection": float(logs), "rejections": 0})
                for logs in (0, 1, 3, 10)
            ),
        ),
        Ablation(
            "critic",
            "does a critic tell right proposals from wrong ones better than the policy's confidence?",
            "Table 7",
            Kind.SCORES,
            (
                *(Arm(f"confidence: {measure}", measure=measure) for measure in Measure),
                Arm("critic"),
                Arm("critic and confidence", with_confidence=True),
            ),
        ),
        Ablation(
            "preference",
            "does a policy gain from preferences after supervised fine-tuning?",
            "Table 8",
            Kind.TUNED,
            (Arm("sft"), *(Arm(str(loss), loss=loss) for loss in PreferenceLoss)),
        ),
        Ablation(
            "snapshot",
            "how is a changed screen written?",
            "",
            Kind.POLICIES,
            tuple(
                Arm(str(s), {"snapshot": s})
                for s in (SnapshotKind.COMPACT, SnapshotKind.DIFFERENCE, SnapshotKind.WHOLE)
            ),
        ),
        Ablation(
            "trim",
            "what does dropping old lines cost?",
            "",
            Kind.POLICIES,
            (
                Arm("as configured"),
                Arm("untrimmed", {"max_chars": MOST_CHARS}),
                *(Arm(f"{chars} characters", {"max_chars": chars}) for chars in (12_000, 8_000, 4_000)),
            ),
        ),
        Ablation(
            "oracle",
            "what would knowing the screens to come be worth?",
            "appendix E",
            Kind.POLICIES,
            (PLAIN, Arm("gold screen plan", plan=True)),
        ),
    )
}


def find_ablation(name: str) -> Ablation:
    """The ablation called `name`. Raises InvalidInputError."""
    if name not in ABLATIONS:
        raise InvalidInputError(f"{name!r} is no ablation", where="NAME", remedy=f"there are {', '.join(ABLATIONS)}")
    return ABLATIONS[name]
