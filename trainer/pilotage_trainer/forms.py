"""Commands of several forms: which options were given, which do not go together, and how a form without a Job ends."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from pilotage_core.errors import PilotageError
from pilotage_trainer.failures import explain_error, find_exit_code
from pilotage_trainer.results import tell

JOB_NEEDS = ("export", "process_cluster", "revision", "out")
"""What every Job has to be told."""


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
