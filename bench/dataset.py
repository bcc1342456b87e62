"""STAR's dialogues as packed shards: how long, how much memory of all processes together, how much padding.

    python bench/dataset.py [--star PATH] [--workers 2] [--out bench/results/dataset.json]

The command is run as a user runs it, from dialogues to shards and card, in both views of a dialogue. Memory is the sum
over its processes five times a second, shared pages counted in each (RSS) and once (PSS). Wall time is of this machine
as busy as it was: CPU seconds of all processes stand beside it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from provenance import describe_run

TARGETS = {"seconds": 60, "peak_mb": 2000, "padding_share": 0.03}
VIEWS = {"choices": "star", "work": "star-work"}
COMMAND = Path(sys.executable).with_name("pilotage-train")


def measure(source: str, workers: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        command = [str(COMMAND), "dataset", "--export", source, "--out", str(out), "--workers", str(workers)]
        before = os.times()
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        peak_rss = peak_pss = 0.0
        while process.poll() is None:
            members = find_tree(process.pid)
            peak_rss = max(peak_rss, sum(read_kb(pid, "Rss:") for pid in members) / 1024)
            peak_pss = max(peak_pss, sum(read_kb(pid, "Pss:") for pid in members) / 1024)
            time.sleep(0.2)
        seconds, after = time.monotonic() - began, os.times()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        card = json.loads((out / "card.json").read_bytes())
        disk = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    train = card["splits"]["train"]
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_rss_mb": round(peak_rss),
        "peak_pss_mb": round(peak_pss),
        "sessions": sum(split["sessions"] for split in card["splits"].values()),
        "actions_with_loss": sum(split["actions"] for split in card["splits"].values()),
        "tokens": sum(split["tokens"] for split in card["splits"].values()),
        "tokens_with_loss": sum(split["loss_tokens"] for split in card["splits"].values()),
        "longest": train["longest"],
        "trims": card["trims"]["trims"],
        "padding_share": train["padding_share"],
        "rows": train["rows"],
        "disk_mb": round(disk / 2**20, 1),
    }


def find_tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def read_kb(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--star", default="", help="a folder or file of dialogues; default: as `pilotage-simulate`")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dataset.json")
    options = parser.parse_args()
    told = describe_run("tokenizers", "transformers", "pyarrow", "msgspec")
    result = {
        "what": "STAR's dialogues to packed shards at 32,768 tokens, tokenizer learned on the way",
        "targets": TARGETS,
        **{view: measure(f"{name}:{options.star}", options.workers) for view, name in VIEWS.items()},
        **told,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
