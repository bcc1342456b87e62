"""Given STAR's dialogues, when a transformer from scratch is trained as an engineer would: policy, critic and τ, better
than the count models on dialogues that neither has seen. Minutes on two cores; the same code runs on GPUs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilotage_simulator.benchmark import split_benchmark

TRAIN = Path(sys.executable).with_name("pilotage-train")
BENCH = Path(__file__).resolve().parents[2] / "bench" / "star.json"
CRITIC = {
    "epochs": 1, "globalBatch": 2, "clip": "1.0", "optimizer": "muon", "learningRate": "0.0005",
    "weightDecay": "0.0003", "warmUpBatches": 20, "evaluateEvery": 200, "candidates": 2,
    "sharding": "none", "activationCheckpointing": False, "timeBudgetSeconds": 60,
}  # fmt: skip


def build_config():
    """The benchmark's, in two epochs instead of a time, with more development sessions: they teach the critic."""
    config = json.loads(BENCH.read_text())
    config["selection"]["policy_development_share"] = 0.15
    config["transformers"]["policy"] |= {"epochs": 2, "evaluateEvery": 1000, "candidates": 2}
    config["transformers"]["critic"] = CRITIC
    return config


def run(*command):
    ended = subprocess.run(
        [TRAIN, *map(str, command)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1)},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def data(star, tmp_path_factory):
    """A file to learn from and one to be judged by: the last fifth of the published set's dialogues."""
    folder = tmp_path_factory.mktemp("star")
    split_benchmark(star, folder, development_share=0.2)
    return folder


@pytest.fixture(scope="module")
def learned(data):
    """Results by phase, and what both backends reach on the unseen dialogues."""
    out, config = data / "out", data / "config.json"
    config.write_text(json.dumps(build_config()))
    window = ("--export", f"star:{data / 'train.jsonl.gz'}", "--process-cluster", "star/all", "--out", out)
    window = (*window, "--config", config)
    neural = ("--revision", "r1", "--backend", "transformers")
    results = {"policy": run("policy", *window, *neural, "--held-out-share", "0.2")}
    after = ("--held-out-after", results["policy"]["held_out_after"])
    results["critic"] = run("critic", *window, *neural, *after)
    results["calibration"] = run("certify", *window, "--revision", "r1", *after, "--local")
    results["counts"] = run("policy", *window, "--revision", "counts", "--held-out-share", "0.2")
    for name in ("r1", "counts"):
        policy = out / "star" / "all" / name / "policy"
        results[f"star {name}"] = run("evaluate", "--star", data / "development.jsonl.gz", "--policy", policy, "--json")
    print(json.dumps(results, indent=1))
    return results


def test_the_transformer_beats_the_counts_on_dialogues_that_neither_has_seen(learned):
    ours, counts = learned["star r1"]["standard"], learned["star counts"]["standard"]
    assert ours["accuracy"] > counts["accuracy"]
    assert ours["coverage_at_precision_0.9"] > counts["coverage_at_precision_0.9"]


def test_the_policy_is_chosen_by_what_its_confidence_is_worth(learned):
    metrics = learned["policy"]["metrics"]
    assert learned["policy"]["passed"]
    assert metrics["action_accuracy"] > 0.55
    assert metrics["coverage_at_target"] > 0.0


def test_its_critic_says_whether_it_beats_confidence(learned):
    metrics = learned["critic"]["metrics"]
    assert metrics["labels"] > 100
    assert 0.5 < metrics["auroc"] < 1.0
    assert metrics["beats_confidence"] in (0.0, 1.0)


def test_tau_is_certified_or_refused_with_a_reason(learned):
    result = learned["calibration"]
    assert result["metrics"]["n:procedure"] > 60
    certificates = result.get("certificates", [])
    assert result["passed"] is bool(certificates)
    assert result["reason"]
    for certificate in certificates:
        assert certificate["bound"] >= certificate["target"] == 0.9
