"""Sessions that run by themselves in a live process cluster: `pilotage demo --local --data desk`, and what it came to.

    python bench/desk_live.py [--sgd dialogues.jsonl.gz] [--run out/desk-live] [--output bench/results/desk_live.json]

Models are learned within the run. Gateway, controller, model servers, Jobs and the simulated desk share the machine's
cores, as for anyone who tries it. What is kept is the report's figures, which are counted from the records alone.
"""

import argparse
import json
import subprocess
import time
from datetime import datetime
from pathlib import Path

from provenance import describe_run

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("name", "stages", "sessions", "sessions_by_stage", "executed_critical", "whole", "session_certificate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sgd", type=Path, default=None, help="the desk's dialogues; default: SGD=, else the data set")
    parser.add_argument("--run", type=Path, default=Path("out/desk-live"), help="folder of the run")
    parser.add_argument("--output", type=Path, default=ROOT / "bench" / "results" / "desk_live.json")
    parser.add_argument("--made", action="store_true", help="the run is there (`make demo`, out/demo): figures alone")
    options = parser.parse_args()
    if options.made and not (options.run / "report.json").is_file():
        parser.error(f"{options.run} holds no finished run: let `make demo` end, or leave out --made")
    result = describe_run("numpy", "scipy")
    began = time.monotonic()
    command = [ROOT / ".venv" / "bin" / "pilotage", "demo", "--local", "--data", "desk", "--run", options.run]
    if not options.made:
        subprocess.run([*command, *(("--sgd", options.sgd) if options.sgd else ())], check=True, cwd=ROOT)
    figures = json.loads((options.run / "report.json").read_text())
    assert figures["unsafe_executions"] == 0, figures["unsafe"]
    clusters = [{name: one[name] for name in KEPT} for one in figures["process_clusters"]]
    for one in clusters:
        if one["whole"] is not None:
            del one["whole"]["touched"]
        assert one["sessions"] > 0, f"{one['name']} was not played"
    result |= {
        "seconds": round(find_seconds(options.run) if options.made else time.monotonic() - began, 1),
        "unsafe_executions": figures["unsafe_executions"],
        "process_clusters": clusters,
    }
    options.output.write_text(json.dumps(result, indent=2) + "\n")


def find_seconds(run: Path) -> float:
    """How long the run at `run` took, as it says."""
    told = json.loads((run / "run.json").read_text())
    began, ended = (datetime.fromisoformat(told[name]) for name in ("started_at", "ended_at"))
    return (ended - began).total_seconds()


if __name__ == "__main__":
    main()
