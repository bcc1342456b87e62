"""What `pilotage-train calibrate --feedback` costs and promises, run as a user runs it; and its τ beside MAPIE's.

    python bench/feedback_table.py [--gates 10000] [--runs 400] [--output bench/results/feedback_table.json]

Tables of 3,000 labels a gate, one worker. Worlds are those of bench/calibration.py: here their labels go through a file
and the command, a gate a simulation. MAPIE is no dependency: without it (`pip install mapie`) its part says so.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from calibration import (
    DELTA,
    GRID,
    LABELS,
    TARGET,
    WORLDS,
    World,
    draw,
    scores_of,
    timed,
    true_precision,
)
from provenance import describe_run
from scipy.special import betainc

from pilotage_core.calibration import GRID_STEPS, calibrate, least_selected

COMMAND = [str(Path(sys.executable).with_name("pilotage-train")), "calibrate", "--json"]
GATES_A_TIME = 250
PROMISED = (
    "s.d. 0.6, 8 operators",
    "no differences, 20 operators",
    "audited: half looked at with 0.2, s.d. 0.5, 12 operators",
    "drifting critic",
    "a fifth of labels unnamed, s.d. 0.5, 12 operators",
    "s.d. 0.6, 60 operators",
    "s.d. 0.4, 20 operators",
    "ties",
)
START, APART = 1_700_000_000_000_000, 61_000_000
"""Microseconds. Nearer to each other, labels alike would be one that was sent again."""


def build_table(world: World, gates: np.ndarray, rng: np.random.Generator) -> pa.Table:
    """Labels of `gates`, gate by gate; ids as a gateway writes them."""
    drawn = [draw(world, rng) for _ in gates]
    scores, accepted, who, sessions = (np.concatenate([labels[i] for labels, _ in drawn]) for i in range(4))
    gate, n = np.repeat(gates, LABELS), len(gates) * LABELS
    propensities = [told.get("propensities", np.ones(LABELS)) for _, told in drawn]
    known = np.concatenate([told.get("known", np.ones(LABELS, dtype=bool)) for _, told in drawn])
    sessions = np.char.zfill((gate * LABELS + sessions).astype(str), 12)
    return pa.table(
        {
            "process_cluster": pa.array(np.char.add("team/process-", gate.astype(str))),
            "stratum": pa.array(["message"]).take(pa.array(np.zeros(n, dtype=np.int32))),
            "score": scores,
            "accepted": accepted,
            "propensity": np.concatenate(propensities),
            "operator": pa.array(np.where(known, np.char.add("operator-", who.astype(str)), "")),
            "session_id": pa.array(np.char.add("0198c0de-7a7a-7000-8000-", sessions)),
            "at": pa.array(START + np.arange(n) * APART, pa.timestamp("us", "UTC")),
        }
    )


def write_tables(folder: Path, gates: int, rng: np.random.Generator) -> dict[str, Path]:
    """One table in three forms: gate by gate, in random order within some 750,000 labels of all gates, and as CSV."""
    paths = {name: folder / name for name in ("sorted.parquet", "mixed.parquet", "mixed.csv")}
    names = pa.array([f"team/process-{gate}" for gate in range(gates)])
    one = build_table(WORLDS[2], np.arange(min(GATES_A_TIME, gates)), rng)
    with (
        pa.parquet.ParquetWriter(paths["sorted.parquet"], one.schema) as by_gate,
        pa.parquet.ParquetWriter(paths["mixed.parquet"], one.schema) as mixed,
        pa.csv.CSVWriter(paths["mixed.csv"], one.schema) as text,
    ):
        for start in range(0, gates, len(one) // LABELS):
            count = min(len(one) // LABELS, gates - start)
            part = one.slice(0, count * LABELS)
            for name, owners in (
                ("sorted", start + np.repeat(np.arange(count), LABELS)),
                ("mixed", rng.permutation(len(part)) % gates if gates > count else rng.permutation(len(part)) % count),
            ):
                owned = names.take(pa.array(owners))
                at = pa.array(START + (start * LABELS + np.arange(len(part))) * APART, pa.timestamp("us", "UTC"))
                table = part.set_column(0, "process_cluster", owned).set_column(7, "at", at)
                (by_gate if name == "sorted" else mixed).write_table(table)
                if name == "mixed" and start < gates // 20:
                    text.write_table(table)
    return paths


def run_command(path: Path, *options: str) -> tuple[list[dict], dict[str, float]]:
    """The command's results on the table at `path`, and what they cost."""
    with tempfile.TemporaryFile() as output:
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.Popen(
            [*COMMAND, "--feedback", str(path), *options], stdout=output, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        peak = 0  # of this program alone: rusage would count the memory of the process it was forked from
        while process.poll() is None:
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found and time.perf_counter() - start > 1.0 else 0)
            time.sleep(0.02)
        wall, usage = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            raise SystemExit(f"the command failed on {path}")
        output.seek(0)
        results = json.load(output)
    return results, {
        "gates": len(results),
        "labels": sum(result["n"] for result in results),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_memory_mb": round(peak / 1024, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def measure_cost(folder: Path, gates: int, seed: int) -> dict[str, dict[str, float]]:
    """Whole runs of the command, start-up included."""
    paths = write_tables(folder, gates, np.random.default_rng(seed))
    cost: dict[str, dict[str, float]] = {}
    for name, path in paths.items():
        cost[name] = timed(name, lambda path=path: run_command(path)[1])
    part = START + 2 * cost["mixed.csv"]["labels"] * APART // 5  # two fifths calibrate, the others are replayed
    since = datetime.fromtimestamp(part / 1e6, UTC).isoformat()
    cost["mixed.csv, monitored"] = timed(
        "monitored", lambda: run_command(paths["mixed.csv"], "--monitor-from", since)[1]
    )
    for path in paths.values():
        path.unlink()
    return cost


def measure_promise(folder: Path, world: World, runs: int, seed: int) -> dict[str, float]:
    """Violations among `runs` gates in one table, and coverage, through the command."""
    path, rng = folder / "promise.parquet", np.random.default_rng(seed)
    pa.parquet.write_table(build_table(world, np.arange(runs), rng), path)
    results, _ = run_command(path, "--target", str(TARGET), "--delta", str(DELTA))
    precision, coverage = true_precision(world)
    scores_on_grid = scores_of(world, GRID)
    reachable = np.diff(scores_on_grid, prepend=-1.0) > 0.0
    oracle = float(coverage[reachable & (precision >= TARGET)].max(initial=0.0))
    taus = [result["tau"] for result in results if result["tau"] is not None]
    at = np.minimum(np.searchsorted(scores_on_grid, taus), len(GRID) - 1)
    violations = float(np.sum(precision[at] < TARGET)) / runs
    return {
        "violations": violations,
        "standard_error": round((violations * (1 - violations) / runs) ** 0.5, 5),
        "coverage_of_oracle": round(float(coverage[at].sum()) / runs / oracle, 4) if oracle else None,
        "certified": len(taus) / runs,
        "runs": runs,
    }


def compare_with_mapie(runs: int, seed: int) -> dict[str, object]:
    """τ beside MAPIE's fixed sequence on the same thresholds: one operator, no ties, where both apply.

    MAPIE rounds n·(1 − precision) up, so that rounding of floats now and then adds an error: its p at our τ is then the
    exact one for an error more, and its τ may be stricter.
    """
    try:
        from importlib.metadata import version

        from mapie.risk_control import BinaryClassificationController

        told = version("mapie")
    except ImportError:
        return {"not measured": "mapie is not installed"}
    warnings.simplefilter("ignore", UserWarning)  # a precision that is not monotonic: ours is tested in the same order
    rng, same, stricter, difference = np.random.default_rng(seed), 0, 0, 0.0
    world, nobody, own = WORLDS[2], np.zeros(LABELS, dtype=int), np.arange(LABELS)
    for _ in range(runs):
        (scores, accepted, _, _), _ = draw(world, rng)
        ours = calibrate(scores, accepted, nobody, own, target=TARGET, delta=DELTA)
        needed = least_selected(LABELS, target=TARGET, delta=DELTA)
        ends = np.unique(np.linspace(needed, LABELS, GRID_STEPS).astype(int)) - 1
        thresholds = np.sort(scores)[::-1][ends]
        theirs = BinaryClassificationController(
            predict_function=lambda x: np.column_stack([1.0 - x[:, 0], x[:, 0]]),
            risk="precision",
            target_level=TARGET,
            confidence_level=1.0 - DELTA,
            list_predict_params=thresholds,
            fwer_method="fixed_sequence",
        ).calibrate(scores[:, None], accepted.astype(int))
        valid = np.asarray(theirs.valid_predict_params, dtype=float)
        tau = float(valid.min()) if len(valid) else None
        same += tau == ours.tau
        stricter += ours.tau is not None and (tau is None or tau > ours.tau)
        if ours.tau is not None:
            p_value = float(theirs.p_values[np.flatnonzero(thresholds == ours.tau)[0], 0])
            exact = [
                float(betainc(ours.selected - ours.errors - more, ours.errors + more + 1.0, TARGET)) for more in (0, 1)
            ]
            difference = max(difference, min(abs(p_value - p) for p in exact))
    return {
        "version": told,
        "runs": runs,
        "same_tau": same,
        "mapie_stricter": stricter,
        "largest_p_difference": difference,
    }


def main() -> None:
    """Measure everything, print it, and write it to the output file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=10_000, help="of the large table, 3,000 labels each")
    parser.add_argument("--runs", type=int, default=400, help="gates simulated for each world")
    parser.add_argument("--table", type=Path, help="a large table that is there, instead of writing three")
    parser.add_argument("--worlds", type=int, default=len(PROMISED), help="how many of PROMISED")
    parser.add_argument("--seed", type=int, default=20250301)
    parser.add_argument("--output", type=Path, default=Path("bench/results/feedback_table.json"))
    options = parser.parse_args()
    report: dict[str, object] = {
        **describe_run("numpy", "scipy", "pyarrow"),
        "setting": {"target": TARGET, "delta": DELTA, "labels_a_gate": LABELS},
        "mapie": timed("mapie", lambda: compare_with_mapie(min(options.runs, 100), options.seed)),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.table:
            report["cost"] = {options.table.name: timed("table", lambda: run_command(options.table)[1])}
        else:
            report["cost"] = measure_cost(folder, options.gates, options.seed)
        report["promise"] = {
            world.name: timed(
                world.name, lambda world=world: measure_promise(folder, world, options.runs, options.seed)
            )
            for world in WORLDS
            if world.name in PROMISED[: options.worlds]
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
