"""The registry of backends: the only place that names them. An artefact is opened by the backend of its manifest."""

from pathlib import Path

import msgspec

from pilotage_trainer.artefact import MANIFEST, Manifest, read_manifest
from pilotage_trainer.backends.copier.backend import CopierBackend
from pilotage_trainer.backends.counts.backend import CountsBackend
from pilotage_trainer.backends.interface import CRITIC_FILE, AnyCritic, AnyPolicy, Backend, ScoreCard
from pilotage_trainer.backends.transformers.backend import TransformersBackend
from pilotage_trainer.failures import DamagedArtefactError

_ALL: tuple[Backend, ...] = (CountsBackend(), CopierBackend(), TransformersBackend())
BACKENDS = {backend.name: backend for backend in _ALL}
DEFAULT = _ALL[0].name


def find_backend(manifest: Manifest, folder: Path) -> Backend:
    """The backend that made `manifest`. Raises DamagedArtefactError where there is none of its name."""
    if manifest.backend not in BACKENDS:
        raise DamagedArtefactError(f"is of backend {manifest.backend}, which is not here", where=str(folder))
    return BACKENDS[manifest.backend]


def open_policy(folder: Path) -> AnyPolicy:
    """The policy at `folder`, of whichever backend, digests checked. Raises DamagedArtefactError."""
    return find_backend(read_manifest(folder), folder).open_policy(folder)


def open_critic(folder: Path) -> AnyCritic:
    """The critic at `folder`, of whichever backend, digests checked. Raises DamagedArtefactError."""
    return find_backend(read_manifest(folder), folder).open_critic(folder)


def find_artefact(folder: Path, kind: str) -> Path:
    """`folder`, or the `kind` in it where it is a revision's."""
    return folder / kind if not (folder / MANIFEST).exists() and (folder / kind / MANIFEST).exists() else folder


def read_score_card(folder: Path) -> ScoreCard:
    """What the score of the critic at `folder` is, without its model. Raises DamagedArtefactError."""
    path = folder / CRITIC_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ScoreCard)
    except (OSError, msgspec.DecodeError) as error:
        raise DamagedArtefactError(f"is no critic: {error!r}", where=str(path)) from error


def load_models(folder: Path) -> tuple[AnyPolicy | None, AnyCritic | None]:
    """What `folder` holds: one artefact, or a revision with a policy, a critic or both. Raises DamagedArtefactError."""
    if (folder / MANIFEST).exists():
        is_critic = read_manifest(folder).kind == "critic"
        return (None, open_critic(folder)) if is_critic else (open_policy(folder), None)
    policy = open_policy(folder / "policy") if (folder / "policy" / MANIFEST).exists() else None
    critic = open_critic(folder / "critic") if (folder / "critic" / MANIFEST).exists() else None
    if policy is None and critic is None:
        raise DamagedArtefactError("holds neither a policy nor a critic", where=str(folder))
    return policy, critic


def find_foreign_code(manifest: Manifest) -> str:
    """A warning where `manifest` was made by other code than this; empty where it was not. Scores may then differ."""
    backend = BACKENDS.get(manifest.backend)
    code = backend.find_maker().code if backend else "of none of ours"
    return "" if manifest.code == code else f"made by code {manifest.code}, served by {code}: calibrate again"
