"""What other packages may import of the simulator; everything else in it is its own (held by import-linter)."""

from pilotage_simulator.desk.sgd import find_sgd
from pilotage_simulator.dialogue import GAP_CAP_SECONDS
from pilotage_simulator.ledger import (
    Entry,
    OrderReceived,
    SessionBegun,
    SessionEnded,
    StageChange,
    find_unsafe,
    read_ledger,
)
from pilotage_simulator.plan import read_plan

__all__ = [
    "GAP_CAP_SECONDS",
    "Entry",
    "OrderReceived",
    "SessionBegun",
    "SessionEnded",
    "StageChange",
    "find_sgd",
    "find_unsafe",
    "read_ledger",
    "read_plan",
]
