"""Labels of one pair folded into monitors (R, K, F), in their order. Pure: the report folds them the same way."""

from dataclasses import dataclass, field

import msgspec

from pilotage_core.certificate import Certificate, tighten
from pilotage_core.gate import Reason
from pilotage_core.monitoring import Alarm, Monitor, MonitoredLabel, step
from pilotage_core.record import Label
from pilotage_core.stage import UNATTENDED, Stage
from pilotage_operator.facts import MonitorFact

ATTENDED = frozenset(stage.value for stage in Stage if stage not in UNATTENDED)
"""Stages in which operators put right every state: what is said there is not of what runs."""
NEVER_RUN = frozenset({Reason.STOP_LIST.value, Reason.ASKED_BEFORE.value})
"""What is proposed whatever its score is."""


def _of_review(label: Label) -> tuple[str, str]:
    return label.session_id, label.at


@dataclass(slots=True)
class Track:
    """The labels of one pair followed from `start` on; `monitors` by stratum where a threshold is in force.

    `audit_shares` are those that the last labels at or above it were drawn with; `review` is what the review that came
    last says so far.
    """

    pair: str
    start: int
    certificates: dict[str, Certificate]
    cursor: int
    monitors: dict[str, Monitor] = field(default_factory=dict)
    audit_shares: dict[str, float] = field(default_factory=dict)
    review: list[Label] = field(default_factory=list)

    def take(self, label: Label) -> None:
        """Add one label to the monitor of its stratum, if it speaks of a threshold in force.

        What one review says of a session's actions comes together, and is one label of each stratum.
        """
        if self.review and not (label.reviewed and _of_review(label) == _of_review(self.review[0])):
            self._end_review()
        if label.reviewed:
            self.review.append(label)
        else:
            self._step([label])

    def _end_review(self) -> None:
        labels, self.review = self.review, []
        for stratum in dict.fromkeys(label.stratum for label in labels):
            self._step([label for label in labels if label.stratum == stratum])

    def _step(self, labels: list[Label]) -> None:
        """One step of the monitor whose stratum `labels` are of."""
        spoken = [monitored for label in labels if (monitored := self._weigh(label)) is not None]
        for below in (False, True):
            if not (alike := [each for each in spoken if each.below_tau is below]):
                continue
            share = sum(each.accepted for each in alike) / len(alike)
            first = msgspec.structs.replace(alike[0], accepted=share, labels=len(alike))
            stratum = labels[0].stratum
            before = self.monitors.get(stratum) or Monitor(target=self.certificates[stratum].target)
            self.monitors[stratum] = step(before, first)

    def _weigh(self, label: Label) -> MonitoredLabel | None:
        """What `label` says of a threshold in force; None: nothing."""
        certificate = self._in_force(label.stratum)
        if label.stage in ATTENDED or label.reason in NEVER_RUN:
            return None
        if certificate is None or not label.critical or label.score is None or not 0.0 < label.propensity <= 1.0:
            return None
        below = label.score < certificate.tau
        if below and (certificate.tau_looser is None or label.score < certificate.tau_looser):
            return None
        # What would be executed stands for its own moment's audit share: nothing is less likely to be looked at then.
        # What is below τ is proposed, looked at for sure beside it, and counts by that share.
        if not below:
            self.audit_shares[label.stratum] = label.propensity
        least = min(self.audit_shares.get(label.stratum, 1.0), label.propensity)
        return MonitoredLabel(float(label.accepted), label.propensity, least, below)

    def _in_force(self, stratum: str) -> Certificate | None:
        """Where a tightened τ has no stricter one nothing runs, but what scored so high goes on speaking of it."""
        certificate = self.certificates.get(stratum)
        if certificate is None or stratum not in self._tightened():
            return certificate
        return tighten(certificate) or certificate

    def _tightened(self) -> tuple[str, ...]:
        return tuple(sorted(stratum for stratum, monitor in self.monitors.items() if monitor.tightenings))

    def read(self) -> MonitorFact:
        """The worst of the strata: the highest R speaks for all. An alarm that was raised stays."""
        if self.review:
            self._end_review()
        monitors = list(self.monitors.values())
        return MonitorFact(
            r=max((m.r_peak if m.alarm is Alarm.ROLL_BACK else m.r for m in monitors), default=0.0),
            r_peak=max((m.r_peak for m in monitors), default=0.0),
            labels=sum(m.labels for m in monitors),
            k=min((m.k for m in monitors), default=1.0),
            audits_all=any(m.audits_all for m in monitors),
            tightened=self._tightened(),
            proofs={stratum: monitor.f_peak for stratum, monitor in self.monitors.items()},
            cursor=self.cursor,
        )
