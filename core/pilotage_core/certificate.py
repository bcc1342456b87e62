"""The certificate: what a τ rests on, and whether it still stands.

Made by calibration.py (this module imports no numerics, so that a gateway can read certificates cheaply); carried in
ProcessCluster's status, snapshots and Job results.
"""

from collections.abc import Set
from enum import StrEnum
from typing import Literal

import msgspec

LabelsFrom = Literal["live", "replay", "both"]


COVERED_DAYS = 5
"""From so many days on, how days differ is taken into account; fewer tell next to nothing of it."""


class ScoreSource(StrEnum):
    """What a score is: the critic's, the policy's confidence where the critic did not beat it, or both together."""

    CRITIC = "critic"
    CONFIDENCE = "confidence"
    BOTH = "both"

    @property
    def words(self) -> str:
        """What people call it."""
        return {"critic": "critic", "confidence": "action confidence", "both": "critic and action confidence"}[self]


class EvidenceDigests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the evidence was made of and made with, by digest.

    `data` identifies the labels; `actions` the process cluster's rules of what is critical, finalizing and in which
    stratum; `serving_image` the model server, since rounding alone moves a score.
    """

    data: str
    policy: str
    critic: str
    prompt_format: str
    actions: str
    screens: str
    serving_image: str


class Certificate(msgspec.Struct, frozen=True, omit_defaults=True):  # a newer release may say more of it
    """Leave for one stratum of one process cluster to act on scores ≥ `tau`.

    Counts: `n` held-out labels, of which `selected` score ≥ tau, `errors` of them not accepted, by `operators` people
    on `days` effective days (Kish; 0: not told).
    `bound` is a lower confidence bound (1 − `delta`) of precision at tau for the population those operators come from,
    and ≥ `target`. `coverage` is the share of labels at or above tau. `icc` is ρ, the intraclass correlation of labels
    of one operator, and `design_effect` what n and errors were divided by. `tau_tighter` is the next stricter τ
    of the same grid that passed too, `tau_looser` the next laxer one (None where there is none). `session_bound` is the
    chance that no action is wrong in a session of median length (`median_session_actions` critical actions).
    `issued_at` is RFC 3339. A `score_from` of None is not told.
    """

    process_cluster: str
    stratum: str
    tau: float
    n: int
    selected: int
    errors: int
    target: float
    delta: float
    bound: float
    coverage: float
    design_effect: float
    icc: float
    labels_from: LabelsFrom
    digests: EvidenceDigests
    median_session_actions: float
    session_bound: float
    issued_at: str
    operators: int = 0
    days: int = 0
    tau_tighter: float | None = None
    tau_looser: float | None = None
    score_from: ScoreSource | None = None


def find_attempt_share(number: int) -> float:
    """The share of δ that the `number`-th attempt to certify (from 1) tests at: 1 / (k (k + 1)).

    All of them, however many, sum to 1, so a process cluster is certified wrongly in δ of cases over all its attempts,
    labels fresh or not. Fixed beforehand: no attempt's outcome changes another's share. Raises ValueError below 1.
    """
    if number < 1:
        raise ValueError(f"attempts are counted from 1, not {number}")
    return 1.0 / (number * (number + 1))


def tighten(certificate: Certificate) -> Certificate | None:
    """`certificate` one grid step stricter; None where its τ is the strictest, or the next is not told.

    What it says of labels stays as it is: its bound is of all scores from the laxer τ on.
    """
    if certificate.tau_tighter is None:
        return None
    return msgspec.structs.replace(
        certificate, tau=certificate.tau_tighter, tau_tighter=None, tau_looser=certificate.tau
    )


def changed_digests(
    certificate: Certificate, current: EvidenceDigests, *, prompt_formats: Set[str] = frozenset()
) -> tuple[str, ...]:
    """Names of the digests that have changed since `certificate` was issued; empty: it stands.

    `prompt_formats` are the serialisers a gateway still ships besides `current.prompt_format` (the previous one), so
    that a rollout of gateways costs no stage. An empty digest is an unknown one and equals nothing.
    """
    changed = []
    for name in EvidenceDigests.__struct_fields__:
        then, now = getattr(certificate.digests, name), getattr(current, name)
        same = then == now or (name == "prompt_format" and then in prompt_formats)
        if not then or not same:
            changed.append(name)
    return tuple(changed)


def session_precision_bound(bound: float, session_actions: float) -> float:
    """Lower bound of P(no wrong action in a session of `session_actions` critical actions), given one for an action.

    bound ** session_actions: exact where errors are independent, conservative where they flock together (as they do, by
    session and operator). 0.9 over 8 actions is 0.43.
    """
    return float(bound**session_actions)
