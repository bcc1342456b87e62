"""The policy that training goes on from after a rollback: the one that is replaced, where it is of the same kind.

Not here: training (job.py), which revision it is (the controller).
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pilotage_core.training import Shape, TransformersSettings
from pilotage_trainer.artefact import Manifest, artefact_folder, check_artefact
from pilotage_trainer.backends.transformers import NAME
from pilotage_trainer.backends.transformers.asking.export import TRAINING, digest_base_of
from pilotage_trainer.config import JobConfig
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.results import tell
from pilotage_trainer.window import Window


@dataclass(frozen=True)
class Earlier:
    """A policy whose weights and tokenizer training goes on from."""

    folder: Path
    manifest: Manifest


def find_earlier(window: Window, config: JobConfig, start_from: str) -> Earlier | None:
    """The policy of revision `start_from`; None where there is none, or it is not what `config` would train.

    Then training begins with the base model and says why, so that a recovery goes on.
    """
    if not start_from:
        return None
    folder = artefact_folder(window.out, window.process_cluster, start_from, "policy")
    try:
        manifest = check_artefact(folder, "policy")
        if manifest.backend != NAME:
            reason = f"it is one of {manifest.backend}"
        elif config.transformers.policy.lora.rank:
            reason = "adapters begin with their base"
        elif manifest.base != digest_base_of(config.base_model):
            reason = "its base model was another"
        elif not config.base_model and read_shape(folder) != config.transformers.shape:
            reason = "its shape is another, or is not told"
        else:
            return Earlier(folder, manifest)
    except DamagedArtefactError as error:
        reason = str(error)
    tell(f"training does not go on from the policy of {start_from}: {reason}")
    return None


def read_shape(folder: Path) -> Shape | None:
    """The shape that the policy at `folder` was asked to have; None for one that `policy` did not train."""
    try:
        return TransformersSettings.model_validate_json((folder / TRAINING).read_bytes()).shape
    except (OSError, ValidationError):  # one tuned on preferences has other settings there, a merged one may have none
        return None
