"""Artefacts on disk: a folder with a manifest of digests, put in place by one rename and checked whenever it is read.

Layout: ROOT/<namespace>/<name>/<revision>/{policy,critic,calibration}/. Not here: what the files mean.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pilotage_core.dialog import DEFAULT_FORMAT
from pilotage_trainer.failures import DamagedArtefactError

FORMAT = 1
"""Version of the layout and of every file in it; a reader takes no other."""
MANIFEST = "manifest.json"
SCORING_SOURCES = ("features.py", "counts.py", "policy.py", "critic.py")
"""The modules that turn a prompt into a score."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an artefact is and was made of. `digest` names it everywhere else; it covers all the other fields.

    `files` maps names to digests. `policy` is the digest of the policy a critic or a calibration belongs to, `critic`
    that of the calibration's critic. All it learned from closed from `trained_since` to `trained_until`, both included.
    """

    kind: str
    process_cluster: str
    revision: str
    backend: str
    data: str
    config: str
    prompt_format: str
    code: str
    files: dict[str, str]
    trained_since: str = ""
    trained_until: str = ""
    policy: str = ""
    critic: str = ""
    format: int = FORMAT
    digest: str = ""


def artefact_folder(root: Path, process_cluster: str, revision: str, phase: str) -> Path:
    """Where a phase's artefact lives."""
    return root / process_cluster / revision / phase


def write_artefact(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Put `files` and the manifest at `folder`, all or nothing; what was there is replaced. Raises OSError.

    The manifest is completed with the files' digests and its own.
    """
    manifest = msgspec.structs.replace(
        manifest, files={n: digest_bytes(d) for n, d in sorted(files.items())}, digest=""
    )
    manifest = msgspec.structs.replace(manifest, digest=digest_manifest(manifest))
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp's 0700 would lock out a model server that runs as another user
        for name, data in (*files.items(), (MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))):
            _write_durably(temporary / name, data)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def read_artefact(folder: Path, kind: str) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and files of a `kind` artefact at `folder`, every digest checked. Raises DamagedArtefactError."""
    manifest = read_manifest(folder)
    if manifest.kind != kind:
        raise DamagedArtefactError(f"is a {manifest.kind}, not a {kind}", where=str(folder))
    files = {}
    for name, digest in manifest.files.items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            raise DamagedArtefactError(f"cannot be read: {error.strerror}", where=str(folder / name)) from error
        if digest_bytes(files[name]) != digest:
            raise DamagedArtefactError("is not what its manifest says", where=str(folder / name), remedy="train again")
    return manifest, files


def read_manifest(folder: Path) -> Manifest:
    """The manifest at `folder`, checked against itself, the format and the serialiser. Raises DamagedArtefactError."""
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise DamagedArtefactError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except msgspec.DecodeError as error:
        raise DamagedArtefactError(f"is no manifest: {error}", where=str(path)) from error
    if manifest.digest != digest_manifest(manifest):
        raise DamagedArtefactError("was altered: its digest is another", where=str(path), remedy="train again")
    if manifest.format != FORMAT:
        raise DamagedArtefactError(f"has format {manifest.format}, not {FORMAT}", where=str(path), remedy="train again")
    if manifest.prompt_format != DEFAULT_FORMAT.digest:
        raise DamagedArtefactError(
            f"was trained on prompt format {manifest.prompt_format}, this is {DEFAULT_FORMAT.digest}",
            where=str(path),
            remedy="train again, or serve it with the image that made it",
        )
    return manifest


def digest_manifest(manifest: Manifest) -> str:
    """Identity of an artefact: of everything in its manifest but the digest itself."""
    return digest_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, digest=""), order="sorted"))


def digest_bytes(data: bytes) -> str:
    """32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_code() -> str:
    """Identity of the code that turns prompts into scores."""
    here = Path(__file__).parent
    return digest_bytes(b"\0".join((here / name).read_bytes() for name in SCORING_SOURCES))


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`. A folder cannot be renamed onto a full one, so an old one steps aside first."""
    aside = temporary.with_name(temporary.name + ".old")
    if folder.exists():
        folder.rename(aside)
    temporary.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
