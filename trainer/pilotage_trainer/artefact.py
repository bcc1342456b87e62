"""Artefacts on disk: a folder with a manifest of digests, put in place by one rename and checked whenever it is read.

Layout: ROOT/<namespace>/<name>/<revision>/{policy,critic,calibration}/. Not here: what the files mean.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from pilotage_core.dialog import DEFAULT_FORMAT, DialogFormat
from pilotage_core.errors import InvalidInputError
from pilotage_trainer.failures import DamagedArtefactError

FORMAT = 1
"""Version of the layout and of every file in it; a reader takes no other."""
MANIFEST = "manifest.json"


class Maker(NamedTuple):
    """The backend that made an artefact, and the identity of its code that turns prompts into scores."""

    backend: str
    code: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an artefact is and was made of. `digest` names it everywhere else; it covers all the other fields.

    `files` maps names to digests. `policy` is the digest of the policy a critic or a calibration belongs to, `critic`
    that of the calibration's critic, `base` that of the model it was tuned from (empty: none), `begun_with` that of the
    earlier policy whose weights it began with (empty: the base's). `dialog` is how it reads sessions, `prompt_format`
    the digest of that under the serialiser it was made with. All it learned from closed from `trained_since` to
    `trained_until`, both included.
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
    base: str = ""
    begun_with: str = ""
    dialog: DialogFormat = DEFAULT_FORMAT
    format: int = FORMAT
    digest: str = ""


def artefact_folder(root: Path, process_cluster: str, revision: str, phase: str) -> Path:
    """Where a phase's artefact lives."""
    return root / process_cluster / revision / phase


def require_replaceable(folder: Path, kind: str) -> None:
    """Raises InvalidInputError where `folder` holds anything but a `kind` artefact: putting one there removes it."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, object]).get("kind")
    except (OSError, msgspec.DecodeError):
        found = None
    if found != kind:
        raise InvalidInputError(f"is there already and is no {kind}", where=str(folder), remedy="name another --out")


def write_artefact(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Put `files` and the manifest at `folder`, all or nothing; what was there is replaced. Raises OSError.

    The manifest is completed with the files' digests and its own.
    """

    def fill(temporary: Path) -> None:
        for name, data in files.items():
            (temporary / name).write_bytes(data)

    return place_artefact(folder, manifest, fill)


def place_artefact(folder: Path, manifest: Manifest, fill: Callable[[Path], None]) -> Manifest:
    """Have `fill` write files into a new folder, and put that and the manifest at `folder`, as `write_artefact` does.

    For files too large to hold in memory. Raises OSError, and what `fill` raises.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(temporary)
        found = {path.relative_to(temporary).as_posix(): path for path in temporary.rglob("*") if path.is_file()}
        manifest = msgspec.structs.replace(
            manifest, files={name: digest_file(path) for name, path in sorted(found.items())}, digest=""
        )
        manifest = msgspec.structs.replace(manifest, digest=digest_manifest(manifest))
        (temporary / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        temporary.chmod(0o755)  # mkdtemp's 0700 would lock out a model server that runs as another user
        for path in (*found.values(), temporary / MANIFEST):
            path.chmod(0o644)  # as safetensors' 0600 would
            _make_durable(path)
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


def check_artefact(folder: Path, kind: str, prompt_format: str = "") -> Manifest:
    """The manifest of a `kind` artefact at `folder`, every file's digest checked. Raises DamagedArtefactError.

    `prompt_format` as for `read_manifest`. For files too large to hold in memory: they are read in blocks.
    """
    manifest = read_manifest(folder, prompt_format)
    if manifest.kind != kind:
        raise DamagedArtefactError(f"is a {manifest.kind}, not a {kind}", where=str(folder))
    for name, digest in manifest.files.items():
        try:
            found = digest_file(folder / name)
        except OSError as error:
            raise DamagedArtefactError(f"cannot be read: {error.strerror}", where=str(folder / name)) from error
        if found != digest:
            raise DamagedArtefactError("is not what its manifest says", where=str(folder / name), remedy="train again")
    return manifest


def read_manifest(folder: Path, prompt_format: str = "") -> Manifest:
    """The manifest at `folder`, checked against itself, the format and the serialiser. Raises DamagedArtefactError.

    This serialiser has to write its dialogs as they were when it was made: `prompt_format` is the digest it has to
    name, by default that of its own `dialog`.
    """
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
    if manifest.prompt_format != (wanted := prompt_format or manifest.dialog.digest):
        raise DamagedArtefactError(
            f"was trained on prompt format {manifest.prompt_format}, this is {wanted}",
            where=str(path),
            remedy="train again, or serve it with the image that made it",
        )
    return manifest


def digest_manifest(manifest: Manifest) -> str:
    """Identity of an artefact: of everything in its manifest but the digest itself."""
    fields = msgspec.to_builtins(msgspec.structs.replace(manifest, digest=""))
    for name, default in (("base", ""), ("begun_with", ""), ("dialog", DEFAULT_FORMAT)):  # those before them had none
        if getattr(manifest, name) == default:
            del fields[name]
    return digest_bytes(msgspec.json.encode(fields, order="sorted"))


def digest_bytes(data: bytes) -> str:
    """32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_file(path: Path) -> str:
    """`digest_bytes` of what `path` holds, read in blocks. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_sources(folder: Path, names: Iterable[str]) -> str:
    """Identity of the source files `names` in `folder`."""
    return digest_bytes(b"\0".join((folder / name).read_bytes() for name in names))


def _make_durable(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`. A folder cannot be renamed onto a full one, so an old one steps aside first."""
    aside = temporary.with_name(temporary.name + ".old")
    if folder.exists():
        folder.rename(aside)
    temporary.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)
