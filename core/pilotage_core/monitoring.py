"""What labels say after τ is in force: alarm (R), leave to loosen (K), τ certified anew (F), shares at any time.

Each number is a fold over labels in the order they were given, so that one process can rebuild them from records.
All are e-processes: looking at every label costs no certainty. Not here: which τ a grid step means (calibration.py).
"""

import math
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

import msgspec
from scipy.special import betainc, betaln

from pilotage_core.errors import InvalidInputError

# Each was chosen by simulation; bench/calibration.py measures them.
SHIRYAEV_ROBERTS_BET = 1.5  # λ of R
TIGHTEN_AT = 1e3  # R that tightens τ one grid step
ROLL_BACK_AT = 1e4  # R that rolls back: mean run length 13,500 labels at precision exactly 0.9
AUDIT_ALL_AT = 100.0  # R from which every executed action is audited …
AUDIT_SHARE_BELOW = 30.0  # … until it falls below this, when the audit share is enough again
BETS = (0.1, 0.2, 0.35, 0.5)  # shares of the largest bet allowed, q_min / π; K and F are means of their capitals
UNBET = (1.0,) * len(BETS)
MOST = 1e300  # R and capitals go no higher: nothing is decided up there, and infinity is no JSON


class Alarm(StrEnum):
    """What R calls for. RollBack stays; Tighten is called once for each time R rises from below AUDIT_SHARE_BELOW."""

    NONE = "None"
    TIGHTEN = "Tighten"
    ROLL_BACK = "RollBack"


class MonitoredLabel(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One label as the monitor needs it, or several that speak of one session.

    `accepted` is y: of `labels` labels that came about together the share that were accepted. They count as one, since
    after the first error of a session that nobody repairs the next ones follow. `propensity` is the chance with which
    this action was looked at, `least_propensity` the smallest such chance in force for any action at that time (the
    audit share); both are known before the label is. `below_tau` marks an action scored below τ but inside the next
    looser grid step: it speaks for K, not for R.
    """

    accepted: float
    propensity: float = 1.0
    least_propensity: float = 1.0
    below_tau: bool = False
    labels: int = 1


class Monitor(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The state of monitoring one stratum under one pair. A new pair, certificate or looser τ starts a new one.

    Tightening τ does not: R goes on, to roll back where that did not help; K and F start again, for they now speak of
    another τ. `target` is π. `r` is Shiryaev–Roberts' statistic and `r_peak` its highest value (Calibration →
    Automation needs r_peak < TIGHTEN_AT, or, under a tightened τ that is certified anew, r). `capitals` and `proofs`
    are those of BETS that precision is above π: one step looser (K), and at τ (F); `k_peak`, `f_peak` their highest
    means, which with confidence 1 − δ stay below 1 / δ where it is not (Ville). `audits_all`: every executed action is
    to be looked at. `alarm` is what R calls for; `tightenings` counts its calls to tighten.
    """

    target: float
    labels: int = 0
    r: float = 0.0
    r_peak: float = 0.0
    capitals: tuple[float, ...] = UNBET
    k_peak: float = 1.0
    proofs: tuple[float, ...] = UNBET
    f_peak: float = 1.0
    audits_all: bool = False
    alarm: Alarm = Alarm.NONE
    tightenings: int = 0

    @property
    def k(self) -> float:
        """K: capital won by betting that precision one step looser is above target. Starts at 1."""
        return _mean(self.capitals)


def step(monitor: Monitor, label: MonitoredLabel) -> Monitor:
    """`monitor` after one more `label`.

    R ← (R + 1)(1 + λw(π − y)) and K, F ← mean of capitals · (1 + bet·w(y − π)/π), with w = least_propensity /
    propensity: an action less likely to be looked at counts for more. Where precision is π, all factors have mean 1.

    Raises InvalidInputError unless 0 < least_propensity ≤ propensity ≤ 1.
    Source: Shin, Ramdas, Rinaldo 2023, "E-detectors"; Waudby-Smith, Ramdas 2024 (betting).
    """
    if not 0.0 < label.least_propensity <= label.propensity <= 1.0:
        raise InvalidInputError(
            f"needs 0 < {label.least_propensity} ≤ {label.propensity} ≤ 1", where="least_propensity, propensity"
        )
    surplus = label.least_propensity / label.propensity * (label.accepted - monitor.target)
    capitals = _bet(monitor.capitals, surplus / monitor.target)
    k_peak = max(monitor.k_peak, _mean(capitals))
    labels = monitor.labels + label.labels
    if label.below_tau:
        return msgspec.structs.replace(monitor, labels=labels, capitals=capitals, k_peak=k_peak)
    proofs = _bet(monitor.proofs, surplus / monitor.target)
    f_peak = max(monitor.f_peak, _mean(proofs))
    r = min((monitor.r + 1.0) * (1.0 - SHIRYAEV_ROBERTS_BET * surplus), MOST)
    alarm = _decide_alarm(monitor.alarm, r)
    tightens = alarm is Alarm.TIGHTEN and monitor.alarm is Alarm.NONE
    if tightens:
        capitals, k_peak, proofs, f_peak = UNBET, 1.0, UNBET, 1.0
    return Monitor(
        target=monitor.target,
        labels=labels,
        r=r,
        r_peak=max(monitor.r_peak, r),
        capitals=capitals,
        k_peak=k_peak,
        proofs=proofs,
        f_peak=f_peak,
        audits_all=r >= AUDIT_ALL_AT or (monitor.audits_all and r >= AUDIT_SHARE_BELOW),
        alarm=alarm,
        tightenings=monitor.tightenings + tightens,
    )


def replay(monitor: Monitor, labels: Iterable[MonitoredLabel]) -> Monitor:
    """`monitor` after all of `labels`, in the order they were given: what a restart reads back from the records."""
    for label in labels:
        monitor = step(monitor, label)
    return monitor


def has_earned_looser(monitor: Monitor, delta: float) -> bool:
    """Whether τ may go one grid step looser: K has once reached 1 / delta, and no alarm stands (Ville's inequality)."""
    return monitor.k_peak >= 1.0 / delta and monitor.alarm is Alarm.NONE


def is_share_within(limit: float, delta: float, events: int, trials: int) -> bool:
    """Whether a share is certified ≤ `limit` with confidence 1 − `delta`, whenever and however often this is asked.

    `events` of `trials` (rejected finalizations of reviewed ones, corrections of executed ones …): two counts, so
    nothing but records has to survive a restart. For "at least x" ask for the complement within 1 − x.
    """
    return log_evidence_within(limit, events, trials) >= -math.log(delta)


def log_evidence_within(limit: float, events: int, trials: int) -> float:
    """ln of the e-process against "the share is ≥ limit": a uniform mixture over shares below `limit` against `limit`.

    Its mean is at most 1 at every stopping time wherever the share is ≥ limit, as every component's is. −inf where the
    counts leave shares below `limit` next to no mass. Raises InvalidInputError for impossible counts, or a limit
    outside (0, 1).

    Source: Robbins 1970 (mixtures); Howard, Ramdas, McAuliffe, Sekhon 2021, section 3.2 (beta-binomial).
    """
    if not 0 <= events <= trials:
        raise InvalidInputError(f"{events} of {trials} is no share", where="events, trials")
    if not 0.0 < limit < 1.0:
        raise InvalidInputError(f"{limit} is not between 0 and 1", where="limit")
    others = trials - events
    mass_below = float(betainc(events + 1.0, others + 1.0, limit))
    if mass_below < 1e-280:  # far from any certainty, and near where doubles lose their digits
        return -math.inf
    likelihood_below = float(betaln(events + 1.0, others + 1.0)) + math.log(mass_below) - math.log(limit)
    return likelihood_below - events * math.log(limit) - others * math.log1p(-limit)


@lru_cache(maxsize=4096)
def share_bound(delta: float, events: int, trials: int) -> float:
    """The smallest limit, to 1e-6, that `is_share_within` would certify now; 1 where it would certify none below."""
    low, high = (events / trials if trials else 0.0), 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2.0
        if is_share_within(middle, delta, events, trials):
            high = middle
        else:
            low = middle
    return high


def _bet(capitals: tuple[float, ...], surplus: float) -> tuple[float, ...]:
    return tuple(min(capital * (1.0 + bet * surplus), MOST) for capital, bet in zip(capitals, BETS, strict=True))


def _mean(capitals: tuple[float, ...]) -> float:
    return sum(capitals) / len(capitals)


def _decide_alarm(before: Alarm, r: float) -> Alarm:
    if before is Alarm.ROLL_BACK or r >= ROLL_BACK_AT:
        return Alarm.ROLL_BACK
    if r >= TIGHTEN_AT or (before is Alarm.TIGHTEN and r >= AUDIT_SHARE_BELOW):
        return Alarm.TIGHTEN
    return Alarm.NONE
