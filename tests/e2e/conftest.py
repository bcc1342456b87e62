"""What every end-to-end test of the demo needs: the dialogues, and a clear word where they are not there."""

import os

import pytest

from pilotage_core.errors import PilotageError
from pilotage_simulator.desk.sgd import find_sgd
from pilotage_simulator.star import SHARED, find_star

HOW = "STAR's dialogues are not here: set STAR=path/to/dialogues.jsonl.gz, or let `make demo-local` download them"


@pytest.fixture(scope="session")
def star():
    """Folder or file of the dialogues. In CI their absence is a failure."""
    if not os.environ.get("STAR") and not SHARED.exists():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(HOW)
    try:
        return find_star()
    except PilotageError as error:
        return (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{HOW} ({error})")


@pytest.fixture(scope="session")
def sgd():
    """The file of the desk's dialogues. In CI its absence is a failure."""
    try:
        return find_sgd()
    except PilotageError as error:
        return (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"the desk cannot be played: {error}")
