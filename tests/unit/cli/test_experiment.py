"""`pilotage experiment`: tables as they come, with what is wrong in them named and left out, never averaged."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from pilotage.main import app

HEAD = "customer,arm,seconds\n"
GOOD = HEAD + "".join(f"a{n},control,{10 + n % 7}\nb{n},model,{8 + n % 5}\n" for n in range(200))


def run(path: Path, *words: str) -> tuple[int, dict, str]:
    asked = ["experiment", "analyse", str(path), "--customer", "customer", "--arm", "arm", "--control", "control"]
    done = CliRunner().invoke(app, [*asked, "--metric", "seconds", "--json", *words])
    return done.exit_code, json.loads(done.stdout) if done.exit_code == 0 else {}, done.output


def write(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_table_has_every_figure_and_no_problem(tmp_path):
    code, found, _ = run(write(tmp_path, GOOD))
    assert code == 0
    assert found["n"] == {"control": 200, "model": 200}
    assert found["relative_effect"] == pytest.approx(10.0 / np.mean([10 + n % 7 for n in range(200)]) - 1)
    assert found["ci_low"] < found["relative_effect"] < found["ci_high"] < 0
    assert found["p"] < 1e-6
    assert found["srm_p"] == pytest.approx(1.0)
    assert found["problems"] == []


def test_a_customers_sessions_are_one_customers(tmp_path):
    rows = "".join(f"a{n},control,{10 + n % 7}\n" * 3 + f"b{n},model,{8 + n % 5}\n" * 3 for n in range(200))
    _, found, _ = run(write(tmp_path, HEAD + rows))
    _, once, _ = run(write(tmp_path, GOOD, "once.csv"))
    assert found["n"] == once["n"]
    for name in ("relative_effect", "ci_low", "ci_high", "p"):
        assert found[name] == pytest.approx(once[name])


BAD = [
    (",control,5\n", "1 row without a customer: left out"),
    ("x,,5\n", "1 row without a arm: left out"),
    ("nan,control,5\nNone,model,5\n", "2 rows without a customer: left out"),
    ("a0,model,\n", "1 customers in more than one arm (a0): left out"),
    ("x,control,\n", "1 row whose seconds is no number: left out"),
    ("x,control,inf\ny,model,NaN\nz,model,12s\n", "3 rows whose seconds is no number: left out"),
    ("x,control,-4\n", "1 row whose seconds is negative (--negative lets them be): left out"),
    (" x ,control,4\nx, model,5\n", "1 customers in more than one arm (x): left out"),
]


@pytest.mark.parametrize(("rows", "problem"), BAD, ids=[problem for _, problem in BAD])
def test_what_is_wrong_is_named_counted_and_left_out(tmp_path, rows, problem):
    code, found, _ = run(write(tmp_path, GOOD + rows))
    assert code == 0
    assert found["problems"] == [problem]
    _, clean, _ = run(write(tmp_path, GOOD, "clean.csv"))
    if "a0" not in problem:
        assert {**found, "problems": []} == clean


def test_what_was_before_is_one_number_of_a_customer_however_many_sessions_there_are(tmp_path):
    random = np.random.default_rng(2)
    once, rows = [], []
    for n in range(800):
        before, arm = random.lognormal(3, 1), ("control", "model")[n % 2]
        sessions = 1 + n % 2 * 2  # the treatment has more of them
        seconds = before * random.lognormal(0, 0.3)
        once.append(f"{n},{arm},{seconds:.6f},{before:.6f}\n")
        for i in range(sessions):
            told = f"{before:.6f}" if i == 0 or n % 3 else ""
            rows.append(f"{n},{arm},{seconds / sessions:.9f},{told}\n")
    head = "customer,arm,seconds,before\n"
    _, by_customer, _ = run(write(tmp_path, head + "".join(once), "once.csv"), "--before", "before")
    _, by_session, _ = run(write(tmp_path, head + "".join(rows)), "--before", "before")
    for name in ("relative_effect", "ci_low", "ci_high", "p"):
        assert by_session[name] == pytest.approx(by_customer[name], rel=1e-4)
    code, _, said = run(
        write(tmp_path, head + "a,control,1,2\na,control,1,3\nb,model,1,2\n", "bad.csv"), "--before", "before"
    )
    assert code == 2
    assert "before of a is not the same on all rows" in said


def test_one_customer_written_as_number_and_as_decimal_is_one(tmp_path):
    rows = "".join(f"{n},control,5\n{n}.0,model,6\n" for n in range(20)) + "".join(
        f"c{n},control,{n}\nd{n},model,{n}\n" for n in range(9)
    )
    _, found, _ = run(write(tmp_path, HEAD + rows))
    assert found["n"] == {"control": 9, "model": 9}
    assert found["problems"][0].startswith("20 customers in more than one arm")


def test_an_arm_may_be_called_none(tmp_path):
    path = write(tmp_path, GOOD.replace("control", "none"))
    done = CliRunner().invoke(app, ["experiment", "analyse", str(path), "--customer", "customer", "--arm", "arm",
                                    "--control", "none", "--metric", "seconds", "--json"])  # fmt: skip
    assert json.loads(done.stdout)["n"] == {"none": 200, "model": 200}


@pytest.mark.parametrize(
    ("rows", "words", "problem"),
    [
        ("a,control,5\nb,control,5\nc,model,6\nd,model,6\n", (), "all customers of an arm are alike"),
        ("a,control,0\nb,control,0\nc,model,6\nd,model,7\n", ("--per", "seconds"), "seconds adds up to 0 in an arm"),
    ],
)
def test_where_nothing_is_known_p_is_not_nought(tmp_path, rows, words, problem):
    code, found, _ = run(write(tmp_path, HEAD + rows), *words)
    assert code == 0
    assert found["p"] is None
    assert problem in found["problems"][0]


def test_a_mismatch_of_the_sample_ratio_is_a_problem_and_a_planned_split_is_none(tmp_path):
    text = GOOD + "".join(f"c{n},control,11\n" for n in range(200))
    _, found, _ = run(write(tmp_path, text))
    assert "sample ratio mismatch" in found["problems"][0]
    _, planned, _ = run(write(tmp_path, text), "--split", "control=2,model=1")
    assert planned["problems"] == []


REFUSED = [
    ("", (), "cannot be read"),
    (HEAD, (), "no row is left"),
    ("customer;arm\n1;control\n", (), "has no column seconds"),
    (HEAD + "a,control,1\nb,control,2\n", (), "there is one arm alone"),
    (HEAD + "a,one,1\nb,two,2\n", (), "no arm is named control"),
    (HEAD + "a,control,1\nb,one,2\nc,two,3\n", (), "there are 2 treatments"),
    (HEAD + "a,control,1\nb,one,2\n", (), "fewer than two customers"),
    (GOOD, ("--split", "control=1"), "shares are wanted of control, model"),
    (GOOD, ("--treatment", "other"), "no other arm is named other"),
    (HEAD + "a,control\n", (), "cannot be read"),
    ("customer,arm,seconds,seconds\na,control,1,1\n", (), "has seconds more than once"),
    (GOOD, ("--split", "control=nan,model=1"), "shares are wanted of control, model"),
    (GOOD, ("--split", "control=inf,model=1"), "shares are wanted of control, model"),
]


@pytest.mark.parametrize(("text", "words", "said"), REFUSED)
def test_where_there_is_nothing_to_compare_it_says_so_and_what_to_do(tmp_path, text, words, said):
    code, _, output = run(write(tmp_path, text), *words)
    assert code == 2
    assert said in output


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_other_delimiters_a_mark_of_byte_order_and_quotes_are_read(tmp_path, delimiter):
    text = "\ufeff" + GOOD.replace(",", delimiter).replace("control", '"control"')
    code, found, _ = run(write(tmp_path, text))
    assert (code, found["n"]["control"]) == (0, 200)


def test_parquet_is_read_and_half_of_it_is_refused(tmp_path):
    names = [row.split(",") for row in GOOD.splitlines()[1:]]
    table = pa.table(
        {"customer": [r[0] for r in names], "arm": [r[1] for r in names], "seconds": [float(r[2]) for r in names]}
    )
    path = tmp_path / "t.parquet"
    parquet.write_table(table, path)
    code, found, _ = run(path)
    assert (code, found["problems"]) == (0, [])
    path.write_bytes(path.read_bytes()[:400])
    code, _, output = run(path)
    assert code == 2
    assert "cannot be read" in output


def test_numbers_and_nulls_in_parquet_are_customers_and_nobody(tmp_path):
    customers = pa.array([*range(400), None, None])
    arms = pa.array(["control", "model"] * 200 + ["control", "model"]).dictionary_encode()
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"customer": customers, "arm": arms, "seconds": pa.array(range(402))}), path)
    _, found, _ = run(path)
    assert found["n"] == {"control": 200, "model": 200}
    assert found["problems"] == ["2 rows without a customer: left out"]


def test_a_rate_what_was_before_and_draws_are_told(tmp_path):
    random = np.random.default_rng(1)
    rows = []
    for n in range(600):
        before = random.lognormal(3, 1)
        rows.append(f"{n},{'control' if n % 2 else 'model'},{before * random.lognormal(0, 0.3):.3f},{before:.3f},2\n")
    path = write(tmp_path, "customer,arm,seconds,earlier,sessions\n" + "".join(rows))
    _, found, _ = run(path, "--before", "earlier", "--per", "sessions", "--draws", "200")
    assert found["adjusted"]
    assert found["removed"] > 0.5
    assert found["balance_p"] > 0.001
    assert found["bootstrap"][0] < found["bootstrap"][1]
    assert found["seed"] == 1
    named = ("--customer", "customer", "--arm", "arm", "--control", "control", "--metric", "seconds")
    words = CliRunner().invoke(app, ["experiment", "analyse", str(path), *named, "--before", "earlier"]).output
    assert "adjusted by what was before (CUPED)" in words
    assert "however often it was looked at" in words


def test_a_control_that_is_all_zero_has_no_relative_effect_and_says_so(tmp_path):
    rows = "".join(f"a{n},control,0\nb{n},model,{n % 3}\n" for n in range(50))
    _, found, _ = run(write(tmp_path, HEAD + rows))
    assert found["relative_effect"] is None
    assert found["ci_low"] is None
    assert found["problems"] == ["the control's mean is 0: there is no relative effect"]
    assert found["effect"] == pytest.approx(0.98)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cv", "2.6", "--effect", "-0.2", "--per-day", "500"), " customers, "),
        (("--margin", "3", "--sd", "30"), "1570 in each arm"),
        (("--published", "9000,9100,-0.2,-0.27,-0.12"), "a coefficient of variation of "),
    ],
)
def test_a_plan_says_how_many_or_what_a_published_result_implies(words, said):
    done = CliRunner().invoke(app, ["experiment", "plan", *words])
    assert done.exit_code == 0
    assert said in done.output


def test_odd_heads_and_compressed_files_are_read(tmp_path):
    text = "\n" + GOOD.replace(HEAD, "customer , arm, seconds\n")
    code, found, _ = run(write(tmp_path, text))
    assert (code, found["n"]["control"]) == (0, 200)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode()))
    assert run(path)[1]["n"]["control"] == 200
    code, found, _ = run(write(tmp_path, GOOD + "x,control,1_130\n", "u.csv"))
    assert found["problems"] == ["1 row whose seconds is no number: left out"]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.duration("s")])
def test_a_column_of_parquet_that_holds_no_numbers_is_named(tmp_path, kind):
    path = tmp_path / "t.parquet"
    values = pa.array([[1], [2]] if pa.types.is_list(kind) else [1, 2], kind)
    parquet.write_table(pa.table({"customer": ["a", "b"], "arm": ["control", "model"], "seconds": values}), path)
    code, _, said = run(path)
    assert code == 2
    assert "seconds holds no numbers" in said


NOTHING = [
    ("--published", "0,9100,-0.2,-0.3,-0.1"),
    ("--published", "inf,9,-0.2,-0.3,-0.1"),
    ("--cv", "1", "--effect", "nan"),
    ("--cv", "inf", "--effect", "0.1"),
    ("--margin", "1e-200", "--sd", "1"),
]


@pytest.mark.parametrize("words", NOTHING)
def test_a_plan_of_what_cannot_be_is_refused(words):
    assert CliRunner().invoke(app, ["experiment", "plan", *words]).exit_code == 2


@pytest.mark.parametrize("words", [(), ("--published", "1,2"), ("--published", "9,9,0.5,-0.1,0.1"), ("--cv", "2")])
def test_a_plan_of_nothing_is_refused(words):
    done = CliRunner().invoke(app, ["experiment", "plan", *words])
    assert done.exit_code == 2
