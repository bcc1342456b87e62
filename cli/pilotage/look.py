"""`pilotage console`: a gateway on the records that a local run left, for its console. No controller, so no leave."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from pilotage_core.errors import InvalidInputError

NOBODY = "http://127.0.0.1:9"
"""Where no controller is: a gateway without one proposes at most."""


def look_around(run: Path, listen: str, say: Callable[[str], object]) -> None:
    """Become that gateway. Raises InvalidInputError where there are no records."""
    live = run / "live"
    records = live / "gateway" / "gateway.db"
    if not records.exists():
        raise InvalidInputError(
            "no records of a local run are here", where=str(run), remedy="run `pilotage demo --local` first, or --run"
        )
    say(f"the console: http://{listen}/console/ (Ctrl-C ends it)")
    program = str(Path(sys.executable).with_name("pilotage-gateway"))
    keys = live / "controller" / "keys"
    options = ["--listen", listen, "--database", f"sqlite:///{records.absolute()}", "--controller", NOBODY]
    os.execv(program, [program, *options, "--keys", str(keys), "--log-level", "error"])
