"""Checkpoints to resume from, and folders of weights: written beside, then renamed, so none is ever seen half-written.

A checkpoint is what accelerate saves of model, optimiser and random numbers (each process its shard under FSDP) and
`progress.json`, which lists every file with its size. The schedule and the order of batches follow from the step.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from accelerate import Accelerator

from pilotage_trainer.results import tell

PROGRESS = "progress.json"
FULL = ("os error 28", "No space left", "PytorchStreamWriter", "unexpected pos", "File too large", "os error 27")
"""How libraries say that the disk is full where they raise no OSError."""


class Progress(msgspec.Struct):
    """How far a run has come. `identity` is of settings, data and processes: another run's checkpoint is not taken.

    `seconds` were spent until now, evaluation included, `warm_seconds` until the end of the warm-up. `files` are the
    sizes of what lies beside it.
    """

    identity: str
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    warm_seconds: float = 0.0
    files: dict[str, int] = {}


def save_checkpoint(accelerator: Accelerator, root: Path, progress: Progress, keep: int) -> None:
    """Save all processes' state as `root`/step-…; the newest `keep` checkpoints stay. Raises OSError."""
    final = root / f"step-{progress.step:08d}"
    with beside(accelerator, final) as temporary:
        accelerator.save_state(str(temporary))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            progress.files = _list_sizes(temporary)
            (temporary / PROGRESS).write_bytes(msgspec.json.encode(progress))
    if accelerator.is_main_process:
        for old in list_folders(root)[:-keep]:
            shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(accelerator: Accelerator, root: Path, identity: str) -> Progress | None:
    """Go on from the newest whole checkpoint of this run in `root`; None where there is none."""
    for folder in reversed(list_folders(root)):
        progress = read_progress(folder)
        if progress is None:
            tell(f"{folder.name} is damaged and passed over")
        elif progress.identity != identity:
            tell(f"{folder.name} is of other settings, data or processes and passed over")
        else:
            accelerator.load_state(str(folder))
            return progress
    return None


def read_progress(folder: Path) -> Progress | None:
    """What the checkpoint at `folder` says of itself; None where it is not whole."""
    try:
        progress = msgspec.json.decode((folder / PROGRESS).read_bytes(), type=Progress)
    except (OSError, msgspec.DecodeError):
        return None
    there = _list_sizes(folder)
    return progress if progress.files == there else None


def list_folders(root: Path) -> list[Path]:
    """The folders step-… in `root`, oldest first."""
    return sorted(root.glob("step-*"))


def clear_leftovers(root: Path) -> None:
    """Remove what a killed process left half-written in `root`."""
    for left in root.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def beside(accelerator: Accelerator, final: Path) -> Iterator[Path]:
    """A folder that all processes may write into, put in place as `final` at the end, flushed. Raises OSError."""
    temporary = final.with_name(f".{final.name}")
    with name_full_disk(final):
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        accelerator.wait_for_everyone()
        yield temporary
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _flush(temporary)
            if final.exists():
                shutil.rmtree(final)
            temporary.rename(final)
        accelerator.wait_for_everyone()


@contextlib.contextmanager
def name_full_disk(place: Path) -> Iterator[None]:
    """Tell a full disk as the OSError it is, whatever a library made of it."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(place)) from error
    except Exception as error:  # safetensors and torch raise kinds of their own
        if not any(sign in str(error) for sign in FULL):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place)) from error


def _list_sizes(folder: Path) -> dict[str, int]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != PROGRESS)
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(files)}


def _flush(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
