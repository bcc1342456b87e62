"""Data that tests of several packages read."""

import os
from pathlib import Path

import pytest

from pilotage_simulator.star import SHARED


@pytest.fixture(scope="session")
def sgd_path() -> Path:
    """The service dialogues. In CI they have to be there."""
    path = Path(os.environ["SGD"]) if os.environ.get("SGD") else SHARED.parent / "sgd" / "dialogues.jsonl.gz"
    if not path.exists():
        reason = f"service dialogues are not at {path}: give SGD=<dialogues.jsonl.gz, with schema.json beside it>"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path
