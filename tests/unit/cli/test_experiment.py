"""`pilotage experiment`: tables as they come, with what is wrong in them named and left out, never averaged."""

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
    assert {**found, "problems": []} == clean


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


@pytest.mark.parametrize("words", [(), ("--published", "1,2"), ("--published", "9,9,0.5,-0.1,0.1"), ("--cv", "2")])
def test_a_plan_of_nothing_is_refused(words):
    done = CliRunner().invoke(app, ["experiment", "plan", *words])
    assert done.exit_code == 2
