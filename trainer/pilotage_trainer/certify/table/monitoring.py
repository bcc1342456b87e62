"""What newer labels of a table say of a τ in force: R and K replayed, and the step they call for.

Here: τ in force as an earlier run wrote them, which labels speak of them. Not here: R and K (pilotage_core.monitoring).
"""

from enum import StrEnum
from pathlib import Path

import msgspec
import numpy as np

from pilotage_core.errors import InvalidInputError
from pilotage_core.monitoring import Alarm, Monitor, MonitoredLabel, has_earned_looser, step
from pilotage_trainer.certify.table.gates import Rows

Key = tuple[str, str]


class Step(StrEnum):
    """What monitoring calls for."""

    KEEP = "Keep"
    TIGHTEN = "Tighten"
    LOOSEN = "Loosen"
    ROLL_BACK = "RollBack"


class Monitoring(msgspec.Struct, frozen=True):
    """What labels in order say of `tau` in force (pilotage_core.monitoring.Monitor, whose fields these are).

    `ignored` labels score below the next looser step and say nothing of `tau`. `next_tau` is where `step` leads, one
    grid step at most: once R has called for a tightening, `step` stays Tighten whatever followed, unless R rolls back.
    """

    tau: float
    target: float
    labels: int
    ignored: int
    r: float
    r_peak: float
    k: float
    k_peak: float
    audits_all: bool
    tightenings: int
    alarm: Alarm
    step: Step
    next_tau: float | None


class InForce(msgspec.Struct, frozen=True):
    """A τ in force, as this command wrote it."""

    process_cluster: str
    stratum: str
    tau: float | None
    target: float
    delta: float
    tau_tighter: float | None = None
    tau_looser: float | None = None


def read_in_force(path: Path) -> dict[Key, InForce]:
    """The gates of an earlier result. Raises InvalidInputError where it is none, or says what no run wrote."""
    try:
        gates = msgspec.json.decode(path.read_bytes(), type=list[InForce])
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error.strerror}", where=f"--in-force {path}") from error
    except msgspec.MsgspecError as error:
        remedy = "give the JSON that calibrate --feedback wrote"
        raise InvalidInputError(str(error), where=f"--in-force {path}", remedy=remedy) from error
    for gate in gates:
        _require_sound(gate, f"--in-force {path}, {gate.process_cluster}, stratum {gate.stratum}")
    return {(gate.process_cluster, gate.stratum): gate for gate in gates}


def _require_sound(gate: InForce, where: str) -> None:
    for name, value in (("target", gate.target), ("delta", gate.delta)):
        if not 0.0 < value < 1.0:
            raise InvalidInputError(f"{name} {value} is not between 0 and 1", where=where)
    steps = [tau for tau in (gate.tau_looser, gate.tau, gate.tau_tighter) if tau is not None]
    if steps != sorted(set(steps)) or not all(0.0 <= tau <= 1.0 for tau in steps):
        raise InvalidInputError(f"0 ≤ tau_looser < tau < tau_tighter ≤ 1 does not hold: {steps}", where=where)


def monitor_rows(rows: Rows, standing: InForce, least: float) -> Monitoring:
    """R and K over `rows` by time (equal times in file order), for the τ of `standing`.

    Without a column least_propensity, `least` is the smallest propensity at any time. A label's own would do only where
    all actions of a time have the same, which a table does not show: elsewhere it leaves all labels with one weight.
    """
    assert standing.tau is not None
    floor = standing.tau if standing.tau_looser is None else standing.tau_looser
    heard = rows[rows["score"] >= floor]
    heard = heard[np.argsort(heard["at"], kind="stable")]
    told = heard["least_propensity"]
    leasts = np.where(np.isnan(told), least, told)
    monitor = Monitor(target=standing.target)
    columns = (heard["accepted"], heard["propensity"], leasts, heard["score"] < standing.tau)
    for label in zip(*(column.tolist() for column in columns), strict=True):
        monitor = step(monitor, MonitoredLabel(*label))
    taken, next_tau = _decide_step(monitor, standing)
    return Monitoring(
        tau=standing.tau,
        target=standing.target,
        labels=monitor.labels,
        ignored=len(rows) - len(heard),
        r=monitor.r,
        r_peak=monitor.r_peak,
        k=monitor.k,
        k_peak=monitor.k_peak,
        audits_all=monitor.audits_all,
        tightenings=monitor.tightenings,
        alarm=monitor.alarm,
        step=taken,
        next_tau=next_tau,
    )


def _decide_step(monitor: Monitor, standing: InForce) -> tuple[Step, float | None]:
    """What to do with τ, and the τ that leads to. K speaks of a looser step only where there is one.

    Nothing undoes a tightening here: K would have to speak of labels down to the old τ, and hears some below it too.
    """
    if monitor.alarm is Alarm.ROLL_BACK:
        return Step.ROLL_BACK, None
    if monitor.tightenings:
        return Step.TIGHTEN, standing.tau_tighter
    if standing.tau_looser is not None and has_earned_looser(monitor, standing.delta):
        return Step.LOOSEN, standing.tau_looser
    return Step.KEEP, standing.tau
