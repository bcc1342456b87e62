"""What comparing two arms costs, beside tea-tasting on the same table, and whether both say the same.

    python bench/experiment.py [--customers 77000] [--draws 2000] [--output bench/results/experiment.json]

Customers' seconds are log-normal with 60 % zeros (most need no operator), three rows each. One process, one thread.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import tea_tasting as tt
from provenance import describe_run
from pyarrow import csv

from pilotage.experiment.command import Request, analyse


def write_table(path: Path, customers: int) -> pa.Table:
    """A row a session; gives the same by customer."""
    random = np.random.default_rng(7)
    n = 2 * customers
    arm = np.arange(n) % 2
    total = random.lognormal(4.0, 1.2, n) * (random.random(n) > 0.6) * np.where(arm == 1, 0.85, 1.0)
    parts = random.dirichlet((1.0, 1.0, 1.0), n) * total[:, None]
    names = np.where(arm == 1, "selective", "human")
    rows = pa.table(
        {
            "customer": np.repeat(np.char.add("c", np.arange(n).astype(str)), 3),
            "arm": np.repeat(names, 3),
            "seconds": parts.ravel(),
        }
    )
    csv.write_csv(rows, path)
    return pa.table({"variant": arm, "seconds": total})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=77_000)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=Path("bench/results/experiment.json"))
    options = parser.parse_args()
    run = describe_run("numpy", "pyarrow", "tea-tasting")
    path = Path("/tmp") / "experiment.csv"
    table = write_table(path, options.customers)
    request = Request(path, "customer", "arm", "human", "seconds", draws=options.draws)
    began = time.perf_counter()
    found = analyse(request)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    formula = analyse(Request(path, "customer", "arm", "human", "seconds"))
    without_draws = time.perf_counter() - began
    began = time.perf_counter()
    peer = tt.Experiment(seconds=tt.Mean("seconds"), ratio=tt.SampleRatio()).analyze(table, control=0)["seconds"]
    theirs = time.perf_counter() - began
    rows_in_arms = sum(found.n.values())
    assert rows_in_arms == 2 * options.customers, "every customer is in"
    assert found.bootstrap is not None
    assert abs(found.comparison.relative_effect - peer.rel_effect_size) < 1e-6
    assert abs(found.comparison.ci_low - peer.rel_effect_size_ci_lower) < 1e-6
    assert abs(found.comparison.p - peer.pvalue) < 1e-6
    assert formula.comparison == found.comparison
    path.unlink()
    result = run | {
        "customers_an_arm": options.customers,
        "rows": 6 * options.customers,
        "draws": options.draws,
        "seconds_with_draws": round(ours, 2),
        "seconds_reading_and_formula": round(without_draws, 2),
        "tea_tasting_seconds_formula_alone": round(theirs, 3),
        "what_each_did": "ours: a CSV of sessions read, checked, added up by customer, compared, drawn again; "
        "tea-tasting: a table of customers in memory compared by formula",
        "relative_effect": found.comparison.relative_effect,
        "interval": [found.comparison.ci_low, found.comparison.ci_high],
        "bootstrap": list(found.bootstrap),
        "greatest_difference_from_tea_tasting": max(
            abs(found.comparison.relative_effect - peer.rel_effect_size),
            abs(found.comparison.ci_low - peer.rel_effect_size_ci_lower),
            abs(found.comparison.ci_high - peer.rel_effect_size_ci_upper),
            abs(found.comparison.p - peer.pvalue),
        ),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    options.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
