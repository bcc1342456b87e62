"""`calibrate --feedback`: a τ in force, watched on newer labels."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from unit.trainer.labels_table import (
    GATE,
    drawn,
    joined,
    read,
    run,
    write_csv,
    write_parquet,
)


def then(n: int, accepted: float, seed: int = 9) -> dict[str, list]:
    """Labels after those of `drawn`, all scored 0.99, of which a share is accepted."""
    rng = np.random.default_rng(seed)
    return {
        **drawn(seed, n),
        "score": [0.99] * n,
        "accepted": (rng.random(n) < accepted).tolist(),
        "at": [datetime.fromtimestamp(1.8e9 + 61 * i, UTC) for i in range(n)],  # no answer sent again
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
    assert [gate["caveats"] for gate in found] == [["FewDays", "LeastPropensityMissing"], ["FewDays"]]


def test_one_propensity_for_all_that_is_monitored_needs_no_telling(tmp_path):
    table = joined(drawn(1, 3000), then(40, 0.9))
    audited = {**table, "propensity": [1.0] * 3000 + [0.1] * 40}
    [plain], [same] = (
        read(write_parquet(tmp_path / f"{i}.parquet", each), "--monitor-from", "2026-11-01T00:00:00Z")
        for i, each in enumerate((table, audited))
    )
    assert (plain["monitor"], plain["caveats"]) == (same["monitor"], same["caveats"])
    assert same["caveats"] == ["FewDays"]


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
    table["session_id"] = [f"s-{i}" for i in range(n)]
    [gate] = read(write_csv(tmp_path / "t.csv", table), "--in-force", str(tmp_path / "force.json"))
    assert (gate["monitor"]["step"], gate["monitor"]["next_tau"]) == ("Tighten", 0.6)
    assert gate["monitor"]["alarm"] == ("None" if good else "Tighten")
