"""The forms of `pilotage-train evaluate`: the Job's, a policy on sessions, and a policy on STAR; which options go with
which, and the running of the last two.

Not here: the command itself (main.py).
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pilotage_trainer.forms import JOB_NEEDS, end_with_exit_code, list_given, name_option, name_options
from pilotage_trainer.results import require_writable

PANEL = "A policy of any backend"
SAMPLE = 300


class Form(StrEnum):
    """What is evaluated."""

    JOB = "job"
    SESSIONS = "sessions"
    STAR = "star"


NEEDS: dict[Form, tuple[str, ...]] = {
    Form.JOB: JOB_NEEDS,
    Form.SESSIONS: ("policy", "export"),
    Form.STAR: ("star", "policy"),
}
TAKES: dict[Form, tuple[str, ...]] = {
    Form.JOB: (*NEEDS[Form.JOB], "since", "until", "held_out_after", "config", "result"),
    Form.SESSIONS: (
        *NEEDS[Form.SESSIONS],
        "process_cluster",
        "since",
        "until",
        "held_out_after",
        "config",
        "critic",
        "report",
        "likeness",
        "zero_shot",
        "model",
        "sample",
        "as_json",
    ),
    Form.STAR: (*NEEDS[Form.STAR], "as_json"),
}

StarFile = Annotated[
    Path | None,
    typer.Option("--star", help="dialogues in STAR's format (.jsonl, .jsonl.gz, or a folder)", rich_help_panel=PANEL),
]
PolicyFolder = Annotated[
    Path | None, typer.Option("--policy", help="the folder of a policy, of any backend", rich_help_panel=PANEL)
]
CriticFolder = Annotated[
    Path | None, typer.Option("--critic", help="the folder of its critic, judged as well", rich_help_panel=PANEL)
]
PageFile = Annotated[Path | None, typer.Option("--report", help="an HTML page with plots", rich_help_panel=PANEL)]
Likeness = Annotated[
    float,
    typer.Option(help="Levenshtein likeness from which texts count as the same", min=0, max=1, rich_help_panel=PANEL),
]
ZeroShotUrl = Annotated[
    str,
    typer.Option(help="an OpenAI-compatible endpoint (…/v1): a general model as baseline", rich_help_panel=PANEL),
]
ModelName = Annotated[str, typer.Option("--model", help="its name at that endpoint", rich_help_panel=PANEL)]
Sample = Annotated[int, typer.Option(help="points the general model is asked at", min=1, rich_help_panel=PANEL)]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table", rich_help_panel=PANEL)]


def choose_form(context: typer.Context) -> Form:
    """Which form is meant; ends with a usage error where options are missing or do not go together."""
    given = list_given(context)
    form = Form.STAR if "star" in given else Form.SESSIONS if "policy" in given else Form.JOB
    if wrong := sorted(given - set(TAKES[form])):
        raise typer.BadParameter(
            f"does not go with {name_option(NEEDS[form][0])}", context, param_hint=name_option(wrong[0])
        )
    if missing := [name for name in NEEDS[form] if name not in given]:
        other = "" if form is not Form.JOB else " (or give --policy DIR with --export or --star)"
        raise typer.BadParameter(f"is missing{other}", context, param_hint=name_options(missing))
    return form


def run_star_command(star: Path, policy: Path, as_json: bool) -> None:
    """Print STAR's measures; end with the exit code of what went wrong."""
    from pilotage_trainer.star_benchmark import run_star

    with end_with_exit_code():
        report = run_star(star, policy)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    typer.echo(f"{'set':<10}{'accuracy':>10}{'weighted F1':>13}{'coverage at 0.9':>17}{'points':>9}{'dialogues':>11}")
    for name, scores in (("standard", report.standard), ("all", report.all)):
        typer.echo(
            f"{name:<10}{scores.accuracy:>10.3f}{scores.weighted_f1:>13.3f}{scores.coverage:>17.3f}"
            f"{scores.n:>9}{scores.dialogues:>11}"
        )


def run_sessions_command(request: "SessionsRequest", report: Path | None, as_json: bool) -> None:
    """Print the evaluation and write its page; end with the exit code of what went wrong."""
    from pilotage_trainer.evaluation_run import describe, run_evaluation

    with end_with_exit_code():
        if report is not None:
            require_writable(report)
        found = run_evaluation(request)
        if report is not None:
            from pilotage_trainer.evaluation_page import build_page

            report.write_text(build_page(found), encoding="utf-8")
    typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode() if as_json else "\n".join(describe(found)))


class SessionsRequest(msgspec.Struct, frozen=True):
    """What is to be evaluated on which sessions. `zero_shot` is an endpoint, `model` the model asked there."""

    export: str
    policy: Path
    process_cluster: str = ""
    since: str = ""
    until: str = ""
    held_out_after: str = ""
    config: str = ""
    critic: Path | None = None
    likeness: float = 0.8
    zero_shot: str = ""
    model: str = ""
    sample: int = SAMPLE
