"""What a table of labels certifies, gate by gate.

Here: how δ is shared, which labels calibrate and which are monitored (monitoring.py), caveats. Not here: the
table (labels.py, gates.py), the tests themselves (pilotage_core), the output (report.py).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec
import numpy as np

from pilotage_core.calibration import TauResult, calibrate
from pilotage_core.certificate import COVERED_DAYS
from pilotage_core.errors import InvalidInputError
from pilotage_trainer.certify.table.gates import Rows, gather_gates, keep_first
from pilotage_trainer.certify.table.labels import LabelTable
from pilotage_trainer.certify.table.monitoring import InForce, Key, Monitoring, monitor_rows, read_in_force
from pilotage_trainer.certify.table.targets import Targets
from pilotage_trainer.certify.table.times import parse_microseconds

FEW_OPERATORS, MANY_OPERATORS, MANY_PROPENSITIES = 3, 50, 10
"""From so many operators on, simulated violations stay within δ (bench/calibration.py)."""
DAY_MICROSECONDS = 86_400_000_000


class Caveat(StrEnum):
    """What a result does not speak for, or leans on."""

    ROWS_REPEATED = "RowsRepeated"  # rows tell a label again (pasted, retried): each label counts once
    ONE_OPERATOR = "OneOperator"  # it speaks for this operator only: others may differ
    FEW_OPERATORS = "FewOperators"  # two operators tell too little of how others differ
    FEW_DAYS = "FewDays"  # so few tell nothing of how others differ: days are not covered
    OPERATORS_MISSING = "OperatorsMissing"  # labels without operator count as one more operator, the worst case
    SESSIONS_MISSING = "SessionsMissing"  # labels without session count as one session for each operator
    LEAST_PROPENSITY_MISSING = (
        "LeastPropensityMissing"  # the monitor takes the gate's smallest propensity for all times
    )


class GateResult(msgspec.Struct, frozen=True):
    """One gate: the fields of pilotage_core.calibration.TauResult, and what newer labels say.

    `looked_at_least` is the smallest propensity among the labels that calibrated; `repeated` rows of the gate
    tell a label again and were left out.
    """

    process_cluster: str
    stratum: str
    tau: float | None
    n: int
    selected: int
    errors: int
    bound: float
    coverage: float
    reason: str
    target: float
    delta: float
    needed: int
    design_effect: float
    icc: float
    operators: int
    days: int
    looked_at_least: float
    repeated: int
    tau_tighter: float | None
    tau_looser: float | None
    caveats: tuple[Caveat, ...]
    monitor: Monitoring | None


@dataclass(frozen=True)
class TableRequest:
    """What `calibrate --feedback` was asked for. Raises InvalidInputError for what cannot be meant."""

    path: Path
    targets: Targets
    delta: float
    strata: int = 0
    monitor_from: str = ""
    in_force: Path | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.delta < 1.0:
            raise InvalidInputError(f"{self.delta} is not between 0 and 1", where="--delta")
        if self.strata < 0:
            raise InvalidInputError(f"{self.strata} is not positive", where="--strata")

    def read_monitor_from(self) -> int | None:
        """The time in microseconds."""
        if not self.monitor_from:
            return None
        try:
            return parse_microseconds(self.monitor_from)
        except ValueError as error:
            raise InvalidInputError(f"{self.monitor_from!r} {error}", where="--monitor-from") from error


def calibrate_table(request: TableRequest) -> list[GateResult]:
    """A result for each gate of the table, by process cluster and stratum.

    Raises what LabelTable raises, and InvalidInputError for τ in force that do not read or are of none of its gates,
    and for a target of no gate.
    """
    since = request.read_monitor_from()
    in_force = {} if request.in_force is None else read_in_force(request.in_force)
    table = LabelTable(request.path, gates={key: number for number, key in enumerate(in_force)})
    found: dict[Key, GateResult] = {}
    keys: list[Key] = []
    strata: Mapping[str, int] = {}
    for number, rows in gather_gates(table.read_batches()):
        if not keys:
            keys = list(table.gates)
            request.targets.require_known({stratum for _, stratum in keys})
            strata = _count_strata(keys, request.strata)
        found[keys[number]] = _judge_gate(keys[number], rows, request, strata, since, in_force)
    if request.in_force is not None and not found.keys() & in_force.keys():
        where, remedy = f"--in-force {request.in_force}", "give the JSON of an earlier run on the same gates"
        raise InvalidInputError("names no gate that the table has labels of", where=where, remedy=remedy)
    nothing = np.zeros(0, dtype=rows.dtype)
    for key in keys:
        if key not in found:
            found[key] = _judge_gate(key, nothing, request, strata, since, in_force)
    return [found[key] for key in sorted(found)]


def _count_strata(keys: list[Key], told: int) -> dict[str, int]:
    """Strata among which δ of each process cluster is shared."""
    strata = dict(Counter(process_cluster for process_cluster, _ in keys))
    for process_cluster, count in strata.items():
        if told and count > told:
            raise InvalidInputError(f"{process_cluster} has {count} strata", where=f"--strata {told}")
    return dict.fromkeys(strata, told) if told else strata


def _judge_gate(
    key: Key,
    rows: Rows,
    request: TableRequest,
    strata: Mapping[str, int],
    since: int | None,
    in_force: Mapping[Key, InForce],
) -> GateResult:
    """Calibrate on the labels before `since` (all, without it), and monitor what is in force on those from then on."""
    told = len(rows)
    rows = keep_first(rows)
    _require_people(key, rows)
    before = rows if since is None else rows[rows["at"] < since]
    delta = request.delta / strata[key[0]]
    result = calibrate_rows(before, request.targets.of(key[1]), delta)
    standing = in_force.get(key)
    if request.in_force is None:
        standing = InForce(*key, result.tau, result.target, delta, result.tau_tighter, result.tau_looser)
    repeated = told - len(rows)
    caveats, monitor = _find_caveats(before, result, repeated), None
    if standing is not None and standing.tau is not None and (since is not None or request.in_force is not None):
        newer = rows if since is None else rows[rows["at"] >= since]
        least = rows["propensity"].min(initial=1.0)
        monitor = monitor_rows(newer, standing, least)
        if (np.isnan(newer["least_propensity"]) & (newer["propensity"] > least)).any():
            caveats += (Caveat.LEAST_PROPENSITY_MISSING,)
    return GateResult(
        process_cluster=key[0],
        stratum=key[1],
        tau=result.tau,
        n=result.n,
        selected=result.selected,
        errors=result.errors,
        bound=result.bound,
        coverage=result.coverage,
        reason=result.reason,
        target=result.target,
        delta=result.delta,
        needed=result.needed,
        design_effect=result.design_effect,
        icc=result.icc,
        operators=result.operators,
        days=result.days,
        looked_at_least=float(before["propensity"].min(initial=1.0)),
        repeated=repeated,
        tau_tighter=result.tau_tighter,
        tau_looser=result.tau_looser,
        caveats=caveats,
        monitor=monitor,
    )


def _require_people(key: Key, rows: Rows) -> None:
    """Raises InvalidInputError where many more operators than sessions are named: then they are no people, and taking
    each label for an independent person's would certify too much.
    """
    operators, sessions = (len(np.unique(rows[name][rows[name] != 0])) for name in ("operator", "session"))
    if sessions and operators > max(2 * sessions, MANY_OPERATORS):
        what = f"{key[0]} {key[1]} has {operators} operators in {sessions} sessions"
        raise InvalidInputError(what, where="columns operator, session_id", remedy="are the two swapped?")
    scores, propensities = (len(np.unique(rows[name])) for name in ("score", "propensity"))
    if scores == 1 and propensities > MANY_PROPENSITIES:
        what = f"{key[0]} {key[1]} has one score and {propensities} propensities"
        raise InvalidInputError(what, where="columns score, propensity", remedy="are the two swapped?")


def calibrate_rows(rows: Rows, target: float, delta: float) -> TauResult:
    """τ on the labels of one gate. A label without session belongs to one session of all such labels by its operator:
    what the labels of an operator have in common is then still counted, and the session is not taken for independent.
    """
    known = rows["operator"] != 0
    propensities = rows["propensity"]
    return calibrate(
        rows["score"],
        rows["accepted"],
        rows["operator"],
        np.where(rows["session"] != 0, rows["session"], rows["operator"]),
        target=target,
        delta=delta,
        propensities=None if (propensities == 1.0).all() else propensities,
        known=None if known.all() else known,
        least_propensity=float(np.fmin.reduce(rows["least_propensity"], initial=1.0)),  # NaN where it is not told
        days=rows["at"] // DAY_MICROSECONDS,
    )


def _find_caveats(rows: Rows, result: TauResult, repeated: int) -> tuple[Caveat, ...]:
    caveats = [Caveat.ROWS_REPEATED] if repeated else []
    if result.n and not (rows["operator"] != 0).all():
        caveats.append(Caveat.OPERATORS_MISSING)
    if result.operators == 1:
        caveats.append(Caveat.ONE_OPERATOR)
    elif 1 < result.operators < FEW_OPERATORS:
        caveats.append(Caveat.FEW_OPERATORS)
    if 0 < result.days < COVERED_DAYS:
        caveats.append(Caveat.FEW_DAYS)
    if not (rows["session"] != 0).all():
        caveats.append(Caveat.SESSIONS_MISSING)
    return tuple(caveats)
