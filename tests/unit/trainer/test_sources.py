"""Sources of sessions: every form gives the same records; what is damaged is named, or skipped with a count."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import msgspec
import pyarrow
import pyarrow.parquet
import pytest

from pilotage_core.errors import EvidenceError, InvalidInputError, UnavailableError
from pilotage_core.job_exit import JobExit
from pilotage_trainer.failures import DamagedArtefactError, find_exit_code
from pilotage_trainer.sessions.export import read_export
from pilotage_trainer.sessions.parquet import write_archive, write_file
from pilotage_trainer.sessions.sources import read_records

KEY = "star/weather"


@pytest.fixture
def sessions(make_sessions):
    return make_sessions(30)


def encode(records):
    return b"".join(msgspec.json.encode(record) + b"\n" for record in records)


@pytest.fixture
def gateway(sessions):
    """An export API that says what it was asked."""
    asked = []

    class Export(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(gzip.compress(encode(sessions)))

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Export)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("form", ["ndjson", "ndjson.gz", "parquet", "archive", "gateway"])
def test_every_form_gives_the_same_sessions(sessions, tmp_path, gateway, form):
    path = tmp_path / f"export.{form}"
    match form:
        case "ndjson":
            path.write_bytes(encode(sessions))
        case "ndjson.gz":
            path.write_bytes(gzip.compress(encode(sessions)))
        case "parquet":
            assert write_file(path, sessions) == len(sessions)
        case "archive":
            assert write_archive(path, sessions) == len(sessions)
    source = gateway[0] if form == "gateway" else str(path)
    assert read_export(source, KEY) == sessions
    assert read_export(source, "star/other") == []
    assert read_export(source, KEY, since=sessions[10].closed_at, until=sessions[20].closed_at) == sessions[10:20]
    parts = [record for i in range(2) for record in read_records(source, KEY, part=(i, 2))]
    assert sorted(parts, key=lambda record: record.closed_at) == sessions
    if form == "gateway":
        assert gateway[1][0] == "/v1/export?process_cluster=star%2Fweather&closed=true"


def test_an_archive_lies_by_process_cluster_and_day_and_grows(sessions, tmp_path):
    elsewhere = [msgspec.structs.replace(record, process_cluster="star/other") for record in sessions[:3]]
    still_open = msgspec.structs.replace(sessions[0], closed_at="")
    assert write_archive(tmp_path, [*sessions[:10], still_open, *elsewhere]) == 13
    assert write_archive(tmp_path, sessions[10:]) == 20
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet"))
    assert found[0] == "process_cluster=star%2Fother/day=2026-03-01/part-0.parquet"
    assert "process_cluster=star%2Fweather/day=2026-03-01/part-1.parquet" in found
    assert read_export(str(tmp_path), KEY) == sessions
    assert read_export(str(tmp_path), "star/other") == elsewhere


def test_a_truncated_parquet_file_is_one_clear_error(sessions, tmp_path):
    path = tmp_path / "export.parquet"
    write_file(path, sessions)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedArtefactError, match=r"export\.parquet: is no whole Parquet file") as raised:
        read_export(str(path), KEY)
    assert find_exit_code(raised.value) == JobExit.DAMAGED
    assert "\n" not in str(raised.value)


def test_a_parquet_file_whose_pages_are_damaged_is_one_clear_error(sessions, tmp_path):
    path = tmp_path / "export.parquet"
    write_file(path, sessions)
    data = bytearray(path.read_bytes())
    data[200:2000] = bytes(1800)
    path.write_bytes(data)
    with pytest.raises(DamagedArtefactError, match=r"export\.parquet"):
        read_export(str(path), KEY)


def test_a_damaged_file_among_sound_ones_is_skipped_and_counted(sessions, tmp_path, capsys):
    write_archive(tmp_path, sessions[:20])
    write_archive(tmp_path, sessions[20:])
    damaged = sorted(tmp_path.rglob("part-0.parquet"))[0]
    damaged.write_bytes(damaged.read_bytes()[:50])
    kept = read_export(str(tmp_path), KEY)
    assert kept == sessions[20:]
    assert "1 of 2 files were damaged and skipped" in "".join(capsys.readouterr())


def test_a_folder_of_damaged_files_only_is_an_error(sessions, tmp_path):
    write_archive(tmp_path, sessions)
    for path in tmp_path.rglob("*.parquet"):
        path.write_bytes(b"PAR1")
    with pytest.raises(DamagedArtefactError):
        read_export(str(tmp_path), KEY)


def test_other_columns_are_named(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"session": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(EvidenceError, match="has no column process_cluster, record"):
        read_export(str(tmp_path / "other.parquet"), KEY)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("no-such.ndjson", UnavailableError, "cannot be read"),
        ("no-such.parquet", UnavailableError, "cannot be read"),
        ("tsar:/data", InvalidInputError, "no format that is installed"),
        ("http://127.0.0.1:9/", UnavailableError, "does not answer"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, monkeypatch, source, error, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        read_export(source, KEY)


def test_a_truncated_gzip_file_is_named(sessions, tmp_path):
    path = tmp_path / "export.ndjson.gz"
    path.write_bytes(gzip.compress(encode(sessions))[:-200])
    with pytest.raises(UnavailableError, match=r"export\.ndjson\.gz: cannot be read"):
        read_export(str(path), KEY)


def test_a_format_that_a_package_brings_is_read_by_its_name():
    installed = pytest.importorskip("pilotage_simulator.star")
    if not installed.SHARED.exists():
        pytest.skip("STAR is not beside the checkout")
    records = read_records(f"star:{installed.SHARED}", "acme/support", part=(0, 2000))
    assert {record.process_cluster for record in records} == {"acme/support"}
