"""Training as real processes: several that agree with one, and some that are killed. CPU, gloo, a tiny model."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from unit.trainer.transformers.rows import read_losses

from pilotage_trainer.backends.transformers.training.checkpoint import list_folders, read_progress

ROOT = Path(__file__).parents[2]
RUN = ROOT / "tests" / "unit" / "trainer" / "transformers" / "rows.py"
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT / "tests"),
    "TOKENIZERS_PARALLELISM": "false",
}


def run(
    out: Path, fault: tuple[str, ...] = (), processes: int = 1, **settings: object
) -> subprocess.CompletedProcess[str]:
    command = [str(RUN), str(out), json.dumps(settings), *fault]
    if processes == 1:
        command = [sys.executable, *command]
    else:  # as `pilotage-train --processes 2` starts them
        code = "import sys; from pilotage_trainer.launch import run_workers as w; sys.exit(w(sys.argv[2:], 2))"
        command = [sys.executable, "-c", code, str(processes), *command]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of a run that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole")
    done = run(out, checkpoint_every=2)
    assert done.returncode == 0, done.stderr
    return read_losses(out)


@pytest.mark.parametrize("sharding", ["none", "full"])
def test_two_processes_have_the_losses_of_one(tmp_path, whole, sharding):
    done = run(tmp_path, processes=2, sharding=sharding, checkpoint_every=2)
    assert done.returncode == 0, done.stderr
    assert read_losses(tmp_path) == pytest.approx(whole, rel=1e-5)
    shards = list(tmp_path.glob("checkpoints/*/optimizer_0/*.distcp"))
    assert bool(shards) == (sharding == "full")


@pytest.mark.parametrize("fault", [("batch", "7"), ("batch", "19"), ("write", "1"), ("write", "2")])
def test_a_killed_run_goes_on_to_the_same_losses(tmp_path, whole, fault):
    """Killed in a batch, and in the middle of writing a checkpoint: no half-written one is ever taken."""
    killed = run(tmp_path, fault, checkpoint_every=2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert all(read_progress(folder) is not None for folder in list_folders(tmp_path / "checkpoints"))
    again = run(tmp_path, checkpoint_every=2)
    assert again.returncode == 0, again.stderr
    assert read_losses(tmp_path) == whole
    assert not list(tmp_path.glob("*/.step-*"))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_run_saves_says_so_and_goes_on_to_the_same_losses(tmp_path, whole, processes):
    """SIGTERM to what the controller started; no checkpoint was due before the end."""
    settings = {"checkpoint_every": 1000, "sharding": "full"}
    stopped = run(tmp_path, ("stop", "9"), processes, **settings)
    assert stopped.returncode == 143, stopped.stderr
    (saved,) = list_folders(tmp_path / "checkpoints")
    assert read_progress(saved).step > 1
    again = run(tmp_path, processes=processes, **settings)
    assert again.returncode == 0, again.stderr
    assert read_losses(tmp_path) == pytest.approx(whole, rel=1e-5)


def test_a_killed_worker_has_its_own_exit_code_and_a_clear_message(tmp_path, whole):
    killed = run(tmp_path, ("batch", "9"), processes=2, sharding="full", checkpoint_every=2)
    assert killed.returncode == 11, killed.stderr
    assert "worker 1" in killed.stderr
    assert "SIGKILL" in killed.stderr or "is gone" in killed.stderr
    again = run(tmp_path, processes=2, sharding="full", checkpoint_every=2)
    assert again.returncode == 0, again.stderr
    assert read_losses(tmp_path) == pytest.approx(whole, rel=1e-5)
