"""What commands share: options of several, and how a command ends: with a Job's result, or in one line with a code."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import msgspec
import typer

from pilotage_core.errors import PilotageError
from pilotage_core.wire import JobResult
from pilotage_trainer.backends.open import BACKENDS
from pilotage_trainer.config import JobConfig, read_config
from pilotage_trainer.failures import explain_error, find_exit_code
from pilotage_trainer.results import TERMINATION_LOG, require_writable, tell, write_result
from pilotage_trainer.window import Window

Export = Annotated[
    str, typer.Option(help="a gateway's address, NDJSON (.gz too), Parquet, its folder, star:PATH or desk:PATH")
]
ProcessCluster = Annotated[str, typer.Option(help="namespace/name")]
AnyProcessCluster = Annotated[str, typer.Option(help="namespace/name [default: all of the export]")]
Revision = Annotated[str, typer.Option(help="r1, r2, …")]
Out = Annotated[Path, typer.Option(help="the artefacts' folder")]
Since = Annotated[str, typer.Option(help="sessions closed from this time on (RFC 3339)")]
Until = Annotated[str, typer.Option(help="sessions closed before this time")]
FreshAfter = Annotated[str, typer.Option(help="the time of the rollback, after one")]
HeldOutAfter = Annotated[str, typer.Option(help="sessions closed after this time are held out")]
HeldOutShare = Annotated[float, typer.Option(help="newest share of sessions to hold out")]
HeldOutShareElse = Annotated[
    float, typer.Option(help="newest share of sessions to hold out, if --held-out-after is not given")
]
Config = Annotated[str, typer.Option(help="the Job's configuration: JSON, or a file")]
Result = Annotated[Path | None, typer.Option(help="where the result goes as well [default: the termination log]")]


def read_backend(name: str) -> str:
    """The name of a backend that is there. Raises typer.BadParameter."""
    if name not in BACKENDS:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(BACKENDS)}")
    return name


BackendName = Annotated[str, typer.Option(help="what learns", parser=read_backend, metavar=f"[{'|'.join(BACKENDS)}]")]
Processes = Annotated[int, typer.Option(help="that train together on this machine, one a GPU", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table")]


def list_given(context: typer.Context) -> set[str]:
    """The options that were given and not left at their defaults."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name != "DEFAULT"}


def name_option(option: str) -> str:
    """How `option` is written on the command line."""
    return "--json" if option == "as_json" else f"--{option.replace('_', '-')}"


def name_options(options: list[str]) -> str:
    """The same for several."""
    return " and ".join(map(name_option, options))


@contextmanager
def end_with_exit_code() -> Iterator[None]:
    """Say what went wrong in one line, and end with its exit code."""
    try:
        yield
    except (PilotageError, OSError) as error:
        tell(explain_error(error))
        raise typer.Exit(find_exit_code(error)) from error


# --- Jobs -------------------------------------------------------------------------------------------------------------
PHASES = {"policy": "policy", "critic": "critic", "calibration": "calibrate"}
"""The phase by the folder its artefact goes to."""


def run_job(
    folder: str,
    build_window: Callable[[], Window],
    job: Callable[[Window, JobConfig], JobResult],
    config: str,
    wanted: Path | None,
) -> None:
    """Run `job` on its window, write its result, and exit with the code its outcome has."""
    if "RANK" not in os.environ:  # one of several may be waiting for another where no handler runs: it dies of it
        signal.signal(signal.SIGTERM, _leave)
    window: Window | None = None
    try:
        window = build_window()
        settings = read_config(config)
        if wanted is not None and wanted != TERMINATION_LOG:
            require_writable(wanted)
        result = job(window, settings)
        write_result(result, window.folder(folder), wanted)
    except (PilotageError, OSError) as error:
        tell(explain_error(error))
        code = find_exit_code(error)
        if window is not None:
            _report_failure(PHASES[folder], window, folder, explain_error(error), wanted)
        raise typer.Exit(code) from error
    tell(f"{result.phase} {result.revision}: {'passed' if result.passed else 'not passed'}: {result.reason}")
    typer.echo(msgspec.json.format(msgspec.json.encode(result)).decode())


def _leave(number: int, frame: FrameType | None) -> None:
    """SIGTERM outside training, where there is nothing to save: the first process of a container would ignore it."""
    sys.exit(128 + number)


def _report_failure(phase: str, window: Window, folder: str, reason: str, wanted: Path | None) -> None:
    """Leave a result that says why, where that can be written; the exit code says it in any case."""
    failed = JobResult(phase=phase, revision=window.revision, passed=False, reason=reason)
    try:
        write_result(failed, window.folder(folder), wanted)
    except OSError as error:
        tell(f"the result cannot be written either: {explain_error(error)}")
