"""What other packages may import of the trainer; everything else in it is its own (held by import-linter)."""

from pilotage_trainer.certify.held_out import number_names
from pilotage_trainer.config import read_config
from pilotage_trainer.evaluation.history import History, Replayed, replay_history
from pilotage_trainer.measures.ranking import RiskCoverage, risk_coverage
from pilotage_trainer.measures.slices import SliceShare, estimate_shares, keep_largest
from pilotage_trainer.results import require_writable

__all__ = [
    "History",
    "Replayed",
    "RiskCoverage",
    "SliceShare",
    "estimate_shares",
    "keep_largest",
    "number_names",
    "read_config",
    "replay_history",
    "require_writable",
    "risk_coverage",
]
