"""`calibrate --feedback`: what is wrong is named by file, column and row, and ends with its exit code."""

import gzip
import io
import os
from datetime import timedelta

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from unit.trainer.labels_table import (
    drawn,
    read,
    run,
    text_of_bytes,
    write_csv,
    write_parquet,
)

from pilotage_trainer.certify.table.file import COLUMNS
from pilotage_trainer.main import app


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("score", float("nan"), "nan is not in [0, 1]"),
        ("score", 1.5, "1.5 is not in [0, 1]"),
        ("score", "high", "'high' is no number"),
        ("score", "", "is empty"),
        ("propensity", 0.0, "0 is not in (0, 1]"),
        ("propensity", -0.5, "-0.5 is not in [0, 1]"),
        ("accepted", "maybe", "'maybe' is neither accepted nor rejected"),
        ("accepted", "", "'' is neither accepted nor rejected"),
        ("at", "yesterday", "'yesterday' is no RFC 3339 time"),
        ("at", "", "is empty"),
        ("at", "2025", "'2025' is no Unix time from 1990 to 2100"),
        ("stratum", "", "is empty"),
        ("process_cluster", " ", "is empty"),
    ],
)
def test_a_wrong_value_is_named_with_file_column_and_row(tmp_path, column, value, said):
    table = drawn(1, 300)
    table[column][17] = value
    found = run(write_csv(tmp_path / "t.csv", table), "--json")
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr == f"pilotage-train: {tmp_path / 't.csv'}, column {column}, row 18: {said}" + (
        " (write true or false)\n" if column == "accepted" else "\n"
    )


@pytest.mark.parametrize("column", [name for name in COLUMNS if name not in ("operator", "session_id")])
def test_an_empty_cell_in_parquet_is_named_too(tmp_path, column):
    table = drawn(1, 300)
    table[column][17] = None
    found = run(write_parquet(tmp_path / "t.parquet", table))
    assert found.exit_code == 2
    assert f"column {column}, row 18: is empty" in found.stderr


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("at", [1e300] * 300),
        ("at", [float("nan")] * 300),
        ("at", [True] * 300),
        ("at", [timedelta(1)] * 300),
        ("at", pa.array([2**62] * 300, pa.timestamp("ms"))),
        ("score", [[0.5]] * 300),
        ("session_id", [["s"]] * 300),
        ("operator", [{"name": "ann"}] * 300),
        ("accepted", [2] * 300),
        ("accepted", [[True]] * 300),
        ("accepted", [{"said": True}] * 300),
        ("process_cluster", [["shop/refunds"]] * 300),
        ("process_cluster", [True] * 300),
        ("stratum", [1.0] * 299 + [float("nan")]),
        ("stratum", text_of_bytes(b"\xff", 300)),
        ("operator", text_of_bytes(b"\xff", 300)),
        ("at", text_of_bytes(b"\xff", 300)),
    ],
)
def test_a_column_of_the_wrong_kind_is_named(tmp_path, column, values):
    found = run(write_parquet(tmp_path / "t.parquet", {**drawn(1, 300), column: values}))
    assert found.exit_code == 2
    assert f"column {column}" in found.stderr


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_string(), pa.string_view()])
def test_text_may_be_stored_as_bytes_or_views(tmp_path, kind):
    table = {**drawn(1, 300), "accepted": ["true"] * 200 + ["false"] * 100}
    columns = ("process_cluster", "stratum", "accepted")
    stored = {**table, **{name: pa.array(table[name]).cast(kind) for name in columns}}
    plain = read(write_parquet(tmp_path / "p.parquet", table))
    assert read(write_parquet(tmp_path / "t.parquet", stored)) == plain


@pytest.mark.parametrize("column", ["operator", "process_cluster"])
def test_a_dictionary_may_use_all_numbers_of_its_codes(tmp_path, column):
    """An int8 code has no number left for what is empty."""
    names = [f"a/n{i}" for i in range(128)]
    codes = [None if column == "operator" and i % 50 == 0 else i % 128 for i in range(1280)]
    coded = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), names)
    table = drawn(1, 1280)
    said = {**table, column: [None if code is None else names[code] for code in codes]}
    plain = read(write_csv(tmp_path / "p.csv", said))
    assert read(write_parquet(tmp_path / "t.parquet", {**table, column: coded})) == plain


@pytest.mark.parametrize("name", [int, str, lambda i: i.to_bytes(16, "big")])
def test_ids_may_be_numbers_text_or_bytes(tmp_path, name):
    table = drawn(1, 600, operators=8, spread=0.6)
    ids = {
        "operator": [name(int(o[3:])) for o in table["operator"]],
        "session_id": [name(i // 8 + 1) for i in range(600)],
    }
    [gate], [plain] = (read(write_parquet(tmp_path / f"{i}", t)) for i, t in enumerate(({**table, **ids}, table)))
    assert gate["design_effect"] == pytest.approx(plain["design_effect"])
    assert (gate["operators"], gate["icc"]) == (8, pytest.approx(plain["icc"]))


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_missing_column_is_named(tmp_path, column, write):
    table = drawn(1, 10)
    del table[column]
    found = run(write(tmp_path / "t", table))
    assert found.exit_code == 2
    assert f"column {column}: is missing" in found.stderr


@pytest.mark.parametrize("write", [pa.csv.write_csv, pq.write_table])
@pytest.mark.parametrize("column", ["score", "least_propensity"])
def test_a_column_that_is_there_twice_is_named(tmp_path, column, write):
    table = pa.table({**drawn(1, 100), "least_propensity": [1.0] * 100})
    write(table.append_column(column, table[column]), tmp_path / "t")
    found = run(tmp_path / "t")
    assert found.exit_code == 2
    assert f"column {column}: is there more than once" in found.stderr


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(drawn(1, 3000)), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("t.csv", None, 5, "cannot be read: No such file"),
        ("t.csv", b"", 3, "is empty"),
        ("t.parquet", b"", 3, "is empty"),
        ("t.csv", ",".join(COLUMNS).encode() + b"\n", 3, "has no labels"),
        ("t.csv", ",".join(COLUMNS).encode(), 3, "has no labels"),
        ("t.csv", b"score,at", 2, "column process_cluster: is missing among score, at"),
        ("t.csv", b"\xff\xfe\x00 nothing", 2, "is UTF-16 (write UTF-8)"),
        ("t.csv", b"a\x1b[2J\n1,\x1b[2J,3\n", 2, "is no CSV"),
        ("t.csv", b"\x1b[2J\t\n", 2, "is missing among '\\x1b[2J\\t'"),
        ("t.csv", ",".join(COLUMNS).encode() + b"\na/b,m,0.5\n", 2, "is no CSV"),
        ("t.parquet", b"not Parquet at all", 6, "is no Parquet file"),
        ("t.parquet", parquet_bytes()[:-2000], 6, "is damaged after row 0"),
        ("t.parquet", b"PAR1" + bytes(3000) + parquet_bytes()[3004:], 6, "is damaged after row 0"),
    ],
)
def test_a_broken_file_ends_with_one_line_and_its_exit_code(tmp_path, name, content, code, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = run(tmp_path / name)
    assert found.exit_code == code
    assert said in found.stderr
    assert found.stderr.count("\n") == 1
    assert found.stderr[:-1].isprintable()


def test_gzip_is_known_by_its_bytes_and_a_pipe_is_refused(tmp_path):
    plain = write_csv(tmp_path / "t.csv", drawn(1, 300))
    for name in ("packed.csv.gz", "packed.csv"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
        assert read(tmp_path / name) == read(plain)
    os.mkfifo(tmp_path / "pipe")
    found = run(tmp_path / "pipe")
    assert (found.exit_code, "is a pipe (give a file" in found.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "artefacts"), "--out"),
        (("--local",), "--local"),
        (("--target", "1.5"), "--target: 1.5 is not between 0 and 1"),
        (("--target", "high"), "--target: 'high' is no number (write --target 0.9 for all strata"),
        (("--target", "message"), "--target: 'message' is no number (write --target 0.9 for all strata"),
        (("--target", "message="), "--target message: '' is no number"),
        (("--target", "message=nan"), "--target message: nan is not between 0 and 1"),
        (("--target", "message=1"), "--target message: 1.0 is not between 0 and 1"),
        (("--target", "0.9", "--target", "0.8"), "--target: is given twice, 0.9 and 0.8"),
        (("--target", "message=0.9", "--target", "message=0.9"), "--target message: is given twice"),
        (("--target", "mesage=0.9"), "--target mesage: no label is of this stratum (the table has message)"),
        (("--delta", "nan"), "--delta: nan"),
        (("--strata", "-1"), "--strata"),
        (("--monitor-from", "soon"), "--monitor-from: 'soon' is no RFC 3339 time"),
        (("--monitor-from", "2025"), "--monitor-from: '2025' is no Unix time from 1990 to 2100"),
        (("--in-force", "/nowhere"), "--in-force /nowhere: cannot be read"),
    ],
)
def test_options_that_cannot_be_meant_are_usage_errors(tmp_path, options, said):
    found = run(write_csv(tmp_path / "t.csv", drawn(1, 100)), *options)
    assert found.exit_code == 2
    assert said in found.stderr


def test_a_table_and_a_job_are_two_commands():
    no_table = CliRunner().invoke(app, ["calibrate", "--json"])
    the_jobs = CliRunner().invoke(app, ["calibrate", "--feedback", "x", "--export", "y"])
    the_tables = CliRunner().invoke(app, ["certify", "--feedback", "x"])
    assert (no_table.exit_code, the_jobs.exit_code, the_tables.exit_code) == (2, 2, 2)
    assert "--feedback" in no_table.stderr
    assert "--export" in the_jobs.stderr
    assert "--feedback" in the_tables.stderr


# --- what is no table of commas, and what was never meant as a value --------------------------------------------------
def as_csv(table: dict[str, list], separator: str = ",") -> str:
    rows = zip(*table.values(), strict=True)
    return "\n".join([separator.join(table), *(separator.join(str(cell) for cell in row) for row in rows), ""])


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (lambda t: as_csv(t, ";").encode(), "is separated by semicolons (write commas)"),
        (lambda t: as_csv(t, "\t").encode(), "is separated by tabs (write commas)"),
        (lambda t: as_csv(t, "|").encode(), "is separated by bars (write commas)"),
        (lambda t: as_csv(t).encode("utf-16"), "is UTF-16 (write UTF-8)"),
        (lambda t: as_csv(t).encode("utf-16-le"), "holds zero bytes"),
        (lambda t: as_csv(t).encode("utf-32-be"), "holds zero bytes"),
        (lambda t: b"sep=,\n" + as_csv(t).encode(), "begins with a line for a spreadsheet (sep=)"),
        (lambda t: b"# labels\n" + as_csv(t).encode(), "begins with a comment"),
        (lambda t: as_csv(t).split("\n", 1)[1].encode(), "has no header"),
        (lambda t: b"PK\x03\x04" + bytes(100), "is a workbook or an archive (ZIP) (write CSV)"),
        (lambda t: b'[{"score": 0.5}]', "is JSON (write CSV)"),
        (lambda t: b'{"score": 0.5}\n', "is JSON (write CSV)"),
        (lambda t: gzip.compress(gzip.compress(as_csv(t).encode())), "is compressed twice"),
    ],
)
def test_a_file_of_another_shape_is_called_what_it_is(tmp_path, shape, said):
    path = tmp_path / "labels.csv"
    path.write_bytes(shape(drawn(1, 100)))
    found = run(path)
    assert (found.exit_code, found.stdout) == (2, "")
    assert said in found.stderr


def test_a_column_is_found_whatever_its_case_and_a_byte_order_mark_is_none_of_its_name(tmp_path):
    table = drawn(1, 300)
    plain = read(write_csv(tmp_path / "p.csv", table))
    odd = {f" {name.upper()} ": values for name, values in table.items()}
    assert read(write_csv(tmp_path / "t.csv", odd)) == plain
    assert read(write_parquet(tmp_path / "t.parquet", odd)) == plain
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "p.csv").read_bytes())
    assert read(tmp_path / "b.csv") == plain


@pytest.mark.parametrize("column", ["operator", "session_id", "comment"])
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_rows_that_a_quote_swallows_are_never_left_out_in_silence(tmp_path, column, closed, packed):
    table = {**drawn(1, 300), "comment": ["fine"] * 300}
    table[column][100] = '"oh'
    if closed:
        table[column][110] = 'ah"'
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(as_csv(table).encode()) if packed else as_csv(table).encode())
    found = run(path)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "quote" in found.stderr


def test_text_of_several_lines_in_a_column_nobody_reads_is_fine(tmp_path):
    table = {**drawn(1, 300), "comment": ["one, two\nthree", "", 'a "quoted" word\r\n'] * 100}
    assert read(write_csv(tmp_path / "t.csv", table)) == read(write_csv(tmp_path / "p.csv", drawn(1, 300)))


@pytest.mark.parametrize("word", ["nan", "NaN", "NULL", "None", "n/a", "N/A", "<NA>", "-", "\\N", "unknown", "\u200b"])
@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_what_exporters_write_for_missing_is_missing(tmp_path, word, write):
    table = drawn(1, 600)
    for column, caveat in (("operator", "OperatorsMissing"), ("session_id", "SessionsMissing")):
        said = {**table, column: [word if i % 3 == 0 else value for i, value in enumerate(table[column])]}
        empty = {**table, column: ["" if i % 3 == 0 else value for i, value in enumerate(table[column])]}
        [found], [missing] = read(write(tmp_path / "t", said)), read(write(tmp_path / "e", empty))
        assert found == missing
        assert caveat in found["caveats"]
    for column in ("stratum", "process_cluster"):
        refused = run(write(tmp_path / "t", {**table, column: [word] * 600}))
        assert refused.exit_code == 2
        assert f"column {column}, row 1" in refused.stderr


@pytest.mark.parametrize("name", ["refunds", "/refunds", "shop/", "shop/a/b", "sh\x00op/refunds", "shop/re\nfunds"])
def test_a_process_cluster_is_a_namespace_and_a_name(tmp_path, name):
    refused = run(write_parquet(tmp_path / "t", {**drawn(1, 100), "process_cluster": [name] * 100}))
    assert refused.exit_code == 2
    assert "column process_cluster, row 1" in refused.stderr


@pytest.mark.parametrize("wrong", ["swapped", "a time", "a label", "a propensity"])
def test_an_operator_that_is_no_person_is_refused(tmp_path, wrong):
    table = drawn(1, 1200)
    people, sessions = table["operator"], table["session_id"]
    changed = {
        "swapped": {"operator": sessions, "session_id": people},
        "a time": {"operator": [str(at) for at in table["at"]]},
        "a label": {"operator": [f"l{i}" for i in range(1200)]},
    }
    if wrong == "a propensity":
        changed[wrong] = {"score": [1.0] * 1200, "propensity": table["score"]}
    refused = run(write_csv(tmp_path / "t.csv", table | changed[wrong]))
    assert refused.exit_code == 2
    assert "are the two swapped?" in refused.stderr
