"""The folder of one run: its layout, what was recorded in it, and the reading of that. Nothing here asks a service.

RUN/run.json              what was run, when, how far it came (RunInfo)
RUN/status.json           process clusters and gates as the API shows them, at the end: {"items": [...], "gates": [...]}
RUN/export.<ns>.<name>.ndjson   sessions of one process cluster (record.SessionRecord a line)
RUN/ledger.jsonl          what the BPM itself received, did and refused (written by the simulator)
RUN/calibration/<ns>/<name>/<revision>/{result,risk_coverage}.json   copied from the calibration artefacts
RUN/faults.json           what was killed and when it was back (with --faults)
RUN/report.html, RUN/report.json
RUN/live/                 databases, keys, logs, artefacts of the processes: of no use once they have ended
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pilotage_core.certificate import Certificate
from pilotage_core.errors import InvalidInputError
from pilotage_core.record import SessionRecord
from pilotage_core.wire import JobResult
from pilotage_simulator.public import Entry, OrderReceived, SessionBegun, SessionEnded, read_ledger


class RunInfo(msgspec.Struct, omit_defaults=True):
    """One run of the demo. `mode` is local or kubernetes; `reached`: how far it came, `failure`: what ended it early.

    `assumptions` are what the simulated operators cost and do that no dialogue says, by name.
    """

    mode: str
    started_at: str
    command: str = ""
    ended_at: str = ""
    reached: str = ""
    failure: str = ""
    complete: bool = False
    dialogues: str = ""
    machine: str = ""
    gateway_url: str = ""
    controller_url: str = ""
    assumptions: dict[str, float] = {}


class Ledger(msgspec.Struct, frozen=True):
    """The BPM's own record of a run, by kind of entry, in the order written."""

    begun: tuple[SessionBegun, ...] = ()
    orders: tuple[OrderReceived, ...] = ()
    ended: tuple[SessionEnded, ...] = ()


class CurvePoint(msgspec.Struct, frozen=True):
    """Precision among held-out labels that score at least `tau`, and the share of labels that do."""

    tau: float
    coverage: float
    precision: float
    n: float = 0.0


class Curve(msgspec.Struct, frozen=True):
    """Risk and coverage of one stratum under one revision. `tau` is None where nothing was certified."""

    points: tuple[CurvePoint, ...]
    tau: float | None = None
    target: float = 0.9


class _Curves(msgspec.Struct):
    strata: dict[str, Curve]


class Calibration(msgspec.Struct, frozen=True):
    """What one calibration of one revision found."""

    process_cluster: str
    revision: str
    curves: dict[str, Curve]
    certificates: tuple[Certificate, ...] = ()
    reason: str = ""


class Fault(msgspec.Struct, frozen=True):
    """A part that was killed, and how long until it answered again (None: not before the end)."""

    part: str
    killed_at: str
    recovered_seconds: float | None
    detail: str = ""


class Run(msgspec.Struct, frozen=True):
    """Everything recorded of one run. `process_clusters` and `gates` are API objects by key."""

    info: RunInfo
    process_clusters: dict[str, dict[str, Any]]
    sessions: dict[str, tuple[SessionRecord, ...]]
    ledger: Ledger
    gates: dict[str, dict[str, Any]] = {}
    calibrations: tuple[Calibration, ...] = ()
    faults: tuple[Fault, ...] = ()


def read_run(folder: Path) -> Run:
    """Read a run's records. Raises InvalidInputError naming the file and line where one is missing or damaged."""
    info = _read_json(folder / "run.json", RunInfo)
    status = _read_json(folder / "status.json", dict[str, list[dict[str, Any]]])
    clusters = {object_key(item): item for item in status.get("items", [])}
    return Run(
        info=info,
        process_clusters=clusters,
        sessions={key: tuple(_read_lines(export_path(folder, key), SessionRecord)) for key in clusters},
        ledger=sort_ledger(read_ledger(folder / "ledger.jsonl")),
        gates={object_key(item): item for item in status.get("gates", [])},
        calibrations=tuple(_read_calibrations(folder / "calibration")),
        faults=_read_json(folder / "faults.json", tuple[Fault, ...]) if (folder / "faults.json").exists() else (),
    )


def sort_ledger(entries: Iterable[Entry]) -> Ledger:
    """A ledger's entries by kind."""
    entries = tuple(entries)
    return Ledger(
        begun=tuple(entry for entry in entries if isinstance(entry, SessionBegun)),
        orders=tuple(entry for entry in entries if isinstance(entry, OrderReceived)),
        ended=tuple(entry for entry in entries if isinstance(entry, SessionEnded)),
    )


def object_key(item: dict[str, Any]) -> str:
    """`namespace/name` of an API object."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def export_path(folder: Path, key: str) -> Path:
    """Where the sessions of the process cluster `key` are."""
    return folder / f"export.{key.replace('/', '.')}.ndjson"


def _read_calibrations(folder: Path) -> Iterator[Calibration]:
    for path in sorted(folder.glob("*/*/*/risk_coverage.json")):
        namespace, name, revision = path.parent.parts[-3:]
        result_path = path.with_name("result.json")
        result = _read_json(result_path, JobResult) if result_path.exists() else None
        yield Calibration(
            process_cluster=f"{namespace}/{name}",
            revision=revision,
            curves=_read_json(path, _Curves).strata,
            certificates=result.certificates if result else (),
            reason=result.reason if result else "",
        )


def _read_lines(path: Path, kind: Any) -> Iterator[Any]:
    for number, line in _numbered_lines(path):
        yield _decode(line, kind, path, number)


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _read_json(path: Path, kind: Any) -> Any:
    if not path.exists():
        raise InvalidInputError(
            "no such record", where=str(path), remedy="run `pilotage demo` first, or name its folder with --run"
        )
    return _decode(path.read_bytes(), kind, path, 1)


def _decode(data: bytes, kind: Any, path: Path, line: int) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"damaged record: {error}", where=f"{path}:{line}") from error
