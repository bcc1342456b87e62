"""A table of labels for `calibrate --feedback`, and the command on it."""

import csv
import json
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from scipy.special import expit
from typer.testing import CliRunner

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
