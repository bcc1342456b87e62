"""The forms of `pilotage-train evaluate`: the Job's, and STAR's published measure; which options go with which.

Not here: the command itself (main.py).
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pilotage_core.errors import PilotageError
from pilotage_trainer.failures import explain_error, find_exit_code
from pilotage_trainer.results import tell

STAR_PANEL = "A policy on STAR"


class Form(StrEnum):
    """What is evaluated."""

    JOB = "job"
    STAR = "star"


NEEDS: dict[Form, tuple[str, ...]] = {
    Form.JOB: ("export", "process_cluster", "revision", "out"),
    Form.STAR: ("star", "policy"),
}
TAKES: dict[Form, tuple[str, ...]] = {
    Form.JOB: (*NEEDS[Form.JOB], "since", "until", "held_out_after", "config", "result"),
    Form.STAR: (*NEEDS[Form.STAR], "as_json"),
}

StarFile = Annotated[
    Path | None,
    typer.Option(
        "--star", help="dialogues in STAR's format (.jsonl, .jsonl.gz, or a folder)", rich_help_panel=STAR_PANEL
    ),
]
PolicyFolder = Annotated[
    Path | None, typer.Option("--policy", help="the folder of a policy, of any backend", rich_help_panel=STAR_PANEL)
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table", rich_help_panel=STAR_PANEL)]


def choose_form(context: typer.Context) -> Form:
    """Which form is meant; ends with a usage error where options are missing or do not go together."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source and source.name != "DEFAULT"}
    form = Form.STAR if "star" in given else Form.JOB
    if wrong := sorted(given - set(TAKES[form])):
        raise typer.BadParameter(f"does not go with {_name(NEEDS[form][0])}", context, param_hint=_name(wrong[0]))
    if missing := [name for name in NEEDS[form] if name not in given]:
        hint = " and ".join(_name(name) for name in missing)
        other = "" if form is Form.STAR else " (or give --star FILE and --policy DIR)"
        raise typer.BadParameter(f"is missing{other}", context, param_hint=hint)
    return form


def run_star_command(star: Path, policy: Path, as_json: bool) -> None:
    """Print STAR's measures; end with the exit code of what went wrong."""
    from pilotage_trainer.star_benchmark import run_star

    try:
        report = run_star(star, policy)
    except (PilotageError, OSError) as error:
        tell(explain_error(error))
        raise typer.Exit(find_exit_code(error)) from error
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    typer.echo(f"{'set':<10}{'accuracy':>10}{'weighted F1':>13}{'coverage at 0.9':>17}{'points':>9}{'dialogues':>11}")
    for name, scores in (("standard", report.standard), ("all", report.all)):
        typer.echo(
            f"{name:<10}{scores.accuracy:>10.3f}{scores.weighted_f1:>13.3f}{scores.coverage:>17.3f}"
            f"{scores.n:>9}{scores.dialogues:>11}"
        )


def _name(option: str) -> str:
    return "--json" if option == "as_json" else f"--{option.replace('_', '-')}"
