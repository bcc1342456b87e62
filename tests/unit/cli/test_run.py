"""The folder of a run: what is damaged or missing is named, with file and line."""

import msgspec
import pytest
from stubs.run_records import KEY, calibration, ended, process_cluster, session

from pilotage.demo.collect import collect_status, write_info
from pilotage.report.write import write_report
from pilotage.run import RunInfo, export_path, read_run
from pilotage_core.errors import InvalidInputError


@pytest.fixture
def folder(tmp_path):
    write_info(tmp_path, RunInfo(mode="local", started_at="2023-11-14T22:13:20Z"))
    collect_status(tmp_path, [process_cluster(("Logging", 0, "begun"))], [])
    export_path(tmp_path, KEY).write_bytes(msgspec.json.encode(session("s1", 0, ())) + b"\n")
    (tmp_path / "ledger.jsonl").write_bytes(msgspec.json.encode(ended("s1", 30.0)) + b"\n")
    return tmp_path


def test_a_run_is_read_back_and_reported_with_nothing_running(folder):
    curves = folder / "calibration" / "star" / "information" / "r1"
    curves.mkdir(parents=True)
    strata = {"strata": msgspec.to_builtins(calibration().curves)}
    (curves / "risk_coverage.json").write_bytes(msgspec.json.encode(strata))
    run = read_run(folder)
    assert [one.session_id for one in run.sessions[KEY]] == ["s1"]
    assert run.calibrations[0].curves["procedure"].tau == 0.3
    figures = msgspec.json.decode(write_report(folder))
    assert figures["sessions"] == 1
    assert "</html>" in (folder / "report.html").read_text()


def test_a_folder_without_a_run_says_what_to_do(tmp_path):
    with pytest.raises(InvalidInputError, match=r"run\.json: no such record \(run `pilotage demo`"):
        read_run(tmp_path)


def test_a_damaged_line_is_named(folder):
    path = export_path(folder, KEY)
    path.write_bytes(path.read_bytes() + b'{"session_id": 7}\n')
    with pytest.raises(InvalidInputError, match=r"export\.star\.information\.ndjson:2: damaged record"):
        read_run(folder)
