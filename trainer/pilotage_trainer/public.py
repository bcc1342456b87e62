"""What other packages may import of the trainer; everything else in it is its own (held by import-linter)."""

from pilotage_trainer.certify.held_out import number_names
from pilotage_trainer.config import read_config
from pilotage_trainer.evaluation.history import History, Replayed, replay_history
from pilotage_trainer.measures.ranking import RiskCoverage, risk_coverage
from pilotage_trainer.measures.slices import SliceShare, estimate_shares, keep_largest
from pilotage_trainer.privacy.finding import Report, build_find, read_lines
from pilotage_trainer.privacy.finding import anonymise as anonymise_lines
from pilotage_trainer.privacy.learning import learn as learn_tagger
from pilotage_trainer.privacy.reading import read_texts
from pilotage_trainer.privacy.tagger import load_tagger
from pilotage_trainer.results import require_writable

__all__ = [
    "History",
    "Replayed",
    "Report",
    "RiskCoverage",
    "SliceShare",
    "anonymise_lines",
    "build_find",
    "estimate_shares",
    "keep_largest",
    "learn_tagger",
    "load_tagger",
    "number_names",
    "read_config",
    "read_lines",
    "read_texts",
    "replay_history",
    "require_writable",
    "risk_coverage",
]
