"""`calibrate --feedback`: a table of labels in, a τ for each gate out; what is wrong is named by its row."""

import csv
import gzip
import io
import json
import os
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from typer.testing import CliRunner

from pilotage_core.calibration import calibrate
from pilotage_trainer.feedback.calibration import FeedbackRequest, calibrate_table
from pilotage_trainer.feedback.gates import gather_gates
from pilotage_trainer.feedback.ids import hash_ids
from pilotage_trainer.feedback.table import FeedbackTable
from pilotage_trainer.feedback.table_file import COLUMNS
from pilotage_trainer.feedback.targets import Targets
from pilotage_trainer.feedback.times import parse_microseconds
from pilotage_trainer.main import app

GATE = {"process_cluster": "shop/refunds", "stratum": "message"}
ROW = {**GATE, "score": 0.5, "accepted": True, "propensity": 1.0, "operator": "ann", "session_id": "s1", "at": 1.7e9}


def drawn(seed: int, n: int, operators: int = 20, spread: float = 0.0) -> dict[str, list]:
    """Columns of one gate: a critic with AUROC 0.80 at accept rate 0.73."""
    rng = np.random.default_rng(seed)
    x, who = rng.standard_normal(n), rng.integers(0, operators, n)
    accepted = rng.random(n) < expit(1.34 + 1.37 * x + spread * rng.standard_normal(operators)[who])
    return {
        "process_cluster": ["shop/refunds"] * n,
        "stratum": ["message"] * n,
        "score": expit(x).tolist(),
        "accepted": accepted.tolist(),
        "propensity": [1.0] * n,
        "operator": [f"op-{i}" for i in who],
        "session_id": [f"s-{i // 8}" for i in range(n)],
        "at": [datetime.fromtimestamp(1.7e9 + i, UTC) for i in range(n)],
    }


def joined(*tables: dict[str, list]) -> dict[str, list]:
    return {column: list(chain.from_iterable(table[column] for table in tables)) for column in tables[0]}


def write_csv(path: Path, table: dict[str, list]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return path


def write_parquet(path: Path, table: dict[str, list], **options) -> Path:
    pq.write_table(pa.table(table), path, **options)
    return path


def text_of_bytes(word: bytes, n: int) -> pa.Array:
    """Text that need not be UTF-8."""
    return pa.Array.from_buffers(pa.string(), n, pa.array([word] * n).buffers())


def run(path: Path, *options: str):
    return CliRunner().invoke(app, ["calibrate", "--feedback", str(path), *options])


def read(path: Path, *options: str) -> list[dict]:
    found = run(path, "--json", *options)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


# --- what comes out ---------------------------------------------------------------------------------------------------
def test_a_table_certifies_what_its_labels_certify_in_either_format(tmp_path):
    table = drawn(1, 3000)
    [gate] = read(write_parquet(tmp_path / "t.parquet", table), "--target", "0.9", "--delta", "0.05")
    assert [gate] == read(write_csv(tmp_path / "t.csv", table))
    own = calibrate(table["score"], table["accepted"], table["operator"], table["session_id"], target=0.9, delta=0.05)
    wanted = ("tau", "n", "selected", "errors", "bound", "coverage", "reason", "tau_looser", "operators")
    assert [gate[name] for name in wanted] == [getattr(own, name) for name in wanted]
    assert (gate["process_cluster"], gate["stratum"], gate["reason"]) == ("shop/refunds", "message", "Certified")
    assert gate["caveats"] == []
    assert gate["monitor"] is None


def test_people_get_a_line_for_each_gate(tmp_path):
    said = run(write_parquet(tmp_path / "t.parquet", drawn(1, 1500, operators=1))).stdout
    assert "shop/refunds" in said
    assert "1 of 1 gates certified" in said
    assert "OneOperator: all labels are by one operator" in said


@pytest.mark.parametrize(("options", "delta"), [((), 0.025), (("--strata", "5"), 0.01)])
def test_delta_is_shared_by_the_strata_of_a_process_cluster(tmp_path, options, delta):
    other = {**drawn(2, 200), "stratum": ["finalizing"] * 200}
    alone = {**drawn(3, 200), "process_cluster": ["shop/returns"] * 200}
    gates = read(write_csv(tmp_path / "t.csv", joined(drawn(1, 200), other, alone)), *options)
    assert [gate["stratum"] for gate in gates] == ["finalizing", "message", "message"]
    assert [gate["delta"] for gate in gates][:2] == [delta, delta]
    assert gates[2]["delta"] == (0.01 if options else 0.05)


@pytest.mark.parametrize(
    ("options", "targets"),
    [
        ((), [0.9, 0.9, 0.9]),
        (("--target", "0.8"), [0.8, 0.8, 0.8]),
        (("--target", "message=0.95"), [0.9, 0.95, 0.95]),
        (("--target", "message=0.95", "--target", "0.8"), [0.8, 0.95, 0.95]),
        (("--target", "message=0.95", "--target", "a=b=0.7"), [0.7, 0.95, 0.95]),
    ],
)
def test_a_stratum_may_have_a_target_of_its_own(tmp_path, options, targets):
    other = {**drawn(2, 600), "stratum": ["a=b"] * 600}
    alone = {**drawn(3, 600), "process_cluster": ["shop/returns"] * 600}
    path = write_csv(tmp_path / "t.csv", joined(drawn(1, 600), other, alone))
    gates = read(path, *options)
    assert [gate["stratum"] for gate in gates] == ["a=b", "message", "message"]
    assert [gate["target"] for gate in gates] == targets
    for gate, table in zip(gates, (other, drawn(1, 600), alone), strict=True):
        labels = (table["score"], table["accepted"], table["operator"], table["session_id"])
        assert gate["tau"] == calibrate(*labels, target=gate["target"], delta=gate["delta"]).tau
    lines = run(path, *options).stdout.splitlines()
    at = lines[0].index("target") + len("target")
    assert [line[:at].split()[-1] for line in lines[1:4]] == [f"{target:g}" for target in targets]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (drawn(1, 59), "TooFewLabels"),
        ({**drawn(1, 200), "accepted": [False] * 200}, "NoneAccepted"),
        ({**drawn(1, 200), "accepted": [True] * 200}, "Certified"),
        ({**drawn(1, 200), "score": [0.5] * 200}, "FirstPrefixFailed"),
        ({**drawn(1, 200), "operator": [""] * 200}, "OperatorsUnknown"),
        ({**drawn(1, 200), "operator": ["  "] * 200}, "OperatorsUnknown"),
        ({**drawn(1, 200), "operator": ["ann"] * 150 + [""] * 50}, "OperatorsUnknown"),
    ],
)
def test_a_gate_that_cannot_be_certified_says_why_and_stops_no_other(tmp_path, table, reason):
    sound = {**drawn(1, 1500), "process_cluster": ["shop/sound"] * 1500}
    gate, other = read(write_csv(tmp_path / "t.csv", joined(table, sound)))
    assert gate["reason"] == reason
    assert (gate["tau"] is not None) == (reason == "Certified")
    assert other["tau"] is not None


def test_labels_without_operator_cost_evidence_and_are_named(tmp_path):
    table = drawn(4, 3000)
    some = {**table, "operator": [None if i % 7 == 0 else name for i, name in enumerate(table["operator"])]}
    [whole], [holed] = (read(write_parquet(tmp_path / f"{i}.parquet", t)) for i, t in enumerate((table, some)))
    assert holed["operators"] == whole["operators"] == 20
    assert holed["caveats"] == ["OperatorsMissing"]
    assert holed["coverage"] <= whole["coverage"]


def test_labels_without_session_are_one_session_of_their_operator(tmp_path):
    table = drawn(4, 3000, operators=8, spread=0.6)
    [none] = read(write_csv(tmp_path / "0.csv", {**table, "session_id": [""] * 3000}))
    [same] = read(write_csv(tmp_path / "1.csv", {**table, "session_id": table["operator"]}))
    assert none["caveats"] == ["SessionsMissing"]
    assert (none["tau"], none["design_effect"]) == (same["tau"], pytest.approx(same["design_effect"]))


def test_rows_that_equal_others_in_every_column_are_counted_and_named(tmp_path):
    table, other = drawn(1, 400), {**drawn(2, 400), "stratum": ["finalizing"] * 400}
    almost = {**table, "at": [datetime.fromtimestamp(1.7e9, UTC)] * 400}  # times alone make no row the same
    path = write_parquet(tmp_path / "t.parquet", joined(*[table] * 5, other))
    finalizing, message = read(path)
    assert (message["n"], message["repeated"], message["caveats"]) == (2000, 1600, ["RowsRepeated"])
    assert (finalizing["repeated"], finalizing["caveats"]) == (0, [])
    assert read(write_csv(tmp_path / "t.csv", almost))[0]["repeated"] == 0
    assert "RowsRepeated: rows equal others" in run(path).stdout


def test_labels_rarely_looked_at_weigh_more(tmp_path):
    table = {**drawn(4, 3000), "propensity": [0.2 if i % 2 else 1.0 for i in range(3000)]}
    [gate] = read(write_csv(tmp_path / "t.csv", table))
    assert gate["looked_at_least"] == 0.2
    assert gate["design_effect"] > 1.4


@pytest.mark.parametrize("words", [("true", "false"), ("True", "False"), ("1", "0"), ("accept", "reject"), (1, 0)])
def test_verdicts_may_be_said_in_several_words(tmp_path, words):
    table = drawn(1, 300)
    said = {**table, "accepted": [words[0] if accepted else words[1] for accepted in table["accepted"]]}
    plain = read(write_parquet(tmp_path / "p.parquet", table))
    assert read(write_parquet(tmp_path / "t.parquet", said)) == plain
    assert read(write_csv(tmp_path / "t.csv", said)) == plain


@pytest.mark.parametrize(
    "write",
    [
        str,
        lambda t: t.isoformat(),
        lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
        lambda t: str(t.timestamp()),
        lambda t: str(int(t.timestamp() * 1e3)),
        lambda t: int(t.timestamp() * 1e6),
        lambda t: int(t.timestamp()) * 10**9 + 1,  # no float
        lambda t: t.isoformat() if t.second % 2 else f" {int(t.timestamp() * 1e6)}",
    ],
)
def test_times_may_be_written_in_several_ways(tmp_path, write):
    table = drawn(1, 300)
    options = ("--monitor-from", table["at"][150].isoformat())
    plain = read(write_parquet(tmp_path / "p.parquet", table), *options)
    assert plain[0]["n"] == 150
    said = {**table, "at": [write(at) for at in table["at"]]}
    assert read(write_csv(tmp_path / "t.csv", said), *options) == plain
    assert read(write_parquet(tmp_path / "t.parquet", said), *options) == plain


def test_one_time_is_one_time_however_it_is_written():
    said = ("2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "2026-01-31 12:00:00", "1769860800", "1769860800000")
    assert {parse_microseconds(text) for text in said} == {1_769_860_800_000_000}


@given(st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)), st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_a_number_is_the_unix_time_it_is_in_some_unit_and_never_a_date(moment, unit):
    seconds = round(moment.replace(tzinfo=UTC).timestamp())
    assert parse_microseconds(str(seconds * unit)) == seconds * 10**6


@pytest.mark.parametrize("text", ["2025", "20250601", "1e300", "nan", "-1.7e9", "4102444800", "1e13", "7e16"])
def test_a_number_that_is_no_time_of_these_decades_is_refused(text):
    with pytest.raises(ValueError, match="is no Unix time from 1990 to 2100"):
        parse_microseconds(text)


# --- many gates, any order --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("memory_bytes", [1 << 30, 1000])
def test_labels_come_back_gate_by_gate_in_file_order_whether_they_fit_in_memory_or_not(tmp_path, memory_bytes):
    n, rng = 20_000, np.random.default_rng(5)
    gates = rng.integers(0, 400, n)
    table = {**{name: [ROW[name]] * n for name in COLUMNS}, "process_cluster": [f"a/p{gate}" for gate in gates]}
    table["at"] = list(range(10**9, 10**9 + n))
    path = write_parquet(tmp_path / "t.parquet", table, row_group_size=3000)
    read_from = FeedbackTable(path)
    names = []
    for gate, rows in gather_gates(read_from.read_batches(), memory_bytes):
        names.append(list(read_from.gates)[gate][0])
        assert rows["at"].tolist() == [
            (10**9 + row) * 10**6 for row in np.flatnonzero(gates == int(names[-1][3:])).tolist()
        ]
    assert sorted(names) == sorted({f"a/p{gate}" for gate in gates})


@given(st.lists(st.just("") | st.text(max_size=40).map("<{}>".format), min_size=1, max_size=60))
@settings(max_examples=80, deadline=None)
def test_ids_are_told_apart_whatever_stands_beside_them(ids):
    hashed = hash_ids(pa.array(ids))
    assert len(set(hashed.tolist())) == len(set(ids))
    assert [hash_ids(pa.array([name]))[0] for name in ids] == hashed.tolist()
    assert hash_ids(pa.array(["", *ids]).slice(1)).tolist() == hashed.tolist()
    assert hash_ids(pa.array(ids).dictionary_encode()).tolist() == hashed.tolist()
    assert [name == "" for name in ids] == (hashed == 0).tolist()


def test_white_space_around_ids_and_gate_names_is_none_of_them(tmp_path):
    table = drawn(1, 600, operators=8)
    padded = {
        **table,
        **{
            name: [f"{' ' * (i % 3)}{value}\t" for i, value in enumerate(table[name])]
            for name in ("process_cluster", "stratum", "operator", "session_id")
        },
    }
    plain = read(write_csv(tmp_path / "0.csv", table))
    assert read(write_csv(tmp_path / "1.csv", padded)) == plain
    assert read(write_parquet(tmp_path / "1.parquet", padded)) == plain


# --- monitoring -------------------------------------------------------------------------------------------------------
def then(n: int, accepted: float, seed: int = 9) -> dict[str, list]:
    """Labels after those of `drawn`, all scored 0.99, of which a share is accepted."""
    rng = np.random.default_rng(seed)
    return {
        **drawn(seed, n),
        "score": [0.99] * n,
        "accepted": (rng.random(n) < accepted).tolist(),
        "at": [datetime.fromtimestamp(1.8e9 + i, UTC) for i in range(n)],
    }


@pytest.mark.parametrize(
    ("accepted", "n", "step", "alarm"),
    [
        (0.97, 20, "Keep", "None"),
        (1.0, 300, "Loosen", "None"),
        (0.5, 60, "RollBack", "RollBack"),
        (0.0, 8, "Tighten", "Tighten"),
    ],
)
def test_labels_from_a_time_on_are_monitored_and_do_not_calibrate(tmp_path, accepted, n, step, alarm):
    table = joined(drawn(1, 3000), then(n, accepted))
    [gate] = read(write_parquet(tmp_path / "t.parquet", table), "--monitor-from", "2026-11-01T00:00:00Z")
    monitor = gate["monitor"]
    assert (gate["n"], monitor["labels"], monitor["tau"]) == (3000, n, gate["tau"])
    assert (monitor["step"], monitor["alarm"]) == (step, alarm)
    leads = {"Keep": gate["tau"], "Loosen": gate["tau_looser"], "Tighten": gate["tau_tighter"], "RollBack": None}
    assert monitor["next_tau"] == leads[step]
    assert (monitor["k_peak"] >= 20) == (step == "Loosen")


def test_a_tau_in_force_is_monitored_on_a_later_table(tmp_path):
    first = run(write_parquet(tmp_path / "1.parquet", drawn(1, 3000)), "--json")
    (tmp_path / "force.json").write_text(first.stdout)
    second = write_parquet(tmp_path / "2.parquet", then(60, 0.5))
    [gate] = read(second, "--in-force", str(tmp_path / "force.json"))
    assert gate["monitor"]["step"] == "RollBack"
    assert gate["monitor"]["tau"] == json.loads(first.stdout)[0]["tau"]
    [standing] = json.loads(first.stdout)
    (tmp_path / "more.json").write_text(json.dumps([standing, {**standing, "process_cluster": "shop/silent"}]))
    elsewhere = {**drawn(1, 100), "process_cluster": ["shop/other"] * 100}
    path = write_parquet(tmp_path / "3.parquet", joined(elsewhere, then(60, 0.5)))
    other, _, silent = read(path, "--in-force", str(tmp_path / "more.json"))
    assert (other["monitor"], silent["reason"], silent["monitor"]["labels"]) == (None, "NoLabels", 0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"target": 0}, "target 0.0 is not between 0 and 1"),
        ({"target": 1.5}, "target 1.5 is not"),
        ({"target": -1}, "target -1.0 is not"),
        ({"delta": 0}, "delta 0.0 is not"),
        ({"delta": 2}, "delta 2.0 is not"),
        ({"tau": 7}, "tau_looser < tau < tau_tighter ≤ 1 does not hold: [0.4, 7.0, 0.6]"),
        ({"tau_looser": 0.8}, "does not hold: [0.8, 0.5, 0.6]"),
        ({"tau_tighter": 0.5}, "does not hold: [0.4, 0.5, 0.5]"),
        ({"process_cluster": "shop/other"}, "names no gate that the table has labels of"),
    ],
)
def test_a_tau_in_force_that_no_run_wrote_is_refused(tmp_path, wrong, said):
    standing = {**GATE, "tau": 0.5, "target": 0.9, "delta": 0.05, "tau_tighter": 0.6, "tau_looser": 0.4}
    (tmp_path / "sound.json").write_text(json.dumps([standing]))
    (tmp_path / "force.json").write_text(json.dumps([{**standing, **wrong}]))
    path = write_parquet(tmp_path / "t.parquet", drawn(1, 100))
    assert read(path, "--in-force", str(tmp_path / "sound.json"))[0]["monitor"]["tau"] == 0.5
    found = run(path, "--in-force", str(tmp_path / "force.json"))
    assert found.exit_code == 2
    assert said in found.stderr
    assert f"--in-force {tmp_path / 'force.json'}" in found.stderr


def test_the_smallest_propensity_of_the_time_may_be_told(tmp_path):
    table = joined(drawn(1, 3000), then(12, 0.0))
    plain = write_parquet(tmp_path / "p.parquet", table)
    told = write_parquet(tmp_path / "t.parquet", {**table, "least_propensity": [1.0] * 3000 + [0.1] * 12})
    r = [read(path, "--monitor-from", "2026-11-01T00:00:00Z")[0]["monitor"]["r"] for path in (plain, told)]
    assert r[0] > 1e4 > 100 > r[1]


@pytest.mark.parametrize(("before", "after"), [([1.0], [1.0, 0.1]), ([0.1, 1.0], [1.0])])
def test_untold_it_is_the_smallest_of_the_gates_labels_and_the_result_says_so(tmp_path, before, after):
    table = joined(drawn(1, 3000), then(400, 1.0))
    table["propensity"] = [before[i % len(before)] for i in range(3000)] + [after[i % len(after)] for i in range(400)]
    told = {**table, "least_propensity": table["propensity"][:3000] + [0.1] * 400}
    found = [
        read(write_parquet(tmp_path / f"{i}.parquet", each), "--monitor-from", "2026-11-01T00:00:00Z")[0]
        for i, each in enumerate((table, told))
    ]
    assert found[0]["monitor"] == found[1]["monitor"]
    assert [gate["caveats"] for gate in found] == [["LeastPropensityMissing"], []]


def test_one_propensity_for_all_that_is_monitored_needs_no_telling(tmp_path):
    table = joined(drawn(1, 3000), then(40, 0.9))
    audited = {**table, "propensity": [1.0] * 3000 + [0.1] * 40}
    [plain], [same] = (
        read(write_parquet(tmp_path / f"{i}.parquet", each), "--monitor-from", "2026-11-01T00:00:00Z")
        for i, each in enumerate((table, audited))
    )
    assert (plain["monitor"], plain["caveats"]) == (same["monitor"], same["caveats"])
    assert same["caveats"] == []


@pytest.mark.parametrize("told", [True, False])
def test_an_action_looked_at_so_seldom_that_no_label_shows_it_is_counted_where_it_is_told(tmp_path, told):
    table = {**drawn(1, 200), "accepted": [True] * 200}
    if told:
        table["least_propensity"] = [0.05] * 200
    [gate] = read(write_csv(tmp_path / "t.csv", table))
    assert gate["reason"] == ("TooFewLabels" if told else "Certified")


@pytest.mark.parametrize("good", [0, 30, 200])
def test_a_tightening_stands_however_good_the_labels_after_it(tmp_path, good):
    force = {**GATE, "tau": 0.5, "target": 0.9, "delta": 0.05, "tau_tighter": 0.6, "tau_looser": 0.4}
    (tmp_path / "force.json").write_text(json.dumps([force]))
    n = 16 + good
    table = {**drawn(1, n), "score": [0.9] * n, "accepted": [True] * 10 + [False] * 6 + [True] * good}
    [gate] = read(write_csv(tmp_path / "t.csv", table), "--in-force", str(tmp_path / "force.json"))
    assert (gate["monitor"]["step"], gate["monitor"]["next_tau"]) == ("Tighten", 0.6)
    assert gate["monitor"]["alarm"] == ("None" if good else "Tighten")


# --- bad input --------------------------------------------------------------------------------------------------------
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
    names = [f"n{i}" for i in range(128)]
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
        ("t.csv", b"\xff\xfe\x00 nothing", 2, "is no CSV"),
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


def test_the_jobs_form_needs_its_own_options_and_none_of_the_tables():
    missing = CliRunner().invoke(app, ["calibrate", "--process-cluster", "a/b"])
    mixed = CliRunner().invoke(app, ["calibrate", "--export", "x", "--json"])
    assert (missing.exit_code, mixed.exit_code) == (2, 2)
    assert "--export" in missing.stderr
    assert "--json" in mixed.stderr


# --- the promise, as a user would see it ------------------------------------------------------------------------------
@pytest.mark.parametrize("missing", ["", "operator", "session_id"])
def test_few_of_many_gates_promise_too_much(tmp_path, missing):
    """150 gates of 10 operators who differ (s.d. 0.5): 5 % may fail, the plain test fails 15 to 25 %."""
    path, gates = tmp_path / "t.parquet", 150
    tables = []
    for gate in range(gates):
        table = {**drawn(gate, 1200, operators=10, spread=0.5), "process_cluster": [f"shop/{gate}"] * 1200}
        if missing:
            table[missing] = ["" if i % 5 == 0 else name for i, name in enumerate(table[missing])]
        tables.append(table)
    write_parquet(path, joined(*tables))
    grid = np.linspace(-6.0, 6.0, 4001)
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    accept = expit(1.34 + 1.37 * grid[:, None] + 0.5 * nodes) @ (weights / weights.sum())
    density = np.exp(-(grid**2) / 2)
    precision_from = np.cumsum((density * accept)[::-1])[::-1] / np.cumsum(density[::-1])[::-1]
    taus = [gate.tau for gate in calibrate_table(FeedbackRequest(path, Targets(), 0.05)) if gate.tau is not None]
    violations = sum(np.interp(np.log(tau / (1 - tau)), grid, precision_from) < 0.9 for tau in taus)
    assert len(taus) > gates // 4
    assert violations / gates <= 0.09
