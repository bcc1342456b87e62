"""At the end of a run: every record from gateway, controller, artefacts and BPM into the folder of the run."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from pilotage.run import RunInfo, export_path, object_key
from pilotage.services import ApiObject, GatewayApi


def write_info(run: Path, info: RunInfo) -> None:
    """Write run.json whole or not at all."""
    half = run / "run.json.new"
    half.write_bytes(msgspec.json.format(msgspec.json.encode(info), indent=2))
    half.replace(run / "run.json")


def collect_status(run: Path, process_clusters: Iterable[ApiObject], gates: Iterable[ApiObject]) -> None:
    """The API objects as they stand."""
    objects = {"items": list(process_clusters), "gates": list(gates)}
    (run / "status.json").write_bytes(msgspec.json.format(msgspec.json.encode(objects), indent=1))


def collect_sessions(run: Path, gateway: GatewayApi, process_clusters: Iterable[ApiObject]) -> int:
    """All sessions of each process cluster, those still open too; how many."""
    count = 0
    for item in process_clusters:
        with export_path(run, object_key(item)).open("wb") as file:
            for closed in (True, False):
                for line in gateway.export(object_key(item), closed=closed):
                    file.write(line)
                    count += 1
    return count


def collect_calibrations(run: Path, artefacts: Path) -> None:
    """Curves and results of every calibration there was, one folder a revision."""
    for curve in sorted(artefacts.glob("*/*/*/calibration/risk_coverage.json")):
        namespace, name, revision = curve.parts[-5:-2]
        folder = run / "calibration" / namespace / name / revision
        folder.mkdir(parents=True, exist_ok=True)
        for path in (curve, curve.with_name("result.json")):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
